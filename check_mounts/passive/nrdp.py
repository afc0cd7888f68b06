"""``nrdp:URL``: Nagios Remote Data Processor, command submitcheck, with all results in one request.

Import budget: ``re``; ``urllib.parse`` and web at the time of a delivery. The format is that of
send_nrdp.py and nagioscorepassivecheck.inc.php (https://github.com/NagiosEnterprises/nrdp): a form
with ``token``, ``cmd`` and ``XMLDATA``. It is XML, because all versions understand that. The
server writes each field to a line of a file that Nagios reads."""

from __future__ import annotations

import re
from collections.abc import Sequence

from check_mounts.passive import Refused, Result, Settings, Undelivered, credentials, records
from check_mounts.passive.address import Url, parse_url
from check_mounts.passive.progress import Progress
from check_mounts.typed import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from check_mounts.passive.web import Answer

SETTINGS = frozenset(("token", "user", "password", "ca", "certificate", "key", "verify"))

_LONGEST = 1 << 16
# The answer is in XML, or in JSON if the server is configured for that. It is too simple to need a
# parser, and not trusted enough for one.
_STATUS = re.compile(rb"""<status>\s*(-?\d{1,9})\s*</status>|"status"\s*:\s*"?(-?\d{1,9})""")
_MESSAGE = re.compile(rb"""<message>([^<]*)</message>|"message"\s*:\s*"((?:[^"\\]|\\.)*)\"""", re.DOTALL)
_PROCESSED = re.compile(rb"\b(\d{1,9}) checks processed")


class Nrdp:
    """A server with NRDP."""

    confirms = True

    def __init__(self, url: Url, settings: Settings) -> None:
        self._url = url
        self._settings = settings
        self.name = f"nrdp:{url}"
        self.files = credentials.files(settings)

    def deliver(self, results: Sequence[Result], until: float, progress: Progress) -> None:
        """See Destination."""
        from check_mounts.passive import web

        failures, refused, elements = [], [], []
        for number, result in enumerate(results):
            try:
                elements.append(element(result))
            except Undelivered as error:
                failures.append(f"{records.label(result)}: {error}")
                refused.append(number)
        if elements:
            headers = {"Content-Type": "application/x-www-form-urlencoded", **credentials.headers(self._settings)}
            with web.connection(self._url, self._settings, until, progress) as connection:
                answer = connection.post(self._url.path or "/", request(elements, self._settings.token or ""), headers)
            why = refusal(answer, len(elements), credentials.secrets(self._settings))
            if why is not None:
                # It has those that it has counted, and would refuse the others again.
                raise (Refused if has_some(answer, len(elements)) else Undelivered)(why)
        if failures:
            raise records.summed_up(failures, len(results), refused=refused)


def destination(rest: str, settings: Settings) -> Nrdp:
    """Raises ValueError.

    Without TLS, everybody on the network path can read the token. The user must accept that with
    ``verify = no``, unless the server is this host."""
    try:
        url = parse_url(rest)
        credentials.check(settings, url)
        if url.scheme == "http" and not url.address.is_loopback and settings.verify is not False:
            raise ValueError("with http:, everybody on the network path can read the token; 'verify = no' accepts that")
        if not settings.token:
            raise ValueError("'token' is missing")
    except ValueError as error:
        raise ValueError(f"nrdp: {error}") from None
    return Nrdp(url, settings)


# --- pure: results -> request; answer -> error


def element(result: Result) -> str:
    """One result. Raises Undelivered for a blank name.

    Line breaks of the output are written as ``\\n``, which the server's file needs; only later
    versions of the server do that themselves."""
    words = records.fitted(
        records.unambiguous(records.safe(result.report)),
        _LONGEST,
        lambda piece: len(piece.encode("utf-8")),
        newline="\\n",
    )
    fields = {
        "hostname": records.name(result.host, forbidden=";"),
        "servicename": records.name(result.service, forbidden=";"),
        "state": str(result.report.state.value),
        "output": words,
    }
    inner = "".join(f"<{tag}>{_escaped(value)}</{tag}>" for tag, value in fields.items())
    return f'<checkresult type="service" checktype="1">{inner}</checkresult>'


def _escaped(words: str) -> str:
    """The words in ASCII: PHP's htmlentities() turns a text into an empty one if it is not in the
    expected encoding."""
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#39;")):
        words = words.replace(char, entity)
    return words.encode("ascii", "xmlcharrefreplace").decode("ascii")


def request(elements: Sequence[str], token: str) -> bytes:
    """The form."""
    from urllib.parse import urlencode

    data = f'<?xml version="1.0"?>\n<checkresults>{"".join(elements)}</checkresults>'
    form = {"token": token.encode("utf-8", "surrogateescape"), "cmd": b"submitcheck", "XMLDATA": data.encode("ascii")}
    return urlencode(form).encode("ascii")


def refusal(answer: Answer, count: int, secrets: Sequence[str]) -> Optional[str]:
    """The reason why the server did not accept the results; None if it did."""
    if answer.status == 401:
        return "it refuses the credentials (401): user, password or certificate"
    if 300 <= answer.status < 400:
        return (
            f"it answers with a redirect ({answer.status}), which is not followed; maybe the path must end with a slash"
        )
    if answer.status != 200:
        return f"{records.shown(answer.reason, secrets) or 'no reason given'} ({answer.status})"
    status, message = (_group(pattern, answer.body) for pattern in (_STATUS, _MESSAGE))
    if status is None:
        return "its answer is not in the format of NRDP"
    if int(status) != 0:
        return f"{records.shown(message or '', secrets) or 'no reason given'} (status {int(status)})"
    processed = _PROCESSED.search(answer.body)
    if processed is not None and int(processed[1]) != count:
        return f"it has accepted {int(processed[1])} of {count} results"
    return None


def has_some(answer: Answer, count: int) -> bool:
    """Whether the server has accepted some of the results, but not all."""
    processed = _PROCESSED.search(answer.body)
    return answer.status == 200 and processed is not None and 0 < int(processed[1]) < count


def _group(pattern: re.Pattern[bytes], body: bytes) -> Optional[str]:
    match = pattern.search(body)
    if match is None:
        return None
    return (match[1] if match[1] is not None else match[2]).decode("utf-8", "replace")
