"""Stands for nagiosplugin where that cannot be loaded: what plugin uses of it, with the same
results. So nothing that was measured is lost, and the daemon goes on.

It is no replacement: a host without the library is not installed as it should be, and a single run
is UNKNOWN for that reason (see library).

Import budget: ``re``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from check_mounts.typed import Any, NamedTuple

_PLAIN = re.compile(r"\w+\Z")

Ok, Warn, Critical, Unknown = "ok", "warning", "critical", "unknown"


class Metric(NamedTuple):
    """A value, and the name of the context that it belongs to."""

    name: str
    value: Any
    uom: str = ""
    context: str = ""


class Performance:
    """An item of perfdata."""

    def __init__(self, label: str, value: str, uom: str = "", *limits: object) -> None:
        self._label, self._value, self._limits = label, f"{value}{uom}", limits

    def __str__(self) -> str:
        label = self._label if _PLAIN.match(self._label) else f"'{self._label}'"
        return ";".join([f"{label}={self._value}", *map(str, self._limits)]).rstrip(";")


class Resource:
    """A source of metrics."""

    def probe(self) -> Iterator[Metric]:
        """The metrics."""
        raise NotImplementedError


class Context:
    """What becomes of the metrics with this name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def performance(self, metric: Metric, resource: Any) -> Any:
        """Its perfdata."""
        raise NotImplementedError


class Result:
    """What a context has found out about a metric; here, nobody asks for it."""

    def __init__(self, state: str, hint: str, metric: Metric) -> None:
        """Keeps nothing."""


class Results:
    """All results; here, nobody asks for them."""


class Summary:
    """The words of the status line."""

    def ok(self, results: Any) -> str:
        """The words."""
        raise NotImplementedError


class Check:
    """A resource, its contexts, and the summary."""

    def __init__(self, resource: Resource, *others: object) -> None:
        self._resource = resource
        self._contexts = {each.name: each for each in others if isinstance(each, Context)}
        self._summary: Summary = next(each for each in others if isinstance(each, Summary))

    def __call__(self) -> None:
        """Give each metric to its context."""
        for metric in self._resource.probe():
            self._contexts[metric.context].performance(metric, self._resource)

    @property
    def summary_str(self) -> str:
        """The words of the status line."""
        return self._summary.ok(())
