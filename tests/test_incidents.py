"""The record of incidents without a daemon: its lines, its files, and what is made of them."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from check_mounts.clocks import Boottime, Epoch
from check_mounts.daemon import witnesses
from check_mounts.incidents import files, grouping, histories, records, since
from check_mounts.incidents.histories import End
from check_mounts.incidents.records import Kind, Record, Stamp, Status, Subject, Waiting
from check_mounts.model import Mount
from check_mounts.report import incidents as report
from check_mounts.using.model import How, Process, Users
from tests.conftest import Mounts

BOOT = "b0"
NOON = 1_790_000_000.0
TIMED_OUT = Status("timed-out", "CRITICAL", "timed out after 5 s", "server filer1 does not answer on port 2049")
DEAD = Status("dead", "CRITICAL", "dead: Input/output error (EIO)")


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Diary:
    """Records in the order in which a daemon writes them; times are seconds after NOON."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.boot, self.booted = BOOT, -1000.0
        self._since: dict[str, float] = {}
        self._number = 0

    def _stamp(self, at: float) -> Stamp:
        return Stamp(Epoch(NOON + at), Boottime(at - self.booted), self.boot)

    def daemon(self, kind: Kind, at: float) -> Diary:
        self.records.append(Record(kind, self._stamp(at)))
        return self

    def note(
        self, kind: Kind, at: float, point: str, status: Status = TIMED_OUT, server: str | None = "filer1"
    ) -> Diary:
        if kind is Kind.BEGIN:
            self._number += 1
            self._since[point] = at
            self._ids = getattr(self, "_ids", {}) | {point: f"{self.boot}-{self._number}"}
        began = Boottime(self._since[point] - self.booted)
        subject = Subject(point, f"filer1:{point}", "nfs4", server)
        self.records.append(Record(kind, self._stamp(at), self._ids[point], began, subject, status))
        return self

    def reboot(self, boot: str, at: float) -> Diary:
        self.boot, self.booted = boot, at
        return self

    def told(self, now: float = 3600.0) -> report.Told:
        history = histories.read(self.records)
        first = None if history.first is None else history.first.at
        return report.Told(grouping.grouped(history.incidents), None, first, Epoch(NOON + now))

    def lines(self, verbosity: int = 0) -> list[str]:
        return list(report.lines(self.told(), verbosity))


# -- lines


HOSTILE = ("/mnt/a\\012b", "/mnt/ü", '/mnt/"quoted"', "/" + "\\377" * 4094)


@pytest.mark.parametrize("point", HOSTILE, ids=range(4))
def test_a_record_is_one_line_and_comes_back(point: str) -> None:
    status = TIMED_OUT._replace(remarks=("a", "b"), blocked=3, drill=True)
    stamp = Stamp(Epoch(1.5), Boottime(2.25), BOOT)
    for kind in Kind:
        record = Record(kind, stamp, "x-1", Boottime(1.0), Subject(point, None, "nfs"), status, "slow", "ok again")
        record = record._replace(waiting=Waiting(212, "212 processes waited", 2))
        line = records.encoded(record)
        assert line.endswith(b"\n") and line.count(b"\n") == 1 and line.isascii() and len(line) <= records.LONGEST
        assert line.startswith(records.BEGINNING)
        if kind not in (Kind.START, Kind.CHECKED, Kind.STOP):
            assert records.decoded(line) == record


def test_words_of_any_length_fit_a_line() -> None:
    status = Status("dead", "CRITICAL", "x" * 100_000, "y" * 100_000, ("z" * 100_000,) * 100)
    record = Record(
        Kind.BEGIN, Stamp(Epoch(1.0), Boottime(1.0), BOOT), "i", Boottime(1.0), Subject("/" + "\\377" * 4094), status
    )
    assert len(records.encoded(record)) <= records.LONGEST


GOOD = records.encoded(
    Record(
        Kind.BEGIN, Stamp(Epoch(1.5), Boottime(2.25), BOOT), "i", Boottime(1.0), Subject("/x", "s", "nfs", "h"), DEAD
    )
)


