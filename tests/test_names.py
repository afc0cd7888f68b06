"""Where names lead: the walk of names.py against the kernel's, on trees of links, and what the text
of the mount table settles."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check_mounts.model import Mount
from check_mounts.naming import lookups, names
from check_mounts.naming.lookups import Patience, Unanswered
from check_mounts.naming.names import Ground, Lead, Stopped
from check_mounts.probing.stuck import Registry
from check_mounts.selection import PathGlob
from check_mounts.system import syscalls, walk
from check_mounts.system.forked import Life


def mount(number: int, point: str, fs_type: str = "ext4") -> Mount:
    return Mount(number, 1, (8, number), b"/", point.encode(), (b"rw",), (), fs_type.encode(), b"/dev/sda", (b"rw",))


def ground(*mounts: Mount, closed: Sequence[int] = ()) -> Ground:
    every = [mount(1, "/"), *mounts]
    return Ground(every, {each.mount_id for each in every}, closed)


class Links:
    """Links by their paths; what is asked of others is none."""

    def __init__(self, **links: str) -> None:
        self.links = {f"/{name.replace('_', '/')}".encode(): target.encode() for name, target in links.items()}
        self.asked: list[bytes] = []

    def __call__(self, directory: Sequence[bytes], name: bytes, holder: Mount) -> Optional[bytes]:
        path = b"/" + b"/".join([*directory, name])
        self.asked.append(path)
        return self.links.get(path)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/home", "/var/home"),
        ("/home/alice", "/var/home/alice"),
        ("/home/../x", "/var/x"),
        ("/abs/b", "/srv/b"),
        ("//abs/./b/", "/srv/b"),
        ("/a/../home", "/var/home"),
        ("/..", "/"),
        ("/one", "/var/home/y"),
        ("/proc/self/root/x", "/proc/self/root/x"),
        ("/intoproc", "/proc/self/fd/3"),
        ("/auto/x", "/auto/x"),
    ],
)
def test_links_are_followed(name: str, path: str) -> None:
    links = Links(
        home="var/home", abs="/srv", one="two", two="./home/y", proc_self="1234", intoproc="proc/self/fd/3", auto_x="/y"
    )
    found = names.lead(name.encode(), ground(mount(2, "/proc", "proc"), mount(3, "/auto", "autofs")), links)
    assert (found.path, found.is_settled, found.errno) == (path.encode(), True, 0)


def test_what_something_is_mounted_on_or_below_is_no_link() -> None:
    links = Links()
    there = ground(mount(2, "/a/b/c"), mount(3, "/a b"), mount(4, "/a/b-c/d"))
    for name in (b"/a/b/c", b"/a/b", b"/a", b"/a b", b"/a/b-c", b"/"):
        assert names.lead(name, there, links).path == name
        assert lookups.by_text(name, there) == Lead(name)
    assert not links.asked
    assert lookups.by_text(b"/a/b/x", there) is None


@pytest.mark.parametrize(
    "number", [errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EACCES, errno.EIO, errno.ESTALE, errno.EXDEV]
)
def test_errors(number: int) -> None:
    def read(directory: Sequence[bytes], name: bytes, holder: Mount) -> Optional[bytes]:
        raise OSError(number, os.strerror(number))

    found = names.lead(b"/a/b", ground(), read)
    absent = number in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
    assert (found.path, found.is_settled) == (b"/a/b", absent)
    assert absent or found.why


def test_it_stops_where_nothing_may_be_looked_up() -> None:
    hung, inner = mount(2, "/nfs"), mount(3, "/nfs/inner")
    there = ground(hung, inner, closed=[2])
    links = Links(link="nfs/x", data="/nfs/inner/y")
    for name, path in (
        (b"/nfs/x/y", b"/nfs/x/y"),
        (b"/link", b"/nfs/x"),
        (b"/link/y", b"/nfs/x/y"),
        (b"/data", b"/nfs/inner/y"),
    ):
        found = names.lead(name, there, links)
        assert (found.path, found.stopped, found.is_settled) == (path, hung, False)
    assert names.lead(b"/nfs/inner", there, links) == Lead(b"/nfs/inner"), "what is mounted there is in the table"


def test_a_path_without_end_ends() -> None:
    for links in (
        Links(a="a"),
        Links(a="b", b="a"),
        Links(a="a/a"),
        Links(a="/a/../a"),
        Links(a="x/" * 2000 + "../" * 2000 + "a"),
    ):
        began = time.process_time()
        found = names.lead(b"/a", ground(), links)
        assert found.errno in (errno.ELOOP, errno.ENAMETOOLONG) and found.is_settled
        assert time.process_time() - began < 20
    for long in (b"/" + b"a" * 5000, b"/a" * 300_000):
        assert names.lead(long, ground(), Links()).is_settled


def test_without_a_table_of_ours_the_text_decides() -> None:
    assert names.Leads().of(b"/var/run/x/../y").path == b"/run/y"
    assert names.Leads().of(b"/var/lock").path == b"/run/lock"
    assert names.Leads().of(b"/var/running").path == b"/var/running"


_PARTS = st.sampled_from(["a", "b", "c", "..", "."])
_PATHS = st.lists(_PARTS, min_size=1, max_size=5).map("/".join)
_TREES = st.lists(st.tuples(_PATHS, st.one_of(st.none(), _PATHS, _PATHS.map("/{}".format))), max_size=8)


@given(_TREES, _PATHS)
def test_as_the_kernel_follows_them(tree: list[tuple[str, Optional[str]]], name: str) -> None:
    """Real links in a real directory: what the kernel opens is where the name leads."""
    with tempfile.TemporaryDirectory() as directory:
        base = os.path.realpath(directory)
        for path, target in tree:
            place = os.path.normpath(f"{base}/{path}")
            if not place.startswith(f"{base}/"):
                continue
            try:
                if target is None:
                    os.makedirs(place, exist_ok=True)
                else:
                    os.makedirs(os.path.dirname(place), exist_ok=True)
                    os.symlink(f"{base}{target}" if target.startswith("/") else target, place)
            except OSError:
                continue
        found = names.lead(f"{base}/{name}".encode(), ground(), _below(base))
        try:
            fd = os.open(f"{base}/{name}", os.O_PATH)
        except OSError as error:
            assert error.errno in (errno.ENOENT, errno.ELOOP)
            assert found.errno == errno.ELOOP or not os.path.lexists(found.path)
            return
        try:
            assert found == Lead(os.readlink(f"/proc/self/fd/{fd}").encode(), found.through)
        finally:
            os.close(fd)


def _below(base: str) -> names.Reader:
    """Reads the links below a directory. Those above it are none."""

    def read(directory: Sequence[bytes], name: bytes, holder: Mount) -> Optional[bytes]:
        try:
            return os.readlink(b"/" + b"/".join([*directory, name]))
        except OSError as error:
            if error.errno == errno.EINVAL:
                return None
            raise

    return read


# What workers answer
# ------------------------------------------------------------------------------------------------


def _patience(each: float = 0.3, more: float = 20.0) -> Patience:
    return Patience(each, time.monotonic() + more)


def _memory() -> Registry:
    return Registry(None, "none", slots=lookups.MOST_WORKERS)


def test_one_question_that_hangs_does_not_keep_the_others_from_an_answer() -> None:
    # A busy host may be late to end what was killed.
    assert any(not _left_where_one_question_hangs() for _ in range(3))


def _left_where_one_question_hangs() -> Sequence[int]:
    there = ground(mount(2, "/hung"))

    def hangs(enter: lookups.Enter) -> object:
        enter(there.at[b"/hung"])
        time.sleep(600)
        return None

    def dies(enter: lookups.Enter) -> object:
        raise RuntimeError("a defect")

    questions: list[lookups.Question] = [
        lambda enter: 1,
        hangs,
        lambda enter: b"x" * 9000,
        dies,
        lambda enter: (None, ""),
    ]
    answers, left = lookups.ask_all(questions, there, _memory(), _patience())
    assert answers == [1, Unanswered(there.at[b"/hung"]), b"x" * 9000, Unanswered(None), (None, "")]
    assert there.closed == {2}
    return list(left)


def test_a_worker_that_begins_late_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Life.serve

    def late(life: Life, slot: int, parent: int) -> None:
        time.sleep(0.8)  # as on a busy host
        real(life, slot, parent)

    monkeypatch.setattr(Life, "serve", late)
    answers, _ = lookups.ask_all([lambda enter: 1], ground(), _memory(), _patience(0.3))
    assert answers == [1]


def test_who_answers_is_not_given_up_though_all_takes_long() -> None:
    def slow(enter: lookups.Enter) -> object:
        time.sleep(0.1)
        return True

    answers, _ = lookups.ask_all([slow] * 20, ground(), _memory(), _patience(0.6))
    assert answers == [True] * 20


def test_the_end_comes_for_all() -> None:
    def hangs(enter: lookups.Enter) -> object:
        time.sleep(600)
        return None

    began = time.monotonic()
    answers, _ = lookups.ask_all([hangs] * 20, ground(), _memory(), _patience(0.2, 1.0))
    assert answers == [Unanswered(None)] * 20
    assert time.monotonic() - began < 10
    assert lookups.understood(b"/a", answers[0], ground()).why == "no time was left to read it"


def test_thousands_of_names_are_one_request(tmp_path: Path) -> None:
    there = Ground([mount(1, "/")], {1})
    asked = [lookups.leading(f"/no-such-directory/{number}".encode(), there) for number in range(5000)]
    answers, _ = lookups.ask_all(asked, there, _memory(), _patience(5.0, 60.0))
    assert {lookups.understood(b"/x", answer, there).is_settled for answer in answers} == {True}


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_without_openat2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int) -> None:
    def missing(*arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(syscalls, "openat2", missing)
    (tmp_path / "link").symlink_to("nowhere")
    directory = os.open(tmp_path, os.O_PATH)
    root = os.open("/", os.O_PATH)
    try:
        fd = walk.open_in_mount(directory, b"link", os.O_PATH)
        assert os.readlink(b"", dir_fd=fd) == b"nowhere"
        os.close(fd)
        with pytest.raises(OSError, match="Invalid cross-device link"):
            walk.open_in_mount(root, b"proc", os.O_PATH)
    finally:
        os.close(directory)
        os.close(root)


def test_stopped_names_its_mount() -> None:
    assert str(Stopped(mount(2, "/x"))) == "b'/x'"


@pytest.mark.parametrize(
    ("pattern", "leading", "led", "matches"),
    [
        (b"/home/*", b"/home", b"/var/home", [b"/home/a", b"/var/home/a"]),
        (b"/home", b"/home", b"/var/home", [b"/home", b"/var/home"]),
        (b"/home/a[bc]/d", b"/home", b"/v[x]", [b"/v[x]/ab/d", b"/home/ac/d"]),
        (b"/srv/x[*]", b"/srv/x*", b"/srv/y*z", [b"/srv/y*z", b"/srv/x*"]),
        (b"/home/*", b"/home", b"/", [b"/a", b"/home/a"]),
        (b"/*", b"", b"", [b"/a"]),
        (b"*", b"", b"", [b"/a"]),
        (b"/", b"", b"", [b"/"]),
    ],
)
def test_patterns(pattern: bytes, leading: bytes, led: bytes, matches: list[bytes]) -> None:
    glob = PathGlob(pattern)
    assert glob.leading == leading
    if leading:
        glob.follow(led)
    assert all(map(glob.match, matches))
    assert not glob.match(b"nothing") if leading else True
    if leading:
        glob.follow(leading)
        assert not glob.match(led if led != b"/" else b"/a")
