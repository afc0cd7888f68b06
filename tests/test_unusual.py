"""--unusual: what is usual, and what is not."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check_mounts.judging import courses, past, unusual
from check_mounts.judging.courses import Courses, Key
from check_mounts.judging.past import DAY
from check_mounts.probing import operations
from check_mounts.slowness import Unusual
from check_mounts.traffic import Operation
from tests.loads import DAY_OF_WINDOWS, POINT, SOURCE, WINDOW, Host, Load, Window

KEY = Key(SOURCE, POINT)
FACTOR = 5.0


class Watched:
    """A mount whose counters are looked at after each window, by one daemon after the other."""

    def __init__(self, host: Host, chance: random.Random) -> None:
        self.host, self._chance = host, chance
        self.courses = Courses()
        self._last = host.look()

    def window(self, window: Window, seconds: float = WINDOW) -> bool:
        """Whether the mount is unusual after it."""
        self.host.work(window, seconds)
        event = self._chance.random()
        if event < 0.001:  # another daemon goes on; what was done meanwhile is lost
            self.courses = courses.remembered(self.courses.told())
            self._last = self.host.look()
        elif event < 0.0015:
            self.host.mount_again()
        now = self.host.look()
        moved = {Key(SOURCE, point): done for point, done in operations.delta(self._last, now).items()}
        self.courses.take(now.time - self._last.time, moved, lambda point: FACTOR)
        self._last = now
        return self.courses.unusual(KEY) is not None

    def live(self, windows: Iterable[Window], seconds: float = WINDOW) -> int:
        """How many windows were unusual."""
        return sum([self.window(each, seconds) for each in windows])


def alarms(seed: int, days: int) -> int:
    """How many windows of some days of a random load are unusual."""
    chance = random.Random(seed)
    load = Load(chance)
    watched = Watched(Host(chance.choice((2**32, 2**64))), chance)
    return sum(watched.live(load.day(day)) for day in range(days))


def test_ten_thousand_healthy_days_give_no_alarm() -> None:
    weeks = 4
    found = {seed: number for seed in range(10_000 // (weeks * 7) + 1) if (number := alarms(seed, weeks * 7))}
    assert found == {}


def test_a_judge_by_three_standard_deviations_would_give_alarms() -> None:
    """So the days are not too quiet to prove anything."""
    assert sum(_alarms_of_deviations(seed) for seed in range(20)) > 50


def _alarms_of_deviations(seed: int) -> int:
    load = Load(random.Random(seed))

    def values(days: range) -> list[float]:
        return [window.seconds for day in days for window in load.day(day) if window.done >= 20]

    before, now = values(range(14)), values(range(14, 28))
    if len(before) < 2:
        return 0
    limit = statistics.mean(before) + 3 * statistics.pstdev(before)
    return sum(min(three) > limit for three in zip(now, now[1:], now[2:]))


# -- what is found


def grown(days: int, seed: int = 0) -> tuple[Watched, Load]:
    """A mount with a plain load, after some days."""
    chance = random.Random(seed)
    load = Load(chance, plain=True)
    watched = Watched(Host(), Calm())
    assert watched.live(window for day in range(days) for window in load.day(day)) == 0
    return watched, load


class Calm(random.Random):
    """No daemon ends, and no mount is mounted again."""

    def random(self) -> float:
        return 0.5


@pytest.mark.parametrize(("days", "factor"), [(15, 10.0), (3, 25.0)])
def test_a_slowdown_is_found_after_three_windows(days: int, factor: float) -> None:
    found = []
    for seed in range(60):
        watched, load = grown(days, seed)
        busy = [each for each in load.day(days) if each.done >= unusual.LEAST_OPERATIONS][:4]
        slow = [Window(each.done, each.seconds * factor + 0.02) for each in busy]
        found.append([watched.window(each) for each in slow])
    assert not any(any(each[:2]) for each in found)
    assert sum(each[3] for each in found) >= 54, found


READ = Window(1000, 0.003)
SLOW = Window(1000, 0.18)


def steady(days: float = 10, seconds: float = WINDOW) -> Watched:
    """A mount that took 3 ms for so many days."""
    watched = Watched(Host(), Calm())
    assert watched.live([READ] * int(days * DAY / seconds), seconds) == 0
    return watched


def test_the_operation_and_how_long_it_usually_takes() -> None:
    watched = steady()
    assert [watched.window(SLOW) for _ in range(4)] == [False, False, True, True]
    told = watched.courses.unusual(KEY)
    assert told is not None and told.operation == "READ"
    assert told.seconds == pytest.approx(0.18)
    assert told.usual == pytest.approx(0.003, rel=0.1)


@pytest.mark.parametrize("seconds", [1.0, 10.0, 60.0, 3600.0])
def test_whatever_the_interval_is(seconds: float) -> None:
    """Windows have at least 20 seconds."""
    watched = steady(10 if seconds > 10 else 3, seconds)
    passes = [watched.window(SLOW, seconds) for _ in range(70)].index(True) + 1
    assert passes == max(3, 3 * math.ceil(unusual.SHORTEST / seconds))


def test_never_on_the_first_two_days() -> None:
    watched = steady(1)
    assert watched.live([SLOW] * 287) == 0
    watched = steady(2.1)
    assert watched.live([SLOW] * 3) == 1


def test_nor_before_the_operation_was_seen_often_enough() -> None:
    watched = Watched(Host(), Calm())
    for _ in range(5):
        assert watched.live([READ] * 4 + [Window(0, 0.0)] * 284) == 0
    assert watched.live([SLOW] * 10) == 0


def test_one_window_or_two_decide_nothing() -> None:
    watched = steady()
    assert watched.live([SLOW, SLOW, READ] * 100) == 0
    assert watched.live([Window(0, 0.0)] * 3 + [Window(100_000, 60.0)] + [READ] * 10) == 0


def test_it_ends_after_three_windows_and_does_not_flap() -> None:
    watched = steady()
    assert watched.live([SLOW] * 3) == 1
    assert [watched.window(each) for each in (READ, READ, SLOW, READ, READ, READ)] == [True] * 5 + [False]
    between = Window(1000, 0.02)  # below the limit, but not well below it
    assert watched.live([SLOW] * 3) == 1
    assert watched.live([between] * 50) == 50


def test_few_operations_say_nothing() -> None:
    watched = steady()
    assert watched.live([Window(5, 0.18)] * 50, 300.0) == 0  # ten in ten minutes
    assert watched.live([READ] + [Window(15, 0.18)] * 6, 300.0) == 1  # two passes make one window


def test_an_operation_that_nobody_does_is_not_unusual_for_long() -> None:
    watched = steady()
    watched.live([SLOW] * 3)
    assert watched.live([Window(0, 0.0)] * 20) == 6
    assert watched.live([SLOW] * 2) == 0


def test_what_stays_slow_becomes_usual_after_a_week_and_two_days() -> None:
    watched = steady()
    assert watched.live([SLOW] * 12 * 288) == 7 * 288 + 1
    assert watched.live([READ] * 300) == 0
    assert watched.live([Window(1000, 9.0)] * 3) == 1


def test_it_is_told_after_a_restart_as_before_and_ends_as_before() -> None:
    watched = steady()
    watched.live([SLOW] * 3)
    watched.courses = courses.remembered(watched.courses.told())
    told = watched.courses.unusual(KEY)
    assert told is not None and told == Unusual("READ", 0.18, told.usual)
    assert [watched.window(each) for each in (SLOW, READ, READ, READ)] == [True, True, True, False]


# -- what comes again


def day_with(begin: int, slow: Window = SLOW, length: int = 12) -> list[Window]:
    return [slow if begin <= place < begin + length else READ for place in range(DAY_OF_WINDOWS)]


def test_what_comes_at_the_same_time_of_day_is_expected_there_after_two_alarms() -> None:
    watched = steady()
    told = [watched.live(day_with(30 + shift)) > 0 for shift in (0, 5, 1, -3, 4)]
    assert told == [True, True, False, False, False]
    assert watched.live(day_with(150)) > 0  # at noon it is not
    assert watched.live(day_with(30, Window(1000, 1.8))) > 0  # nor ten times as slow
    assert watched.live(day_with(30, length=150)) > 0  # nor without an end


def test_a_server_that_fails_at_other_times_each_day_is_told_of_each_time() -> None:
    watched = steady()
    assert all(watched.live(day_with(begin)) > 0 for begin in (20, 150, 70, 230))


def test_a_backup_that_was_there_from_the_beginning_is_usual() -> None:
    watched = Watched(Host(), Calm())
    assert sum(watched.live(day_with(40 + day % 5)) for day in range(20)) == 0


# -- which operations


def take(watched: Courses, name: bytes, seconds: float, size: int = 4096, times: int = 3, count: int = 100) -> None:
    done = Operation(name, count, count, 0, 0, size * count, 0, int(seconds * count * 1000), 0, 0)
    for _ in range(times):
        watched.take(60.0, {KEY: {name: done}}, lambda point: FACTOR)


@pytest.mark.parametrize("name", [b"LOCK", b"SEQUENCE", b"DELEGRETURN", b"COPY", b"77"])
def test_what_waits_by_its_nature_is_not_judged(name: bytes) -> None:
    watched = Courses()
    take(watched, name, 0.003, times=4 * 1440)
    take(watched, name, 3.0)
    assert watched.unusual(KEY) is None


def test_large_reads_are_not_compared_with_small_ones() -> None:
    watched = Courses()
    take(watched, b"READ", 0.003, 4096, times=4 * 1440)
    take(watched, b"READ", 0.18, 1 << 20, times=10)
    assert watched.unusual(KEY) is None
    take(watched, b"READ", 0.18, 4096)
    assert watched.unusual(KEY) is not None


def test_the_operation_that_is_slowest_by_its_own_measure() -> None:
    watched = Courses()
    names = (b"GETATTR", b"WRITE")
    for name in names:
        take(watched, name, 0.003, times=4 * 1440)
    take(watched, b"GETATTR", 0.5)
    take(watched, b"WRITE", 0.2)
    assert (watched.unusual(KEY) or "")[0] == "GETATTR"


def test_another_source_at_the_same_place_has_a_past_of_its_own() -> None:
    watched = steady()
    other = Key(b"nas2:/data", POINT)
    done = {b"READ": Operation(b"READ", 1000, 1000, 0, 0, 0, 0, 180_000, 0, 0)}
    for _ in range(10):
        watched.courses.take(60.0, {other: done}, lambda point: FACTOR)
    assert watched.courses.unusual(other) is None


def test_a_mount_that_is_not_judged_is_forgotten() -> None:
    watched = steady()
    watched.live([SLOW] * 3)
    watched.courses.take(60.0, {KEY: {}}, lambda point: None)
    assert watched.courses.unusual(KEY) is None
    assert watched.courses.told().count(b"\n") == 1


# -- the file


def many(mounts: int) -> Courses:
    """What is known of many mounts that all do the same."""
    full = courses.remembered(steady(29).courses.told())
    line = full.told().split(b"\n")[1]
    for number in range(mounts):
        for kind in (b"READ 0", b"READ 2", b"GETATTR", b"WRITE 1"):
            courses._remember(full, line.replace(b"/data", b"/home/%d" % number).replace(b"READ 0", kind))
    return full


def test_the_file_is_bounded_whatever_there_is() -> None:
    """10,000 mounts, and four operations of each."""
    watched = many(10_000)
    data = watched.told()
    assert data.count(b"\n") <= courses.MOST + 1
    assert len(data) < 10 << 20, len(data)
    assert courses.remembered(data).told() == data


def test_nor_by_long_names() -> None:
    watched = Courses()
    done = {b"READ": Operation(b"READ", 100, 100, 0, 0, 0, 0, 300, 0, 0)}
    keys = [Key(b"\xff" * 4000, b"/%d" % number + b"\xff" * 4000) for number in range(500)]
    watched.take(60.0, {key: done for key in keys}, lambda point: FACTOR)
    data = watched.told()
    assert courses.LONGEST - 50_000 < len(data) <= courses.LONGEST
    assert courses.remembered(data).told() == data


@given(st.lists(st.tuples(st.binary(max_size=30), st.binary(max_size=30)), max_size=5, unique=True))
def test_any_names(names: list[tuple[bytes, bytes]]) -> None:
    watched = Courses()
    done = {b"READ": Operation(b"READ", 100, 100, 0, 0, 0, 0, 300, 0, 0)}
    watched.take(60.0, {Key(*each): done for each in names}, lambda point: FACTOR)
    data = watched.told()
    assert courses.remembered(data).told() == data
    assert {key for key, _, _ in courses.remembered(data)._each()} == {Key(*each) for each in names}


WHOLE = steady(1).courses.told()


@given(st.one_of(st.binary(max_size=200), st.integers(0, len(WHOLE) - 1).map(lambda size: WHOLE[:size])))
def test_a_damaged_file_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        courses.remembered(data)


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_changes_nothing_but_the_age(place: int, change: int) -> None:
    data = bytearray(WHOLE)
    data[place] ^= change
    try:
        courses.remembered(bytes(data))
    except ValueError:
        return
    assert place < WHOLE.index(b"\n")


@pytest.mark.parametrize(
    "told",
    [
        "[1,[],[1,0,[],[],[]]]",  # no peaks
        "[1,[],[1,0,%s,[[84,1]],[]]]",  # no such step
        "[1,[],[1,0,%s,[[3,-1]],[]]]",
        "[1,[],[90000,0,%s,[],[]]]",  # it begins later than today
        '["x",[],[1,0,%s,[],[]]]',
        "{}",
    ],
)
def test_lines_that_make_no_sense(told: str) -> None:
    with pytest.raises(ValueError, match="damaged"):
        courses._remember(Courses(), b'["a","b","READ 0",%s]' % told.replace("%s", str([0] * 28)).encode())


def test_a_past_is_what_it_was() -> None:
    chance = random.Random(7)
    own = past.Past(0.0)
    for number in range(4000):
        own.go_on(number * 300.0)
        own.note(math.exp(chance.gauss(-5, 1)), 0.1 if number % 700 == 0 else 0.0)
    age = 4000 * 300.0
    again = past.remembered(own.told())
    before, after = own.usual(age), again.usual(age)
    assert before is not None and after is not None
    assert after == pytest.approx(before, rel=0.01)
