"""Remembers stuck probes across runs, so that a hung filesystem costs one stuck process and not one
per run.

Import budget: ``itertools``, ``mmap``, ``os``; what directories and lines need.

Each pass keeps a file of its own in the state directory: a header, then one line of fixed size for
each worker. The file is mapped into memory, and each worker writes its own line **before** it
touches a mount. So the memory needs no lock, and no system call for each mount, and it survives
SIGKILL of any process at any moment. A line counts as long as its process exists: the same boot and
pid namespace, the same pid and start time, and not a zombie. While a stuck process holds a mount,
the kernel gives neither its mount ID nor its device number to another mount.

Concurrent runs: each run makes its own file first and then reads those of the others. So of any two
runs at least one sees the other, and it increments a byte in the other's header to be seen as well.
A worker of a run that is not alone writes its line, then reads the lines of the other runs, and
steps back if one of them is at the same filesystem. Then at least one of two workers steps back,
and perhaps both.

The directory must be ours alone: another user who can write to it could hide a hung mount."""

from __future__ import annotations

import itertools
import mmap
import os
from collections.abc import Sequence

from check_mounts import text
from check_mounts.clocks import Boottime
from check_mounts.model import StuckProbe
from check_mounts.probing.lines import (
    OVER,
    PREFIX,
    RECORD_SIZE,
    VISITORS,
    Line,
    Lines,
    is_running,
    living,
    parse_line,
    read,
)
from check_mounts.probing.promises import Promises
from check_mounts.system.directories import Unusable, open_directory
from check_mounts.system.processes import OWN, here, itself, process_start
from check_mounts.typed import Optional

_HEADER = "check_mounts 1 "
_LONGEST_NOTE = 1 << 20
# Numbers the passes of this process.
_passes = itertools.count(1)


