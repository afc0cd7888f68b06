"""Bytes of mountinfo -> Mount: escapes, odd fields, lines that are none."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check_mounts import mounttable
from check_mounts.model import Mount

# What the kernel escapes in a field (mangle_path in fs/seq_file.c with " \t\n\\#").
_ESCAPED = b" \t\n\\#"


def escape(field: bytes, more: bytes = b"") -> bytes:
    return b"".join(b"\\%03o" % byte if byte in _ESCAPED + more else bytes([byte]) for byte in field)


def as_line(mount: Mount) -> bytes:
    words = [
        b"%d" % mount.mount_id,
        b"%d" % mount.parent_id,
        b"%d:%d" % mount.device,
        escape(mount.root),
        escape(mount.mount_point),
        b",".join(escape(option, b",") for option in mount.options),
        *mount.optional_fields,
        b"-",
        escape(mount.fs_type),
        escape(mount.source),
        b",".join(escape(option, b",") for option in mount.super_options),
    ]
    return b" ".join(words)


any_bytes = st.binary(max_size=40).map(lambda data: data.replace(b"\0", b""))
options = st.lists(any_bytes.filter(bool), min_size=1, max_size=4).map(tuple)
some_mounts = st.builds(
    Mount,
    mount_id=st.integers(0, 2**31 - 1),
    parent_id=st.integers(0, 2**31 - 1),
    device=st.tuples(st.integers(0, 4095), st.integers(0, 2**20)),
    root=any_bytes.map(lambda data: b"/" + data),
    mount_point=any_bytes.map(lambda data: b"/" + data),
    options=options,
    optional_fields=st.lists(
        st.sampled_from([b"shared:1", b"master:22", b"propagate_from:3", b"unbindable", b"new:x"])
    ).map(tuple),
    fs_type=any_bytes.filter(bool),
    source=any_bytes,
    super_options=options,
    seen_at=st.none(),
)


@given(st.lists(some_mounts, max_size=5, unique_by=lambda mount: mount.mount_id))
def test_round_trip(table: list[Mount]) -> None:
    data = b"".join(as_line(mount) + b"\n" for mount in table)
    assert mounttable.parse(data) == (table, [])
    assert mounttable.parse(data.rstrip(b"\n")) == (table, [])


@given(st.binary(max_size=200))
def test_never_raises(data: bytes) -> None:
    parsed, unparsed = mounttable.parse(data)
    assert len(parsed) + len(unparsed) <= sum(bool(line) for line in data.split(b"\n"))
    mounttable.visible(parsed)


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 6), st.sampled_from([b"/", b"/a", b"/a/b", b"/a/b/c", b"/ab"])),
        max_size=9,
    )
)
def test_visible_ends_on_any_tree(shape: list[tuple[int, int, bytes]]) -> None:
    """Circles and gaps included: a table may be a file that somebody wrote."""
    table = [_mount(mount_id, parent_id, point) for mount_id, parent_id, point in shape]
    assert mounttable.visible(table) <= {mount.mount_id for mount in table}


def _mount(mount_id: int, parent_id: int, point: bytes) -> Mount:
    return Mount(mount_id, parent_id, (0, mount_id), b"/", point, (b"rw",), (), b"tmpfs", b"none", (b"rw",))


@pytest.mark.parametrize(
    ("line", "member", "value"),
    [
        (rb"36 35 98:0 / /a\040b\011c\012d\134e\043f rw - xfs /dev/x rw", "mount_point", b"/a b\tc\nd\\e#f"),
        (rb"36 35 98:0 / /a|b'c=d;e rw - xfs /dev/x rw", "mount_point", b"/a|b'c=d;e"),
        (b"36 35 98:0 / /\xff\xfe rw - xfs /dev/x rw", "mount_point", b"/\xff\xfe"),
        (b"36 35 98:0 / /a\rb\x0cc rw - xfs /dev/x rw", "mount_point", b"/a\rb\x0cc"),
        (rb"36 35 98:0 / /a\888 rw - xfs /dev/x rw", "mount_point", rb"/a\888"),
        (b"36 35 98:0 / /a rw - tmpfs  rw", "source", b""),
        (b"36 35 98:0 / /a rw shared:1 master:2 - xfs /dev/x rw", "optional_fields", (b"shared:1", b"master:2")),
        (rb"36 35 0:9 / /a rw - overlay overlay rw,lowerdir=/x\054y:/z", "super_options", (b"rw", b"lowerdir=/x,y:/z")),
        (b"36 35 0:9 / /a rw - cifs //s/x rw,user=A B,ro", "super_options", (b"rw", b"user=A B", b"ro")),
        (b"36 35 0:9 / /a ro,relatime - xfs - rw", "source", b"-"),
        (b"36 35 0:9 / /a rw - xfs x " + b"o=" + b"x" * 100000, "super_options", (b"o=" + b"x" * 100000,)),
    ],
)
def test_fields(line: bytes, member: str, value: object) -> None:
    assert getattr(mounttable.parse_line(line), member) == value


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"garbage", "it has no separator ' - ' after at least six fields"),
        (b"36 35 98:0 / /a rw xfs /dev/x rw", "it has no separator ' - ' after at least six fields"),
        (b"36 35 98:0 / /a rw - xfs /dev/x", "type, source or superblock options are missing after the separator"),
        (b"x 35 98:0 / /a rw - xfs /dev/x rw", "mount ID, parent ID or major:minor is not a number"),
        (b"5000000000 35 98:0 / /a rw - xfs /dev/x rw", "mount ID, parent ID or major:minor is not a number"),
        (b"-1 35 98:0 / /a rw - xfs /dev/x rw", "mount ID, parent ID or major:minor is not a number"),
        (b"36 35 98:%s / /a rw - xfs /dev/x rw" % (b"9" * 60), "mount ID, parent ID or major:minor is not a number"),
        (b"36 35 98 / /a rw - xfs /dev/x rw", "mount ID, parent ID or major:minor is not a number"),
        (b"36 35 98:0 / a rw - xfs /dev/x rw", "the mount point is not an absolute path"),
        (b"36 35 98:0 / /other rw - xfs /dev/x rw", "another line has the mount ID 36"),
    ],
)
def test_a_line_that_is_none_does_not_stop_the_rest(line: bytes, why: str) -> None:
    good = b"36 35 98:0 / /a rw - xfs /dev/x rw"
    parsed, (unparsed,) = mounttable.parse(good + b"\n" + line + b"\n" + good.replace(b"36", b"37"))
    assert [mount.mount_id for mount in parsed] == [36, 37]
    assert (unparsed.number, unparsed.line, unparsed.why) == (2, line, why)


def test_a_mount_listed_twice_is_one() -> None:
    line = b"36 35 98:0 / /a rw - xfs /dev/x rw\n"
    assert len(mounttable.parse(line * 2)[0]) == 1


def test_visible() -> None:
    table = [
        _mount(1, 0, b"/"),
        _mount(2, 1, b"/a"),
        _mount(3, 2, b"/a"),  # on the root of 2
        _mount(4, 1, b"/b/c"),
        _mount(5, 4, b"/b/c/d"),
        _mount(6, 1, b"/b"),  # hides 4 and with it 5
        _mount(7, 6, b"/b/c"),
        _mount(8, 1, b"/bb"),  # its path only begins alike
        _mount(9, 2, b"/a/x"),  # hangs from 2, which 3 covers
        _mount(10, 1, b"/"),  # over `/`: no absolute path steps on to it
        _mount(11, 10, b"/y"),
    ]
    assert mounttable.visible(table) == {1, 3, 6, 7, 8, 11} - {11}


def test_an_overlong_path_takes_no_time() -> None:
    began = time.monotonic()
    mounttable.visible([_mount(1, 0, b"/"), _mount(2, 1, b"/a" * 500000)])
    assert time.monotonic() - began < 5  # it was minutes


def test_deep_chain_is_linear() -> None:
    table = [_mount(0, 999999, b"/")] + [
        _mount(number, number - 1, b"/" + b"d/" * number + b"x") for number in range(1, 3000)
    ]
    assert len(mounttable.visible(table[::-1])) == 3000


def test_of_an_option_that_occurs_twice_the_last_counts() -> None:
    """The address comes after a user's name, whose comma some kernels do not escape."""
    line = b"1 0 0:1 / /m rw - cifs //filer/x rw,username=bob,addr=10.9.9.9,addr=10.0.0.1"
    mount = mounttable.parse_line(line)
    assert (mount.super_option(b"addr"), mount.super_option(b"port")) == (b"10.0.0.1", None)