def test_what_is_no_record_is_none() -> None:
    """Each beginning of a line, each line with one member wrong, and noise."""
    for end in range(len(GOOD) - 2):
        assert records.decoded(GOOD[:end]) is None
    whole = json.loads(GOOD)
    wrong: list[object] = [None, -1, 1e300, True, [], {}, "\x1b[31m", "a\nb", "\ud800", float("nan"), [["x"]]]
    for name in whole:
        if name in ("source", "type", "server", "remarks", "blocked", "drill"):
            continue
        for value in wrong:
            line = json.dumps({**whole, name: value}).encode("utf-8", "surrogatepass")
            assert records.decoded(line) is None, (name, value)
        assert records.decoded(json.dumps({key: whole[key] for key in whole if key != name}).encode()) is None
    noise = random.Random(3)
    for _ in range(2000):
        spoilt = bytearray(GOOD)
        for _ in range(noise.randrange(1, 9)):
            spoilt[noise.randrange(len(spoilt))] = noise.randrange(256)
        records.decoded(bytes(spoilt))  # whatever it is, it is no exception
    assert records.decoded(b"[" * 100_000) is None


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (b"", (0, 0, 0)),
        (GOOD, (1, 0, 0)),
        (GOOD[:-1], (1, 0, 0)),
        (GOOD + GOOD[:50], (1, 0, 0)),
        (GOOD + b"\0" * 50, (1, 0, 0)),
        (GOOD + b"\n\n" + GOOD, (2, 0, 0)),
        (GOOD + GOOD[:50] + b"\n" + GOOD + b"x\n" + GOOD[:9], (2, 2, 2)),
        (b"\xff\n" + GOOD, (1, 1, 1)),
        (GOOD[:5], (0, 0, 0)),
        (GOOD[:50], (0, 0, 0)),
        (b"noise", (0, 0, 1)),
        (b"\0" * 50, (0, 0, 1)),
        (b"\n\n", (0, 0, 1)),
        (b"\nx\n", (0, 1, 2)),
        (b"root:x:0\n" * 3, (0, 3, 1)),
        (GOOD.replace(b": 1,", b": 2,", 1), (0, 1, 1)),
    ],
    ids=range(16),
)
def test_lines_of_a_file_that_are_no_records_are_counted(data: bytes, content: tuple[int, int, int]) -> None:
    known: dict[bytes, Record] = {}
    assert records.read(data, known) == content
    assert len(known) == bool(content[0])


# -- histories


def test_an_incident_from_its_begin_to_its_end() -> None:
    diary = Diary().daemon(Kind.START, 0).daemon(Kind.CHECKED, 1)
    diary.note(Kind.BEGIN, 10, "/home").note(Kind.CHANGE, 70, "/home", DEAD).note(Kind.END, 1075, "/home", DEAD)
    (each,) = histories.read(diary.records).incidents
    assert (each.seconds, each.end, [status.condition for status in each.statuses]) == (
        1065.0,
        End.SEEN,
        ["timed-out", "dead"],
    )
    assert diary.lines() == [
        "filer1: 1 mount, 14:13:30 to 14:31:15 (17 min 45 s): timed out, then dead: "
        "server filer1 does not answer on port 2049"
    ]


def test_mounts_of_one_server_share_a_line() -> None:
    diary = Diary().daemon(Kind.START, 0)
    for number in range(6):
        diary.note(Kind.BEGIN, 10 + number, f"/home{number}", TIMED_OUT._replace(blocked=number == 0))
    diary.note(Kind.BEGIN, 20, "/data", DEAD, server=None)
    for number in range(6):
        diary.note(Kind.END, 600 + number, f"/home{number}")
    diary.note(Kind.BEGIN, 664, "/home0").note(Kind.END, 700, "/home0")  # 59 s after the last one's end
    diary.note(Kind.BEGIN, 800, "/home0")
    assert diary.lines() == [
        "filer1: 6 mounts, 14:13:30 to 14:25:00 (11 min 30 s): timed out: server filer1 does not answer on port 2049; "
        "1 mount below could not be asked",
        "/data: since 14:13:40 (13 min, not over): dead: Input/output error (EIO)",
        "filer1: 1 mount, since 14:26:40 (0 s, not over): timed out: server filer1 does not answer on port 2049",
    ]
    assert report.summary(diary.told()) == "9 incidents of 7 mounts since 2026-09-21 14:13:20, 2 not over"


