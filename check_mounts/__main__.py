"""The entry point: whatever happens below, the exit code is 0 to 3 and the first line of the output
is a verdict.

An uncaught exception would end with exit code 1, which monitoring reads as WARNING, and argparse
with 2, which it reads as CRITICAL."""

import posix  # os takes a tenth of the start that `--cached` needs
import sys

# As in `typing`, which would take `--cached` too long to import. Annotations are quoted for the
# same reason.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from check_mounts.guard import notes


def _open_standard_descriptors() -> None:
    """Open /dev/null as each of the descriptors 0, 1 and 2 that is closed.

    Otherwise the next pipe would get that number, and our output would go to a worker."""
    for fd in (0, 1, 2):
        try:
            posix.get_inheritable(fd)  # F_GETFD; fstat(2) would ask the filesystem, which may hang
        except OSError:
            posix.open("/dev/null", posix.O_RDWR)  # takes the lowest free number, which is this one


def main() -> "NoReturn":
    """Run the plugin and exit.

    It does not use sys.exit: while the interpreter cleans up, a signal would end it after the
    verdict, with another exit code."""
    posix._exit(_main())


def _main() -> int:
    try:
        _open_standard_descriptors()
        arguments = sys.argv[1:]
        options = arguments[: arguments.index("--")] if "--" in arguments else arguments
        if "--debug" in options:
            from check_mounts.guard import defects

            defects.say_to(defects.to_stderr)
        if "--cached" in options:
            from check_mounts import cache

            return _print_cached(arguments) if cache.is_in_run(options) else _watched(arguments, options, _print_cached)
        if "--check-config" in options:  # which may have all options of a daemon
            return _watched(arguments, options, _check_config)
        if "--daemon" in options:  # no watcher: systemd knows the daemon by its pid
            return _serve(arguments, "--foreground" in options)
        return _watched(arguments, options, _check)
    except BaseException as error:  # the last boundary: no traceback, no exit code of Python's own
        return _give_up(error)


def _watched(arguments: "list[str]", options: "list[str]", check: "Callable[[list[str], notes.Notes], int]") -> int:
    from check_mounts.guard import watcher

    submits = any(option.startswith("--submit") for option in options)

    def work(noted: "notes.Notes", watched_by: int) -> int:
        try:
            return _check_unless_caught(arguments, noted, watched_by, check, submits)
        except BaseException as error:
            return _give_up(error)

    try:
        return watcher.watch(work, submits)
    except (OSError, AttributeError):  # no process or descriptor available; no memfd_create (an old C library)
        return _check_unwatched(arguments, check)


def _check_unless_caught(
    arguments: "list[str]",
    noted: "notes.Notes",
    watched_by: int,
    check: "Callable[[list[str], notes.Notes], int]",
    submits: bool,
) -> int:
    """Check, in the child; if an earlier equal run is still caught, report that instead."""
    _stop_collecting()
    from check_mounts.guard import loading

    loading.begin()
    from check_mounts.guard import caught, watcher
    from check_mounts.system import processes, syscalls

    try:
        syscalls.close_from((watcher.TERMINAL_FD if noted.is_shown else watcher.MEMORY_FD) + 1)
        syscalls.set_name(b"check_mounts:r")
    except OSError:
        pass  # a filter (seccomp) refuses the call, or /proc is not mounted
    processes.die_with_parent(watched_by)
    processes.survive_shutdown()
    noted.step("looking for earlier runs")

    run = caught.Run(arguments, noted, watched_by)
    try:
        earlier = run.find_caught()
        if earlier is None:
            if check is _check:
                noted.step("loading the program")
                _begin_nursery(watched=True)
            return check(arguments, noted)
        output, state = earlier.report()
        posix.write(1, output)
        if submits:
            posix.write(2, b"check_mounts: not submitted: %b\n" % earlier.what)
        return state
    finally:
        run.leave()
        _end_nursery()


def _begin_nursery(watched: bool) -> None:
    """Fork the process that forks the workers, as long as this process is small.

    It has been given what workers need, and this process keeps that for workers of its own: so it
    is loaded only once."""
    import _signal  # type: ignore[import-not-found]

    from check_mounts.probing import serving  # noqa: F401
    from check_mounts.system import nursery

    if watched:  # what the watcher has set would answer to the end of the nursery
        _signal.set_wakeup_fd(-1)
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    nursery.begin(_live_in_nursery)


def _live_in_nursery(control: int, parent: int) -> None:
    from check_mounts.system import nest

    nest.settle(control, parent)
    from check_mounts.probing import serving

    serving.warm_up()
    nest.run(serving.make)


def _end_nursery() -> None:
    """Leave no process behind that has ended: in a container, nobody may reap it."""
    nursery = sys.modules.get("check_mounts.system.nursery")
    if nursery is not None:
        nursery.leave()
        nursery.reap(0.05)


