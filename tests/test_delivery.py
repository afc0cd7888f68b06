"""Results on their way: each destination for itself, in a worker that is killed when its time is
up; the daemon's retries."""

from __future__ import annotations

import dataclasses
import errno
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path

import pytest

from check_mounts import passive
from check_mounts.clocks import NEVER
from check_mounts.model import State
from check_mounts.passive import Refused, Result, Undelivered, delivery, destinations, parked
from check_mounts.passive import progress as progresses
from check_mounts.passive.delivery import Courier, Delivery, Receipt, Submission
from check_mounts.passive.progress import Progress, Waiting
from check_mounts.passive.records import summed_up
from check_mounts.report.parts import Report
from check_mounts.system import processes, workers
from tests.conftest import Fuse, until
from tests.reported import reported

REPORT = reported(b"MOUNTS OK - 1 mount checked | mounts=1\n", ["mounts=1"])
RESULTS = [Result("host", "mounts", REPORT, 1e9, 129.0, "host")]


@dataclasses.dataclass
class Elsewhere:
    """A destination that does what it is told; runs in the worker."""

    name: str
    does: Callable[[Sequence[Result], float], None]
    confirms: bool = True
    files: Sequence[str] = ()

    def deliver(self, results: Sequence[Result], until: float, progress: Progress) -> None:
        self.does(results, until)


def into(path: Path) -> Callable[[Sequence[Result], float], None]:
    def write(results: Sequence[Result], _: float) -> None:
        with path.open("ab") as file:
            file.writelines(f"{result.report.headline}\n".encode() for result in results)

    return write


def refuses(results: Sequence[Result], _: float) -> None:
    raise Undelivered("wrong password")


def sleeps(results: Sequence[Result], _: float) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)


def crashes(results: Sequence[Result], _: float) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def is_wrong(results: Sequence[Result], _: float) -> None:
    raise KeyError("a defect\nof two lines")


def lacks_a_module(results: Sequence[Result], _: float) -> None:
    import_module("check_mounts.absent")


def is_verbose(results: Sequence[Result], _: float) -> None:
    raise Undelivered("ü" * 5000)


