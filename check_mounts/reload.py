"""The files that the options come from, read again: once, by a process that can be given up. Of
what it was answered the daemon makes its options, and opens no file itself."""

from __future__ import annotations

import dataclasses
import marshal
import os
import syslog
from collections.abc import Callable
from typing import Optional

from check_mounts import processes, reading
from check_mounts.logs import Log
from check_mounts.trial import Trial
from check_mounts.understood import Options

# How long the reading of the configuration may stand still, as it does while a file hangs, and how
# long it may take in all: a large one is slow, and must not be refused for that. In seconds.
_TRIAL, _LONGEST_TRIAL = 1.0, 60.0
# How many processes may hang in files of the configuration. The next SIGHUP may come because
# somebody has replaced the file by one that does not hang; the looks at fstab, which the daemon
# takes by itself, add no more than one process to them.
_MOST_TRIALS = 4


class Rejected(Exception):
    """The options cannot be taken over as the files say them; the message says why, on one
    line."""


def rehearsed(understand: Callable[[], object]) -> bytes:
    """In a process that may hang: what is asked of files and of the database of users to understand
    the options, and answered."""
    with reading.recorded() as answers:
        try:
            understand()
        except Exception:  # it has come to its end, and so will the parent, which says what is wrong
            pass
    return marshal.dumps(answers)


def again(answers: bytes, understand: Callable[[], Options]) -> Options:
    """The options, understood from these answers alone: what could be read a moment ago may hang by
    now. Raises Rejected."""
    try:
        with reading.given(marshal.loads(answers)):
            return understand()
    except reading.Changed as error:
        raise Rejected(f"not the same files were asked for twice: {error}") from None
    except reading.TooMuch as error:
        raise Rejected(str(error)) from None


class Reloader:
    """Reads the options again when it is told to, and whenever fstab has changed.

    ``understand`` gives the options as the files say now, or raises Rejected. ``feed`` is called
    now and then while a process reads."""

    def __init__(
        self,
        understand: Callable[[], Options],
        log: Log,
        interrupted: Callable[[], Optional[str]],
        feed: Callable[[], None],
    ) -> None:
        self._understand, self._log, self._interrupted, self._feed = understand, log, interrupted, feed
        # Processes that hang in a file; how many of them do so in files that are no longer read.
        self._left: list[int] = []
        self._excused = 0
        self._fstab: object = None

    def first(self, options: Options) -> Options:
        """The options that the daemon begins with were read some time ago, and nobody knows which
        fstab that was: the same with what it declares now."""
        if options.fstab is None:
            return options
        try:
            new, self._fstab = self._read_again(options.fstab)
        except Rejected:  # the first pass finds another fstab than none, and says so
            return options
        if new.fstab != options.fstab:
            return options
        demands = dataclasses.replace(options.demands, expected=new.demands.expected)
        return dataclasses.replace(options, demands=demands, wrong=new.wrong, notes=new.notes)

    def taken_over(self, options: Options) -> Optional[Options]:
        """The options as the files say now, as far as a daemon can change them while it runs. None
        where they are wrong or cannot be read: that is logged, and the old ones stay."""
        try:
            new, self._fstab = self._read_again(options.fstab)
        except Rejected as error:
            if self._interrupted() is None:
                self._log.write(syslog.LOG_ERR, f"The configuration is kept as it was: {error}")
            return None
        for what in _needing_a_restart(options, new):
            self._log.write(syslog.LOG_WARNING, f"Needs a restart: another {what}")
        assert options.service is not None and new.service is not None
        service = dataclasses.replace(options.service, interval=new.service.interval)
        return dataclasses.replace(new, mountinfo=options.mountinfo, state_dir=options.state_dir, service=service)

    def fstab_has_changed(self, options: Options) -> bool:
        """Whether fstab is another one than at the last look."""
        before, self._fstab = self._fstab, self._signature(options.fstab)
        return self._fstab != before

    def _read_again(self, path: Optional[str]) -> tuple[Options, object]:
        """The options as the files say now, and the signature of the fstab that they were read
        from, by the old options in ``path``. Raises Rejected.

        The signature is taken before: what is written while they are read is the next change."""
        while True:
            signature = self._signature(path)
            answers = self._tried(lambda: rehearsed(self._understand), _MOST_TRIALS)
            if answers is None:
                raise Rejected("a file of it does not let itself be read")
            # All files could be read: processes that still hang do so in others, and are no reason
            # not to look at fstab.
            self._excused = len(self._left)
            new = again(answers, self._understand)
            if new.fstab == path:
                return new, signature
            path = new.fstab

    def _signature(self, path: Optional[str]) -> object:
        """What differs when fstab has been edited; the same as ever where it cannot be looked
        at."""
        if path is None:
            return None

        def look() -> bytes:
            try:
                status = os.stat(path)
            except OSError as error:
                return b"%d" % (error.errno or 0)
            return b"%d %d %d" % (status.st_mtime_ns, status.st_size, status.st_ino)

        signature = self._tried(look, self._excused + 1)
        return self._fstab if signature is None else signature

    def _tried(self, action: Callable[[], bytes], most: int) -> Optional[bytes]:
        """What ``action`` gives, which reads files: done by a process of its own, wherever links
        may lead, and however well the files could be read before. None where it does not come to
        its end, or ``most`` processes hang already."""
        self._left = processes.unreaped(self._left)
        self._excused = min(self._excused, len(self._left))  # those that were excused may have ended
        if len(self._left) >= most:
            return None
        try:
            tried = Trial(action)
        except OSError:  # a host without the means for a process has none for a pass, which says so
            return None
        self._left += tried.wait(_TRIAL, _LONGEST_TRIAL, lambda: self._interrupted() is not None, self._feed).left
        if tried.left:
            self._log.write(syslog.LOG_WARNING, f"A process that reads for the daemon is {tried.words}")
        return tried.answer


def _needing_a_restart(old: Options, new: Options) -> list[str]:
    """The options that have changed and that a running daemon cannot take over. Its stuck probes
    are remembered in the old state directory only."""
    names = [name for name in ("cache", "metrics", "facility", "ident") if _differ(old.service, new.service, name)]
    return names + [name.replace("_", "-") for name in ("mountinfo", "state_dir") if _differ(old, new, name)]


def _differ(old: object, new: object, name: str) -> bool:
    return bool(getattr(old, name) != getattr(new, name))
