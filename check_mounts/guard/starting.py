"""The start of the daemon, rehearsed in another process. Where something that hangs catches that
process, the daemon reports it and does not start.

Import budget: that of trial, logs and notify. Nothing else of the program is loaded yet."""

from __future__ import annotations

import os
import syslog
from collections.abc import Callable, Sequence
from typing import Optional

from check_mounts import text
from check_mounts.guard.trial import Trial
from check_mounts.system import logs, notify
from check_mounts.system.signals import Interrupts

# How long the rehearsal may stand still, in seconds, and how long it may take in all: less than
# systemd waits for a start (90 s).
_STILL, _LONGEST = 3.0, 60.0
# These signals do not ask for the end once the daemon runs.
_CALLS = frozenset(("SIGHUP", "SIGUSR1"))


def rehearsed(
    rehearse: Callable[[], bytes], arguments: Sequence[str], interrupts: Interrupts, foreground: bool
) -> Optional[bytes]:
    """The rehearsal's result, from a process that may hang; None where the daemon must not start,
    which has been reported then. Empty where no process is available, or the rehearsal failed: the
    start itself says what is wrong."""

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
    elif trial.is_stuck:
        _refuse(f"cannot start: {trial.words}", foreground)
    else:
        return b""
    return None


def _refuse(words: str, foreground: bool) -> None:
    """Report it on stdout, in the log and to systemd."""
    try:
        os.write(1, f"MOUNTS UNKNOWN - {words}\n".encode("utf-8", "surrogateescape"))
    except OSError:
        pass
    notify.Notifier(os.environ).status(words)
    log: logs.Log = logs.Stderr() if foreground else logs.Syslog("daemon", "check_mounts")
    log.write(syslog.LOG_ERR, text.one_line(words[:1].upper() + words[1:]))
    log.close()
