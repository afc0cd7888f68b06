"""The options from files that are read again while the daemon runs. A process that can be given up
reads each file once. The daemon makes its options from the answers, and opens no file itself."""

from __future__ import annotations

import marshal
import os
import syslog
from collections.abc import Callable, Mapping

from check_mounts import text
from check_mounts.daemon.complaints import Complaints, Part
from check_mounts.daemon.diary import Diary
from check_mounts.guard.trial import Trial
from check_mounts.options import declarations, settled
from check_mounts.options.refusals import UsageError
from check_mounts.options.understood import Options
from check_mounts.system import processes, reading
from check_mounts.typed import Any, Optional

# In seconds: how long the process that reads may make no progress, as when a file hangs; and how
# long it may take in all: a large configuration takes long, and must not be refused for that.
_TRIAL, _LONGEST_TRIAL = 1.0, 60.0
# How many processes may hang in files of the configuration. More than one, because somebody may
# replace a file that hangs and send the next SIGHUP. The daemon's own looks at fstab add no more
# than one process.
_MOST_TRIALS = 4


class Rejected(Exception):
    """The files do not give valid options; the message says why, on one line. ``fully`` also says
    what the log has said before."""

    def __init__(self, why: str, fully: str = "") -> None:
        super().__init__(why)
        self.fully = fully or why


def rehearse(understand: Callable[[], object]) -> bytes:
    """Do ``understand``, in a process that may hang. Returns its questions to files and to the
    database of users, with the answers."""
    with reading.recorded() as answers:
        try:
            understand()
        except Exception:  # the daemon gets the same error from the same answers, and reports it
            pass
    return marshal.dumps(answers)


def understood_first(given: Mapping[str, Any], answers: bytes) -> Options:
    """The options of a command line, from the answers of a rehearsal. Raises UsageError."""
    try:
        return understood(answers, lambda: settled.understand(given))
    except Rejected as error:
        raise UsageError("", str(error)) from None


def understood_again(given: Mapping[str, Any]) -> Options:
    """The options of the same command line, with the files read again. Raises Rejected."""
    try:
        return settled.understand(given, again=True)
    except UsageError as error:
        raise Rejected(str(error)) from None


def understood(answers: bytes, understand: Callable[[], Options]) -> Options:
    """The options, from these answers alone: what could be read a moment ago may hang now. Raises
    Rejected."""
    try:
        with reading.given(marshal.loads(answers)):
            return understand()
    except reading.Changed as error:
        raise Rejected(f"the files changed while they were read, so try again: {error}") from None
    except reading.TooMuch as error:
        raise Rejected(str(error)) from None


