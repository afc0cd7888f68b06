"""The services whose results a server has refused: it has no such service, or the result of this
one is wrong for it. Sending them again and again would change nothing, and costs a round trip each.

Import budget: clocks, text. Pure but for the clock."""

from __future__ import annotations

from collections.abc import Sequence

from check_mounts import text
from check_mounts.clocks import Monotonic, after, monotonic
from check_mounts.passive import Result, records
from check_mounts.typed import NamedTuple, Optional

# After so many seconds they are sent once more: somebody may have defined the service.
_AGAIN = 3600.0
# So many of them are named.
_NAMED = 20


class _Parked(NamedTuple):
    """``state`` is that of the refused result; ``until``: when to try again."""

    label: str
    state: int
    until: Monotonic


class Parked:
    """The refused services of one destination."""

    def __init__(self) -> None:
        self._services: dict[str, _Parked] = {}
        self._why = ""
        self._is_whole_refused = False

    def keep(self, results: Sequence[Result]) -> None:
        """Forget the services that have no result any more: their mounts are gone. If nothing could
        be checked, it is not known which mounts exist."""
        if len(results) > 1:
            for name in self._services.keys() - {result.service for result in results}:
                del self._services[name]

    def without(self, results: Sequence[Result]) -> Sequence[Result]:
        """The results that should be sent. The one of all mounts always is; another state may be
        welcome."""
        now = monotonic()

        def is_due(result: Result) -> bool:
            known = self._services.get(result.service)
            return known is None or now >= known.until or known.state != result.report.state.value

        return [result for result in results if result.report.mount_point is None or is_due(result)]

    def note(self, sent: Sequence[Result], refused: Sequence[Result], why: str) -> None:
        """Note which of the sent results were refused for themselves, and why the first one was."""
        before = self._services.keys() | ()
        names = {result.service for result in refused}
        for result in sent:
            self._services.pop(result.service, None)
            if result.service in names and result.report.mount_point is not None:
                state = result.report.state.value
                self._services[result.service] = _Parked(records.label(result), state, after(_AGAIN))
        whole_refused = any(result.report.mount_point is None for result in refused)
        if self._is_whole_refused and not whole_refused:
            self._services.clear()  # its host is defined now, and so may be the others
        self._is_whole_refused = whole_refused
        if self._services.keys() - before:
            self._why = why

    @property
    def words(self) -> Optional[str]:
        """Which services get no results, and why; None if all do."""
        if not self._services:
            return None
        labels = [each.label for _, each in sorted(self._services.items())]
        more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
        count = f"{text.counted(len(labels), 'service')} {'gets' if len(labels) == 1 else 'get'}"
        return f"{self._why}; {count} no results until a reload, or for an hour: {', '.join(labels[:_NAMED])}{more}"
