"""What is decided at a look for nearly all mounts, compared with the rules that decide for any."""

from __future__ import annotations

import stat

from hypothesis import given, settings
from hypothesis import strategies as st

from check_mounts import mounttable, typetable
from check_mounts.model import Condition, Mount
from check_mounts.probing import asking, conditions, frames, requests
from check_mounts.probing.plan import Plan
from check_mounts.selection import Filters, compile_glob, fuse_owner, select

_TYPES = st.sampled_from([*sorted(typetable.TABLE), b"fuse", b"unknown"])
_OPTIONS = st.lists(st.sampled_from([b"rw", b"ro", b"shutdown", b"default_permissions", b"allow_other"]), max_size=3)
_KINDS = st.sampled_from([stat.S_IFDIR, stat.S_IFDIR, stat.S_IFREG, stat.S_IFBLK, 0])
_COUNT = st.integers(-(2**63), 2**63 - 1)


def _mount(mount_id: int, parent: int, device: int, point: bytes, fs_type: bytes, options: tuple[bytes, ...]) -> Mount:
    return Mount(mount_id, parent, (0, device), b"/", point, (b"rw",), (), fs_type, b"none", options)


@settings(max_examples=500)
@given(_TYPES, _OPTIONS, _KINDS, st.integers(0, 0o7777), st.integers(0, 2), st.integers(1, 2), st.tuples(*[_COUNT] * 5))
def test_healthy_at_a_look(
    fs_type: bytes, options: list[bytes], kind: int, mode: int, nlink: int, mount_id: int, counts: tuple[int, ...]
) -> None:
    """What is OK at a look is OK by all rules."""
    mount = _mount(1, 0, 1, b"/m", fs_type, tuple(options))
    frame = frames.SHORT.pack(frames.HEALTHY, 1, 2, 3, 4, kind | mode, 0, 0, nlink, 0, mount_id, 4096, *counts)
    outcome = frames.unpack_healthy(frame)
    assert outcome is not None and outcome == frames.unpack_answer(frame)
    if conditions.is_healthy(mount, outcome):
        assert conditions.led_elsewhere(mount, outcome) is None
        assert conditions.classify(mount, outcome) == (Condition.OK, "")


def test_an_ordinary_mount_is_healthy_at_a_look() -> None:
    mount = _mount(1, 0, 1, b"/m", b"nfs4", (b"rw",))
    frame = frames.SHORT.pack(frames.HEALTHY, 1, 2, 3, 4, 0o40755, 0, 0, 2, 0, 1, 4096, *[5] * 5)
    outcome = frames.unpack_healthy(frame)
    assert outcome is not None and conditions.is_healthy(mount, outcome)


_ROWS = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, 4), st.sampled_from([b"tmpfs", b"nfs4", b"ext4"])),
    min_size=1,
    max_size=12,
)


@settings(max_examples=500)
@given(_ROWS)
def test_who_may_meet_another_mount_at_a_gate(rows: list[tuple[int, int, bytes]]) -> None:
    """Each mount is asked, whatever the table says; and one that is not gated has only its own
    gate, which no other mount has."""
    mounts = [
        _mount(number, parent, device, b"/%d" % number, fs_type, (b"rw",))
        for number, (parent, device, fs_type) in enumerate(rows, 1)
    ]
    chosen = select(mounts, Filters())
    plan = Plan(mounts, chosen)
    asked, below = [], list(plan.outermost)
    while below:
        mount = below.pop(0)
        asked.append(mount.mount_id)
        below.extend(plan.children.get(mount.mount_id, ()))
    assert sorted(asked) == sorted(mount.mount_id for mount in chosen.selected)
    gates = {mount.mount_id: plan.gates(mount) for mount in chosen.selected}
    for key, own in gates.items():
        if key not in plan.gated:
            others = {gate for other, each in gates.items() if other != key for gate in each}
            assert len(own) == 1 and not others & set(own)
    crossing = [len(plan.gates(mount)) for mount in plan.outermost]
    assert crossing == sorted(crossing)


_FIELD = st.sampled_from(
    [b"rw", b"-", b"", b"a\\040b", b"shared:1", b"0:5", b"7", b"0012345678901", b"x", b"/m", b"8:1:2"]
)


@settings(max_examples=1000)
@given(st.lists(_FIELD, min_size=6, max_size=14), st.booleans())
def test_an_ordinary_line_is_what_the_rules_make_of_it(fields: list[bytes], sensible: bool) -> None:
    if sensible:
        fields[:6] = [b"7", b"1", b"0:5", b"/", b"/m", b"rw"]
        fields[-4:] = [b"-", *fields[-3:]]
    line = b" ".join(fields)
    try:
        mount = mounttable._parse_ordinary(line, mounttable._Options())
    except ValueError:
        return
    assert mount == mounttable.parse_line(line)


@given(
    st.lists(st.tuples(_TYPES, _OPTIONS, st.sampled_from([b"host:/e", b"none", b"/dev/sda"])), max_size=8),
    st.lists(st.sampled_from([b"sec=krb5", b"user_id=1000", b"user_id=0"]), max_size=2),
    st.booleans(),
)
def test_what_is_remembered_of_one_mount_holds_for_another(
    rows: list[tuple[bytes, list[bytes], bytes]], more: list[bytes], as_owner: bool
) -> None:
    """Filters and requests of a whole pass, and those that are made for one mount."""
    mounts = [
        _mount(number, 0, number, b"/%d" % number, fs_type, (*options, *more))._replace(source=source)
        for number, (fs_type, options, source) in enumerate(rows, 1)
    ]
    filters = Filters(
        include_types=[compile_glob(b"[a-n]*")],
        exclude_sources=[compile_glob(b"/dev/*")],
        exclude_paths=[compile_glob(b"/3")],
        remote=as_owner,
    )
    out = {each.mount.mount_id: each.why for each in select(mounts, filters).left_out}
    for mount in mounts:
        alone = select([mount], filters).left_out
        assert out.get(mount.mount_id) is (alone[0].why if alone else None)
    settings_ = asking.Settings(as_owner=as_owner)
    all_of_them = asking.Requests(settings_)
    for mount in mounts:
        content = all_of_them.of(mount)
        assert content == asking.Requests(settings_).of(mount)
        request = requests.decoded(content)[0]
        assert (request.path, request.mount_id) == (mount.mount_point, mount.mount_id)
        assert request.owner == fuse_owner(mount)
        assert request.root_decides == (as_owner and b"sec=krb5" in mount.super_options)
        assert (request.as_owner, request.trigger) == (as_owner, mount.fs_type == b"autofs")