class Reloader:
    """Reads the options again when it is asked to, and looks whether fstab has changed.

    ``understand`` makes options from what the files say, or raises Rejected. ``feed`` is called now
    and then while a process reads."""

    def __init__(
        self,
        understand: Callable[[], Options],
        complaints: Complaints,
        log: Diary,
        interrupted: Callable[[], Optional[str]],
        feed: Callable[[], None],
    ) -> None:
        self._understand, self._complaints, self._log = understand, complaints, log
        self._interrupted, self._feed = interrupted, feed
        # Processes that hang in a file; and how many of them hang in files that are no longer read.
        self._left: list[int] = []
        self._excused = 0
        self._fstab: object = None
        # Why the last process has read nothing.
        self._why = ""

    def read_fstab_again(self, options: Options) -> Options:
        """Read again what fstab declares. Returns the options with that. The daemon begins with
        options that were read some time ago, and fstab may have changed since."""
        if options.fstab is None:
            return options
        try:
            new, self._fstab = self._read_again(options)
        except Rejected:  # the first pass finds that fstab has changed, and logs it
            return options
        if new.fstab != options.fstab:
            return options
        demands = options.demands._replace(expected=new.demands.expected)
        check = options.check._replace(demands=demands, wrong=new.check.wrong, notes=new.check.notes)
        return options._replace(check=check)

    def take_over(self, options: Options) -> Optional[Options]:
        """Read the files again. Returns the options that they give, as far as a daemon can change
        them while it runs. None if a file is wrong or cannot be read: that is logged, all outputs
        show it until the files are good, and the old options stay in force."""
        try:
            new, self._fstab = self._read_again(options)
        except Rejected as error:
            if self._interrupted() is None:
                self._log.write(syslog.LOG_ERR, f"The configuration is kept as it was: {error}")
                self._complaints.show(
                    Part.CONFIGURATION, f"the configuration is kept as it was: {text.one_line(error.fully)}"
                )
            return None
        self._complaints.show(Part.CONFIGURATION, None)
        changed = _needing_a_restart(options, new)
        for what in changed:
            self._log.write(syslog.LOG_WARNING, f"Needs a restart: --{what} has changed")
        names = ", ".join(f"--{what}" for what in changed)
        self._complaints.show(Part.RESTART, f"a restart is needed: of {names}, the old values count" if names else None)
        assert options.service is not None and new.service is not None
        service = options.service._replace(
            interval=new.service.interval,
            log_changes=new.service.log_changes,
            on_change=new.service.on_change,
            on_change_drill=new.service.on_change_drill,
        )
        old = options.check
        check = new.check._replace(mountinfo=old.mountinfo, state_dir=old.state_dir, root=old.root)
        return new._replace(check=check, service=service)

    def look_at_fstab(self, options: Options) -> bool:
        """Look at fstab. Returns whether it has changed since the last look."""
        before, self._fstab = self._fstab, self._look_at(options)
        return self._fstab != before

    def _read_again(self, old: Options) -> tuple[Options, object]:
        """Read the files again. Returns the options that they give, and the signature of fstab, as
        the ``old`` options name it. Raises Rejected.

        The signature is taken first, so that fstab counts as changed if somebody writes to it while
        it is read."""
        while True:
            signature = self._look_at(old)
            answers = self._try(lambda: rehearse(self._understand), _MOST_TRIALS)
            if answers is None:
                raise Rejected("one of its files cannot be read", self._why)
            # All files could be read. So processes that still hang do so in other files, and must
            # not prevent a look at fstab.
            self._excused = len(self._left)
            new = understood(answers, self._understand)
            if new.fstab == old.fstab:
                return new, signature
            old = new

    def _look_at(self, options: Options) -> object:
        """Look at fstab. Returns a value that differs once the file has been edited; the last value
        if it is impossible to look at the file."""
        path, opener = options.fstab, declarations.opener_of(options.check.root)
        if path is None:
            self._complaints.show(Part.FSTAB, None)
            return None

        def look() -> bytes:
            try:
                fd = opener(path, os.O_PATH | os.O_CLOEXEC)
            except OSError as error:
                return b"%d" % (error.errno or 0)
            status = os.fstat(fd)
            os.close(fd)
            return b"%d %d %d" % (status.st_mtime_ns, status.st_size, status.st_ino)

        signature = self._try(look, self._excused + 1)
        hidden = f"changes of {text.printable_argument(path)} are not noticed: {self._why}"
        self._complaints.show(Part.FSTAB, hidden if signature is None else None)
        return self._fstab if signature is None else signature

    def _try(self, action: Callable[[], bytes], most: int) -> Optional[bytes]:
        """Do ``action``, which reads files, in a process of its own: any link may lead to something
        that hangs, even if all files could be read before. None if the action does not end, or if
        ``most`` processes hang already."""
        self._left = processes.reap_ended(self._left)
        self._excused = min(self._excused, len(self._left))  # some of the excused may have ended
        if len(self._left) >= most:
            self._why = f"earlier processes are stuck (pid {', '.join(map(str, self._left))})"
            return None
        try:
            tried = Trial(action)
        except OSError as error:  # no process available: then a pass cannot begin either, and that is logged
            self._why = str(error.strerror)
            return None
        self._left += tried.wait(_TRIAL, _LONGEST_TRIAL, lambda: self._interrupted() is not None, self._feed).left
        if tried.left:
            self._log.write(syslog.LOG_WARNING, f"A process that reads for the daemon is {tried.words}")
        self._why = tried.words
        return tried.answer


def _needing_a_restart(old: Options, new: Options) -> list[str]:
    """The options that have changed, but that a running daemon cannot change. (It remembers its
    stuck probes in the old state directory only.)"""
    assert old.service is not None and new.service is not None
    values = {
        "cache": (old.service.cache, new.service.cache),
        "metrics": (old.service.metrics, new.service.metrics),
        "incident-file": (old.service.incidents, new.service.incidents),
        "syslog-facility": (old.service.facility, new.service.facility),
        "syslog-ident": (old.service.ident, new.service.ident),
        "namespace": (old.check.root, new.check.root),
        "mountinfo": (old.check.mountinfo, new.check.mountinfo),
        "state-dir": (old.check.state_dir, new.check.state_dir),
    }
    changed = [name for name, (before, now) in values.items() if before != now]
    return [name for name in changed if name != "mountinfo" or "namespace" not in changed]
