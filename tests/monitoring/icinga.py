"""A private Icinga 2 below ``stack.base``, with certificates of its own, and its API from outside.

authority = Authority(stack)                     a certification authority; making one takes
                                                 seconds
icinga = Icinga(stack, authority, text)          a master with the files of icinga2/ where they
                                                 belong, and ``text`` beside them; configured,
                                                 not started
icinga.validate()                                ``icinga2 daemon -C``
icinga.start(), .stop()
icinga.call("POST", "/v1/...", {...})            the answer of the API; raises ApiError
icinga.check(host, service)                      have it checked now, wait, give the result
icinga.submit(host, service, state, text, ...)   a passive result
icinga.service(host, service)                    its attributes
seconds(result)                                  how long a check took
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.conftest import ROOT, until
from tests.monitoring.stack import Node, Server, Stack, free_port

SHIPPED = ROOT / "icinga2"
COMMANDS = SHIPPED / "check_mounts-command.conf"
OTHERS = tuple(SHIPPED / f"check_mounts-{name}.conf" for name in ("services", "dependencies", "notifications"))
MASTER = "master.example.org"
_PASSWORD = "only on this host"
_DIRECTORIES = {
    "ConfigDir": "etc",
    "DataDir": "lib",
    "LogDir": "log",
    "CacheDir": "cache",
    "InitRunDir": "run",
    "SpoolDir": "spool",
    "ZonesDir": "etc/zones.d",
}
_ALONE = """
    object Endpoint NodeName { }
    object Zone "master" { endpoints = [ NodeName ] }
    object Zone "global-templates" { global = true }
    """
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class ApiError(Exception):
    """What the API refused: the HTTP status and its words."""

    def __init__(self, status: int, answer: object) -> None:
        super().__init__(f"{status}: {answer}")
        self.status = status


class Authority:
    """Signs the certificates of the nodes of one network."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.directory = stack.own(stack.base / "authority")
        self.run("new-ca")
        self.certificate = self.directory / "ca/ca.crt"

    def run(self, *arguments: Path | str) -> None:
        done = self._stack.run("icinga2", "pki", *arguments, "-D", f"DataDir={self.directory}")
        assert done.returncode == 0, done.stdout + done.stderr

    def enrol(self, name: str, directory: Path) -> None:
        """Key and certificates, where the ApiListener of this node expects them."""
        self._stack.own(directory)
        key, request, certificate = (directory / f"{name}.{ending}" for ending in ("key", "csr", "crt"))
        self.run("new-cert", "--cn", name, "--key", key, "--csr", request)
        self.run("sign-csr", "--csr", request, "--cert", certificate)
        shutil.copy(self.certificate, directory / "ca.crt")


class _Connection(http.client.HTTPSConnection):
    """A connection that is made in the network namespace of a node."""

    def __init__(self, name: str, address: tuple[str, int], context: ssl.SSLContext, node: Node | None) -> None:
        super().__init__(name, timeout=20, context=context)
        self._tls, self._address, self._node, self._name = context, address, node, name

    def connect(self) -> None:
        plain = _socket_in(self._node)
        plain.settimeout(20)
        plain.connect(self._address)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self._name)


def _socket_in(node: Node | None) -> socket.socket:
    """A socket belongs to the namespace that its maker was in, wherever it is used."""
    if node is None:
        return socket.socket()
    own, other = (
        os.open(path, os.O_RDONLY) for path in ("/proc/thread-self/ns/net", f"/proc/{node.process.pid}/ns/net")
    )
    try:
        assert _libc.setns(other, _CLONE_NEWNET) == 0
        try:
            return socket.socket()
        finally:
            assert _libc.setns(own, _CLONE_NEWNET) == 0
    finally:
        os.close(own)
        os.close(other)


def quoted(value: object) -> str:
    """A value in the configuration language of Icinga 2. Strings, numbers, booleans, lists and
    dictionaries."""
    if isinstance(value, Mapping):
        return "{ " + "; ".join(f"{quoted(key)} = {quoted(each)}" for key, each in value.items()) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[ " + ", ".join(map(quoted, value)) + " ]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}
        return '"' + "".join(escapes.get(character, character) for character in value) + '"'
    return str(value)


def host(name: str, attributes: str = "", /, **variables: object) -> str:
    """The configuration of a host that is always UP."""
    lines = [f"vars.{key} = {quoted(value)}" for key, value in variables.items()]
    body = "\n\t".join(['check_command = "dummy"', attributes, *lines])
    return f"object Host {quoted(name)} {{\n\t{body}\n}}\n"