@pytest.fixture
def interrupts() -> Iterator[int]:
    """What becomes readable with a signal; it already is."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.write(write, b"x")
    yield read
    os.close(read)
    os.close(write)


def submission(*destinations: passive.Destination, timeout: float = 0.3) -> Submission:
    return Submission(destinations, "host", "mounts", timeout)


def test_each_for_itself(tmp_path: Path, interrupts: int) -> None:
    kinds = [
        Elsewhere("hung", sleeps),
        Elsewhere("refuses", refuses),
        Elsewhere("crashes", crashes),
        Elsewhere("wrong", is_wrong),
    ]
    kinds += [Elsewhere("good", into(tmp_path / "out")), Elsewhere("unsure", into(tmp_path / "out2"), confirms=False)]
    receipts = delivery.deliver(submission(*kinds, timeout=3.0), RESULTS, {}, lambda: None, interrupts)
    assert [receipt.words for receipt in receipts] == [
        "not submitted to hung: no answer within 3 s",
        "not submitted to refuses: wrong password",
        "not submitted to crashes: the process that should submit it has ended",
        "not submitted to wrong: KeyError: 'a defect\\nof two lines'",
        "1 result submitted to good",
        "1 result submitted to unsure, which does not confirm that anything has arrived",
    ]
    assert (tmp_path / "out").read_bytes() == b"1 mount checked\n"


def test_a_python_without_what_a_destination_needs(interrupts: int) -> None:
    (receipt,) = delivery.deliver(submission(Elsewhere("x", lacks_a_module)), RESULTS, {}, lambda: None, interrupts)
    assert receipt.error == "this Python has no module check_mounts.absent"


def test_a_long_reason_is_cut_to_a_line(interrupts: int) -> None:
    (receipt,) = delivery.deliver(submission(Elsewhere("x", is_verbose)), RESULTS, {}, lambda: None, interrupts)
    assert receipt.error is not None
    assert 400 < len(receipt.error) < 1100
    assert receipt.error.isprintable()


def test_a_signal_ends_it(interrupts: int) -> None:
    began = time.monotonic()
    names = iter([None])
    receipts = delivery.deliver(
        submission(Elsewhere("hung", sleeps), timeout=1000), RESULTS, {}, lambda: next(names, "SIGTERM"), interrupts
    )
    assert [receipt.error for receipt in receipts] == ["interrupted by SIGTERM"]
    assert time.monotonic() - began < 100


class Daemon:
    """What a daemon does with a courier."""

    def __init__(self, *destinations: passive.Destination, timeout: float = 0.3) -> None:
        self.receipts: list[Receipt] = []
        self.courier = Courier(self.receipts.append)
        self.poll = select.poll()
        self.poll.register(self.courier, select.POLLIN)
        self.courier.serve(submission(*destinations, timeout=timeout))

    def until(self, condition: Callable[[], object]) -> None:
        def holds() -> object:
            self.poll.poll(1)
            self.courier.step()
            return condition()

        until(holds)


@pytest.mark.parametrize("waiting", list(Waiting), ids=lambda waiting: waiting.name)
def test_what_was_waited_for_is_said_of_a_worker_that_is_killed(interrupts: int, waiting: Waiting) -> None:
    def waits(results: Sequence[Result], _: float, progress: Progress) -> None:
        progress.waits_for(waiting)
        progress.handed_over(1)
        time.sleep(1000)

    where = Elsewhere("x", sleeps)
    where.deliver = waits  # type: ignore[assignment,method-assign]
    (receipt,) = delivery.deliver(submission(where), RESULTS * 3, {}, lambda: None, interrupts)
    assert receipt.error == f"{waiting.words} within 0.3 s, after 1 of 3 results"


@pytest.mark.parametrize("noted", [bytes(48), b"\xff" * 48, b"\x01" + b"\xff" * 47])
def test_whatever_a_worker_notes_is_told_as_something(noted: bytes) -> None:
    assert progresses.words(noted, 3, "5 s") in ("no answer within 5 s", "its name was not found within 5 s")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_BETWEEN", 0.05)
    monkeypatch.setattr(delivery, "_FIRST_WAIT", 0.05)


def numbered(number: int) -> list[Result]:
    return [RESULTS[0]._replace(report=Report(State.OK, str(number)))]


def test_the_newest_and_no_queue(tmp_path: Path) -> None:
    """While a destination fails, or is at it, results are replaced by newer ones; all failures are
    counted."""
    gate = tmp_path / "gate"

    def through_the_gate(results: Sequence[Result], time_: float) -> None:
        if not gate.exists():
            raise Undelivered("closed")
        into(tmp_path / "out")(results, time_)

    daemon = Daemon(Elsewhere("x", through_the_gate), timeout=3.0)
    assert daemon.courier.due == NEVER
    for number in range(5):
        daemon.courier.offer(numbered(number), {})
        daemon.until(lambda number=number: len(daemon.receipts) > number)  # type: ignore[misc]
    assert {receipt.error for receipt in daemon.receipts} == {"closed"}
    failures = daemon.courier.counts()[0][2]
    assert (failures, daemon.courier.counts()[0][1]) == (len(daemon.receipts), 0)
    gate.touch()
    daemon.until(lambda: daemon.receipts[-1].error is None)
    assert (tmp_path / "out").read_bytes() == b"4\n"
    assert daemon.courier.counts() == [("x", 1, failures)]
    assert daemon.courier.due == NEVER  # nothing waits
    daemon.courier.close()


def test_what_is_refused_for_itself_is_no_reason_to_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount that the server has no service for must not keep the results of the others back."""
    monkeypatch.setattr(delivery, "_FIRST_WAIT", 1000.0)

    def refuses_one(results: Sequence[Result], time_: float) -> None:
        into(tmp_path / "out")(results, time_)
        raise Refused("1 of 2 results were refused")

    daemon = Daemon(Elsewhere("x", refuses_one), timeout=60)
    for number in range(3):
        daemon.courier.offer(numbered(number), {})
        daemon.until(lambda number=number: len(daemon.receipts) > number)  # type: ignore[misc]
        assert daemon.courier.due == NEVER, daemon.receipts  # nor is it given the same again
    assert (tmp_path / "out").read_bytes() == b"0\n1\n2\n"
    assert daemon.courier.counts() == [("x", 3, 3)]
    assert daemon.receipts[0].words == "not submitted to x: 1 of 2 results were refused"
    daemon.courier.close()


def each_mount(*points: str, state: State = State.OK) -> list[Result]:
    """A result of all mounts, and one of each."""
    single = [
        RESULTS[0]._replace(service=f"mounts {point}", report=Report(state, point, mount_point=point.encode()))
        for point in points
    ]
    return [RESULTS[0]._replace(report=Report(state, "all")), *single]


