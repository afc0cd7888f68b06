"""Passive results by the API of a real Icinga 2."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from check_mounts.passive import Refused, Result, Settings
from check_mounts.passive.destinations import destination
from check_mounts.passive.progress import unread
from tests.conftest import undelivered
from tests.monitoring.icinga import Authority, Icinga, host, quoted
from tests.monitoring.stack import Stack, free_port
from tests.reported import reported

pytestmark = [pytest.mark.root, pytest.mark.monitoring]

PRINTED = (
    "MOUNTS CRITICAL - 2 of 4 mounts failed: /srv/a timed out; /srv/\\012ü dead | ok=2 'free on /a b'=2s;;;0 "
    "'/a;b\\174c'=0.1s\n"
    "critical: /srv/a (nfs4) timed out\n"
    "\n"
    "ok: /with \\134 a backslash\n"
).encode()
PERFDATA = ("ok=2", "'free on /a b'=2s;;;0", "'/a;b\\174c'=0.1s")
TEXT = (
    "MOUNTS CRITICAL - 2 of 4 mounts failed: /srv/a timed out; /srv/\\012ü dead\n"
    "critical: /srv/a (nfs4) timed out\n\nok: /with \\134 a backslash"
)
NAMES = ("mounts", 'it\'s a "quoted" && $name$; | ü {{ 1 }}', r"mount /x\012[0] y", "clock", "active")
MAY = '{ permission = "actions/process-check-result" }'


class Api:
    """The server, its name and its users."""

    def __init__(self, icinga: Icinga, authority: Authority, certificate: Path, key: Path) -> None:
        self.icinga = icinga
        self.port = icinga.address[1]
        self.ca = str(authority.certificate)
        self.agent = self.user("agent", "s3cr3t")
        self.certificate = Settings(ca=self.ca, certificate=str(certificate), key=str(key))

    def user(self, user: str, password: str) -> Settings:
        return Settings(user=user, password=password, ca=self.ca)

    def submit(self, *results: Result, settings: Settings | None = None) -> None:
        self.to(settings).deliver(results, time.monotonic() + 10, unread())

    def to(self, settings: Settings | None = None, address: str = "localhost", port: int | None = None) -> Any:
        return destination(f"icinga2:https://{address}:{port or self.port}", settings or self.agent)

    def result(self, service: str) -> Any:
        return self.icinga.service("client1", service)["last_check_result"]

    def refused(self, *results: Result, seconds: float = 5.0, **where: Any) -> str:
        words = str(undelivered(self.to(**where), results or (result("mounts"),), seconds))
        assert words.isprintable() and "s3cr3t" not in words and "hunter2" not in words
        return words


def result(service: str, output: bytes = PRINTED, **changes: Any) -> Result:
    values = {"taken": time.time(), "ttl": 300.0, **changes}
    return Result("client1", service, reported(output, PERFDATA), source="client1.example.org", **values)


@pytest.fixture(scope="module")
def api(stack: Stack) -> Iterator[Api]:
    authority = Authority(stack)
    services = [
        f"object Service {quoted(name)} "
        f'{{\n\thost_name = "client1"\n\tcheck_command = "dummy"\n\tenable_active_checks = false\n}}\n'
        for name in NAMES
    ]
    users = [
        f'object ApiUser "agent" {{\n\tpassword = "s3cr3t"\n\tpermissions = [ {MAY} ]\n}}\n',
        'object ApiUser "reader" {\n\tpassword = "s3cr3t"\n\tpermissions = [ "objects/query/*" ]\n}\n',
        'object ApiUser "client1" {\n\tclient_cn = "client1.example.org"\n\tpermissions = [ '
        '"actions/process-check-result" ]\n}\n',
    ]
    zones = 'object Endpoint "localhost" { }\nobject Zone "localhost" { endpoints = [ "localhost" ] }\n'
    features = "".join([host("client1"), *services, *users])
    icinga = Icinga(stack, authority, name="localhost", zones=zones, features=features).start()
    own = stack.own(stack.base / "client1")
    authority.enrol("client1.example.org", own)
    yield Api(icinga, authority, own / "client1.example.org.crt", own / "client1.example.org.key")
    icinga.stop()


@pytest.mark.parametrize("service", NAMES[:3])
def test_what_was_printed_is_delivered(api: Api, service: str) -> None:
    """Whatever characters are in the name: it is not part of a filter."""
    api.submit(result(service))
    got = api.result(service)
    assert got["output"] == TEXT
    assert got["performance_data"] == list(PERFDATA)
    assert (got["state"], got["check_source"], got["ttl"], got["active"]) == (2, "client1.example.org", 300, False)
    assert abs(got["execution_end"] - time.time()) < 5


def test_several_results_and_one_of_no_service(api: Api) -> None:
    api.submit(*(result(name, b"MOUNTS OK - before\n") for name in NAMES[:3]))
    words = api.refused(result("mounts"), result("none\nsuch"), result(NAMES[1]))
    assert words == (
        r"1 of 3 results were refused, the first: client1!none\012such: "
        "no such service, or no permission actions/process-check-result for it (404)"
    )
    assert [api.result(name)["output"].partition(" -")[0] for name in NAMES[:3]] == [
        "MOUNTS CRITICAL",
        "MOUNTS CRITICAL",
        "MOUNTS OK",
    ]


def test_a_result_of_a_while_ago_says_so_and_does_not_replace_a_younger_one(api: Api) -> None:
    now = time.time()
    api.submit(result("clock", b"MOUNTS OK - some time ago\n", taken=now - 60))
    assert (api.result("clock")["output"], round(api.result("clock")["execution_end"] - now)) == (
        "MOUNTS OK - some time ago",
        -60,
    )
    api.submit(result("clock", b"MOUNTS OK - now\n"))
    api.submit(result("clock", b"MOUNTS OK - before that\n", taken=now - 90))
    assert api.result("clock")["output"] == "MOUNTS OK - now"


def test_a_clock_that_is_behind_loses_no_result(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server has just checked by itself, as it does where it misses results; ours is younger,
    and looks older."""
    api.icinga.check("client1", "active")
    behind = time.time() - 3600
    monkeypatch.setattr(time, "time", lambda: behind)
    api.submit(result("active"))
    assert api.result("active")["output"] == TEXT