class Icinga:
    """One node; without ``text`` an agent, which gets its configuration from its master. ``node``
    is the network namespace that it runs in, ``zones`` its zones.conf, ``features`` more objects
    that belong to a node."""

    def __init__(
        self,
        stack: Stack,
        authority: Authority,
        text: str | None = None,
        *,
        name: str = MASTER,
        zones: str = "",
        node: Node | None = None,
        features: str = "",
        env: dict[str, str] | None = None,
    ) -> None:
        self._stack = stack
        self.name = name
        self.node = node
        self.base = stack.own(stack.base / name)
        self._authority = authority
        self._env = env
        self.address = ("127.0.0.1", free_port()) if node is None else (node.address, 5665)
        self.server: Server | None = None
        for directory in _DIRECTORIES.values():
            stack.own(self.base / directory)
        authority.enrol(name, self.base / "lib/certs")
        self._write("icinga2.conf", self._main() + features)
        self._write("zones.conf", zones or _ALONE)
        if text is not None:
            self._write(f"zones.d/global-templates/{COMMANDS.name}", COMMANDS.read_text())
            for path in OTHERS:
                self._write(f"zones.d/master/{path.name}", path.read_text())
            self._write("zones.d/master/hosts.conf", text)

    def _write(self, name: str, text: str) -> None:
        self._stack.write(self.base / "etc" / name, text)

    def _main(self) -> str:
        address, port = self.address
        return f"""
            include <itl>
            include <plugins>
            const PluginDir = "/usr/lib/nagios/plugins"
            const NodeName = {quoted(self.name)}
            const ZoneName = NodeName
            include "zones.conf"
            object CheckerComponent "checker" {{ }}
            object NotificationComponent "notification" {{ }}
            object ApiListener "api" {{
                bind_host = {quoted(address)}
                bind_port = {port}
                accept_commands = true
                accept_config = true
            }}
            object ApiUser "root" {{
                password = {quoted(_PASSWORD)}
                permissions = [ "*" ]
            }}
            """

    def _words(self, *words: str) -> list[Path | str]:
        directories = [
            word for name, directory in _DIRECTORIES.items() for word in ("-D", f"{name}={self.base / directory}")
        ]
        return ["icinga2", "daemon", *words, "-c", self.base / "etc/icinga2.conf", *directories]

    def validate(self) -> subprocess.CompletedProcess[str]:
        return self._stack.run(*self._words("-C"))

    def start(self) -> Icinga:
        enter = () if self.node is None else self.node.enter
        self.server = self._stack.server(*self._words(), name=self.name, env=self._env, enter=enter)
        self.server.until(self._answers, 30)
        return self

    def _answers(self) -> bool:
        try:
            self.call("GET", "/v1/status/IcingaApplication")
        except (OSError, http.client.HTTPException):
            return False
        return True

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop()

    @property
    def log(self) -> str:
        assert self.server is not None
        return self.server.log

    # -- API

    def call(self, method: str, path: str, body: object = None) -> Any:
        """``results`` of the answer. Raises ApiError, OSError."""
        context = ssl.create_default_context(cafile=str(self._authority.certificate))
        context.verify_flags &= (
            ~ssl.VERIFY_X509_STRICT
        )  # set by Python 3.13, and Icinga's certificates have no key identifiers
        connection = _Connection(self.name, self.address, context, self.node)
        headers = {"Accept": "application/json", "X-HTTP-Method-Override": method, "Authorization": f"Basic {_basic()}"}
        try:
            # As POST whatever it is: so names of objects need not be put into an URL.
            connection.request("POST", path, json.dumps(body or {}), headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise ApiError(response.status, answer)
        return answer["results"]

    def attributes(self, kind: str, name: str) -> Any:
        """Attributes of an object; kind is as in the path, "checkcommands"."""
        return self.call("GET", f"/v1/objects/{kind}", {kind[:-1]: name})[0]["attrs"]

    def service(self, host_name: str, service: str) -> Any:
        return self.attributes("services", f"{host_name}!{service}")

    def services(self) -> dict[str, Any]:
        return {each["name"]: each["attrs"] for each in self.call("GET", "/v1/objects/services")}

    def check(self, host_name: str, service: str, seconds: float = 60.0) -> Any:
        """Have the service checked now; give its last_check_result."""
        before = time.time()
        name = {"type": "Service", "service": f"{host_name}!{service}"}
        self.call("POST", "/v1/actions/reschedule-check", {**name, "force": True})
        return self.result_since(before, host_name, service, seconds)

    def result_since(self, before: float, host_name: str, service: str, seconds: float = 60.0) -> Any:
        results: list[Any] = []

        def is_there() -> bool:
            results[:] = [self.service(host_name, service)["last_check_result"]]
            return results[0] is not None and float(results[0]["execution_end"]) >= before

        self.until(is_there, seconds)
        return results[0]

    def submit(
        self, host_name: str, service: str, state: int, text: str, perfdata: Sequence[str] = (), **more: object
    ) -> None:
        """A passive result, as check_mounts --submit sends it."""
        given = {
            "exit_status": state,
            "plugin_output": text,
            "performance_data": list(perfdata),
            "check_source": host_name,
        }
        self.call(
            "POST",
            "/v1/actions/process-check-result",
            {"type": "Service", "service": f"{host_name}!{service}", **given, **more},
        )

    def until(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        if self.server is None:
            until(condition, seconds)
        else:
            self.server.until(condition, seconds)


def _basic() -> str:
    import base64

    return base64.b64encode(f"root:{_PASSWORD}".encode()).decode()


def seconds(result: Any) -> float:
    return float(result["execution_end"] - result["execution_start"])


def messages(log: str, *levels: str) -> list[str]:
    """The lines of a log of these levels, "warning" or "critical"."""
    return [line for line in log.splitlines() if any(f" {level}/" in line for level in levels)]