class Picky:
    """A server without some services, and what it was sent."""

    def __init__(self, base: Path, *missing: str) -> None:
        self._sent, self._missing = base / "sent", base / "missing"
        self.lacks(*missing)

    def lacks(self, *missing: str) -> None:
        self._missing.write_text("\n".join(missing))

    def take(self, results: Sequence[Result], _: float) -> None:
        with self._sent.open("a") as file:
            file.write(" ".join(result.report.headline for result in results) + "\n")
        missing = self._missing.read_text().split("\n")
        refused = [number for number, each in enumerate(results) if each.report.headline in missing]
        if refused:
            names = [f"{results[number].report.headline}: no such service" for number in refused]
            raise summed_up(names, len(results), refused=refused)

    @property
    def sent(self) -> list[str]:
        return self._sent.read_text().splitlines() if self._sent.exists() else []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the parked services take for the time."""
    now = [1000.0]
    monkeypatch.setattr(parked, "monotonic", lambda: now[0])
    monkeypatch.setattr(parked, "after", lambda seconds: now[0] + seconds)
    return now


def test_a_service_that_the_server_does_not_have(tmp_path: Path, clock: list[float]) -> None:
    """It is tried again after an hour, with another state, and after a reload; the others always
    get theirs."""
    server = Picky(tmp_path, "/b", "/d")
    daemon = Daemon(Elsewhere("x", server.take), timeout=60)

    def offer(*points: str, state: State = State.OK) -> str:
        before = len(daemon.receipts)
        daemon.courier.offer(each_mount(*points, state=state), {})
        daemon.until(lambda: len(daemon.receipts) > before)
        assert daemon.courier.due == NEVER  # nothing waits for another attempt
        return server.sent[-1]

    assert offer("/a", "/b", "/c", "/d") == "all /a /b /c /d"
    assert daemon.receipts[-1].lacks_services_only
    words = daemon.courier.parked("x")
    assert words == (
        "2 of 5 results were refused, the first: /b: no such service; 2 services get no results until a reload, or "
        "for an hour: host!mounts /b, host!mounts /d"
    )
    for _ in range(3):
        assert offer("/a", "/b", "/c", "/d") == "all /a /c"
        assert daemon.receipts[-1].error is None
    assert daemon.courier.parked("x") == words
    assert daemon.courier.counts() == [("x", 4, 1)]
    clock[0] += 3600
    server.lacks("/b")
    assert offer("/a", "/b", "/c", "/d") == "all /a /b /c /d"
    assert (daemon.courier.parked("x") or "").endswith(
        "; 1 service gets no results until a reload, or for an hour: host!mounts /b"
    )
    assert offer("/a", "/b", "/c", "/d") == "all /a /c /d"
    assert offer("/a", "/b", state=State.CRITICAL) == "all /a /b"
    assert offer("/a", "/b", state=State.CRITICAL) == "all /a"
    daemon.courier.serve(submission(Elsewhere("x", server.take), timeout=60))  # a reload
    assert daemon.courier.parked("x") is None
    assert offer("/a", "/b") == "all /a /b"
    assert offer("/a", "/b") == "all /a"
    assert offer("/a") == "all /a"  # it is not mounted any more
    assert daemon.courier.parked("x") is None
    daemon.courier.close()


def test_a_host_that_the_server_does_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result of all mounts is tried again and again; once it is accepted, so are the others."""
    server = Picky(tmp_path, "all", "/a")
    daemon = Daemon(Elsewhere("x", server.take), timeout=60)
    daemon.courier.offer(each_mount("/a"), {})
    daemon.until(lambda: len(server.sent) >= 3)
    assert server.sent[:3] == ["all /a", "all", "all"]
    server.lacks()
    daemon.until(lambda: daemon.receipts[-1].error is None)
    assert daemon.courier.parked("x") is None
    daemon.courier.offer(each_mount("/a"), {})
    daemon.until(lambda: server.sent[-1] == "all /a")
    daemon.courier.close()


