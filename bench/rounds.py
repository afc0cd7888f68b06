"""Five rounds of peers over the same mounts, and what they leave behind.

Each peer has a UTS namespace of its own: by that its processes are found again, whatever session or
parent they have, and without a look at anything that waits for a stuck process."""

from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import re
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from bench.peers import INTERVAL, Answer, Peer, Place, Said

ROUNDS = 5
# Seconds in which all services must have answered once, before the fault.
_TO_START = 120.0
# Between the starts of two peers in a round.
_APART = 0.7
# How long a task must wait to be left, which a probe that will still be killed does not.
_LONG = 7.0
# What a task is in that waits for a filesystem, whatever the filesystem: functions of fs/.
_WAITING = re.compile(r"\b(?:user_statfs|vfs_statx|vfs_fstat|path_openat|iterate_dir|filename_lookup)")
CLONE_NEWNS, CLONE_NEWUTS = 0x20000, 0x4000000
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    if _libc.unshare(flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)} (versus needs root)")


class Runner:
    """One peer at its mounts."""

    def __init__(self, peer: Peer, place: Place, environment: Mapping[str, str]) -> None:
        self.peer, self.place = peer, place
        self._environment = environment
        self.namespace = ""
        self._service: Optional[subprocess.Popen[str]] = None
        self.answers: list[Answer] = []
        place.directory.mkdir(parents=True)
        os.chmod(place.directory, 0o700)

    def start(self) -> None:
        """In a thread of its own: start the service, in a new UTS namespace, which all that this
        thread starts later has, too."""
        unshare(CLONE_NEWUTS)
        self.namespace = os.readlink("/proc/thread-self/ns/uts")
        self.peer.prepare(self.place)
        words = self.peer.service(self.place)
        if words:
            self._service = self._started(words, self.place.directory)

    def _started(self, words: Sequence[str], place: Path) -> subprocess.Popen[str]:
        with (place / "out").open("wb") as out, (place / "errors").open("wb") as errors:
            return subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=out, stderr=errors, text=True, cwd="/", start_new_session=True,
                env=self._environment,
            )  # fmt: skip

    def ask(self, patience: float = INTERVAL) -> Answer:
        """One round."""
        until = time.monotonic() + patience
        words = self.peer.command(self.place)
        if not words:
            assert self._service is not None
            return self.peer.ask(self.place, self._service, until)
        began = time.monotonic()
        with tempfile.TemporaryDirectory(dir=self.place.directory) as scratch:
            process = self._started(words, Path(scratch))
            is_ended = _wait(process.pid, until)
            seconds = time.monotonic() - began
            if not is_ended:  # as a monitoring system does at its own timeout
                os.killpg(process.pid, signal.SIGKILL)
                time.sleep(0.2)
            code = process.poll()
            out, errors = ((Path(scratch) / name).read_text("utf-8", "replace") for name in ("out", "errors"))
        return Answer(code if is_ended else None, out, errors, seconds)

    def until_well(self) -> None:
        """Ask before the fault, a service until it has said something of each mount."""
        end = time.monotonic() + _TO_START
        while time.monotonic() < end:
            answer = self.ask(30)
            said = {self.peer.said(answer, mount) for mount in self.place.mounts}
            if self._service is None or not said & {Said.NOTHING, Said.HANGS}:
                break
            if answer.code is not None:  # some mounts are never told of
                end = min(end, time.monotonic() + 2 * INTERVAL)
            time.sleep(1)

    def result(self) -> dict[str, Any]:
        """What it said about each mount, round by round, and the namespace of its processes."""
        mounts, last = self.place.mounts, self.answers[-1]
        return {
            "said": {mount: [self.peer.said(each, mount).value for each in self.answers] for mount in mounts},
            "seconds": [round(each.seconds, 2) for each in self.answers],
            "namespace": self.namespace,
            "last": [last.code, last.out[-1000:], last.errors[-1000:]],
        }


def _wait(pid: int, until: float) -> bool:
    """Whether the process ended by then; it is not reaped."""
    fd = os.pidfd_open(pid)
    try:
        return bool(select.select([fd], [], [], max(0.0, until - time.monotonic()))[0])
    finally:
        os.close(fd)


def tasks() -> Iterator[tuple[str, Path]]:
    """The UTS namespace and the directory of each task."""
    for task in Path("/proc").glob("[0-9]*/task/[0-9]*"):
        try:
            yield os.readlink(task / "ns/uts"), task
        except OSError:
            continue


def count_left() -> collections.Counter[str]:
    """How many processes and threads of each namespace wait for a filesystem, all the time."""
    before = {task: namespace for namespace, task in tasks() if _waits(task)}
    time.sleep(_LONG)
    return collections.Counter(namespace for task, namespace in before.items() if _waits(task))


def end_all(namespaces: Collection[str]) -> None:
    """End all processes of these namespaces that can be ended."""
    for pid in {int(task.parts[2]) for namespace, task in tasks() if namespace in namespaces} - {os.getpid()}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _waits(task: Path) -> bool:
    try:
        state = (task / "stat").read_text().rpartition(") ")[2][0]
        return state == "D" or (state == "S" and _WAITING.search((task / "stack").read_text()) is not None)
    except OSError:
        return False


class Rounds:
    """Peers at the same mounts: ``prepare``, then the fault, then ``play``."""

    def __init__(self, peers: Sequence[Peer], place: Place, environment: Mapping[str, str]) -> None:
        self._runners = [
            Runner(peer, place._replace(directory=place.directory / str(number), port=place.port + number), environment)
            for number, peer in enumerate(peers)
        ]
        self._prepared = threading.Barrier(len(peers) + 1)
        self._go = threading.Event()
        self._began = 0.0
        self._threads = [
            threading.Thread(target=self._run, args=each, daemon=True) for each in enumerate(self._runners)
        ]

    def prepare(self) -> None:
        """Start the services; come back when each has answered."""
        for thread in self._threads:
            thread.start()
        self._prepared.wait()

    def _run(self, number: int, runner: Runner) -> None:
        try:
            runner.start()
            runner.until_well()
        finally:
            self._prepared.wait()
        self._go.wait()
        for turn in range(ROUNDS):
            time.sleep(max(0.0, self._began + turn * INTERVAL + number * _APART - time.monotonic()))
            runner.answers.append(runner.ask())

    def play(self, began: float) -> dict[str, Any]:
        """All rounds from a time of CLOCK_MONOTONIC on, and what each peer said."""
        self._began = began
        self._go.set()
        for thread in self._threads:
            thread.join()
        # What was killed at the end of the last round has a second to go.
        time.sleep(max(0.0, began + ROUNDS * INTERVAL + len(self._runners) * _APART + 1 - time.monotonic()))
        return {runner.peer.name: runner.result() for runner in self._runners}

    def end(self) -> None:
        """End all processes of the peers that can be ended."""
        end_all({runner.namespace for runner in self._runners})


def private_mounts() -> None:
    """A mount namespace of this process's own, from which nothing gets out."""
    unshare(CLONE_NEWNS)
    subprocess.run(["mount", "--make-rslave", "/"], check=True)


def detach(mount_point: str) -> None:
    """``umount -l``, of what is still there."""
    _libc.umount2(os.fsencode(mount_point), _MNT_DETACH)
