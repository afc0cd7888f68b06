"""The nursery: who forks the workers, and what happens where it dies, hangs, or cannot fork."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

from check_mounts.clocks import after
from check_mounts.system import nest, nursery, processes, quarters, starters
from check_mounts.system.crew import Worker
from check_mounts.system.desks import Desk
from check_mounts.system.quarters import Outside
from check_mounts.system.workers import Answered, Died, Event, Pool, TimedOut
from tests.conftest import events_of, until
from tests.kernel import children, state

if TYPE_CHECKING:
    from check_mounts.system.forked import Handler

SIZE = 64


def _serve(key: int, content: bytes, desk: Desk) -> tuple[bytes, bool]:
    """What a request asks for."""
    desk.note(b"at it")
    if content == b"hang":
        os.read(os.pipe()[0], 1)
    if content == b"die":
        os.kill(os.getpid(), signal.SIGKILL)
    if content == b"descriptors":
        names = [os.readlink(f"/proc/self/fd/{name}") for name in sorted(os.listdir("/proc/self/fd"))[:-1]]
        content = " ".join(name.split(":")[0] for name in names).encode()
    if content == b"self":
        masked = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        own = (os.getsid(0) == os.getpid(), os.getcwd(), signal.getsignal(signal.SIGINT) == signal.SIG_DFL, masked)
        content = repr(own).encode()
    return (content or b"%d %d" % (os.getpid(), os.getppid())).ljust(SIZE), content == b"last"


def _make(config: bytes, fds: Sequence[int]) -> Handler:
    return lambda key, content, desk: _serve(key, config + content, desk)


class Pools:
    """Pools whose workers are forked by a nursery, if there is one."""

    def __init__(self) -> None:
        self.pools: list[Pool] = []

    def begin(self, before: Callable[[], object] = lambda: None) -> int:
        """Fork a nursery, which does something before it does its work; return its pid."""

        def live(control: int, parent: int) -> None:
            nest.settle(control, parent)
            before()
            nest.run(_make)

        nursery.begin(live)
        current = nursery.current()
        assert current is not None
        return current.pid

    def __call__(self, config: bytes = b"", timeout: float = 10.0, most: int = 64) -> Pool:
        self.pools.append(Pool(_make(config, ()), SIZE, timeout, most, outside=Outside(config)))
        return self.pools[-1]

    @staticmethod
    def run(pool: Pool, *contents: bytes, seconds: float = 20.0) -> list[Event]:
        for key, content in enumerate(contents):
            pool.submit(key, content)
        return events_of(pool, seconds)


@pytest.fixture
def pools() -> Iterator[Pools]:
    result = Pools()
    yield result
    for each in result.pools:
        assert each.close(grace=20.0) == []
    nursery.leave()
    nursery.reap(20.0)
    until(lambda: not children())


def _words(event: Event) -> list[str]:
    assert isinstance(event, Answered), event
    return event.answer.decode().split()


def test_it_forks_the_workers(pools: Pools) -> None:
    pid = pools.begin()
    one = pools()
    events = pools.run(one, *[b""] * 1000)
    assert sorted(event.key for event in events) == list(range(1000))
    assert {_words(event)[1] for event in events} == {str(pid)}
    seen = {_words(event)[0] for event in events}
    end = time.monotonic() + 10
    while one.forks < len(seen) and time.monotonic() < end:  # the news of a fork may come after its answers
        one.wait(after(0.01))
    assert len(seen) <= one.forks < 100  # not one each, however busy this host is
    assert children() == [pid]


def test_a_worker_gets_what_it_was_sent(pools: Pools) -> None:
    pools.begin()
    contents = [b"%d" % number + b"." * (number % 50) for number in range(3000)]
    events = pools.run(pools(b"-"), *contents)
    assert {event.key: event.answer for event in events if isinstance(event, Answered)} == {
        key: (b"-" + content).ljust(SIZE) for key, content in enumerate(contents)
    }


def test_nobody_gets_the_desk_of_a_dead_worker_before_it_was_read(pools: Pools) -> None:
    """Else the pool takes what the next worker does for what the dead one did: with --write, where
    each worker ends after one answer, one mount of some thousands was unprobed."""
    pools.begin()
    pool = pools()
    crew = pool._crew
    assert crew.start(1) == []
    (worker,) = crew.serving.values()
    until(lambda: crew.await_news(after(0.01)) == [] and worker.pid is not None)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    dead: list[Worker] = []

    def has_died() -> bool:
        dead.extend(crew.await_news(after(0.01)))
        return bool(dead)

    until(has_died)
    assert dead == [worker]
    assert crew.reap() == 1
    crew.start(1)
    assert worker.slot not in crew.serving
    crew.give_up(worker)
    assert crew.reap() == 0
    crew.start(1)
    assert worker.slot in crew.serving


def test_several_pools_at_a_time(pools: Pools) -> None:
    pid = pools.begin()
    one, other = pools(b"one"), pools(b"other")
    for key in range(100):
        one.submit(key)
        other.submit(key)
    assert {_words(event)[0] for event in pools.run(other)} == {"other"}
    assert {_words(event)[0] for event in pools.run(one)} == {"one"}
    assert children() == [pid]


def test_a_worker_of_it_holds_nothing_but_its_pipes(pools: Pools) -> None:
    pools.begin()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1,))
    fds, own = pools.run(pools(), b"descriptors", b"self")
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    answers = {event.key: event.answer.strip() for event in (fds, own) if isinstance(event, Answered)}
    assert answers[0] == b"/dev/null /dev/null /dev/null pipe pipe"
    assert answers[1] == repr((True, "/", True, [signal.SIGCHLD])).encode()


def test_hundreds_hang(pools: Pools) -> None:
    pools.begin()
    one = pools(timeout=1.0, most=512)
    began = time.monotonic()
    events = pools.run(one, *[b"hang"] * 300, b"")
    assert [type(event) for event in events if event.key == 300] == [Answered]
    hung = [event for event in events if isinstance(event, TimedOut)]
    assert len(hung) == 300 and all(event.pid > 0 and event.progress.startswith(b"at it") for event in hung)
    until(lambda: all(state(event.pid) in "ZX" for event in hung))
    assert time.monotonic() - began < 20


def test_the_limit_holds(pools: Pools) -> None:
    pools.begin()
    one = pools(timeout=0.2, most=3)
    events = pools.run(one, *[b"hang"] * 9)
    assert [type(event) for event in events] == [TimedOut] * 9
    assert one.forks == 9


def test_a_worker_that_dies_is_told(pools: Pools) -> None:
    pools.begin()
    events = pools.run(pools(), b"", b"die", b"")
    (died,) = (event for event in events if isinstance(event, Died))
    assert died.key == 1 and died.pid is not None and len(events) == 3


def test_the_last_answers_of_workers(pools: Pools) -> None:
    pools.begin()
    one = pools()
    assert [type(event) for event in pools.run(one, *[b"last"] * 20)] == [Answered] * 20
    until(lambda: one.wait(after(0.01)) == [] and one.forks >= 20)


def test_it_dies(pools: Pools) -> None:
    """Its workers with it. The rest is done by children of this process."""
    pid = pools.begin()
    one = pools()
    for key in range(2):
        one.submit(key, b"hang")
    while len(one.at_work(0.0)) < 2:
        assert one.wait(after(0.1)) == []
    workers = [each for _, each, _ in one.at_work(0.0)]
    os.kill(pid, signal.SIGKILL)
    events = pools.run(one)
    assert [type(event) for event in events] == [Died] * 2
    until(lambda: {state(each) for each in workers} <= {"X", "Z"})
    assert {_words(event)[1] for event in pools.run(one, *[b""] * 50)} == {str(os.getpid())}
    assert nursery.current() is None


@pytest.mark.parametrize("seconds", [0.0, 0.5])
def test_it_is_dead_already(pools: Pools, seconds: float) -> None:
    pid = pools.begin()
    os.kill(pid, signal.SIGKILL)
    time.sleep(seconds)
    assert {_words(event)[1] for event in pools.run(pools(), *[b""] * 50)} == {str(os.getpid())}


def test_it_hangs(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a file that it loads, for example."""
    monkeypatch.setattr(starters, "_PATIENCE", 0.3)
    pools.begin(lambda: time.sleep(1000))
    assert {_words(event)[1] for event in pools.run(pools(), *[b""] * 50)} == {str(os.getpid())}


