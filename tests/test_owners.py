"""Root directories of NFSv4 mounts that become nobody's."""

from __future__ import annotations

from typing import Optional

import pytest

from check_mounts.model import Condition, Finding, Mount
from check_mounts.outcome import Outcome
from check_mounts.probing.owners import Owners

CHECK = "check the mapping of NFSv4 IDs, here and on the server"


def finding(uid: Optional[int], gid: Optional[int] = 10, point: str = "/a", fs_type: bytes = b"nfs4") -> Finding:
    at = point.encode()
    mount = Mount(7, 1, (0, 50), b"/", at, (b"rw",), (), fs_type, b"filer1:/x", (b"rw", b"vers=4.2"))
    return Finding(at, mount, Condition.OK, outcome=Outcome(uid=uid, gid=gid), remarks=("said before",))


def said(owners: Owners, *args: object, **more: object) -> tuple[str, ...]:
    (found,) = owners.remarked([finding(*args, **more)])  # type: ignore[arg-type]
    assert found.remarks[0] == "said before"
    return found.remarks[1:]


@pytest.mark.parametrize("nobody", [65534, 4294967294, 4294967295, 99])
def test_an_owner_that_nobody_knows_any_more(nobody: int) -> None:
    owners = Owners()
    assert said(owners, 1000) == ()
    words = f"its root directory belongs to nobody (uid {nobody}), and belonged to uid 1000 before: {CHECK}"
    assert said(owners, nobody) == (words,)
    assert said(owners, None) == ()  # it did not answer
    assert said(owners, nobody) == (words,)
    assert said(owners, 1000) == ()
    assert said(owners, 1000, nobody) == (
        words.replace(f"uid {nobody}", f"gid {nobody}").replace("uid 1000", "gid 10"),
    )


def test_user_and_group() -> None:
    owners = Owners()
    assert said(owners, 0, 0) == ()
    both = "its root directory belongs to nobody (uid 65534, gid 4294967294), and belonged to uid 0, gid 0 before: "
    assert said(owners, 65534, 4294967294) == (both + CHECK,)


def test_a_directory_that_was_always_nobodys() -> None:
    owners = Owners()
    assert said(owners, 65534, 65534) == said(owners, 65534, 65534) == ()


def test_a_directory_that_was_given_to_another_user() -> None:
    owners = Owners()
    assert said(owners, 1000) == said(owners, 1001) == ()


def test_other_filesystems_map_nothing() -> None:
    owners = Owners()
    assert said(owners, 1000, fs_type=b"ext4") == said(owners, 65534, fs_type=b"ext4") == ()


def test_a_new_mount_at_the_same_place() -> None:
    """Who changes idmapd.conf mounts again."""
    owners = Owners()
    assert said(owners, 1000) == ()
    again = finding(65534)
    assert again.mount is not None
    (found,) = owners.remarked([again._replace(mount=again.mount._replace(mount_id=8, device=(0, 51)))])
    assert len(found.remarks) == 2


def test_memory_is_bounded() -> None:
    owners = Owners()
    for number in range(5000):
        assert said(owners, 1000, point=f"/{number}") == ()
    assert said(owners, 65534, point="/4999") != ()
    assert said(owners, 65534, point="/0") == ()
