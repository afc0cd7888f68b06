"""The pool: reuse, growth, death, limits. Requests that hang do it in a pipe, so that they can be
killed."""

from __future__ import annotations

import ast
import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Optional

import pytest

from check_mounts.clocks import NEVER, PAST, after
from check_mounts.system import workers
from check_mounts.system.crew import Worker
from check_mounts.system.desks import HEAD, PROGRESS_SIZE, Desk
from check_mounts.system.forked import REQUEST
from check_mounts.system.workers import Answered, Died, Event, Pool, TimedOut
from tests.conftest import PYTHON, ROOT, events_of, in_time, until
from tests.kernel import children

SIZE = 16
Behaviour = Callable[[int, Desk], Optional[bytes]]


class Harness:
    """Pools that are closed at the end, and the loop that a survey would be."""

    def __init__(self) -> None:
        self.pools: list[Pool] = []

    def __call__(self, behaviour: Behaviour, timeout: float = 10.0, max_workers: int = 64) -> Pool:
        def handler(key: int, content: bytes, desk: Desk) -> tuple[bytes, bool]:
            desk.note(b"at it")
            answer = behaviour(key, desk)
            return (answer or b"%d" % os.getpid()).ljust(SIZE), answer == b"last"

        self.pools.append(Pool(handler, SIZE, timeout, max_workers))
        return self.pools[-1]

    @staticmethod
    def run(pool: Pool, keys: range, seconds: float = 20.0) -> list[Event]:
        for key in keys:
            pool.submit(key)
        return events_of(pool, seconds)


@pytest.fixture
def pool() -> Iterator[Harness]:
    harness = Harness()
    yield harness
    for each in harness.pools:
        assert each.close(grace=20.0) == []
    until(lambda: not children())


def hang(_: int = 0) -> None:
    os.read(os.pipe()[0], 1)


def test_workers_are_used_again(pool: Harness) -> None:
    one = pool(lambda key, desk: None)
    events = pool.run(one, range(1000))
    assert sorted(event.key for event in events) == list(range(1000))
    assert all(isinstance(event, Answered) for event in events)
    assert one.forks <= 8  # one a core, and a doubling or two where the machine is busy
    assert len({event.answer for event in events if isinstance(event, Answered)}) <= one.forks


def test_a_thousand_healthy_mounts_need_no_fork_each(pool: Harness) -> None:
    one = pool(lambda key, desk: None, max_workers=1)
    assert len(pool.run(one, range(5000))) == 5000
    assert one.forks == 1


def test_the_pool_doubles_while_nobody_answers(pool: Harness) -> None:
    one = pool(lambda key, desk: hang() if key < 40 else None, timeout=1.0)
    one._cores = 1
    events = pool.run(one, range(50))
    assert {event.key for event in events if isinstance(event, TimedOut)} == set(range(40))
    assert {event.key for event in events if isinstance(event, Answered)} == set(range(40, 50))
    assert all(
        event.progress.rstrip(b"\0") == b"at it" and event.waited >= 1.0
        for event in events
        if isinstance(event, TimedOut)
    )
    # All were waited for at the same time, or this would have taken 40 s.
    assert one.forks <= 64


def test_no_more_than_the_limit(pool: Harness) -> None:
    one = pool(lambda key, desk: hang(), timeout=0.2, max_workers=3)
    for key in range(9):
        one.submit(key)
    events: list[Event] = []
    while one.busy:
        events += one.wait(after(10))
        assert len(children()) <= 3
    assert len(events) == 9  # killable ones make room


def test_a_late_parent_blames_nobody(pool: Harness) -> None:
    one = pool(lambda key, desk: None, timeout=0.2)
    one.submit(1)
    events = one.wait(PAST)
    time.sleep(0.5)  # as if stopped: the answer has been there for long
    while one.busy:
        events += one.wait(after(5))
    assert [type(event) for event in events] == [Answered]