def test_a_restarted_daemon_goes_on_with_what_it_finds_again() -> None:
    diary = Diary().daemon(Kind.START, 0).note(Kind.BEGIN, 10, "/a").note(Kind.BEGIN, 11, "/b")
    diary.daemon(Kind.START, 100).note(Kind.BEGIN, 101, "/a").daemon(Kind.CHECKED, 102).note(Kind.END, 200, "/a")
    one, two = histories.read(diary.records).incidents
    assert (one.subject.mount_point, one.seconds, one.end) == ("/a", 190.0, End.SEEN)
    assert (two.subject.mount_point, two.seconds, two.end) == ("/b", 91.0, End.UNSEEN)


def test_before_its_first_check_nothing_is_over() -> None:
    diary = Diary().daemon(Kind.START, 0).note(Kind.BEGIN, 10, "/a").daemon(Kind.STOP, 20).daemon(Kind.START, 100)
    (each,) = histories.read(diary.records).incidents
    assert (each.end, each.seconds) == (None, 90.0)


def test_a_reboot_ends_all() -> None:
    diary = Diary().daemon(Kind.START, 0).note(Kind.BEGIN, 10, "/a").note(Kind.BEGIN, 40, "/b").note(Kind.END, 50, "/b")
    diary.reboot("b1", 100).daemon(Kind.START, 110).note(Kind.BEGIN, 111, "/a")
    ended, other, new = histories.read(diary.records).incidents
    assert (ended.end, ended.seconds, other.end, new.end) == (End.REBOOT, 40.0, End.SEEN, None)
    assert "then the host was booted again" in diary.lines()[0]


@pytest.mark.parametrize("jump", [-1e6, -100.0, 1e6])
def test_a_clock_that_is_set_makes_no_duration_wrong(jump: float) -> None:
    diary = Diary().daemon(Kind.START, 0).note(Kind.BEGIN, 10, "/a")
    diary.note(Kind.END, 70, "/a")
    last = diary.records[-1]
    diary.records[-1] = last._replace(stamp=last.stamp._replace(at=Epoch(last.stamp.at + jump)))
    (each,) = histories.read(diary.records).incidents
    assert each.seconds == 60.0
    assert "(1 min)" in diary.lines()[0]


def test_each_line_tells_enough_where_the_others_are_lost() -> None:
    """Whichever lines are missing, nothing fails, and an incident that any line names is told."""
    diary = Diary().daemon(Kind.START, 0).note(Kind.BEGIN, 10, "/a").note(Kind.CHANGE, 20, "/a", DEAD)
    diary.note(Kind.END, 30, "/a", DEAD).daemon(Kind.STOP, 40).daemon(Kind.START, 50).daemon(Kind.CHECKED, 51)
    for kept in range(1 << len(diary.records)):
        some = [record for place, record in enumerate(diary.records) if kept >> place & 1]
        found = histories.read(some).incidents
        assert len(found) == any(record.incident for record in some)
        for each in found:
            assert each.since == 1010.0 and each.seconds >= 0
            assert (each.end is End.SEEN) >= any(record.kind is Kind.END for record in some)


def test_a_drill_is_said_to_be_one_and_is_no_part_of_another() -> None:
    diary = Diary().daemon(Kind.START, 0).note(Kind.BEGIN, 10, "/a").note(Kind.END, 20, "/a")
    diary.note(Kind.BEGIN, 30, "/a", TIMED_OUT._replace(drill=True))
    diary.note(Kind.END, 40, "/a", TIMED_OUT._replace(drill=True))
    lines = diary.lines()
    assert [line.startswith("DRILL: ") for line in lines] == [False, True]
    assert report.summary(diary.told()).endswith(", 1 drill among them")


