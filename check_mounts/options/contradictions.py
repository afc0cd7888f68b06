"""Ranges for WARNING that lie within those for CRITICAL, so that WARNING could never be; and
``contains`` without a file that should hold it. Pure.

Only what is certain is refused: equal ranges are a way to have one limit, and a range that nothing
is outside of switches a limit off. A check without two such ranges does not load this."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from check_mounts.judging.policy import Policy
from check_mounts.judging.thresholds import Capacity, Range
from check_mounts.options.configuration import Configuration, MountSection
from check_mounts.options.option_table import BY_NAME
from check_mounts.options.refusals import UsageError
from check_mounts.outcome import Step
from check_mounts.typed import Any, NoReturn, Optional

_PERCENT = 100.0
_Pair = tuple[str, str, str]  # the name of the option, and what it and its counterpart say


def refuse(general: Policy, configuration: Configuration) -> None:
    """Raises UsageError for the first such range of the whole run, or of a section."""
    for name, warning, critical in _contradictions(general):
        raise UsageError(f"--{name}", _words(warning, critical), BY_NAME[name].short)
    for section in configuration.sections:
        if section.overrides.limits:
            _refuse_section(section, general, configuration)


def refuse_contains(configuration: Configuration) -> None:
    """Raises UsageError for the first section with ``contains`` where no section names a canary."""
    for section in configuration.sections:
        if "contains" in section.origins:
            others = configuration.sections if section.path is None else configuration.matching(section.path)
            if not any("canary" in each.origins for each in others):
                why = "no canary names the file that should hold it"
                raise UsageError("--contains", why, origin=section.origins["contains"])


def refuse_measures(given: Mapping[str, Any]) -> NoReturn:
    """Raises UsageError: of the thresholds of a command line, only a daemon can judge one for what
    programs did. In a file it may stand for a daemon that reads it, too."""
    limits = [(name, *each) for name in ("warning", "critical") for each in given.get(name, ())]
    name, measure, limit = next(each for each in limits if not isinstance(each[1], (Step, type(None))))
    why = f"'{measure.word}={limit.spec}' goes with --daemon only: it is about the time between two looks"
    raise UsageError(f"--{name}", why, BY_NAME[name].short)


def _refuse_section(section: MountSection, general: Policy, configuration: Configuration) -> None:
    overrides = section.overrides if section.path is None else configuration.for_mount(section.path)
    for name, warning, critical in _contradictions(overrides.policy(general)):
        counterpart = name.replace("warning", "critical")
        said = [key for key in (name, counterpart) if key in section.origins]
        # Other sections may say something else for each mount that a pattern matches.
        alone = section.path is not None or len(said) == 2 or not _others_say(name, counterpart, section, configuration)
        if said and alone:
            raise UsageError(f"--{said[0]}", _words(warning, critical), origin=section.origins[said[0]])


def _others_say(name: str, counterpart: str, section: MountSection, configuration: Configuration) -> bool:
    others = (each for each in configuration.sections if each is not section)
    return any(not {name, counterpart}.isdisjoint(each.origins) for each in others)


def _words(warning: str, critical: str) -> str:
    return f"'{warning}' could never be WARNING, because all of it is CRITICAL already, by '{critical}'"


def _contradictions(policy: Policy) -> Iterator[_Pair]:
    if _is_within(policy.warning, policy.critical):
        yield "warning", _spec(policy.warning), _spec(policy.critical)
    for step, warning in policy.step_warning.items():
        critical = policy.step_critical.get(step)
        for over, accumulates in ((critical, False), (policy.critical if isinstance(step, Step) else None, True)):
            if _is_within(warning, over, accumulates=accumulates):
                yield (
                    "warning",
                    f"{step.word}={_spec(warning)}",
                    f"{step.word}={_spec(over)}" if over is critical else _spec(over),
                )
    for what in ("usage", "inodes"):
        pair = (getattr(policy, f"{what}_warning"), getattr(policy, f"{what}_critical"))
        if _capacity_is_within(*pair):
            yield f"{what}-warning", _spec(pair[0].range), _spec(pair[1].range)


def _spec(limit: Optional[Range]) -> str:
    return "" if limit is None else limit.spec


def _capacity_is_within(warning: Optional[Capacity], critical: Optional[Capacity]) -> bool:
    if warning is None or critical is None or warning.kind != critical.kind:
        return False
    return _is_within(warning.range, critical.range, _PERCENT if warning.kind == "percent" else math.inf)


def _is_within(
    warning: Optional[Range], critical: Optional[Range], most: float = math.inf, accumulates: bool = False
) -> bool:
    """Whether ``critical`` alerts on all values from 0 to ``most`` that ``warning`` alerts on, and
    on more.

    ``accumulates``: ``warning`` is for a part of the value that ``critical`` is for, so the value
    may be any that is not less."""
    if warning is None or critical is None:
        return False
    values = _values((warning, critical), most)
    alerts: Sequence[bool] = [warning.alerts(value) for value in values]
    if accumulates:
        alerts = list(itertools.accumulate(alerts, lambda before, now: before or now))
    worse = [critical.alerts(value) for value in values]
    pairs = list(zip(alerts, worse))
    return any(alerts) and all(bad for alert, bad in pairs if alert) and any(bad and not alert for alert, bad in pairs)


def _values(ranges: Sequence[Range], most: float) -> list[float]:
    """All ends of ranges, and a value between each two and beyond: within such a part, nothing
    changes."""
    ends = sorted(
        {0.0, *(end for each in ranges for end in (each.start, each.end) if 0 <= end <= most and end < math.inf)}
    )
    beyond = most if most < math.inf else ends[-1] * 2 + 1
    ends = sorted({*ends, beyond})
    between = [(one + other) / 2 for one, other in zip(ends, ends[1:])]
    return sorted({*ends, *between})