def test_what_fails_for_now_is_not_parked(tmp_path: Path) -> None:
    """Beside it, what is refused for itself is."""

    def take(results: Sequence[Result], _: float) -> None:
        with (tmp_path / "sent").open("a") as file:
            file.write(" ".join(result.report.headline for result in results) + "\n")
        if len(results) > 1:
            raise summed_up(["a", "b"], len(results), for_now=True, refused=[1])

    daemon = Daemon(Elsewhere("x", take), timeout=60)
    daemon.courier.offer(each_mount("/a", "/b"), {})
    daemon.until(lambda: len(daemon.receipts) >= 2)
    assert (tmp_path / "sent").read_text().splitlines()[:2] == ["all /a /b", "all /b"]
    daemon.courier.close()


def test_thousands_of_services(tmp_path: Path) -> None:
    """As many as there is room for are remembered; not all are named."""
    points = [f"/{number}" for number in range(9000)]
    server = Picky(tmp_path, *points)
    daemon = Daemon(Elsewhere("x", server.take), timeout=60)
    daemon.courier.offer(each_mount(*points), {})
    daemon.until(lambda: daemon.receipts)
    words = daemon.courier.parked("x") or ""
    assert "; 8191 services get no results " in words and words.endswith(" and 8171 more")
    assert len(words) < 2000
    daemon.courier.close()


def test_other_credentials_are_tried_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_FIRST_WAIT", 1000.0)
    daemon = Daemon(Elsewhere("x", refuses), timeout=60)
    daemon.courier.offer(numbered(1), {})
    daemon.until(lambda: daemon.receipts)
    daemon.courier.serve(submission(Elsewhere("x", into(tmp_path / "out")), timeout=60))
    daemon.until(lambda: len(daemon.receipts) == 2)
    assert (tmp_path / "out").read_bytes() == b"1\n"


def test_waits_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_FIRST_WAIT", 5.0)
    daemon = Daemon(Elsewhere("x", refuses))
    daemon.courier.offer(RESULTS, {})
    now = [time.monotonic()]
    monkeypatch.setattr(delivery, "monotonic", lambda: now[0])
    waits = []
    for number in range(6):
        daemon.until(lambda number=number: len(daemon.receipts) > number)  # type: ignore[misc]
        due = daemon.courier.due
        assert due < NEVER
        waits.append(round(due - now[0]))
        now[0] = due
    assert waits == [5, 10, 20, 40, 60, 60]
    daemon.courier.close()


def test_one_that_hangs_delays_no_other(tmp_path: Path) -> None:
    daemon = Daemon(Elsewhere("hung", sleeps), Elsewhere("good", into(tmp_path / "out")), timeout=1000)
    for number in range(3):
        daemon.courier.offer(numbered(number), {})
        daemon.until(lambda number=number: daemon.courier.counts()[1][1] > number)  # type: ignore[misc]
    assert (tmp_path / "out").read_bytes() == b"0\n1\n2\n"
    assert daemon.courier.counts()[0] == ("hung", 0, 0)
    daemon.courier.close()


def test_other_destinations_from_now_on(tmp_path: Path) -> None:
    daemon = Daemon(Elsewhere("hung", sleeps), Elsewhere("good", into(tmp_path / "out")), timeout=1000)
    daemon.courier.offer(numbered(1), {})
    daemon.until(lambda: daemon.courier.counts()[1][1] == 1)
    daemon.courier.serve(submission(Elsewhere("good", into(tmp_path / "other")), timeout=1000))
    daemon.courier.offer(numbered(2), {})
    daemon.until(lambda: daemon.courier.counts() == [("good", 2, 0)])
    assert (tmp_path / "other").read_bytes() == b"2\n"
    daemon.courier.serve(None)
    daemon.courier.offer(numbered(3), {})
    daemon.receipts.clear()
    daemon.courier.step()
    assert (daemon.receipts, daemon.courier.due, daemon.courier.counts()) == ([], NEVER, [])


class _NoMemory:
    def register(self, fd: int, events: int) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def test_a_delivery_that_cannot_be_waited_for_is_tried_again(tmp_path: Path) -> None:
    daemon = Daemon(Elsewhere("good", into(tmp_path / "out")), timeout=1000)
    epoll, daemon.courier._epoll = daemon.courier._epoll, _NoMemory()  # type: ignore[assignment]
    daemon.courier.offer(numbered(1), {})
    daemon.courier.step()
    assert [receipt.error for receipt in daemon.receipts] == ["Cannot allocate memory"]
    daemon.courier._epoll = epoll
    daemon.until(lambda: daemon.courier.counts() == [("good", 1, 1)])
    daemon.courier.close()


