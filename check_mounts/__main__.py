"""The entry. Whatever happens below, the exit code is 0 to 3 and the first line of the output is a verdict.

An uncaught exception would exit with 1, which monitoring reads as WARNING, and argparse with 2, which it reads as CRITICAL.
"""

import os
import sys

TYPE_CHECKING = False  # as in typing, which `--cached` has no time to import; for the same reason annotations are quoted
if TYPE_CHECKING:
    from typing import NoReturn


def _open_standard_descriptors() -> None:
    """Put /dev/null where 0, 1 or 2 is closed: the next pipe would take that number, and our output would go to a worker."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)  # takes the lowest free number, which is this one


def main() -> "NoReturn":
    """Run the plugin and exit.

    Not by way of sys.exit: while the interpreter cleans up, a signal would end it with an exit code of its own after the verdict.
    """
    os._exit(_main())


def _main() -> int:
    try:
        _open_standard_descriptors()
        if _asks_for_cached(sys.argv[1:]):
            from check_mounts import cache

            return cache.run(sys.argv[1:])
        _add_site_packages()
        from check_mounts.signals import Interrupts

        interrupts = Interrupts()
        from check_mounts import cli

        return cli.run(sys.argv[1:], interrupts)
    except BaseException as error:  # the last boundary: no traceback, no exit code of Python's own
        return _give_up(error)


def _asks_for_cached(arguments: "list[str]") -> bool:
    return "--cached" in (arguments[: arguments.index("--")] if "--" in arguments else arguments)


def _add_site_packages() -> None:
    """Do what -S, with which the installed script saves `--cached` the time, has left out: nagiosplugin is found there."""
    if sys.flags.no_site:
        import site

        site.main()


def _give_up(error: BaseException) -> int:
    place = ""
    trace = error.__traceback__
    while trace is not None:
        place = f" ({os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno})"
        trace = trace.tb_next
    words = f"{type(error).__name__}: {error}".encode("ascii", "backslashreplace").decode("ascii")
    words = " ".join(words.replace("|", "/").split())
    try:
        os.write(1, f"MOUNTS UNKNOWN - internal error: {words}{place}\n".encode("ascii"))
    except OSError:
        pass
    return 3


if __name__ == "__main__":
    main()
