"""The daemon from its start to its end, and all that must be ready before its first pass."""

from __future__ import annotations

import os
import resource
import signal
import syslog
from collections.abc import Callable

from check_mounts.daemon import detach
from check_mounts.daemon.detach import Say
from check_mounts.daemon.home import Home, Refused
from check_mounts.daemon.loop import Daemon
from check_mounts.model import State
from check_mounts.options.understood import Options, Service
from check_mounts.system import forked, memory
from check_mounts.system.logs import Log, Stderr, Syslog
from check_mounts.system.signals import Interrupts


def run(options: Options, reload: Callable[[], Options], interrupts: Interrupts, say: Say) -> State:
    """Be the daemon until a signal asks for the end; detached from the caller unless
    ``--foreground``.

    ``reload`` makes options from what the files say now, or raises Rejected. ``say`` prints a
    verdict: that the daemon runs (in the parent of a detached one) or why it does not. The state
    becomes the exit code."""
    service = options.service
    assert service is not None

    def serve(refuse: Say, settled: Callable[[], None]) -> State:
        return _serve(options, service, reload, interrupts, refuse, settled)

    if service.foreground:
        return serve(say, lambda: None)
    return detach.run(serve, options.settings.deadline, interrupts, say)


def _serve(
    options: Options,
    service: Service,
    reload: Callable[[], Options],
    interrupts: Interrupts,
    refuse: Say,
    settled: Callable[[], None],
) -> State:
    try:
        home = Home(service, options)
    except Refused as error:
        refuse(State.UNKNOWN, str(error))
        return State.UNKNOWN
    os.chdir("/")
    os.umask(0o022)
    # The child that talks to syslogd is forked here, before the process grows.
    log: Log = Stderr() if service.foreground else Syslog(service.facility, service.ident)
    try:
        interrupts.listen(signal.SIGHUP, signal.SIGUSR1)
        _stay_in_memory(log)
        # The loop collects garbage after each pass (Daemon._tidy); more often would only cost.
        forked.share_objects(50_000, 10, 10)
        Daemon(options, home, reload, interrupts, log, settled).run()
    finally:
        log.close()
        home.close()
    return State.OK


def _stay_in_memory(log: Log) -> None:
    """Lock our pages: a page that was swapped out, or a page of a library that was not read yet,
    may lie on a mount that hangs.

    Future pages are locked, too, unless a limit could then make an allocation fail (mlockall(2)).
    """
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError):
        pass
    try:
        unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY
        memory.mlockall(memory.MCL_CURRENT | (memory.MCL_FUTURE if unlimited else 0))
    except OSError as error:
        log.write(syslog.LOG_INFO, f"Memory is not locked: {error.strerror}")