@pytest.mark.root
def test_a_worker_that_cannot_be_killed_is_the_only_one(fuse: Fuse) -> None:
    """The file of a destination, a certificate for instance, lies on what hangs."""
    path = fuse.mount("home")
    fuse.command("hang", "home")

    def reads(results: Sequence[Result], _: float) -> None:
        os.listdir(path)

    daemon = Daemon(Elsewhere("x", reads))
    daemon.courier.offer(RESULTS, {})
    daemon.until(lambda: len(daemon.receipts) == 4)
    assert daemon.receipts[0].error == "no answer within 0.3 s"
    assert all(str(receipt.error).startswith("an earlier attempt is stuck (pid ") for receipt in daemon.receipts[1:])
    assert fuse.waiting("home") == 1
    fuse.command("answer", "home")
    daemon.until(lambda: daemon.receipts[-1].error is None)
    daemon.courier.close()


@pytest.mark.root
def test_a_program_that_cannot_be_killed_is_not_even_started(fuse: Fuse, tmp_path: Path) -> None:
    """The configuration of send_nsca lies on what hangs: left alone, it would be nobody's child,
    and another one with each attempt."""
    program = tmp_path / "send_nsca"
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = -V ]; then echo NSCA Client; else echo >> {tmp_path}/started; cat "$4"; fi\n'
    )
    program.chmod(0o755)
    path = fuse.mount("home")
    fuse.command("hang", "home")
    settings = passive.Settings(client=str(program), client_config=f"{path}/send_nsca.cfg")
    daemon = Daemon(destinations.destination("nsca:localhost", settings))
    daemon.courier.offer(RESULTS, {})
    daemon.until(lambda: len(daemon.receipts) == 3)
    assert daemon.receipts[0].error == "no answer within 0.3 s"
    assert all(str(receipt.error).startswith("an earlier attempt is stuck (pid ") for receipt in daemon.receipts[1:])
    assert not (tmp_path / "started").exists()
    assert fuse.waiting("home") == 1
    fuse.command("answer", "home")
    daemon.until(lambda: not str(daemon.receipts[-1].error).startswith("an earlier"))
    daemon.courier.close()


def test_what_hangs_is_not_tried(tmp_path: Path, interrupts: int) -> None:
    held_up = {"b": "/run/x is on /run, which timed out"}
    both = submission(Elsewhere("a", into(tmp_path / "a")), Elsewhere("b", into(tmp_path / "b")), timeout=60)
    receipts = delivery.deliver(both, RESULTS, held_up, lambda: None, interrupts)
    assert {receipt.destination.name: receipt.error for receipt in receipts} == {"a": None, **held_up}
    daemon = Daemon(*both.destinations, timeout=60)
    daemon.courier.offer(RESULTS, held_up)
    daemon.until(lambda: len(daemon.receipts) == 3)
    assert {receipt.destination.name: receipt.error for receipt in daemon.receipts} == {"a": None, **held_up}
    assert not (tmp_path / "b").exists()
    daemon.courier.offer(RESULTS, {})
    daemon.until(lambda: (tmp_path / "b").exists() and daemon.receipts[-1].error is None)
    daemon.courier.close()


def test_what_is_left_is_the_owners_to_reap() -> None:
    going = Delivery([Elsewhere("hung", sleeps)], RESULTS, 1000)
    assert not going.done
    receipts, left = going.finish("SIGTERM")
    assert [receipt.error for receipt in receipts] == ["interrupted by SIGTERM"]
    until(lambda: all(map(processes.reap, left)))


def test_where_no_process_can_be_had(tmp_path: Path, interrupts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody begins, so nobody runs out of time: it has an end all the same, and is tried again."""

    def fails() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    destination = Elsewhere("x", into(tmp_path / "out"))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fork", fails)
        patched.setattr(workers, "TO_BEGIN", 0.1)
        (receipt,) = delivery.deliver(submission(destination), RESULTS, {}, lambda: None, interrupts)
        assert receipt.error == "no process could be started for it (Resource temporarily unavailable)"
        daemon = Daemon(destination)
        daemon.courier.offer(numbered(1), {})
        daemon.until(lambda: len(daemon.receipts) == 2)
        assert {each.error for each in daemon.receipts} == {receipt.error}
        assert daemon.courier.counts() == [("x", 0, 2)]
        daemon.courier.offer(numbered(2), {})
    daemon.until(lambda: daemon.receipts[-1].error is None)
    assert (tmp_path / "out").read_bytes() == b"2\n"
    daemon.courier.close()
