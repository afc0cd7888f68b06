"""A real Zabbix over the files of the stack: database, server, API and both agents, all of them as
user nagios.

    zabbix = Zabbix(stack)        started, with an empty database: no template, no host
    zabbix.call(method, params)   a call of the API, as its administrator; Refused is what it said
    zabbix.agent(...)             the address of an agent that reads these lines of configuration
    zabbix.get(port, key)         what zabbix_get prints
    zabbix.until(condition)       wait; if that fails, show the servers' logs
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.conftest import until
from tests.monitoring.stack import Server, Stack, free_port, listens

_SQL = Path("/usr/share/zabbix-server-pgsql")
# What the server needs to start, and its API to let somebody in. The rest is 350 templates.
_NEEDED = ("role", "role_rule", "usrgrp", "users", "users_groups", "hstgrp", "config", "regexps", "expressions")
_EXTENSIONS = (
    "bcmath", "ctype", "dom", "fileinfo", "gd", "gettext", "mbstring", "pgsql", "simplexml", "sockets", "tokenizer",
    "xml", "xmlreader", "xmlwriter",
)  # fmt: skip
_FRONTEND = """<?php
$DB['TYPE'] = 'POSTGRESQL'; $DB['SERVER'] = '{socket}'; $DB['PORT'] = '{database}'; $DB['DATABASE'] = 'zabbix';
$DB['USER'] = 'nagios'; $DB['PASSWORD'] = ''; $DB['SCHEMA'] = ''; $DB['ENCRYPTION'] = false;
$DB['KEY_FILE'] = $DB['CERT_FILE'] = $DB['CA_FILE'] = ''; $DB['VERIFY_HOST'] = false; $DB['CIPHER_LIST'] = '';
$DB['VAULT_URL'] = $DB['VAULT_DB_PATH'] = $DB['VAULT_TOKEN'] = ''; $DB['DOUBLE_IEEE754'] = true;
$ZBX_SERVER = '127.0.0.1'; $ZBX_SERVER_PORT = '{server}'; $ZBX_SERVER_NAME = ''; $IMAGE_FORMAT_DEFAULT = 'PNG';
"""
# One process of each kind that is needed, and all of them quick.
_SERVER = """
DBHost={socket}
DBPort={database}
DBName=zabbix
DBUser=nagios
ListenIP=127.0.0.1
ListenPort={server}
LogType=console
PidFile={base}/zabbix_server.pid
SocketDir={base}
CacheUpdateFrequency=1
StartPollers=2
StartPollersUnreachable=1
StartTrappers=1
StartPingers=0
StartDiscoverers=0
StartHTTPPollers=0
StartDBSyncers=1
StartPreprocessors=1
StartLLDProcessors=1
StartAlerters=1
StartEscalators=1
StartTimers=1
StartHistoryPollers=1
Timeout=10
"""
_AGENT = """
Server=127.0.0.1
ListenIP=127.0.0.1
ListenPort={port}
Hostname=test
LogType=console
PidFile={base}/agent.{port}.pid
"""
# Without its plugins, agent 2 has no such setting.
_ONLY_2 = "ControlSocket={base}/agent.{port}.sock\n"


class Refused(Exception):
    """The API's error."""


class Zabbix:
    """See the module's docstring."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.base = stack.own(stack.base / "zabbix")
        self.ports = {name: free_port() for name in ("database", "server", "frontend")}
        self._token: str | None = None
        self.servers: list[Server] = []
        self._start_database()
        self._start_server()
        self._start_frontend()
        self._token = self.call("user.login", {"user": "Admin", "password": "zabbix"})

    def _filled(self, text: str, **more: object) -> str:
        return text.format(base=self.base, socket=self.base, **self.ports, **more)

    def _start_database(self) -> None:
        (programs,) = Path("/usr/lib/postgresql").glob("*/bin")
        data = self.base / "data"
        initdb = self._stack.run(programs / "initdb", "-D", data, "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        assert initdb.returncode == 0, initdb.stderr
        settings = {"fsync": "off", "full_page_writes": "off", "listen_addresses": "", "jit": "off"}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        port = str(self.ports["database"])
        database = self._start(programs / "postgres", "-D", data, "-k", self.base, "-p", port, *words)
        sql = [str(programs / "psql"), "-q", "-h", str(self.base), "-p", port, "-v", "ON_ERROR_STOP=1"]
        database.until(lambda: self._stack.run(*sql, "postgres", "-c", "select 1").returncode == 0)
        self._stack.run(*sql, "postgres", "-c", "create database zabbix")
        done = self._stack.run(*sql, "-1", "zabbix", stdin="".join(_statements()))
        assert done.returncode == 0, done.stderr

    def _start_server(self) -> None:
        path = self._stack.write(self.base / "zabbix_server.conf", self._filled(_SERVER))
        self._start("/usr/sbin/zabbix_server", "-f", "-c", path).until_port(self.ports["server"])

    def _start_frontend(self) -> None:
        self._stack.write("/etc/zabbix/zabbix.conf.php", self._filled(_FRONTEND))
        link = Path("/usr/share/zabbix/conf/zabbix.conf.php")
        if not link.exists():
            os.symlink("/etc/zabbix/zabbix.conf.php", link)
        (php,) = (path for path in Path("/usr/bin").glob("php*") if re.fullmatch(r"php\d[.\d]*", path.name))
        words = [word for name in _EXTENSIONS for word in ("-d", f"extension={name}")]
        address = f"127.0.0.1:{self.ports['frontend']}"
        place = ["-S", address, "-t", "/usr/share/zabbix"]
        self._start(php, "-n", *words, "-d", "memory_limit=512M", *place).until_port(self.ports["frontend"])

    def _start(self, *command: Path | str) -> Server:
        server = self._stack.server(*command)
        self.servers.append(server)
        return server

    def call(self, method: str, params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params, "auth": self._token}
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["frontend"], timeout=60)
        headers = {"Content-Type": "application/json-rpc"}
        connection.request("POST", "/api_jsonrpc.php", json.dumps(body), headers)
        text = connection.getresponse().read()
        connection.close()
        try:
            answer = json.loads(text)
        except ValueError:
            raise AssertionError((text, self.servers[-1].log)) from None
        if "error" in answer:
            raise Refused(f"{answer['error']['message']} {answer['error']['data']}")
        return answer["result"]

    def agent(self, program: str, *lines: str) -> int:
        port = free_port()
        text = self._filled(_AGENT + (_ONLY_2 if program.endswith("2") else ""), port=port)
        path = self._stack.write(self.base / f"agent.{port}.conf", text + "\n".join([*lines, ""]))
        self._start(program, "-f", "-c", path).until_port(port)
        return port

    def get(self, port: int, key: str) -> str:
        return self._stack.run("/usr/bin/zabbix_get", "-s", "127.0.0.1", "-p", str(port), "-k", key).stdout

    def until(self, condition: Callable[[], object], seconds: float = 90.0) -> None:
        try:
            until(condition, seconds)
        except AssertionError:
            logs = "\n".join(f"--- {server.name}\n{server.log[-4000:]}" for server in self.servers)
            raise AssertionError(f"the event did not come:\n{logs}") from None


def _statements() -> Iterator[str]:
    with gzip.open(_SQL / "schema.sql.gz", "rt") as file:
        yield file.read()
    yield "\n"
    wanted = re.compile(rf"INSERT INTO (?:{'|'.join(_NEEDED)}) .*\);\n")
    with gzip.open(_SQL / "data.sql.gz", "rt") as file:
        yield from filter(wanted.fullmatch, file)


__all__ = ["Refused", "Zabbix", "listens"]
