"""The start of the daemon, rehearsed in another process; where that is caught by something that
hangs, it is said, and there is no start.

Import budget: that of trial, logs and notify. Nothing else of the program is loaded yet.
"""

from __future__ import annotations

import os
import syslog
from collections.abc import Callable, Sequence
from typing import Optional

from check_mounts import logs, notify, text
from check_mounts.signals import Interrupts
from check_mounts.trial import Trial

# How long it may stand still, in seconds, and how long it may take in all: less than systemd waits
# for a start (90 s).
_STILL, _LONGEST = 3.0, 60.0
# They ask for something else once the daemon runs.
_CALLS = frozenset(("SIGHUP", "SIGUSR1"))


def rehearsed(
    rehearse: Callable[[], bytes], arguments: Sequence[str], interrupts: Interrupts, foreground: bool
) -> Optional[bytes]:
    """What the rehearsal gives, in a process that may hang; None where there is no start, which has
    been said then. Empty where no process can be had, or the rehearsal was no success: the start
    itself says what is wrong."""

    def called_off() -> bool:
        return bool(set(interrupts.names) - _CALLS)

    try:
        trial = Trial(rehearse, arguments)
    except OSError:
        return b""
    trial.wait(_STILL, _LONGEST, called_off)
    if trial.answer is not None:
        return trial.answer
    if called_off():
        _refuse(f"the start was interrupted by {interrupts.name}", foreground)
    elif trial.words.startswith("stuck"):
        _refuse(f"cannot start: {trial.words}", foreground)
    else:
        return b""
    return None


def _refuse(words: str, foreground: bool) -> None:
    """Say so on stdout and in the log, and to systemd."""
    try:
        os.write(1, f"MOUNTS UNKNOWN - {words}\n".encode("utf-8", "surrogateescape"))
    except OSError:
        pass
    notify.Notifier(os.environ).status(words)
    log: logs.Log = logs.Stderr() if foreground else logs.Syslog("daemon", "check_mounts")
    log.write(syslog.LOG_ERR, text.one_line(words[:1].upper() + words[1:]))
    log.close()