def test_no_process_to_be_had_there(pools: Pools) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    pools.begin(lambda: setattr(os, "fork", refuse))
    one = pools()
    one.submit(1)
    until(lambda: one.wait(after(0.05)) == [] and one.trouble is not None)
    assert one.trouble == "Resource temporarily unavailable"
    assert one.busy


def test_its_parent_dies(pools: Pools) -> None:
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            pid = pools.begin()
            one = pools()
            one.submit(1, b"hang")
            while not one.at_work(0.0):
                one.wait(after(0.1))
            os.write(write, b"%d %d" % (pid, one.at_work(0.0)[0][1]))
            time.sleep(1000)
        finally:
            os._exit(1)
    own = [int(word) for word in os.read(read, 100).split()]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    until(lambda: {state(each) for each in own} <= {"X", "Z"})
    for fd in (read, write):
        os.close(fd)


def test_signals_do_not_end_it(pools: Pools) -> None:
    pid = pools.begin()
    one = pools()
    assert len(pools.run(one, b"")) == 1
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGUSR1):
        os.kill(pid, number)
    assert {_words(event)[1] for event in pools.run(one, *[b"last", b""] * 10) if len(_words(event)) > 1} == {str(pid)}


def test_without_memory_to_pass_on(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    pools.begin()

    def refuse(name: str) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "memfd_create", refuse)
    assert {_words(event)[1] for event in pools.run(pools(), *[b""] * 50)} == {str(os.getpid())}


def test_where_it_cannot_be_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    before = os.listdir("/proc/self/fd")
    nursery.begin(lambda control, parent: None)
    assert nursery.current() is None
    assert os.listdir("/proc/self/fd") == before


def test_its_process_start_is_not_ours(pools: Pools) -> None:
    """A worker finds out its own."""
    assert processes.own_start() == processes.process_start(os.getpid())


def test_it_cannot_be_replaced_at_once(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor, for example: the next look tries it again, and nothing is closed twice."""
    pid = pools.begin()
    one = pools()
    assert len(pools.run(one, b"")) == 1
    real = starters.Here

    def refuse(*arguments: object) -> starters.Here:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(quarters, "Here", refuse)
    os.kill(pid, signal.SIGKILL)
    one.submit(7)
    for _ in range(2):
        with pytest.raises(OSError, match="Too many"):
            while True:
                one.wait(after(0.1))
    others = [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]
    with pytest.raises(OSError, match="Too many"):
        one.wait(after(0.1))
    monkeypatch.setattr(quarters, "Here", real)
    while one.busy:
        one.wait(after(0.1))
    for fd in others:
        os.close(fd)
