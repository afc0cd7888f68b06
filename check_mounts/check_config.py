"""``--check-config``: whether all that the command line and the files say is valid. No mount is
touched.

It refuses what the start of a daemon with the same words would refuse, and what a check would
report as UNKNOWN. It finds several problems at once: a line that is wrong is left out, and the rest
is read again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from check_mounts import text
from check_mounts.daemon import home
from check_mounts.model import State
from check_mounts.options import ini_syntax, settled
from check_mounts.options.configuration import SubmitSection
from check_mounts.options.option_table import BY_NAME, DEFAULT_CONFIG
from check_mounts.options.refusals import UsageError, blamed
from check_mounts.options.understood import Options, read_table
from check_mounts.passive import destinations
from check_mounts.system import programs, reading
from check_mounts.system.printing import stdout_encoding, write
from check_mounts.system.signals import Interrupts
from check_mounts.typed import Any, NamedTuple, Optional

# More problems than anybody corrects at once.
_MOST = 20
# The settings of a destination that name a file.
_FILES = ("ca", "certificate", "key", "client", "client_config")


class Checked(NamedTuple):
    """The result: ``problems`` and ``notes``, each on one line fit for any output. ``files`` are
    those that were read."""

    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The verdict, and below it all that it has no room for."""
        notes = [f"note: {note}" for note in self.notes]
        if not self.problems:
            files = ", ".join(self.files) or f"there is no {DEFAULT_CONFIG}"
            return "\n".join([f"MOUNTS OK - the configuration is valid: {files}", *notes])
        first, *others = self.problems
        more = f" (and {len(others)} more {'problem' if len(others) == 1 else 'problems'})" if others else ""
        return "\n".join([f"MOUNTS UNKNOWN - {first}{more}", *others, *notes])


def run(given: Mapping[str, Any], interrupts: Interrupts) -> int:
    """Check, print the verdict, and return the exit code."""
    checked = check(given)
    lines = map(text.one_line, str(checked).split("\n"))
    write(text.encoded("".join(f"{line}\n" for line in lines), stdout_encoding()), interrupts)
    return State.UNKNOWN.value if checked.problems else State.OK.value


def check(given: Mapping[str, Any]) -> Checked:
    """Check the values that a command line gives, and the files that it names."""
    words: Optional[Mapping[str, Any]] = {**given, "daemon": True} if _fits_a_daemon(given) else given
    problems: dict[str, None] = {}
    ini_syntax.skipped.clear()
    while words is not None and len(problems) < _MOST:
        try:
            with reading.recorded() as answers:
                options = settled.understand(words)
                problems.update(dict.fromkeys(_further(words, options, "daemon" in given)))
            return Checked(tuple(problems), (*options.check.notes, *_lacking(options)), _read(answers))
        except UsageError as error:
            problems[str(error)] = None
            words = _without(words, error)
        except reading.TooMuch as error:
            return Checked((*problems, str(error)))
    return Checked(tuple(problems))


def _lacking(options: Options) -> Iterator[str]:
    """The library without which a daemon would write no metrics; it would check nevertheless."""
    if options.service is not None and options.service.no_metrics:
        yield f"no metrics would be written: {options.service.no_metrics}"


def _fits_a_daemon(given: Mapping[str, Any]) -> bool:
    """Whether a daemon could have this command line.

    Most files are for a daemon, too. So all that they say counts, also without ``--daemon``."""
    if "per_mount" in given and "submit" not in given:
        return False
    return not any("daemon" in option.not_with and option.dest in given for option in BY_NAME.values())


def _without(given: Mapping[str, Any], error: UsageError) -> Optional[Mapping[str, Any]]:
    """The command line without the option that is wrong; if a line of a file is wrong, the same
    command line, and the line is skipped from now on. None if that would not help."""
    if error.origin is not None:
        if error.origin in ini_syntax.skipped:
            return None
        ini_syntax.skipped.add(error.origin)
        return given
    option = BY_NAME.get(error.option[2:])
    if option is None or option.dest not in given:
        return None
    return {dest: value for dest, value in given.items() if dest != option.dest}


def _read(answers: reading.Answers) -> tuple[str, ...]:
    """The files that could be read."""
    return tuple(
        text.printable_argument(name) for (what, name), answer in answers.items() if what == "reading" and not answer[1]
    )


def _further(given: Mapping[str, Any], options: Options, as_daemon: bool) -> Iterator[str]:
    """What else is wrong, where all options are understood. Raises UsageError."""
    yield from map(str, options.check.wrong)
    for section in settled.read_files(given)[0].destinations:
        yield from _of_destination(section)
    read_table(options)
    # Other users check their own files, and have no use for the daemon's directory.
    if options.service is not None and (as_daemon or os.geteuid() == 0):
        try:
            home.Home(options.service, options, only_check=True)
        except home.Refused as error:
            yield str(error)
        yield from _of_program(options.service.on_change, options)


def _of_program(command: Sequence[str], options: Options) -> Iterator[str]:
    """Why the daemon could not run the program of --on-change."""
    why = reading.ask("looking at the program", command[0], _why_not_run) if command else ""
    if why:
        shown = text.clipped(text.printable_argument(command[0]), 400)
        yield str(blamed(UsageError("--on-change", f"{shown}: {why}"), options.origins))


def _why_not_run(path: str) -> str:
    try:
        why = programs.why_replaceable(path, {0, os.geteuid()})
    except OSError as error:
        return str(error.strerror)
    if why is not None:
        return f"it would not be run, because {why}"
    return "" if os.access(path, os.X_OK, effective_ids=True) and not os.path.isdir(path) else "it is not a program"


def _of_destination(section: SubmitSection) -> Iterator[str]:
    """What is wrong with the destination of a section, whether or not a run submits to it."""
    try:
        destinations.destination(section.destination, section.settings)
    except ValueError as error:
        yield f"{section.origin}: {error}"
    for field in _FILES:
        path = getattr(section.settings, field)
        key = destinations.key_of(field)
        why = "" if path is None else reading.ask(f"looking for the {key}", path, _why_unusable)
        if why:
            yield f"{section.origins[key]}: {key}: {text.clipped(text.printable_argument(path), 400)}: {why}"


def _why_unusable(path: str) -> str:
    try:
        os.stat(path)
    except OSError as error:
        return str(error.strerror)
    return "" if os.access(path, os.R_OK, effective_ids=True) else "Permission denied"