def _late(pool: Harness, one: Pool, keys: range, seconds: float) -> list[Event]:
    """Events for a parent that is stopped just after it has handed out its requests."""
    _hand_out(one, keys)
    time.sleep(seconds)
    return pool.run(one, range(0))


def _hand_out(one: Pool, keys: range) -> None:
    """And start no more workers than a pool begins with: one, for these tests."""
    one._cores = 1
    for key in keys:
        one.submit(key)
    one._send()


def _waiting(one: Pool) -> int:
    """How many answers wait for the parent."""
    layout = one._desks.layout
    return one._desks._memory[layout.marks : layout.frames].count(1)


def _pid(worker: Worker) -> int:
    assert worker.pid is not None
    return worker.pid


def _until_answered(one: Pool, count: int) -> Worker:
    """The only worker, when so many of its answers wait."""
    (worker,) = one._crew.serving.values()
    until(lambda: _waiting(one) == count)
    time.sleep(0.1)  # and it goes on, or waits for requests
    return worker


def test_a_late_parent_blames_nobody_who_waits_for_its_requests(pool: Harness) -> None:
    """There are more of them than places for answers."""
    one = pool(lambda key, desk: None, timeout=0.3, max_workers=1)
    _hand_out(one, range(5000))
    worker = _until_answered(one, one._desks.layout.places)
    time.sleep(0.4)
    os.kill(_pid(worker), signal.SIGSTOP)  # as if others had the processor when there is room again
    events: list[Event] = []
    end = after(0.8)
    while time.monotonic() < end:
        events += one.wait(end)
    assert 0 < len(events) < 5000
    os.kill(_pid(worker), signal.SIGCONT)
    events += pool.run(one, range(0))
    assert [type(event) for event in events] == [Answered] * 5000
    assert one.forks == 1


def test_a_late_parent_loses_nothing_of_a_worker_that_hangs(pool: Harness) -> None:
    """It has answered more than is read at once, and then hangs: that one request has timed out,
    and what comes after it is served."""
    one = pool(lambda key, desk: hang() if key == 2000 else None, timeout=0.3, max_workers=1)
    events = _late(pool, one, range(2100), 1.0)
    assert [event.key for event in events if not isinstance(event, Answered)] == [2000]
    assert [type(event) for event in events if event.key == 2000] == [TimedOut]
    assert len(events) == 2100


def test_what_is_answered_and_not_read_is_not_lost(pool: Harness) -> None:
    one = pool(lambda key, desk: None, max_workers=1)
    _hand_out(one, range(1000))
    _until_answered(one, 1000)
    # As if no worker had seemed to have them just before the parent was stopped.
    one._pending._misses_some = True
    for request in one._pending.open.values():
        request.missed_since = 0.0
    one._look_at = PAST
    assert [type(event) for event in pool.run(one, range(0))] == [Answered] * 1000


def test_a_late_parent_takes_no_more_workers_for_that(pool: Harness) -> None:
    """To fork them would make it later still: what is answered already does not wait for a
    worker."""
    one = pool(lambda key, desk: None, max_workers=64)
    _hand_out(one, range(400))
    _until_answered(one, 400)
    one._look_at = one._pace.grow_at = PAST
    one._pace.looked = after(-60)
    assert [type(event) for event in pool.run(one, range(0))] == [Answered] * 400
    assert one.forks == 1


def test_hung_requests_time_out_on_time_among_thousands_of_answers(pool: Harness) -> None:
    def attempt() -> list[TimedOut]:
        one = pool(lambda key, desk: hang() if key % 2500 == 7 else time.sleep(0.0005), timeout=1.0)
        return [event for event in pool.run(one, range(20000), seconds=60) if isinstance(event, TimedOut)]

    hung = in_time(2.0, attempt, lambda hung: max(event.waited for event in hung))
    assert sorted(event.key for event in hung) == list(range(7, 20000, 2500))
    assert all(event.waited >= 1.0 for event in hung)


def _notes(one: Pool, desk: Desk, began: float) -> None:
    struct.pack_into("<d", one._desks._memory, (desk.slot + 1) * 64, began)