def test_processes_that_waited_are_told_once() -> None:
    diary = Diary().daemon(Kind.START, 0).note(Kind.BEGIN, 10, "/a").note(Kind.BEGIN, 10, "/b")
    waiting = Waiting(212, "212 processes waited, most in backup.service", 2)
    for record in diary.records[1:3]:
        diary.records.append(record._replace(kind=Kind.EVIDENCE, waiting=waiting))
    (line,) = diary.lines()
    assert line.endswith("; 212 processes waited, most in backup.service")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 s"),
        (0.42, "0.4 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (1065, "17 min 45 s"),
        (3600, "1 h"),
        (11520, "3 h 12 min"),
        (183600, "2 d 3 h"),
        (9e9, "104166 d 16 h"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert report.duration(seconds) == words


# -- --since


@pytest.mark.parametrize(
    ("word", "ago"),
    [("24h", 86400), ("90m", 5400), ("90min", 5400), ("7d", 604800), ("1d12h", 129600), ("1w", 604800), ("0s", 0)],
)
def test_durations_that_it_takes(word: str, ago: float) -> None:
    assert since.parse(word, Epoch(NOON)) == since.Since(ago=ago)


@pytest.mark.parametrize(
    ("word", "at"),
    [
        ("2026-09-20", "2026-09-20 00:00:00"),
        ("2026-09-20 02:00", "2026-09-20 02:00:00"),
        ("2026-09-20T02:00:07", "2026-09-20 02:00:07"),
        ("02:00", "2026-09-21 02:00:00"),
        ("23:00", "2026-09-20 23:00:00"),
        ("today", "2026-09-21 00:00:00"),
        ("yesterday", "2026-09-20 00:00:00"),
        ("yesterday 22:30", "2026-09-20 22:30:00"),
    ],
)
def test_times_that_it_takes(word: str, at: str) -> None:
    found = since.parse(word, Epoch(NOON)).at  # 2026-09-21 14:13:20
    assert found is not None and time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found)) == at


@pytest.mark.parametrize(
    "word",
    [
        "",
        "24",
        "h",
        "-1h",
        "1e3h",
        "24h!",
        "2026-02-30",
        "2026-13-01",
        "25:00",
        "02:60",
        "tomorrow",
        "2027-01-01",
        "1d 12",
        "\uff19h",
        "99999999w",
        "2026-09-20x",
        "2026-09-2002:00",
        "today 99:00",
        "0000-00-00",
        "9999-99-99",
        "\n",
        "24h\n",
        "1970",
        " 02:00",
        "2026-09-20 ",
        "T02:00",
    ],
)
def test_times_that_it_does_not_take(word: str) -> None:
    with pytest.raises(ValueError):
        since.parse(word, Epoch(NOON))


# -- files


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_ten_thousand_incidents_stay_under_the_bound(directory: int, tmp_path: Path) -> None:
    """Both files together, at each moment; the newest is always there."""
    diary = Diary().daemon(Kind.START, 0)
    most = 0
    for number in range(10_000):
        diary.records.clear()
        diary.note(Kind.BEGIN, number, f"/srv/{number}", TIMED_OUT._replace(remarks=("r" * 200,)))
        diary.note(Kind.END, number + 0.5, f"/srv/{number}")
        data = b"".join(map(records.encoded, diary.records))
        assert files.append(directory, "i", data, files.MOST, lasts=not number % 50) == len(data)
        if number % 50 == 0:
            most = max(most, sum(path.stat().st_size for path in tmp_path.iterdir()))
    assert most <= 2 * files.MOST


