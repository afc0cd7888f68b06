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
    "unusual",
    "usage-warning",
    "usage-critical",
    "inodes-warning",
    "inodes-critical",
)


def without(configuration: Configuration, given: Mapping[str, Any]) -> Configuration:
    """The configuration without the parts that the command line overrules.

    The command line is for this run alone, so it wins."""
    taken = {name for name in _OVERRULED if BY_NAME[name].dest in given}
    limits = {(name, part) for name in ("warning", "critical") for part, _ in given.get(name, ())}
    taken |= {name for name, part in limits if part is None}
    conditions = {condition for condition, _ in given.get("severity", ())}
    if not (taken or conditions or limits):
        return configuration
    fields = {BY_NAME[name].dest for name in taken}
    none: dict[str, Any] = dict.fromkeys(fields - LIMITS)
    sections = []
    for section in configuration.sections:
        said = section.overrides
        severity = {condition: state for condition, state in said.severity.items() if condition not in conditions}
        kept = {key: limit for key, limit in said.limits.items() if key not in fields and key not in limits}
        overrides = said._replace(severity=severity, limits=kept, **none)
        silent = taken | (set() if severity else {"severity"})
        bounded = {key if isinstance(key, str) else key[0] for key in kept}
        silent = {key for key in silent | {name for name, _ in limits} if key.replace("-", "_") not in bounded}
        origins = {key: origin for key, origin in section.origins.items() if key not in silent}
        sections.append(section._replace(overrides=overrides, origins=origins))
    return Configuration(configuration.options, tuple(sections), configuration.destinations)
