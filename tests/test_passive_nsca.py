"""Which send_nsca root runs where the configuration names none: real directories, real owners, in
the place of those it looks into."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from check_mounts.passive import Destination, Settings, nsca
from check_mounts.passive.destinations import destination
from check_mounts.passive.progress import unread
from check_mounts.system import programs
from tests.conftest import Mounts
from tests.test_passive import SENT, Client, guard, refused, result

__all__ = ["guard"]  # a fixture

pytestmark = pytest.mark.root

THEIRS = 65534
BASE = Path("/mnt")
BIN = BASE / "nagios/bin"
PROGRAM = BIN / "send_nsca"


@pytest.fixture
def client(mounts: Mounts, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A program that is root's, and so are all directories up to it. Those of tmp_path are not:
    /tmp is everybody's."""
    mounts.mount_at(BASE, "tmpfs", options="mode=0755")
    BIN.mkdir(parents=True)
    monkeypatch.setattr(nsca, "PLACES", ("/nowhere", str(BIN)))
    result = Client(BIN)
    result(SENT)
    return result


def somewhere(client: str | None = None) -> Destination:
    return destination("nsca:h", Settings(client=client))


def runs(where: Destination) -> bool:
    Path(BIN, "arguments").unlink(missing_ok=True)
    where.deliver([result()], time.monotonic() + 5, unread())
    return Path(BIN, "arguments").exists()


def theirs(path: Path) -> Callable[[], None]:
    return lambda: os.chown(path, THEIRS, THEIRS)


def by_links() -> None:
    """Where it ends is root's; what leads there is not."""
    os.rename(BIN, BASE / "safe")
    (BASE / "theirs").mkdir()
    (BASE / "theirs/current").symlink_to(BASE / "safe")
    BIN.mkdir()
    PROGRAM.symlink_to("../../theirs/current/send_nsca")
    os.chown(BASE / "theirs", THEIRS, THEIRS)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (theirs(BIN), f"{BIN} belongs to uid {THEIRS}"),
        (theirs(PROGRAM), f"{PROGRAM} belongs to uid {THEIRS}"),
        (theirs(BASE / "nagios"), f"{BASE}/nagios belongs to uid {THEIRS}"),
        (lambda: BIN.chmod(0o775), f"not only its owner may write to {BIN} (mode 0775)"),
        (lambda: BIN.chmod(0o1777), f"not only its owner may write to {BIN} (mode 1777)"),
        (lambda: PROGRAM.chmod(0o757), f"not only its owner may write to {PROGRAM} (mode 0757)"),
        (by_links, f"{BASE}/theirs belongs to uid {THEIRS}"),
    ],
    ids=["directory", "program", "above", "group", "sticky", "writable", "links"],
)
def test_root_does_not_run_what_others_could_replace(client: Client, change: Callable[[], None], why: str) -> None:
    change()
    hint = "(name it with 'client =' to run it anyway)"
    assert refused(somewhere(), [result()]) == f"{PROGRAM} is not run as root, because {why} {hint}"
    assert not list(BASE.rglob("arguments")), "it was not even asked which one it is"


def test_root_runs_what_is_roots(client: Client) -> None:
    assert runs(somewhere())
    os.rename(BASE / "nagios", BASE / "nagios-4.5")
    (BASE / "nagios").symlink_to("./nagios-4.5/../nagios-4.5/")
    os.lchown(BASE / "nagios", THEIRS, THEIRS)  # a link cannot be changed, and the directory that it is in is root's
    assert runs(somewhere())


def test_the_next_place_will_do(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    (BASE / "theirs").mkdir()
    (BASE / "theirs/send_nsca").write_text("#!/bin/sh\nexit 1\n")
    (BASE / "theirs/send_nsca").chmod(0o755)
    os.chown(BASE / "theirs", THEIRS, THEIRS)
    monkeypatch.setattr(nsca, "PLACES", (f"{BASE}/theirs", str(BIN)))
    assert runs(somewhere())


def test_the_administrator_may_name_it_and_who_is_not_root_has_nothing_to_lose(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(BIN, THEIRS, THEIRS)
    assert runs(somewhere(str(PROGRAM)))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert runs(somewhere())


def test_links_in_a_circle_end(client: Client) -> None:
    (BASE / "a").symlink_to("b")
    (BASE / "b").symlink_to("a")
    assert programs.why_replaceable(f"{BASE}/a/send_nsca") == "too many symbolic links lead to it"
