"""What programs did on NFS mounts: counters of the kernel, and what they moved by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check_mounts import traffic
from check_mounts.clocks import Monotonic
from check_mounts.probing import operations
from check_mounts.probing.operations import Reading
from check_mounts.traffic import Operation
from tests.mountstats import NAMES, nfs, numbers
from tests.test_mountstats import OLD_TCP_V3, TCP_V42, UDP_V3

IDLE = dict.fromkeys(NAMES, numbers(0))


def look(data: bytes, when: float = 0.0) -> Reading:
    return operations.parse(data, Monotonic(when))


def moved(before: bytes, after: bytes, seconds: float = 60.0) -> dict[bytes, dict[bytes, Operation]]:
    return operations.delta(look(before), look(after, seconds))


def test_the_counters_of_a_mount() -> None:
    (mount,) = look(TCP_V42).mounts.items()
    point, counters = mount
    assert (point, counters.source, counters.age) == (b"/mnt/with space\\", b"10.0.0.5:/export", 86400)
    assert list(counters.operations) == [b"NULL", b"READ", b"WRITE", b"LAYOUTSTATS"]  # COMMIT never happened
    read = counters.operations[b"READ"]
    assert read == Operation(b"READ", 100, 105, 2, 20000, 900000, 1, 400, 402, 0)
    assert (read.retransmissions, read.mean_rtt, read.mean_queue) == (5, 0.004, 0.00001)
    assert read.mean_execute == pytest.approx(0.00402)


def test_an_old_kernel_counts_no_errors_and_unsent_requests_as_operations() -> None:
    found = look(OLD_TCP_V3).mounts[b"/home"].operations
    assert (found[b"GETATTR"].retransmissions, found[b"READ"].retransmissions) == (0, 3)
    assert found[b"READ"].errors is None
    assert traffic.total(found.values()).errors is None


def test_what_was_done_between_two_looks() -> None:
    before = nfs(b"/a", 100, {**IDLE, "READ": numbers(1000, 3000), "GETATTR": numbers(5, 5)})
    after = nfs(
        b"/a", 160, {**IDLE, "READ": numbers(1412, 77160, 12, 1), "GETATTR": numbers(5, 5), "26": numbers(1, 1)}
    )
    found = moved(before, after)[b"/a"]
    assert list(found) == [b"READ", b"26"]  # a number where the kernel has no name
    assert (found[b"READ"].operations, found[b"READ"].mean_rtt) == (412, 0.18)
    assert (found[b"READ"].retransmissions, found[b"READ"].timeouts) == (12, 1)
    everything = traffic.total(found.values(), b"all")
    assert everything[:4] == (b"all", 413, 425, 1)
    assert traffic.total([]) == (b"", 0, 0, 0, 0, 0, 0, 0, 0, None)
    assert traffic.total([]).mean_rtt is None


BEFORE = nfs(b"/a", 100, {"READ": numbers(1000, 3000), "WRITE": numbers(50, 90)})


@pytest.mark.parametrize(
    ("after", "seconds"),
    [
        pytest.param(nfs(b"/a", 20, {"READ": numbers(2000, 900000), "WRITE": numbers(60, 100)}), 60, id="a new mount"),
        pytest.param(nfs(b"/a", 60, {"READ": numbers(2000, 900000), "WRITE": numbers(60, 100)}), 60, id="at once"),
        pytest.param(nfs(b"/a", 9999, {"READ": numbers(2000, 900000), "WRITE": numbers(60, 99)}), 60, id="one below"),
        pytest.param(
            nfs(b"/a", 160, {"READ": numbers(2000, 900000), "WRITE": numbers(60, 100)}, b"nas:/y"), 60, id="another"
        ),
        pytest.param(nfs(b"/a", 160, {"READ": numbers(3, 3), "WRITE": numbers(60, 100)}), 60, id="wrapped"),
        pytest.param(nfs(b"/a", 160, {"READ": numbers(1500, 30), "WRITE": numbers(60, 100)}), 60, id="wrapped times"),
        pytest.param(nfs(b"/a", 160, {"READ": numbers(1500, 3100)}), 60, id="a line that is gone"),
        pytest.param(nfs(b"/b", 160, {"READ": numbers(1500, 3100), "WRITE": numbers(60, 100)}), 60, id="elsewhere"),
        pytest.param(
            nfs(b"/a", 160, {"READ": numbers(1500, 3100), "WRITE": numbers(60, 100)}).replace(b"age", b"old"),
            60,
            id="without an age",
        ),
        pytest.param(
            nfs(b"/a", 160, {"READ": numbers(1500, 2**64 - 5), "WRITE": numbers(60, 100)}), 60, id="a negative time"
        ),
        pytest.param(b"", 60, id="no file"),
        pytest.param(nfs(b"/a", 160, {"READ": numbers(1500, 3100), "WRITE": numbers(60, 99)})[:-30], 60, id="cut"),
        pytest.param(nfs(b"/a", 40, {"READ": numbers(1500, 3100), "WRITE": numbers(60, 99)}), -60, id="backwards"),
    ],
)
def test_nothing_is_said_of_another_mount_or_of_counters_that_fell(after: bytes, seconds: float) -> None:
    assert moved(BEFORE, after, seconds) == {}


def test_a_very_young_mount_cannot_be_told_from_a_new_one() -> None:
    young = nfs(b"/a", 1, {"READ": numbers(90, 90)})
    assert moved(young, nfs(b"/a", 60, {"READ": numbers(100, 1000)}), 60) == {}
    assert moved(nfs(b"/a", 4, {}), nfs(b"/a", 64, {"READ": numbers(100, 1000)}), 60)[b"/a"][b"READ"].mean_rtt == 0.01


def test_an_idle_mount_has_done_nothing() -> None:
    assert moved(BEFORE, BEFORE.replace(b"age:\t100", b"age:\t160")) == {b"/a": {}}


_POINT = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name)
_COLUMN = st.one_of(st.integers(0, 9), st.integers(0, 2**32 - 1), st.integers(0, 2**63 - 1))
_ROW = st.tuples(*[_COLUMN] * 9)
_MOUNTS = st.lists(
    st.tuples(_POINT, _POINT, st.integers(4, 10**6), st.dictionaries(st.sampled_from(NAMES), _ROW, max_size=5)),
    unique_by=lambda mount: mount[0],
    max_size=5,
)


@given(_MOUNTS, st.integers(1, 20))
def test_any_mounts(mounts: list[tuple[bytes, bytes, int, dict[str, tuple[int, ...]]]], factor: int) -> None:
    """What the kernel prints is what is read, and the difference is what was added."""

    def text(more: int, seconds: int) -> bytes:
        rows = [
            nfs(point, age + seconds, {name: [one * (more + 1) for one in row] for name, row in each.items()}, source)
            for point, source, age, each in mounts
        ]
        return b"device proc mounted on /proc with fstype proc\n" + b"".join(rows)

    before = look(text(0, 0))
    assert list(before.mounts) == [point for point, *_ in mounts]
    for point, source, age, rows in mounts:
        assert before.mounts[point][:2] == (source, age)
        assert {name.decode(): tuple(row[1:]) for name, row in before.mounts[point].operations.items()} == {
            name: row for name, row in rows.items() if any(row[:8])
        }
    big = {
        point for point, _, _, rows in mounts if any(one * (factor + 1) >= 10**19 for r in rows.values() for one in r)
    }
    found = operations.delta(before, look(text(factor, 60), 60.0))
    for point, _, _, rows in mounts:
        if point not in big:
            assert {name.decode(): tuple(row[1:]) for name, row in found[point].items()} == {
                name: tuple(one * factor for one in row) for name, row in rows.items() if row[0]
            }


@given(st.binary(max_size=300), st.integers(0, 5000), st.integers(0, 100))
def test_garbage(noise: bytes, place: int, length: int) -> None:
    """Nothing is raised, and no number appears that nobody counted."""
    spoilt = TCP_V42[:place] + noise + TCP_V42[place + length :]
    for data in (noise, spoilt, spoilt[: len(spoilt) // 2]):
        reading = look(data, 60.0)
        operations.delta(look(TCP_V42), reading)
        operations.delta(reading, look(TCP_V42, 120.0))


def test_cut_anywhere() -> None:
    whole = look(UDP_V3).mounts[b"/home"]
    for length in range(len(UDP_V3)):
        for counters in look(UDP_V3[:length]).mounts.values():
            assert counters.age in (None, whole.age)
            assert counters.operations.items() <= whole.operations.items()


def test_another_version_is_not_understood() -> None:
    assert look(nfs(b"/a", 100, {"READ": numbers(5, 5)}, version="2.0")).mounts == {}
    assert look(nfs(b"/a", 100, {"READ": numbers(5, 5)}, version="1.0")).mounts[b"/a"].operations
    # Columns at the end that a later kernel may add change nothing.
    more = nfs(b"/a", 100, {"READ": (*numbers(5, 5), 7, 8)})
    assert look(more).mounts[b"/a"].operations[b"READ"] == (b"READ", *numbers(5, 5))


def test_ten_thousand_mounts() -> None:
    rows = {**IDLE, "READ": numbers(1000, 3000), "GETATTR": numbers(500, 900)}
    reading = look(b"".join(nfs(b"/srv/%d" % number, 100, rows) for number in range(10_000)))
    assert len(reading.mounts) == 10_000
    later = Reading(Monotonic(60.0), {p: c._replace(age=160) for p, c in reading.mounts.items()})
    assert operations.delta(reading, later) == {point: {} for point in reading.mounts}


def test_the_file() -> None:
    assert operations.read("/nonexistent").mounts == {}
    assert isinstance(operations.read(), Reading)