@pytest.mark.parametrize("what", [float("inf"), float("nan"), float("-inf"), 1e300, None])
def test_a_worker_escapes_by_no_time_that_it_notes(pool: Harness, what: Optional[float]) -> None:
    """It is about to answer, has not begun yet, has just begun, and so on for ever: somebody has
    got at it."""

    def lie(key: int, desk: Desk) -> Optional[bytes]:
        while key == 0:
            _notes(one, desk, time.monotonic() if what is None else what)
            time.sleep(0.001)
        return None

    one = pool(lie, timeout=0.3)
    began = time.monotonic()
    events = pool.run(one, range(50))
    assert time.monotonic() - began < 0.3 + 5.0
    assert [type(event) for event in events if event.key == 0] == [TimedOut]
    assert all(0.0 <= event.waited < 8.0 for event in events if isinstance(event, TimedOut))
    assert sum(isinstance(event, Answered) for event in events) == 49


def _leave(one: Pool, place: int, serial: int, slot: int, last: bool = False) -> None:
    """Leave an answer, as a worker that somebody has got at."""
    layout = one._desks.layout
    at = layout.frames + place * layout.frame_size
    one._desks._memory[at : at + layout.frame_size] = HEAD.pack(serial, slot, last) + b"x" * SIZE
    one._desks._memory[layout.marks + place] = 1


@pytest.mark.parametrize("where", ["its own place", "places of others", "all places", "the pipe"])
def test_a_worker_escapes_by_nothing_that_it_writes(pool: Harness, where: str) -> None:
    """Not even where it keeps its pipe full, or says that nobody need wake the parent."""

    def flood(key: int, desk: Desk) -> Optional[bytes]:
        while key == 0:
            one._desks._memory[4] = 0
            _notes(one, desk, float("inf"))
            if where == "the pipe":
                os.write(4, b"x" * 7)
            elif where == "its own place":
                _leave(one, 0, 77, desk.slot)
            elif where == "places of others":
                _leave(one, 2000, 4000, 63, True)
            else:
                for place in range(1, one._desks.layout.places):
                    _leave(one, place, 0xFFFFFFFF, 0xFFFF, True)
        return None

    one = pool(flood, timeout=0.3)
    began = time.monotonic()
    events = pool.run(one, range(50))
    assert sorted(event.key for event in events) == list(range(50))
    assert time.monotonic() - began < 8.0
    until(lambda: not one.reap())


def test_the_last_answer_of_a_worker_at_the_last_moment(pool: Harness) -> None:
    """Its slot may be another one's by the time that it is given up."""
    one = pool(lambda key, desk: b"last", max_workers=4)
    _hand_out(one, range(5))
    (worker,) = one._crew.serving.values()
    until(lambda: _waiting(one) > 0)
    worker.seen_at, worker.seen = 1, PAST
    one._time_out([worker], after(20))
    events = one._take_events()
    assert [type(event) for event in events] == [Answered]
    assert {event.key for event in pool.run(one, range(0))} == {1, 2, 3, 4}
    known = {each.pid for each in (*one._crew._given_up.values(), *one._crew.serving.values())}
    assert set(children()) <= known


def test_the_last_answers(pool: Harness) -> None:
    """All that wait, and nothing of the one that hangs."""
    one = pool(lambda key, desk: hang() if key == 200 else None, max_workers=1)
    _hand_out(one, range(300))
    _until_answered(one, 200)
    events = one.take_last_answers()
    assert [event.key for event in events if isinstance(event, Answered)] == list(range(200)) and len(events) == 200
    rest = one.abandon_all()
    assert sorted(key for key, *_ in rest) == list(range(200, 300))
    assert [(key, waited > 0.0) for key, pid, _, waited in rest if pid is not None] == [(200, True)]


