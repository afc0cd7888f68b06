"""The pool: reuse, growth, death, limits. Requests that hang do it in a pipe, so that they can be killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Optional

import pytest

from check_mounts import workers
from check_mounts.workers import Answered, Desk, Died, Event, Pool, TimedOut
from tests.conftest import until

SIZE = 16
Behaviour = Callable[[int, Desk], Optional[bytes]]


class Harness:
    """Pools that are closed at the end, and the loop that a survey would be."""

    def __init__(self) -> None:
        self.pools: list[Pool] = []

    def __call__(self, behaviour: Behaviour, timeout: float = 10.0, max_workers: int = 64) -> Pool:
        def handler(key: int, desk: Desk) -> tuple[bytes, bool]:
            desk.note(b"at it")
            answer = behaviour(key, desk)
            return (answer or b"%d" % os.getpid()).ljust(SIZE), answer == b"last"

        self.pools.append(Pool(handler, SIZE, timeout, max_workers))
        return self.pools[-1]

    @staticmethod
    def run(pool: Pool, keys: range, seconds: float = 20.0) -> list[Event]:
        for key in keys:
            pool.submit(key)
        events: list[Event] = []
        end = time.monotonic() + seconds
        while pool.busy and time.monotonic() < end:
            events += pool.wait(end)
        return events


@pytest.fixture
def pool() -> Iterator[Harness]:
    harness = Harness()
    yield harness
    for each in harness.pools:
        assert each.close(grace=20.0) == []
    until(lambda: not _children())


def _children() -> list[str]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return file.read().split()


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
    events = pool.run(one, range(50))
    assert {event.key for event in events if isinstance(event, TimedOut)} == set(range(40))
    assert {event.key for event in events if isinstance(event, Answered)} == set(range(40, 50))
    assert all(event.progress.rstrip(b"\0") == b"at it" and 1.0 <= event.waited < 1.5 for event in events if isinstance(event, TimedOut))
    # All were waited for at the same time: the last one began long before the first one's time was up.
    assert one.forks <= 64


def test_no_more_than_the_limit(pool: Harness) -> None:
    one = pool(lambda key, desk: hang(), timeout=0.2, max_workers=3)
    for key in range(9):
        one.submit(key)
    events: list[Event] = []
    while one.busy:
        events += one.wait(time.monotonic() + 10)
        assert len(_children()) <= 3
    assert len(events) == 9  # killable ones make room


def test_a_late_parent_blames_nobody(pool: Harness) -> None:
    one = pool(lambda key, desk: None, timeout=0.2)
    one.submit(1)
    events = one.wait(time.monotonic())
    time.sleep(0.5)  # as if stopped: the answer has been there for long
    while one.busy:
        events += one.wait(time.monotonic() + 5)
    assert [type(event) for event in events] == [Answered]


def test_time_counts_from_when_the_worker_began(pool: Harness) -> None:
    one = pool(lambda key, desk: time.sleep(0.15), timeout=0.4, max_workers=1)
    events = pool.run(one, range(6))
    assert [type(event) for event in events] == [Answered] * 6  # though the last one waited 0.75 s for its turn


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
        if key == 2:
            os.write(4, workers._HEAD.pack(4000, 0) + b"x" * SIZE)
        if key == 4:
            os.write(4, b"short")
        return None

    events = pool.run(pool(forge), range(10))
    assert {2, 4} <= {event.key for event in events if isinstance(event, Died)}
    assert sorted(event.key for event in events) == list(range(10))  # what the forger answered besides is not believed either


def test_a_request_that_nobody_has_is_not_lost(pool: Harness) -> None:
    """A worker may be killed after it has taken a request and before it has noted that."""
    one = pool(lambda key, desk: None)
    one.submit(7)
    one._grow_at = float("inf")  # no worker yet that could be quicker than we are
    one._send()
    os.read(one._request_fd, 4)
    one._grow_at = 0.0
    assert pool.run(one, range(0)) == [Died(7, None, bytes(workers.PROGRESS_SIZE))]


def test_the_last_answer_of_a_worker(pool: Harness) -> None:
    one = pool(lambda key, desk: b"last")
    began = time.monotonic()
    assert len(pool.run(one, range(20))) == 20
    assert one.forks >= 20
    assert time.monotonic() - began < 20 * workers.PATIENCE + 1  # replaced at once, not when patience ends


def test_unserved(pool: Harness) -> None:
    one = pool(lambda key, desk: hang(), max_workers=2)
    for key in range(5):
        one.submit(key)
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        assert one.wait(end) == []
    rest = one.unserved()
    assert sorted(key for key, *_ in rest) == [0, 1, 2, 3, 4]
    assert sum(pid is not None for _, pid, *_ in rest) == 2
    assert not one.busy


def test_a_signal_ends_a_wait(pool: Harness) -> None:
    read, write = os.pipe()

    def handler(key: int, desk: Desk) -> tuple[bytes, bool]:
        hang()
        return b"", False

    one = Pool(handler, SIZE, 30, 2, wake_fd=read)
    pool.pools.append(one)
    one.submit(1)
    os.write(write, b"x")
    began = time.monotonic()
    assert one.wait(began + 30) == []
    assert time.monotonic() - began < 5
    os.close(read)
    os.close(write)


def test_a_worker_holds_nothing_but_its_pipes(pool: Harness) -> None:
    leak = os.pipe()

    def look(key: int, desk: Desk) -> Optional[bytes]:
        own = {int(name): os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if _open(int(name))}
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
    assert one.wait(time.monotonic() + 0.1) == []
    assert one.trouble == "Resource temporarily unavailable"
    monkeypatch.setattr(os, "fork", fork)
    assert [type(event) for event in pool.run(one, range(0))] == [Answered]


def test_thousands_of_requests_more_than_the_pipe_takes(pool: Harness) -> None:
    one = pool(lambda key, desk: None)
    assert len(pool.run(one, range(40000), seconds=60)) == 40000
