"""``nsca:HOST[:PORT]``: through the program send_nsca of NSCA or of NSCA-ng.

Import budget: ``os``, ``re``, ``time``; that of programs. The password is in the
program's own configuration, and nothing secret is on its command line. The two programs share
little more than the name:

* NSCA: ``host TAB service TAB state TAB output``, with ETB (0x17) between records, in which
  send_nsca itself escapes line breaks and backslashes of the output. The server never answers: with
  a wrong password, a wrong method of encryption or an unknown service the result is silently lost,
  and send_nsca says that it was sent. It cuts an output at 4,095 bytes, a host at 63 and a
  service at 127, and an input record of more than 5,120 bytes kills it (send_nsca.c, common.h).
* NSCA-ng can read the same format, but it doubles backslashes in names, too. So it gets the lines
  of a command file (``-C``). It uses TLS with a pre-shared key, and the server answers each line. A
  line longer than PIPE_BUF would reach Nagios in a file below /tmp, which Nagios may not see
  (PrivateTmp); our lines are shorter.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence

from check_mounts import text
from check_mounts.passive import Result, Settings, Undelivered, named, records
from check_mounts.passive.address import Address, parse_address
from check_mounts.passive.command_file import command
from check_mounts.passive.progress import Progress
from check_mounts.system import programs
from check_mounts.typed import Optional

SETTINGS = frozenset(("client", "client_config"))

PROGRAM = "send_nsca"
_ENVIRONMENT = {b"PATH": b"/usr/sbin:/usr/bin:/sbin:/bin", b"LC_ALL": b"C"}
# cron's PATH has no sbin, where Debian installs it.
PLACES = ("/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/local/nagios/bin", "/opt/nagios/bin")

_CLASSIC_OUTPUT, _CLASSIC_HOST, _CLASSIC_SERVICE = 4095, 63, 127
_LONGEST_SAID = 8192
_NG = re.compile(r"^(?:send_nsca|NSCA-ng) [0-9]", re.MULTILINE)
_PREFIX = re.compile(r"(?:send_nsca: )?(?:\[[A-Z]+\] )?")
# Messages of NSCA-ng that do not say what is wrong, and what that may be.
_HINTS = (
    ("TLS I/O error", "no server listens there?"),
    ("TLS error", "identity or password wrong?"),
    ("Cannot create socket", "no such name?"),
)
_SENT = re.compile(r"\b([0-9]{1,9}) data packet\(s\) sent to host successfully")


class Nsca:
    """A server of NSCA or NSCA-ng."""

    def __init__(self, address: Address, client: Optional[str], client_config: Optional[str]) -> None:
        self._address = address
        self._client = client
        self._config = client_config
        self._ng: Optional[bool] = None
        self.name = f"nsca:{address}"
        self.files = named(client, client_config)

    @property
    def confirms(self) -> bool:
        """See Destination: NSCA-ng confirms, NSCA cannot."""
        return self._ng is True

    def deliver(self, results: Sequence[Result], until: float, progress: Progress) -> None:
        """See Destination."""
        client = _find_client(self._client)
        for path in named(client, self._config):
            programs.look_at(path)
        self._ng = _is_ng(client, until)
        failures, input_ = compose(results, self._ng)
        if input_:
            said, code = _run(
                arguments(client, self._ng, self._address, self._config, until - time.monotonic()), input_, until
            )
            _check(self._ng, said, code, len(results) - len(failures))
        if failures:
            raise records.summed_up(failures, len(results))


def destination(rest: str, settings: Settings) -> Nsca:
    """Raises ValueError."""
    try:
        address = parse_address(rest)
    except ValueError as error:
        raise ValueError(f"nsca: {error}") from None
    for key, path in (("client", settings.client), ("client-config", settings.client_config)):
        if path is not None and (not path.startswith("/") or "\0" in path):
            raise ValueError(f"nsca: '{key}' must be an absolute path")
    return Nsca(address, settings.client, settings.client_config)


# --- pure: results -> input and command line


def compose(results: Sequence[Result], ng: bool) -> tuple[list[str], bytes]:
    """The reasons why some results cannot be sent, and the input for the others."""
    failures, parts = [], []
    for result in results:
        try:
            parts.append(command(result) if ng else record(result))
        except Undelivered as error:
            failures.append(f"{records.label(result)}: {error}")
    return failures, b"".join(parts)


def record(result: Result) -> bytes:
    """The record for NSCA. Raises Undelivered for names that NSCA would cut: what is left could be
    the name of another host or service.

    Both names become part of a command to Nagios, whose fields end with ``;``."""
    host, service = (records.name(name, forbidden=";") for name in (result.host, result.service))
    for what, name, longest in (("host", host, _CLASSIC_HOST), ("service", service, _CLASSIC_SERVICE)):
        if len(name.encode("utf-8")) > longest:
            raise Undelivered(f"NSCA cuts the name of a {what} at {longest} bytes")
    words = records.fitted(records.unambiguous(records.safe(result.report)), _CLASSIC_OUTPUT, _escaped_size)
    return f"{host}\t{service}\t{result.report.state.value}\t{words}\x17".encode()


def _escaped_size(words: str) -> int:
    """The length of the words once send_nsca has written ``\\n`` for each line break and two
    backslashes for each backslash."""
    return len(words.encode("utf-8")) + words.count("\\") + words.count("\n")


def arguments(client: str, ng: bool, address: Address, config: Optional[str], seconds: float) -> list[str]:
    """The command line. The client's own timeout is the time that is left, in whole seconds; 0
    would mean no timeout."""
    timeout = str(max(1, int(seconds + 0.999)))
    words = [client, "-H", address.bracketed if ng else address.host]
    words += [] if address.port is None else ["-p", str(address.port)]
    words += [] if config is None else ["-c", config]
    # -D 0: its configuration may tell it to wait for a random time first, which would count as
    # ours.
    return [*words, "-o", timeout, "-D", "0", "-C"] if ng else [*words, "-to", timeout]


# --- the program


def _find_client(client: Optional[str]) -> str:
    """Find the program. Raises Undelivered."""
    if client is not None:
        if not os.access(client, os.X_OK):
            raise Undelivered(f"client {text.printable_argument(client)} is missing, or not a program")
        return client
    left_alone = []
    for place in PLACES:
        path = f"{place}/{PROGRAM}"
        if os.access(path, os.X_OK):
            why = programs.why_replaceable(path) if os.geteuid() == 0 else None
            if why is None:
                return path
            left_alone.append(f"{path} is not run as root, because {why}")
    if left_alone:
        raise Undelivered(f"{'; '.join(left_alone)} (name it with 'client =' to run it anyway)")
    raise Undelivered(
        f"the program {PROGRAM} is not installed (Debian: nsca-client or nsca-ng-client), "
        "or 'client' must say where it is"
    )


def _is_ng(client: str, until: float) -> bool:
    said, code = _run([client, "-V"], b"", until)
    if _NG.search(said):
        return True
    if "NSCA Client" in said:
        return False
    raise Undelivered(
        f"{text.printable_argument(client)} is neither the send_nsca of NSCA nor that of NSCA-ng: {_reason(said, code)}"
    )


def _check(ng: bool, said: str, code: int, count: int) -> None:
    """Raises Undelivered unless the client says that it has sent everything."""
    if code != 0:
        raise Undelivered(f"{PROGRAM}: {_reason(said, code)}")
    sent = _SENT.search(said)
    if not ng and (sent is None or int(sent[1]) != count):
        raise Undelivered(f"{PROGRAM} has not sent all of {text.counted(count, 'result')}: {_reason(said, code)}")


def _reason(said: str, code: int) -> str:
    """The output of the client on one line. NSCA-ng quotes from its configuration, maybe even the
    password: `like this'."""
    lines = (_PREFIX.sub("", line.partition("`")[0], count=1).strip() for line in said.splitlines())
    words = "; ".join(filter(None, lines))
    if not words:
        return f"ended by signal {-code}" if code < 0 else f"exit status {code}, without output"
    hint = next((f" ({hint})" for start, hint in _HINTS if words.startswith(start)), "")
    return records.shown(words) + hint


def _run(words: Sequence[str], input_: bytes, until: float) -> tuple[str, int]:
    """Run the client. Returns its output and its exit status (below 0: the signal). Raises
    Undelivered if it does not end in time, and kills it."""
    try:
        ran = programs.run(words, input_, _ENVIRONMENT, until, _LONGEST_SAID, is_alone=False)
    except (programs.NotRun, programs.Late) as error:
        raise Undelivered(f"{PROGRAM} {error}") from None
    return ran.said.decode("utf-8", "surrogateescape"), ran.code