def test_nobody_has_waited_for_a_negative_time(pool: Harness) -> None:
    def lie(key: int, desk: Desk) -> Optional[bytes]:
        if key == 2:
            _notes(one, desk, float("inf"))
            hang()
        return None

    one = pool(lie, max_workers=1)
    _hand_out(one, range(5000))
    _until_answered(one, 2)
    assert one.at_work(0.0) == []
    assert all(waited >= 0.0 for *_, waited in one.abandon_all())


def test_time_counts_from_when_the_worker_began(pool: Harness) -> None:
    one = pool(lambda key, desk: time.sleep(0.5), timeout=2.0, max_workers=1)
    events = pool.run(one, range(6))
    assert [type(event) for event in events] == [Answered] * 6  # though the last one waited 2.5 s for its turn


def test_a_worker_that_dies_is_told(pool: Harness) -> None:
    def die(key: int, desk: Desk) -> Optional[bytes]:
        if key == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return None

    events = pool.run(pool(die), range(10))
    assert [event.key for event in events if isinstance(event, Died)] == [3]
    assert sum(isinstance(event, Answered) for event in events) == 9


def test_a_handler_that_raises_ends_its_worker_only(pool: Harness) -> None:
    events = pool.run(pool(lambda key, desk: bytes(1 // (key - 5) and 0)), range(10))
    assert [event.key for event in events if isinstance(event, Died)] == [5]


def test_nonsense_is_not_believed(pool: Harness) -> None:
    def forge(key: int, desk: Desk) -> Optional[bytes]:
        if key in (2, 4):
            _leave(one, one._pending.open[key + 1].place, 4000 if key == 2 else 1, desk.slot)
            hang()
        return None

    one = pool(forge)
    events = pool.run(one, range(10))
    assert {2, 4} <= {event.key for event in events if isinstance(event, Died)}
    assert sorted(event.key for event in events) == list(
        range(10)
    )  # what the forger answered besides is not believed either


def test_a_request_that_nobody_has_is_not_lost(pool: Harness) -> None:
    """A worker may be killed after it has taken a request and before it has noted that."""
    one = pool(lambda key, desk: None)
    one.submit(7)
    one._pace.grow_at = NEVER  # no worker yet that could be quicker than we are
    one._send()
    os.read(one._pending.request_fd, REQUEST.size)
    one._pace.grow_at = PAST
    assert pool.run(one, range(0)) == [Died(7, None, bytes(PROGRESS_SIZE))]


def test_the_last_answer_of_a_worker(pool: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PATIENCE", 5.0)

    def attempt() -> None:
        one = pool(lambda key, desk: b"last")
        assert len(pool.run(one, range(20))) == 20
        assert one.forks >= 20

    in_time(2 * workers.PATIENCE, attempt)  # replaced at once, not when patience ends, 20 times


def test_unserved(pool: Harness) -> None:
    one = pool(lambda key, desk: hang(), max_workers=2)
    for key in range(5):
        one.submit(key)
    while len(one.at_work(0.0)) < 2:
        assert one.wait(after(0.1)) == []
    rest = one.abandon_all()
    assert sorted(key for key, *_ in rest) == [0, 1, 2, 3, 4]
    assert sum(pid is not None for _, pid, *_ in rest) == 2
    assert not one.busy


def test_a_signal_ends_a_wait(pool: Harness) -> None:
    read, write = os.pipe()

    def handler(key: int, content: bytes, desk: Desk) -> tuple[bytes, bool]:
        hang()
        return b"", False

    one = Pool(handler, SIZE, 30, 2, wake_fd=read)
    pool.pools.append(one)
    one.submit(1)
    os.write(write, b"x")
    began = time.monotonic()
    assert one.wait(after(30)) == []
    assert time.monotonic() - began < 5
    os.close(read)
    os.close(write)


def test_a_worker_holds_nothing_but_its_pipes(pool: Harness) -> None:
    leak = os.pipe()

    def look(key: int, desk: Desk) -> Optional[bytes]:
        own = {
            int(name): os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if _open(int(name))
        }
        assert {fd: target.split(":")[0] for fd, target in own.items()} == {
            **dict.fromkeys((0, 1, 2), "/dev/null"), 3: "pipe", 4: "pipe",
        }  # fmt: skip
        assert os.getcwd() == "/"
        assert os.getsid(0) == os.getpid()
        assert os.geteuid() != 0 or os.getgroups() == []
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
        return b"as agreed"

    if os.geteuid() == 0:
        os.setgroups([4, 5])
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1,))
    (event,) = pool.run(pool(look), range(1))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if os.geteuid() == 0:
        os.setgroups([])
    assert isinstance(event, Answered)
    assert event.answer.strip() == b"as agreed"
    for fd in leak:
        os.close(fd)


def _open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:  # the listing's own
        return False
    return True


def test_no_process_to_be_had(pool: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    one = pool(lambda key, desk: None)
    fork = os.fork
    monkeypatch.setattr(os, "fork", refuse)
    one.submit(1)
    assert one.wait(after(0.1)) == []
    assert one.trouble == "Resource temporarily unavailable"
    monkeypatch.setattr(os, "fork", fork)
    assert [type(event) for event in pool.run(one, range(0))] == [Answered]


def test_thousands_of_requests_more_than_the_pipe_takes(pool: Harness) -> None:
    one = pool(lambda key, desk: None)
    assert len(pool.run(one, range(40000), seconds=60)) == 40000


_SURVIVES = """
import os, sys
from check_mounts.system import processes, syscalls
{before}
if (pid := os.fork()) == 0:
    processes.survive_shutdown()
    print(open("{cmdline}", "rb").read(), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
print(open("{cmdline}", "rb").read(), flush=True)
"""


def _survivor(
    before: str = "", name: str = "", cmdline: str = "/proc/self/cmdline", wrapper: Sequence[str] = ()
) -> list[bytes]:
    """The command lines of a child that is to survive a shutdown, and of its parent, up to the
    code."""
    code = _SURVIVES.format(before=before, cmdline=cmdline)
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    command = [*wrapper, name or PYTHON, "-c", code]
    result = subprocess.run(
        command, executable=None if wrapper else PYTHON, env=environment, capture_output=True, check=True, timeout=60
    )
    return [ast.literal_eval(line).partition(b"\0-c\0")[0] for line in result.stdout.decode().splitlines()]


@pytest.mark.parametrize("name", [PYTHON, "p", "@usr/bin/python3", "a (b) c) 1 2 3"])
def test_one_byte_of_the_command_line_of_the_child_alone_is_changed(name: str) -> None:
    assert _survivor(name=name) == [b"@" + name[1:].encode(), name.encode()]


def test_of_a_process_whose_name_is_like_the_fields_after_it() -> None:
    name = b"1) S 1 2 3 4 5"
    assert _survivor(f"syscalls.set_name({name!r})") == [b"@" + PYTHON[1:].encode(), PYTHON.encode()]


@pytest.mark.root
@pytest.mark.parametrize("what", ["/proc/self/stat", "/proc/self/mem"])
def test_what_cannot_be_found_out_or_written_is_left(what: str) -> None:
    before = f"""
real = os.open
os.open = lambda path, *more, **others: real("/nonexistent" if path == "{what}" else path, *more, **others)
import builtins
really = builtins.open
builtins.open = lambda path, *more, **others: really("/nonexistent" if path == "{what}" else path, *more, **others)
"""
    assert _survivor(before) == [PYTHON.encode()] * 2


@pytest.mark.root
def test_without_proc_it_stays_as_it_is() -> None:
    before = """
import subprocess
subprocess.run(["mount", "-t", "tmpfs", "none", "/proc"], check=True)
os.mkdir("/proc/self")
open("/proc/self/cmdline", "wb").write(b"nobody knows\\0-c\\0")
for name, words in {"stat": "1 (a) S", "mem": ""}.items():
    open("/proc/self/" + name, "w").write(words)
"""
    assert _survivor(before, wrapper=["unshare", "-m", "--propagation", "private"]) == [b"nobody knows"] * 2