class Registry:
    """The memory: the stuck probes of earlier and concurrent runs (``probes``).

    ``lines`` are those of this run's workers. No method raises: ``notes`` say what is wrong with
    the memory, and the run goes on without it.
    ``unremembered``: why this run cannot remember its own probes, empty if it can. ``path`` None
    means no memory, for the reason ``why``. ``own`` are the stuck probes of earlier passes of this
    process, which are known even if the files are lost. ``procfs``: the processes are remembered by
    the IDs that this shows; in a container with a PID namespace of its own that may be the /proc of
    the host, and then the next container knows them."""

    def __init__(
        self,
        path: Optional[str],
        why: str = "",
        slots: int = 0,
        own: Sequence[StuckProbe] = (),
        procfs: str = OWN,
    ) -> None:
        self.procfs = procfs
        self.notes: list[str] = []
        self.unremembered = ""
        self._own = own
        self.probes: list[StuckProbe] = self._own_alive(())
        self._place: dict[StuckProbe, tuple[str, int]] = {}
        self._damaged: dict[str, list[str]] = {}
        self._memory: Optional[mmap.mmap] = None
        self._path = path or ""
        self._directory = self._file = -1
        self._name = ""
        self.lines = Lines(None)
        self.promises = Promises(self._path, -1, procfs)
        try:
            if path is None:
                raise Unusable(why)
            self._directory = open_directory(path)
        except Unusable as error:
            where = f"{text.printable_argument(path)}: " if path is not None else ""
            self.unremembered = f"{where}{error}"
            return
        self.promises = Promises(self._path, self._directory, procfs)
        self._boot = here(procfs)
        try:
            if slots:
                self._prepare(slots)
            self.load()
        except BaseException:  # out of memory: the caller gets no object to close
            self.close(any_stuck=False)
            raise

    def _note(self, words: str) -> None:
        if words not in self.notes:
            self.notes.append(words)

    # -- the lines of other runs

    def load(self) -> None:
        """Read the stuck probes into ``probes`` again."""
        if self._directory < 0:
            self.probes = self._own_alive(())
            return
        self.probes, self._place, self._damaged = [], {}, {}
        for name in self._others():
            try:
                self._load_file(name)
            except FileNotFoundError:
                pass  # a concurrent run has ended meanwhile
            except OSError as error:
                self._damage(name, f"cannot be read ({error.strerror})")
        for why, names in self._damaged.items():
            first, more = (
                f"{names[0]!a}",
                f" (and {text.counted(len(names) - 1, 'file')} more)" if len(names) > 1 else "",
            )
            self._note(f"the memory of stuck probes is incomplete: {first} {why}{more}")
        self.probes += self._own_alive([probe.pid for probe in self.probes])

    def _own_alive(self, known: Sequence[int]) -> list[StuckProbe]:
        return [probe for probe in self._own if probe.pid not in known and process_start(probe.pid) == probe.start_time]

    def _others(self) -> list[str]:
        return sorted(name for name in self._names() if name.startswith(PREFIX) and name != self._name)

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._directory)
        except OSError as error:
            self._note(f"the memory of stuck probes is incomplete: {error.strerror}")
            return []

    def _damage(self, name: str, why: str) -> None:
        self._damaged.setdefault(why, []).append(name)

    def _load_file(self, name: str) -> None:
        data, foreign = read(name, self._directory)
        if foreign:
            self._damage(name, "is not a file of ours")
            return
        words = data[:OVER].decode("ascii", "replace").split()
        here = self._boot.split()
        known = words[:2] == _HEADER.split() and len(words) == 4
        if known and words[2] == here[0] and words[3] != here[1]:
            return  # from another pid namespace: this process cannot judge it
        # A run that has just begun may not have written its header yet.
        running = is_running(name, data, self.procfs)
        if running:
            self._visit(name)
        alive: list[StuckProbe] = []
        if known and words[2:] == here:
            alive, corrupt = self._living(name, data)
        else:
            corrupt = not known and not running
        if corrupt:
            self._damage(name, "is corrupt")
        self.probes.extend(alive)
        if not alive and not running:
            os.unlink(name, dir_fd=self._directory)

    def _living(self, name: str, data: bytes) -> tuple[list[StuckProbe], bool]:
        """The lines of a file whose process exists, and whether any line makes no sense."""
        found, corrupt = living(data, self.procfs)
        alive = [_probe(line) for line, _ in found]
        self._place.update((probe, (name, offset)) for probe, (_, offset) in zip(alive, found))
        return alive, corrupt

    def _visit(self, name: str) -> None:
        """Tell another run that it is not alone, and note that this run is not, either."""
        self.lines.alone = False
        fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directory)
        try:
            visitors = os.pread(fd, 1, VISITORS) or b"\0"
            os.pwrite(fd, bytes([(visitors[0] + 1) % 256]), VISITORS)
        finally:
            os.close(fd)

    def still_stuck(self, probe: StuckProbe) -> bool:
        """Whether one of ``probes`` is still stuck."""
        if probe not in self._place:  # a probe of this process
            return process_start(probe.pid) == probe.start_time
        name, offset = self._place[probe]
        try:
            record = parse_line(read(name, self._directory)[0][offset : offset + RECORD_SIZE])
        except (OSError, ValueError):  # a void line: the worker has answered; no file: the run has ended cleanly
            return False
        same = (record.pid, record.start, record.since) == (probe.pid, probe.start_time, probe.since)
        return same and process_start(probe.pid, self.procfs) == probe.start_time

    # -- the lines of this run

    def _prepare(self, slots: int) -> None:
        """Make a file with room for the lines of ``slots`` workers."""
        pid, start = itself(self.procfs)
        self._name = f"{PREFIX}{pid}.{start}.{next(_passes)}"
        try:
            self._memory = self._create(RECORD_SIZE * (slots + 1))
            self.lines = Lines(self._memory, self._path, self._name, procfs=self.procfs)
        except OSError as error:
            self.unremembered = str(error.strerror)

    def _create(self, size: int) -> mmap.mmap:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(self._name, flags, 0o600, dir_fd=self._directory)
        # On a full disk this fails here, with an error. Without it, writing to a page for which the
        # disk has no room would be a SIGBUS.
        os.posix_fallocate(self._file, 0, size)
        lines = mmap.mmap(self._file, size)
        lines[:OVER] = (_HEADER + self._boot).ljust(OVER).encode("ascii")
        lines[RECORD_SIZE - 1 : RECORD_SIZE] = b"\n"
        return lines

    @property
    def place(self) -> tuple[str, str, bool, str]:
        """What a worker of the nursery must know of the file of this run: the directory, the name,
        whether no other run is known, and the procfs."""
        return self._path, self._name, self.lines.alone, self.procfs

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptor of the file of this run, if it has one."""
        return () if self._memory is None else (self._file,)

    # -- a note for the next look

    def note(self, name: str) -> Optional[bytes]:
        """What an earlier run of this boot has kept under a name; empty if none has, None if
        nothing can be kept."""
        if self._directory < 0:
            return None
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._directory)
            try:
                head, _, content = os.read(fd, _LONGEST_NOTE).partition(b"\n")
            finally:
                os.close(fd)
        except OSError:
            return b""
        return content if head == self._head_of_note else b""

    def keep(self, name: str, content: bytes) -> None:
        """Keep something under a name. Raises OSError."""
        from check_mounts.system import replacing  # hardly any run keeps something

        replacing.replace_in(self._directory, name, self._head_of_note + b"\n" + content, 0o600)

    @property
    def _head_of_note(self) -> bytes:
        return f"{_HEADER}{self._boot.split()[0]}".encode("ascii")

    # -- the files of write probes

    @property
    def remembers(self) -> bool:
        """Whether this run has a memory. Without one, no write probe may run: if it were killed, no
        later run would remove its file."""
        return self._memory is not None

    def close(self, any_stuck: bool) -> None:
        """End the run: its file stays if a worker is stuck, else it is removed."""
        if self._directory < 0:
            return
        try:
            if self._memory is not None and any_stuck:
                # No worker writes to it any more: a stuck worker has been killed, and never returns
                # to our code.
                self._memory[OVER : OVER + 1] = b"."
                os.truncate(self._file, len(self._memory[:].rstrip(b"\0")))
            elif self._file >= 0:
                os.unlink(self._name, dir_fd=self._directory)
        except OSError:
            pass
        for fd in (self._file, self._directory):
            if fd >= 0:
                os.close(fd)
        self._file = self._directory = -1
        if self._memory is not None:
            self._memory.close()
            self._memory = None


def _probe(line: Line) -> StuckProbe:
    return StuckProbe(
        line.pid, line.start, line.mount_id, line.device, Boottime(line.since), line.arrived, line.writing
    )
