"""``icinga2:https://HOST[:PORT]``: the API of Icinga 2, action process-check-result, with one
request for each result.

Import budget: ``time``; ``base64``, ``json`` and web at the time of a delivery. The action:
https://icinga.com/docs/icinga-2/latest/doc/12-icinga2-api/#process-check-result. The API uses only
TLS, so http: is refused.

To a result without times, the API gives the present time. If a result has times, and is older than
the last one that Icinga 2 has, Icinga 2 drops it and answers 200 nevertheless. The last one may
even be from its own check of freshness. So the results of a host whose clock is behind would be
lost silently. Therefore a result gets times only if it was measured a while ago."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence

from check_mounts import text
from check_mounts.passive import Result, Settings, Undelivered, credentials, records
from check_mounts.passive.address import Address, Url, parse_url
from check_mounts.passive.progress import Progress
from check_mounts.typed import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from check_mounts.passive.web import Answer

SETTINGS = frozenset(("user", "password", "ca", "certificate", "key", "verify"))

_PORT = 5665
_PATH = "/v1/actions/process-check-result"
# Icinga 2.13 takes 0.03 s for 70 KB, and 4.5 s for 1 MB.
_LONGEST = 1 << 16
_FRESH = 10.0  # seconds
_LATER = (408, 429)  # Request Timeout, Too Many Requests


class Icinga2:
    """A master or satellite."""

    confirms = True

    def __init__(self, url: Url, settings: Settings) -> None:
        self._url = url
        self._settings = settings
        self.name = f"icinga2:{url}"
        self.files = credentials.files(settings)

    def deliver(self, results: Sequence[Result], until: float, progress: Progress) -> None:
        """See Destination."""
        from check_mounts.passive import web

        failures, refused, for_now = [], [], False
        secrets = credentials.secrets(self._settings)
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            **credentials.headers(self._settings),
        }
        with web.connection(self._url, self._settings, until, progress) as connection:
            for number, result in enumerate(results):
                progress.handed_over(number)
                try:
                    body = request(result, time.time())
                except Undelivered as error:
                    failures.append(f"{records.label(result)}: {error}")
                    refused.append(number)
                    continue
                with _after(number, len(results)):
                    answer = connection.post(_PATH, body, headers)
                why = refusal(answer, result, secrets)
                if answer.status == 401:  # all the others would get this answer, too
                    raise Undelivered(why or "")
                if why is not None:
                    failures.append(why)
                    for_now = for_now or is_for_now(answer)
                    if is_for_good(answer):
                        refused.append(number)
        if failures:
            raise records.summed_up(failures, len(results), for_now, refused)


@contextlib.contextmanager
def _after(number: int, total: int) -> Iterator[None]:
    """Adds to an error how many results the server had dealt with before it.

    Each result needs a round trip: there were too many for the time, or the server went away. The
    server has not refused the rest, so another attempt makes sense, and does no harm to the results
    that have arrived."""
    try:
        yield
    except Undelivered as error:
        if number == 0:
            raise
        raise Undelivered(f"{error}, after {number} of {total} results") from None


def destination(rest: str, settings: Settings) -> Icinga2:
    """Raises ValueError."""
    try:
        url = parse_url(rest)
        if url.scheme != "https":
            raise ValueError("the API of Icinga 2 needs https:")
        if url.path not in ("", "/"):
            raise ValueError("the URL must not have a path: https://HOST:5665")
        credentials.check(settings, url)
        if settings.user is None and settings.certificate is None:
            raise ValueError("either 'user' and 'password' or 'certificate' is needed")
    except ValueError as error:
        raise ValueError(f"icinga2: {error}") from None
    address = url.address._replace(port=url.address.port or _PORT)
    return Icinga2(Url("https", Address(address.host, address.port), ""), settings)


# --- pure: result -> request; answer -> error


def request(result: Result, now: float) -> bytes:
    """The body. Raises Undelivered for a blank name.

    It names the service as an object and not with a filter, so that no character of the name has a
    special meaning."""
    import json

    report = records.safe(result.report)
    output = records.fitted(report._replace(perfdata=()), _LONGEST, lambda piece: len(piece.encode("utf-8")))
    fields: dict[str, Any] = {
        "type": "Service",
        "service": f"{records.name(result.host)}!{records.name(result.service)}",
        "exit_status": result.report.state.value,
        "plugin_output": output,
        "performance_data": [each.words for each in report.perfdata],
        "check_source": text.one_line(result.source),
    }
    if now - result.taken > _FRESH:
        fields["execution_start"] = fields["execution_end"] = result.taken
    if result.ttl is not None and result.ttl > 0:
        fields["ttl"] = result.ttl
    return json.dumps(fields).encode("ascii")


def refusal(answer: Answer, result: Result, secrets: Sequence[str]) -> Optional[str]:
    """The reason why the server did not accept the result; None if it did."""
    if answer.status == 401:
        return "it refuses the credentials (401): user, password or certificate do not belong to an ApiUser"
    if 300 <= answer.status < 400:
        return f"it answers with a redirect ({answer.status}), which is not followed"
    said = _understood(answer.body)
    outcomes = _outcomes(said)
    if answer.status == 200 and outcomes and all(200 <= _code(outcome) < 300 for outcome in outcomes):
        return None
    if answer.status == 404:
        return f"{records.label(result)}: no such service, or no permission actions/process-check-result for it (404)"
    words = (outcomes[0] if outcomes else said).get("status")
    if not isinstance(words, str):
        if answer.status == 200:
            return "its answer is not in the format of Icinga 2"
        words = answer.reason
    return f"{records.label(result)}: {records.shown(words, secrets) or 'no reason given'} ({answer.status})"


def _understood(body: bytes) -> Mapping[str, Any]:
    import json

    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def is_for_now(answer: Answer) -> bool:
    """Whether the refusal is temporary, and not caused by the result. Icinga 2 answers 503 while it
    shuts down, and for a service that is not active (lib/remote/actionshandler.cpp,
    lib/icinga/apiactions.cpp). The code of the single result says more than the status, which is
    500 if no other status fits all results. A proxy before it may answer 408 or 429."""
    return any(code >= 500 or code in _LATER for code in _codes(answer))


def is_for_good(answer: Answer) -> bool:
    """Whether the refusal is caused by the result, or by its service: the next one would be refused
    as well."""
    return all(400 <= code < 500 and code not in _LATER for code in _codes(answer))


def _codes(answer: Answer) -> Sequence[float]:
    codes = [_code(outcome) for outcome in _outcomes(_understood(answer.body))]
    return codes if any(codes) else [answer.status]


def _outcomes(said: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The outcome of each service; there should be one."""
    found = said.get("results")
    return [each if isinstance(each, dict) else {} for each in found] if isinstance(found, list) else []


def _code(outcome: Mapping[str, Any]) -> float:
    """The code of an outcome; 0 if it has none."""
    code = outcome.get("code")
    return code if isinstance(code, (int, float)) else 0