def test_a_client_certificate_will_do(api: Api) -> None:
    api.submit(result("mounts", b"MOUNTS OK - by certificate\n"), settings=api.certificate)
    assert api.result("mounts")["output"] == "MOUNTS OK - by certificate"


def test_who_may_not(api: Api, stack: Stack) -> None:
    credentials = "it refuses the credentials (401): user, password or certificate do not belong to an ApiUser"
    assert api.refused(settings=api.user("agent", "hunter2")) == credentials
    assert api.refused(settings=api.user("nobody", "s3cr3t")) == credentials
    assert api.refused(settings=api.user("reader", "s3cr3t")).endswith(
        "no permission actions/process-check-result for it (404)"
    )
    # Signed by somebody else: as good as none.
    Path(stack.base / "other").mkdir()
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=client1.example.org",
        "-days",
        "2",
    ]
    files = {"-keyout": stack.base / "other/key.pem", "-out": stack.base / "other/certificate.pem"}
    done = stack.run(*words, *(str(word) for pair in files.items() for word in pair), user="root")
    assert done.returncode == 0, done.stderr
    other = Settings(ca=api.ca, certificate=str(files["-out"]), key=str(files["-keyout"]))
    assert api.refused(settings=other) == credentials


def test_whom_we_do_not_trust(api: Api, stack: Stack) -> None:
    log = api.icinga.log.count("user: agent")
    assert api.refused(settings=Settings(user="agent", password="s3cr3t")) == (
        "its certificate is refused: self-signed certificate in certificate chain"
    )
    assert api.refused(address="127.0.0.1").startswith("its certificate is refused: IP address mismatch")
    other = stack.write(stack.base / "other-ca.crt", (stack.base / "client1/client1.example.org.crt").read_text())
    assert api.refused(settings=Settings(user="agent", password="s3cr3t", ca=str(other))).startswith(
        "its certificate is refused: "
    )
    assert api.icinga.log.count("user: agent") == log, "no credentials were sent"
    api.submit(result("mounts"), settings=Settings(user="agent", password="s3cr3t", verify=False))


@pytest.mark.usefixtures("strict_ssl")
def test_its_certificates_will_do_for_python_3_13(api: Api) -> None:
    """Whose default wants key identifiers, which none of ``icinga2 pki`` has."""
    api.submit(result("mounts", b"MOUNTS OK - verified\n"))
    assert api.result("mounts")["output"] == "MOUNTS OK - verified"
    assert api.refused(address="127.0.0.1").startswith("its certificate is refused: IP address mismatch")


def test_a_service_that_takes_no_passive_results_has_refused_them(api: Api) -> None:
    """That is not the server's trouble, whatever status a version has for it: to try again would
    change nothing."""
    name = {"service": f"client1!{NAMES[2]}"}
    api.icinga.call("POST", "/v1/objects/services", {**name, "attrs": {"enable_passive_checks": False}})
    try:
        with pytest.raises(
            Refused, match=r"^1 of 2 results were refused, the first: .*: Passive checks are disabled for object "
        ):
            api.submit(result(NAMES[2]), result("mounts"))
    finally:
        api.icinga.call("POST", "/v1/objects/services", {**name, "attrs": {"enable_passive_checks": True}})


def test_a_server_that_accepts_and_never_answers(api: Api) -> None:
    assert api.icinga.server is not None
    os.killpg(api.icinga.server.pid, signal.SIGSTOP)
    try:
        assert api.refused(seconds=0.7).startswith("no TLS handshake within 0.")
    finally:
        os.killpg(api.icinga.server.pid, signal.SIGCONT)
    api.submit(result("mounts"))


def test_nobody_listens(api: Api) -> None:
    assert api.refused(port=free_port()) == "Connection refused"


def test_what_answers_is_another_server(api: Api) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = os.fork()
        if child == 0:
            try:
                connection, _ = listener.accept()
                connection.sendall(b"220 mail.example.org ESMTP\r\n")
                connection.recv(65536)
            finally:
                os._exit(0)
        assert api.refused(port=listener.getsockname()[1]).startswith("TLS: ")
        os.waitpid(child, 0)
