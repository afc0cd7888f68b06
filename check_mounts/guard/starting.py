"""The start of the daemon is rehearsed in another process; if something hangs there, the daemon
reports that and does not start.

Import budget: that of trial, logs and notify. Nothing else of the program is loaded yet."""

from __future__ import annotations

import os
import syslog
from collections.abc import Callable, Sequence

from check_mounts import text
from check_mounts.guard.trial import Trial
from check_mounts.system import logs, notify
from check_mounts.system.signals import Interrupts
from check_mounts.typed import Optional

# How long the rehearsal may make no progress, and how long it may take in all, in seconds: less
# than systemd waits for a start (90 s).
_STILL, _LONGEST = 3.0, 60.0
# These signals do not ask a running daemon to end.
_CALLS = frozenset(("SIGHUP", "SIGUSR1"))


def rehearse(
    action: Callable[[], bytes], arguments: Sequence[str], interrupts: Interrupts, foreground: bool
) -> Optional[bytes]:
    """Run ``action``, the rehearsal, in a process that may hang; return its result.

    None means that the daemon must not start; the reason has been reported. The result is empty if
    no process can be forked or the rehearsal failed: then the start itself says what is wrong."""

    def called_off() -> bool:
        return bool(set(interrupts.names) - _CALLS)

    try:
        trial = Trial(action, arguments)
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
    """Report on stdout, in the log and to systemd why the daemon does not start."""
    try:
        os.write(1, f"MOUNTS UNKNOWN - {words}\n".encode("utf-8", "surrogateescape"))
    except OSError:
        pass
    notify.Notifier(os.environ).status(words)
    log: logs.Log = logs.Stderr() if foreground else logs.Syslog("daemon", "check_mounts")
    log.write(syslog.LOG_ERR, text.one_line(words[:1].upper() + words[1:]))
    log.close()
