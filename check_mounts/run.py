"""One run: options -> a survey -> the output; wrong options give one line and exit code 3."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence

from check_mounts import meaning, text
from check_mounts.checks import checking, one_check
from check_mounts.guard import defects
from check_mounts.guard.notes import Notes
from check_mounts.judging import policy
from check_mounts.judging.judgements import notable
from check_mounts.judging.policy import Judged
from check_mounts.model import Finding, Mount, State, Survey
from check_mounts.options import command_line, settled, working_directory
from check_mounts.options.option_table import SYNOPSIS
from check_mounts.options.refusals import UsageError
from check_mounts.options.understood import Options, read_table, table_reader
from check_mounts.probing import survey
from check_mounts.report import parts, summary
from check_mounts.system import forked, nursery, reading  # fmt: skip
from check_mounts.system.printing import complain, stdout_encoding, write
from check_mounts.system.signals import Interrupts
from check_mounts.typed import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from check_mounts.passive.delivery import Submission
    from check_mounts.probing.shown import Shown

# With more mounts, this process has enough to do while they are asked.
_FEW = 500
# If reading the files took long, a run still gets a mount's timeout and this many seconds more.
_TO_FIND = 0.5
# A collection looks at all that a run has made so far, several times for thousands of mounts, and a
# run leaves nearly nothing to collect. So it is rare: after this many new objects.
_COLLECT_AFTER = 200_000, 100, 100


def _take(options: Options, begun: float, interrupts: Interrupts, noted: Notes) -> Judged:
    """Check the mounts, and judge the findings.

    ``begun`` is when this run began (CLOCK_MONOTONIC); its deadline counts from then."""
    reader = table_reader(options)
    table = read_table(options, reader)
    _leave_directory()
    forked.share_objects(*_COLLECT_AFTER)
    options = _with_time_left(options, begun)
    noted.until(until := time.monotonic() + options.settings.deadline)
    shown, options = _for_people(options, noted, table[0])

    def follow(under_way: survey.Pass) -> None:
        if shown is not None:
            shown.follow(under_way)
        noted.selected(len(under_way.chosen.selected))
        under_way.book.tell = _noting(options, noted)
        _load_report_meanwhile(under_way, table[0], options)

    def note(judged: Judged) -> None:
        noted.replace(summary.in_short(judged.judgements))
        if shown is not None:
            shown.tell_result(judged.survey.findings)

    if options.wait:
        from check_mounts import waiting

        return waiting.take(options, table, interrupts, waiting.Outside(reader.reread, follow, note))

    def judge(result: Survey) -> Judged:
        judged = policy.judged(result, options.policy, options.allow_none)
        note(judged)
        return judged

    found = one_check.take(
        options.check, table, reader.reread, interrupts, interrupts.wake_fd, follow, before_asking=judge
    )
    judged = _with_waiting(judge(found), options, table[0], until)
    return judged if options.drill is None else options.drill.rehearsed(judged, options.demands.expected)


def _leave_directory() -> None:
    try:
        os.chdir("/")
    except OSError:
        pass  # then the caller's directory stays busy


def _with_waiting(judged: Judged, options: Options, mounts: Sequence[Mount], until: float) -> Judged:
    """With -v, the result has a line about the processes that wait for each mount that failed."""
    wanted = options.output.verbosity and not (options.output.json or options.is_for_people)
    failed = any(each.condition in meaning.FAILED for each in notable(judged.judgements))
    if not wanted or not failed or options.check.root or checking.may_modules_hang(options.check, mounts):
        return judged
    try:
        from check_mounts import hanging

        return policy.judged(hanging.with_waiting(judged, mounts, until), options.policy, options.allow_none)
    except Exception as error:  # the verdict is known
        defects.say(error)
        return judged


def _for_people(options: Options, noted: Notes, mounts: Sequence[Mount]) -> tuple[Optional[Shown], Options]:
    """Load what only people need, if anybody does: see :func:`people.prepare`."""
    if not (options.is_for_people or noted.is_shown):
        return None, options
    from check_mounts import people

    return people.prepare(options, noted, mounts)


def _load_report_meanwhile(under_way: survey.Pass, mounts: Sequence[Mount], options: Options) -> None:
    """Load what makes the report while workers ask the mounts, on another core.

    Not where its files may hang, because this process must take the answers. If they cannot be
    loaded, the report will say so."""
    if len(mounts) > _FEW or checking.may_modules_hang(options.check, mounts):
        return
    under_way.step()
    try:
        _load_report(options)
    except Exception as error:
        defects.say(error)


def _load_report(options: Options) -> None:
    """Raises ImportError."""
    if options.output.json:
        from check_mounts.report import jsontext  # noqa: F401
    else:
        reading.step("loading nagiosplugin")
        from check_mounts.report import plugin  # noqa: F401


def _with_time_left(options: Options, begun: float) -> Options:
    """The options with the rest of the deadline that is left after the files were read.

    The rest is always long enough to find a mount that hangs."""
    settings = options.settings
    enough = min(settings.deadline, settings.timeout + _TO_FIND)
    left = max(enough, begun + settings.deadline - time.monotonic())
    return options._replace(check=options.check._replace(settings=settings._replace(deadline=left)))


def _noting(options: Options, noted: Notes) -> Callable[[Sequence[Finding], int], None]:
    """A function that notes findings for the watcher.

    The watcher prints the notes if this process is caught before it can print its result."""

    def tell(findings: Sequence[Finding], count: int) -> None:
        noted.checked(count)
        for state, line in summary.in_short(policy.judge_remarkable(findings, options.policy)):
            noted.failed(state, line)

    return tell


def _report(judged: Judged, options: Options) -> tuple[bytes, State]:
    if options.is_for_people:
        from check_mounts import people  # loaded before the first probe

        return people.report(judged, options, _text_report)
    return _text_report(judged, options)


def _text_report(judged: Judged, options: Options) -> tuple[bytes, State]:
    _load_report(options)
    if options.output.json:
        from check_mounts.report import jsontext

        return jsontext.report(judged, brief=options.output.brief), judged.state
    from check_mounts.report import library, plugin

    reading.step("making the report")

    presentation = plugin.Presentation(
        options.output.verbosity, options.output.perfdata, options.output.max_output, stdout_encoding()
    )
    each = options.output.per_mount if options.submission is None else None
    report = plugin.report(judged, presentation, None if each is None else each.wants)
    report = summary.doubtful(report, library.why)
    return parts.printed(report, options.output.max_output, presentation.encoding), report.state


def _submit(judged: Judged, options: Options, submission: Submission, interrupts: Interrupts) -> None:
    """Submit the result. Failures go to stderr; they change neither the verdict nor the exit code.

    Success prints nothing without -v, because cron mails everything that is printed."""
    if judged.survey.interrupted is not None:
        complain(f"not submitted: interrupted by {judged.survey.interrupted}", interrupts)
        return
    try:
        from check_mounts.passive import submitting

        submitting.submit(judged, options.output, submission, interrupts)
    except Exception as error:  # a defect of ours, or no descriptor available
        defects.say(error)
        complain(f"not submitted: {_internal(error)}", interrupts)
        raise


def _plain_report(judged: Judged, error: Exception, verbosity: int) -> tuple[bytes, State]:
    # Everything for this was loaded before the first probe: by now, opening a file may be
    # impossible.
    plain = summary.plain_report(judged, error)
    try:
        from check_mounts.report import details

        plain = plain._replace(lines=list(details.details(judged, verbosity)))
    except Exception as second:
        defects.say(second)
    return parts.printed(plain, 0, stdout_encoding()), plain.state


def _understand_first(given: Mapping[str, Any], answers: Optional[bytes]) -> Options:
    """The options when they are understood for the first time. Raises UsageError."""
    if answers is None:
        return settled.understand(given)
    _load_daemon()
    from check_mounts.daemon import reload

    return reload.understood_first(given, answers)


def rehearse(arguments: list[str]) -> bytes:
    """Do what a daemon with these arguments does before its first pass, in a process that may hang.

    Returns the questions that it asked files and the database of users, with the answers."""
    os.environ["LANGUAGE"] = "C"  # see run
    _load_daemon()
    from check_mounts.daemon import reload

    def understand() -> None:
        # The daemon reads the table again in each pass; but if the first reading hangs, it must not
        # start.
        options = settled.understand(command_line.given(arguments))
        read_table(options)

    return reload.rehearse(understand)


def _load_daemon() -> None:
    """Load all modules that the daemon or a reload may need. Raises ImportError.

    Later, they may lie on a mount that hangs."""
    import fnmatch  # noqa: F401  for patterns

    from check_mounts import nearest  # noqa: F401  for misspelt words
    from check_mounts.declared import compare, fstab, spec, units  # noqa: F401  for declarations

    from check_mounts.options import contradictions  # noqa: F401  isort: skip  for what the files may hold
    from check_mounts.probing import canaries  # noqa: F401  isort: skip  the same
    from check_mounts.options import config_text, extra_opts, overruled, namespace, service_options, submission_options  # noqa: F401  isort: skip

    from check_mounts.daemon import serve  # noqa: F401
    from check_mounts.passive import destinations
    from check_mounts.report import each  # noqa: F401  for results of single mounts

    destinations.load_all()


def _serve(options: Options, given: Mapping[str, Any], interrupts: Interrupts) -> int:
    _load_daemon()
    from check_mounts.daemon import reload, serve

    working_directory.started_in()

    def say(state: State, words: str) -> None:
        write(text.encoded(f"MOUNTS {state.name} - {text.one_line(words)}\n", stdout_encoding()), interrupts)

    return serve.run(options, lambda: reload.understood_again(given), interrupts, say).value


def _internal(error: Exception) -> str:
    return f"internal error: {type(error).__name__}: {error}"


_SUBMITTING = ("--submit", "--submit-host", "--submit-service", "--submit-timeout")


def _asks_to_submit(arguments: list[str]) -> bool:
    """Whether the command line asks a single run to submit its result.

    It may be a wrong command line, so only the names of its options count."""
    return command_line.names(arguments, _SUBMITTING) and not command_line.names(arguments, ("--daemon",))


def run(arguments: list[str], interrupts: Interrupts, noted: Notes, answers: Optional[bytes] = None) -> int:
    """Run the plugin with these arguments, and return the exit code.

    -h, --help-all and -V exit as UNKNOWN, as the guidelines demand.

    The run tells ``noted`` each step before it takes the step, for the watcher. ``answers`` come
    from :func:`rehearse`, in a daemon."""
    begun = time.monotonic()
    reading.say_to(noted.step)
    # Without this, argparse looks in files for translations of each of its messages (gettext(3)).
    os.environ["LANGUAGE"] = "C"
    submits = _asks_to_submit(arguments)
    try:
        given = command_line.given(arguments)
        if not _NO_CHECKS.isdisjoint(given):
            return _run_without_check(given, interrupts, noted)
        noted.until(begun + command_line.deadline_of(command_line.with_defaults(given)))
        options = _understand_first(given, answers)
        submits = options.submission is not None and options.service is None
        if options.debug:
            defects.say_to(defects.to_stderr)
        if options.service is not None:
            return _serve(options, given, interrupts)
        if "write_config" in given or "drill_length" in given:
            return _without_check(options, given, interrupts, noted)
        noted.until(begun + options.settings.deadline)
        judged = _take(options, begun, interrupts, noted)
    except Exception as error:
        return _fail(error, submits, interrupts)
    return _tell(judged, options, interrupts, noted)


def _without_check(options: Options, given: Mapping[str, Any], interrupts: Interrupts, noted: Notes) -> int:
    """Do what needs no check of the mounts, and return the exit code. Raises UsageError."""
    if options.drill is not None:
        from check_mounts import drill_order

        return drill_order.run(options, options.drill, interrupts, noted)
    from check_mounts import write_config

    return write_config.run(options, given["write_config"], interrupts, noted)


_DESCRIBING = frozenset(("completion", "help", "help_all", "version"))
_NO_CHECKS = _DESCRIBING | {"check_config", "incidents", "users"}


def _run_without_check(given: Mapping[str, Any], interrupts: Interrupts, noted: Notes) -> int:
    """Do what needs neither a mount nor all options. Raises UsageError."""
    if not _DESCRIBING.isdisjoint(given):
        from check_mounts import describing

        return describing.run(given, interrupts, noted.terminal)
    if "check_config" in given:
        _load_daemon()
        from check_mounts import check_config

        return check_config.run(given, interrupts)
    if "users" in given:
        from check_mounts import users

        return users.run(given, interrupts, noted)
    from check_mounts import recalling

    return recalling.run(given, interrupts, noted)


def _fail(error: Exception, submits: bool, interrupts: Interrupts) -> int:
    """Print why there is no result, and return the exit code.

    Raises a defect of ours again: the last boundary, in __main__, prints it."""
    if isinstance(error, UsageError):
        return _refuse(str(error), submits, interrupts, below=f"usage: {SYNOPSIS}\n")
    defects.say(error)
    if isinstance(error, ImportError):  # a module of Python's own that cannot be opened: no descriptor available
        return _refuse(f"cannot start: {error}", submits, interrupts)
    if isinstance(error, OSError):  # no descriptor available, no /dev/null: not even a pool can be made
        what = f"{error.strerror}: {text.printable_argument(str(error.filename))}" if error.filename else error.strerror
        return _refuse(f"cannot start: {what}", submits, interrupts)
    if submits:
        complain(f"not submitted: {_internal(error)}", interrupts)
    raise error


def _refuse(words: str, submits: bool, interrupts: Interrupts, below: str = "") -> int:
    """Print why there is no result, and return the exit code.

    If it should have been submitted, stderr says so, too: people who submit from cron throw stdout
    away."""
    write(text.encoded(f"MOUNTS UNKNOWN - {text.one_line(words)}\n{below}", stdout_encoding()), interrupts)
    if submits:
        complain(f"not submitted: {words}", interrupts)
    return State.UNKNOWN.value


def _tell(judged: Judged, options: Options, interrupts: Interrupts, noted: Notes) -> int:
    """Print the result, submit it, and return the exit code."""
    if options.submission is None:  # no workers any more: their nursery ends while the report is made
        nursery.leave()
    try:
        output, state = _report(judged, options)
    except Exception as error:  # a defect of ours, or no file can be opened any more
        defects.say(error)
        output, state = _plain_report(judged, error, options.output.verbosity)
    reading.step("writing the result")
    write(output, interrupts)
    noted.told(state.value)
    if options.submission is not None:
        reading.step("submitting the result")
        noted.until(time.monotonic() + options.submission.timeout + command_line.BESIDE_TIMEOUT)
        _submit(judged, options, options.submission, interrupts)
    return state.value