def test_the_older_file_is_replaced(directory: int, tmp_path: Path) -> None:
    line = GOOD[:-2] + b' "x": "' + b"x" * 900 + b'"}\n'
    for _ in range(5 * files.MOST // len(line)):
        assert files.append(directory, "i", line, files.MOST) == len(line)
        sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
        assert sizes.keys() <= {"i", "i.1"} and all(size <= files.MOST for size in sizes.values())
    assert sum(sizes.values()) > files.MOST
    assert stat.S_IMODE((tmp_path / "i").stat().st_mode) == 0o640


def test_after_a_part_of_a_line_comes_a_new_line(directory: int, tmp_path: Path) -> None:
    for end in range(len(records.BEGINNING), len(GOOD) - 1):
        (tmp_path / "i").write_bytes(GOOD + GOOD[:end])
        (tmp_path / "i").chmod(0o640)
        assert files.append(directory, "i", GOOD, files.MOST) == len(GOOD)
        lines = (tmp_path / "i").read_bytes().split(b"\n")
        assert [records.decoded(line) is not None for line in lines if line] == [True, False, True]


@pytest.mark.root
def test_a_full_disk_takes_whole_lines_only(mounts: Mounts) -> None:
    place = mounts.tmpfs("full", "size=64k,mode=0755")
    fd = os.open(place, os.O_RDONLY)
    accepted, lines = 0, GOOD * 10
    try:
        with pytest.raises(OSError, match="No space left"):
            while True:
                written = files.append(fd, "i", lines, files.MOST)
                assert written % len(GOOD) == 0
                accepted += written
                if not written:
                    raise OSError("No space left")
        assert (place / "i").read_bytes() == GOOD * (accepted // len(GOOD))
    finally:
        os.close(fd)


def test_a_limit_of_sizes_takes_whole_lines_only(tmp_path: Path) -> None:
    code = (
        "import os, sys; from check_mounts.incidents import files; "
        f"print(files.append(os.open({str(tmp_path)!r}, os.O_RDONLY), 'i', {GOOD!r} * 10, files.MOST))"
    )

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(GOOD) * 3 + 5, len(GOOD) * 3 + 5))

    found = subprocess.run(
        [sys.executable, "-c", code], preexec_fn=limited, capture_output=True, text=True, restore_signals=False
    )
    assert (found.stdout, (tmp_path / "i").read_bytes()) == (f"{3 * len(GOOD)}\n", GOOD * 3), found


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.write_text("notes\n"), "not a file that check_mounts has written"),
        (lambda path: os.mkfifo(path), "not a regular file"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.symlink_to("/etc/passwd"), "symbolic link"),
        (lambda path: (path.write_bytes(GOOD), path.chmod(0o666)), "lets others write"),
    ],
    ids=["another", "fifo", "directory", "link", "writable"],
)
def test_another_file_is_left_alone(directory: int, tmp_path: Path, make: Callable[[Path], object], why: str) -> None:
    make(tmp_path / "i")
    before = os.lstat(tmp_path / "i")
    with pytest.raises((OSError, files.Untrusted), match=why):
        files.append(directory, "i", GOOD, files.MOST)
    after = os.lstat(tmp_path / "i")
    assert (before.st_ino, before.st_size, before.st_mtime_ns) == (after.st_ino, after.st_size, after.st_mtime_ns)


def test_a_reader_that_a_writer_outruns_comes_to_an_end(directory: int, tmp_path: Path) -> None:
    with open(tmp_path / "i", "wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "i").chmod(0o600)
    data = files.read_in(directory, "i")
    assert data is not None and len(data) == 2 * files.MOST


# -- processes


def _process(pid: int, how: How = How.WAITS, name: bytes = b"cp", unit: str = "", device: int = 40) -> Process:
    state = "D" if how.hangs else "S"
    return Process(pid, pid, 0, name, unit, state, None, how, (0, device) if device else None)


def _mount(device: int) -> Mount:
    return Mount(device, 1, (0, device), b"/", b"/m%d" % device, (), (), b"nfs4", b"filer1:/m", ())


@pytest.mark.parametrize(
    ("found", "probable", "words"),
    [
        ([], [], None),
        ([_process(1, How.OPEN), _process(2, How.STANDS)], [], None),
        ([_process(1)], [], "1 process waited: cp"),
        ([_process(1), _process(1, How.PROBABLY)], [], "1 process waited: cp"),
        ([_process(n, unit="backup.service") for n in range(3)], [], "3 processes waited in backup.service"),
        (
            [_process(n, unit="backup.service") for n in range(200)] + [_process(n) for n in range(200, 212)],
            [],
            "212 processes waited, most in backup.service",
        ),
        ([], [_process(1, How.PROBABLY, device=0)], "1 process probably waited: cp"),
        ([_process(1, name=b"check_mounts:w"), _process(2, device=99)], [], None),
        ([_process(n, name=b"p%d" % n) for n in range(9)], [], "9 processes waited: p0, p1, p2 and 6 more"),
        ([_process(1, name=b"a\n|b")], [], "1 process waited: a\\012\\174b"),
    ],
    ids=range(10),
)
def test_who_waited(found: list[Process], probable: list[Process], words: str | None) -> None:
    waiting = witnesses.waiting_at(Users(tuple(found), tuple(probable)), [_mount(40), _mount(41)])
    assert (waiting and waiting.words) == words
    if waiting is not None:
        assert waiting.mounts == 2
        some = witnesses.waiting_at(Users(tuple(found), tuple(probable), ("no right",)), [_mount(40)])
        assert some is not None and some.words == f"at least {words}"
