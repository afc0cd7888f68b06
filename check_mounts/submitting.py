"""Survey -> results of services, as monitoring servers take them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Optional

from check_mounts import defects, parts, selection, summary, text
from check_mounts.delivery import Submission
from check_mounts.model import Condition, Survey
from check_mounts.parts import Report
from check_mounts.passive import Result
from check_mounts.policy import Judged
from check_mounts.presenting import Output


def held_up(survey: Survey, submission: Submission) -> dict[str, str]:
    """Which destinations are not to be tried, and why: a file of theirs is on a mount that hangs,
    as the survey has found out. Whoever opens it would hang, too, another process each time."""
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


def results(judged: Judged, output: Output, submission: Submission, ttl: Optional[float]) -> Sequence[Result]:
    """The result of all mounts, then, where that is wanted, one for each. ``ttl``: for how many
    seconds they may stand for the present.

    They are of now, whenever the pass over all mounts began: between its passes the daemon hears of
    what changes, and Icinga 2 throws away a result that says to be older than the last one."""
    return _results(_reports(judged, output), submission, ttl)


def failure(report: Report, submission: Submission, ttl: float) -> Sequence[Result]:
    """That nothing can be measured, as the result of all mounts; nobody knows of which else."""
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


def _reports(judged: Judged, output: Output) -> Sequence[Report]:
    try:
        from check_mounts import plugin

        presentation = plugin.Presentation(output.verbosity, output.perfdata, output.max_output)
        whole = plugin.report(judged, presentation)
        each = plugin.report_each(judged, presentation) if output.per_mount else ()
        return [parts.fitted(report, output.max_output) for report in (whole, *each)]
    except Exception as error:  # nagiosplugin is not installed, or a defect of ours; what was measured is not lost
        defects.say(error)
        return [summary.plain_report(judged, error)]
