"""Runs that hang are remembered below /run, so that a hung configuration file costs one stuck
process and not one per run.

Import budget: ``binascii``, ``os``; what directories needs. text only where another run is
reported: ``--cached`` may come here, too.

A run makes an entry before it does anything that may hang: a file in a directory that is ours
alone. The name of the file has the run's process, a checksum of what the run was started with, and
the process that watches it; the run's notes are written to the file (see notes). The run removes
the entry at its end. If a run's process exists although its watcher has ended, the run is caught in
something that hangs. Another run with the same arguments would be caught there, too, so it only
reports that."""

from __future__ import annotations

import binascii
import os
from collections.abc import Sequence

from check_mounts.guard import notes
from check_mounts.system import directories, processes
from check_mounts.typed import Optional

# A run's arguments and these variables decide which files it reads.
_VARIABLES = ("MP_CONFIG_FILE", "NAGIOS_CONFIG_PATH")


class Caught:
    """An earlier run that was caught. ``what`` says what happened to it, in words that are fit for
    output."""

    def __init__(self, noted: notes.Noted, pid: int) -> None:
        self._noted = noted
        self.what = notes.words("stuck", noted.step, pid, _since(noted.since))

    def report(self) -> tuple[bytes, int]:
        """The output that stands in for a result, and its state."""
        return notes.report(self._noted, self.what)


class Run:
    """The entry of this run, a file ``caught.WHERE.ARGUMENTS.PID.START.PID.START``.

    WHERE is a checksum of the boot and the pid namespace, ARGUMENTS one of what the run was started
    with. The first process is the run, the second its watcher. Nothing here raises: without a
    directory there is no entry, and other runs are unknown."""

    def __init__(self, arguments: Sequence[str], noted: notes.Notes, watcher: int) -> None:
        self._noted = noted
        self._directory = self._file = -1
        here = f"{_sum(processes.here().encode()):08x}"
        kind = f"{here}.{_digest(arguments)}"
        who = (os.getpid(), watcher)
        self._name = f"caught.{kind}." + ".".join(f"{pid}.{processes.process_start(pid) or 0}" for pid in who)
        self._here, self._kind = f"caught.{here}.", f"caught.{kind}."
        try:
            self._directory = directories.open_directory(_place())
            self._file = self._make_entry()
            noted.copy_to(self._file)
        except (OSError, directories.Unusable):
            self.leave()

    def _make_entry(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self._name, flags, 0o600, dir_fd=self._directory)

    def find_caught(self) -> Optional[Caught]:
        """Look for an earlier run with the same arguments that is still caught, and remove the
        entries of runs that have ended."""
        for name in self._others():
            try:
                pid, start, watcher, its_start = (int(number) for number in name.split(".")[3:])
            except ValueError:  # not one of ours
                continue
            if processes.process_start(pid) != start:
                self._remove(name)
            elif name.startswith(self._kind) and processes.process_start(watcher) != its_start:
                return Caught(self._read_notes(name), pid)
        return None

    def _others(self) -> list[str]:
        try:
            names = os.listdir(self._directory) if self._directory >= 0 else []
        except OSError:
            return []
        return sorted(name for name in names if name.startswith(self._here) and name != self._name)

    def _read_notes(self, name: str) -> notes.Noted:
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._directory)
            try:
                return notes.Noted(fd)
            finally:
                os.close(fd)
        except (OSError, ValueError, IndexError):  # the run has ended meanwhile, or could not write its file
            return notes.Noted.nothing()

    def leave(self) -> None:
        """Remove the entry at the end of the run."""
        if self._file >= 0:
            self._noted.leave(self._file)
            self._remove(self._name)
        for fd in (self._file, self._directory):
            if fd >= 0:
                os.close(fd)
        if self._directory >= 0 and _place().startswith("/tmp/"):
            # Nobody else tidies up there. The entry of a concurrent run keeps the directory.
            try:
                os.rmdir(_place())
            except OSError:
                pass
        self._directory = self._file = -1

    def _remove(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self._directory)
        except OSError:
            pass


def _since(when: int) -> Sequence[str]:
    if not when:
        return ()
    from check_mounts import text

    return "since", text.moment(when)


def _place() -> str:
    """The default directory for stuck probes if that is below /run or /tmp. Elsewhere, where the
    environment may put it, it might hang; then a directory of our own in /tmp."""
    directory = directories.default_directory()
    return directory if directory.startswith(("/run/", "/tmp/")) else directories.own_in_tmp()


def _digest(arguments: Sequence[str]) -> str:
    """A checksum of what a run was started with. It need only tell whether two runs are alike, and
    hashlib would take longer to import than all the rest here."""
    words = [*arguments, _directory(), *(os.environ.get(name, "") for name in _VARIABLES)]
    data = b"\0".join(word.encode("utf-8", "surrogatepass") for word in words)
    return f"{_sum(data):08x}{_sum(data[::-1]):08x}"


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


def _sum(data: bytes) -> int:
    return binascii.crc32(data)
