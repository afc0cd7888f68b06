"""Judged -> results of services, for monitoring servers."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from check_mounts import selection, text
from check_mounts.guard import defects
from check_mounts.judging.policy import Judged
from check_mounts.model import Condition, Survey
from check_mounts.passive import Result
from check_mounts.passive.delivery import Submission, deliver
from check_mounts.report import parts, summary
from check_mounts.report.parts import Report
from check_mounts.report.presenting import Output
from check_mounts.system.printing import complain, stdout_encoding, write
from check_mounts.system.signals import Interrupts
from check_mounts.typed import Optional


def submit(judged: Judged, output: Output, submission: Submission, interrupts: Interrupts) -> None:
    """Submit the result of a single run, and print what became of it."""
    made = results(judged, output, submission, None, True)
    for receipt in deliver(submission, made, held_up(judged.survey, submission), interrupts, interrupts.wake_fd):
        if receipt.error is not None:
            complain(receipt.words, interrupts)
        elif output.verbosity and not output.json:
            write(text.encoded(f"note: {receipt.words}\n", stdout_encoding()), interrupts)


def held_up(survey: Survey, submission: Submission) -> dict[str, str]:
    """The destinations that must not be tried, and why: the survey has found that one of their
    files is on a mount that hangs. Each attempt to open it would leave another process stuck."""
    hung = [finding.mount_point for finding in survey.findings if finding.condition is Condition.TIMED_OUT]
    why = {}
    for destination in submission.destinations:
        for path in destination.files:
            normal = selection.normalised(os.fsencode(path))
            on_the_way = [each for each in hung if selection.leads_over(normal, each)]
            if on_the_way:
                why[destination.name] = (
                    f"{text.printable(normal)} is on {text.printable(on_the_way[0])}, which timed out"
                )
    return why


def results(
    judged: Judged, output: Output, submission: Submission, ttl: Optional[float], doubts: bool = False
) -> Sequence[Result]:
    """The result of all mounts, and one result for each if that is wanted. ``ttl`` is the number of
    seconds for which they are valid. ``doubts``: at least UNKNOWN without nagiosplugin.

    Their time is the present, and not the beginning of the pass over all mounts: the daemon notices
    changes between its passes, and Icinga 2 drops a result that is older than the last one."""
    return _results(_reports(judged, output, doubts), submission, ttl)


def failure(report: Report, submission: Submission, ttl: float) -> Sequence[Result]:
    """The result of all mounts if nothing can be measured. It is not known then which mounts
    exist."""
    return _results([report], submission, ttl)


def _results(reports: Sequence[Report], submission: Submission, ttl: Optional[float]) -> Sequence[Result]:
    now = time.time()

    def result(report: Report) -> Result:
        name = submission.service
        if report.mount_point is not None:
            name += f" {text.printable(report.mount_point)}"
        source = text.printable_argument(os.uname().nodename)
        return Result(submission.host, name, report, now, ttl, source)

    return [result(report) for report in reports]


def _reports(judged: Judged, output: Output, doubts: bool) -> Sequence[Report]:
    try:
        from check_mounts.report import library, plugin

        presentation = plugin.Presentation(output.verbosity, output.perfdata, output.max_output)
        whole = summary.doubtful(plugin.report(judged, presentation), library.why if doubts else "")
        each = output.per_mount and plugin.report_each(judged, presentation, output.per_mount.wants)
        return [parts.fitted(report, output.max_output) for report in (whole, *(each or ()))]
    except Exception as error:  # a defect of ours: what was measured is not lost
        defects.say(error)
        return [summary.plain_report(judged, error)]
