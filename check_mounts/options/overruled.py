"""The parts of a configuration that the command line overrules."""

from __future__ import annotations

from collections.abc import Mapping

from check_mounts.options.configuration import LIMITS, Configuration
from check_mounts.options.option_table import BY_NAME
from check_mounts.typed import Any

# For these keys, the command line overrules all sections.
_OVERRULED = (
    "timeout",
    "boot-grace",
    "as",
    "write",
    "usage-warning",
    "usage-critical",
    "inodes-warning",
    "inodes-critical",
)


def without(configuration: Configuration, given: Mapping[str, Any]) -> Configuration:
    """The configuration without the parts that the command line overrules.

    The command line is for this run alone, so it wins."""
    taken = {name for name in _OVERRULED if BY_NAME[name].dest in given}
    taken |= {name for name in ("warning", "critical") if any(step is None for step, _ in given.get(name, ()))}
    conditions = {condition for condition, _ in given.get("severity", ())}
    if not (taken or conditions):
        return configuration
    fields = {BY_NAME[name].dest for name in taken}
    none: dict[str, Any] = dict.fromkeys(fields - LIMITS)
    sections = []
    for section in configuration.sections:
        said = section.overrides
        severity = {condition: state for condition, state in said.severity.items() if condition not in conditions}
        limits = {field: limit for field, limit in said.limits.items() if field not in fields}
        overrides = said._replace(severity=severity, limits=limits, **none)
        silent = taken | (set() if severity else {"severity"})
        origins = {key: origin for key, origin in section.origins.items() if key not in silent}
        sections.append(section._replace(overrides=overrides, origins=origins))
    return Configuration(configuration.options, tuple(sections), configuration.destinations)