def _print_cached(arguments: "list[str]", noted: "notes.Notes | None" = None) -> int:
    if noted is not None:
        noted.step("reading the result")
    if "--json" in arguments:
        from check_mounts import cachedjson

        return cachedjson.run(arguments)
    from check_mounts import cache

    return cache.run(arguments, _painter(posix.isatty(1) if noted is None else noted.terminal is not None))


def _painter(is_terminal: bool) -> "Callable[[bytes], bytes]":
    """What makes colours for a terminal, which are loaded nowhere else."""
    if is_terminal:
        from check_mounts.system import colours

        if colours.wanted():
            return colours.painted
    return bytes


def _check(arguments: "list[str]", noted: "notes.Notes") -> int:
    from check_mounts.system.signals import Interrupts

    interrupts = Interrupts()
    if noted.terminal is not None:
        from check_mounts.system import printing

        printing.paint_with(_painter(True))
    noted.step("looking for the libraries of Python")
    if "--table" in arguments:
        _add_site_packages()
    else:
        _add_nagiosplugin()
    noted.step("loading the program")
    from check_mounts import run

    return run.run(arguments, interrupts, noted)


def _check_config(arguments: "list[str]", noted: "notes.Notes") -> int:
    _add_site_packages()
    return _check(arguments, noted)


def _serve(arguments: "list[str]", foreground: bool) -> int:
    """Run the daemon.

    Another process first reads and loads everything that the start of the daemon needs, because
    that may hang."""
    from check_mounts.guard import notes, starting
    from check_mounts.system.signals import Interrupts

    interrupts = Interrupts()

    def rehearse() -> bytes:
        from check_mounts.system import reading

        reading.step("looking for the libraries of Python")
        _add_site_packages()
        reading.step("loading the program")
        from check_mounts import run

        return run.rehearse(arguments)

    answers = starting.rehearse(rehearse, arguments, interrupts, foreground)
    if answers is None:
        return 3
    # A daemon that leaves its caller is a child of this process, and the nursery would end with us.
    if foreground:
        _begin_nursery(watched=False)
    try:
        _add_site_packages()
        from check_mounts import run

        return run.run(arguments, interrupts, notes.Notes(), answers or None)
    finally:
        _end_nursery()


def _check_unwatched(arguments: "list[str]", check: "Callable[[list[str], notes.Notes], int]" = _check) -> int:
    _stop_collecting()
    from check_mounts.guard import notes

    return check(arguments, notes.Notes())


def _stop_collecting() -> None:
    """Switch the garbage collector off.

    Loaded modules stay. Looking through all of them again and again takes 6 ms, and makes each
    forked process copy their memory."""
    import gc

    gc.disable()


def _add_nagiosplugin() -> None:
    """Add the directory in which Python finds nagiosplugin, all that a single run needs.

    Where it is in none of the usual directories, or this is a virtual environment, ``site`` looks
    for it as always. That also reads and runs files (.pth), which takes 1 to 2 ms."""
    if not sys.flags.no_site or _is_carried():
        return
    import os
    import site

    bin = os.path.dirname(sys.executable)
    if not any(os.path.exists(f"{place}/pyvenv.cfg") for place in (bin, os.path.dirname(bin))):
        # Last, the directory of this package: some packages carry the library there.
        for place in (*site.getsitepackages(), sys.path[0]):
            if os.path.exists(f"{place}/nagiosplugin/__init__.py"):
                sys.path.append(place)
                return
    site.main()


def _is_carried() -> bool:
    """Whether nagiosplugin is in the same file as this module (check_mounts.pyz)."""
    return "nagiosplugin/__init__.py" in getattr(globals()["__loader__"], "carried", ())


def _add_site_packages() -> None:
    """Add all directories of ``site``, for the libraries that a daemon may need.

    The installed script runs with -S, which leaves them out, to save `--cached` the time."""
    if sys.flags.no_site:
        import site

        site.main()


def _give_up(error: BaseException) -> int:
    defects = sys.modules.get("check_mounts.guard.defects")  # not loaded: no --debug
    if defects is not None:
        defects.say(error)
    place = ""
    trace = error.__traceback__
    while trace is not None:
        place = f" ({trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno})"
        trace = trace.tb_next
    words = f"{type(error).__name__}: {error}".encode("ascii", "backslashreplace").decode("ascii")
    words = " ".join(words.replace("|", "/").split())
    words = "".join(character if character.isprintable() else "?" for character in words)
    try:
        posix.write(1, f"MOUNTS UNKNOWN - internal error: {words}{place}\n".encode("ascii"))
    except OSError:
        pass
    return 3


if __name__ == "__main__":
    main()
