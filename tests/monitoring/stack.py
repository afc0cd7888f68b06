"""The real monitoring software of ``make .venv/monitoring/root`` as if it were installed here,
though nothing of it is. Two fixtures, one of each for each module:

    stack       lays the unpacked packages over /usr, /etc and /var, in the private mount namespace
                that all tests run in, and an empty /run over that of this host. All four can be
                written to: that goes to memory, and is gone at the end. There is a user nagios, and
                what belongs to it in Debian does. So programs and files are where they belong
                (/usr/sbin/nrpe, /usr/lib/nagios/plugins, /etc/icinga2, /var/lib/nagios4/rw, ...),
                mounts that a test makes are seen by all of them, and nobody else on this host sees
                anything.
    installed   the program by ``make install``: /usr/local/bin/check_mounts, its library included

What they offer:

    stack.base                      a directory for configurations and the like (0755, root's), in
                                    memory
    stack.write(path, text, ...)    a file, with the directories above it, of this mode and owner
    stack.own(path)                 a directory of user nagios, 0755
    stack.run(program, ...)         run it as user nagios, or as who is named; give the
                                    CompletedProcess, with text
    stack.server(program, ...)      start a server as an init system would; it is a context manager,
                                    and ended with the stack at the latest
    server.until(condition)         wait; if that is in vain, or the server ends, fail with its log
    server.until_port(port)         the same, for somebody who listens on 127.0.0.1
    server.log, .pid                what it printed; its pid
    server.stop()                   end it and whatever it has started, give its exit status
    stack.daemon(...)               the program's own daemon as root, its result where
                                    ``check_mounts --cached`` looks for it
    stack.network()                 two network namespaces with a link between them: .left and
                                    .right, each with .address and .enter, the latter for ``enter=``
                                    of run, server and daemon; .cut() and .mend() the link
    free_port()                     a port on 127.0.0.1 that nobody listens on
    ROOT_OF_PACKAGES                where the packages are unpacked, for who needs no stack
    SEND_NSCA_NG                    the send_nsca of nsca-ng

Servers' logs are shown when a test fails. Needs root: tests carry
``pytestmark = [pytest.mark.root, pytest.mark.monitoring]``.
"""

from __future__ import annotations

import contextlib
import ctypes
import grp
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import pytest

from tests.conftest import PYTHON, ROOT, until

PACKAGES = ROOT / ".venv/monitoring"
ROOT_OF_PACKAGES = PACKAGES / "root"
SEND_NSCA_NG = PACKAGES / "nsca-ng/root/usr/sbin/send_nsca"
PROGRAM = Path("/usr/local/bin/check_mounts")
USER = "nagios"

_PLACE = Path("/run/check_mounts-tests")
_LAID_OVER = ("usr", "etc", "var")
# Where a container has mounts of its own below /etc, the layer would hide them.
_KEPT = ("hosts", "hostname", "resolv.conf")
# What the packages' maintainer scripts and tmpfiles.d would give to nagios.
_OWNED = (
    "/var/lib/nagios", "/var/lib/nagios4", "/var/log/nagios4", "/var/cache/nagios4", "/run/nagios", "/run/nagios4",
    "/var/lib/icinga2", "/var/log/icinga2", "/var/cache/icinga2", "/var/spool/icinga2", "/run/icinga2",
)  # fmt: skip
# As systemd sets it for a service; no LANG, so that output has to do without.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_IP = "/usr/sbin/ip"
_MS_BIND, _MNT_DETACH = 4096, 2
_libc = ctypes.CDLL(None, use_errno=True)


def free_port() -> int:
    """From a range of each worker of pytest-xdist, below the kernel's own for connections: no other
    process takes it before the server does."""
    first = 20000 + 1000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    for port in random.sample(range(first, first + 1000), 1000):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def listens(port: int, address: str = "127.0.0.1") -> bool:
    with socket.socket() as client:
        return client.connect_ex((address, port)) == 0


class Server:
    """A program under supervisor.py, which also ends what it leaves behind."""

    def __init__(
        self,
        name: str,
        log: Path,
        identity: tuple[int, int],
        command: Sequence[str],
        env: dict[str, str],
        enter: Sequence[str],
    ) -> None:
        self.name = name
        self.log_path = log
        words = [
            *enter,
            PYTHON,
            "-IS",
            str(ROOT / "tests/monitoring/supervisor.py"),
            str(log),
            *map(str, identity),
            *command,
        ]
        self._supervisor = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=env, cwd="/"
        )
        assert self._supervisor.stdout is not None
        first = self._supervisor.stdout.readline()
        assert first, f"{name} was not started"
        self.pid = int(first)

    @property
    def log(self) -> str:
        return self.log_path.read_text("utf-8", "replace") if self.log_path.exists() else ""

    def runs(self) -> bool:
        return self._supervisor.poll() is None

    def until(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        fulfilled = False

        def is_over() -> bool:
            nonlocal fulfilled
            fulfilled = bool(condition())
            return fulfilled or not self.runs()

        try:
            until(is_over, seconds)
        except AssertionError:
            raise AssertionError(f"the event did not come; {self.name} says:\n{self.log}") from None
        assert fulfilled, f"{self.name} has ended:\n{self.log}"

    def until_port(self, port: int, seconds: float = 60.0) -> None:
        self.until(lambda: listens(port), seconds)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def stop(self) -> int:
        """SIGTERM for the server, SIGKILL for what is left after that, or after 10 s."""
        if self.runs():
            self._supervisor.send_signal(signal.SIGTERM)
        status = self._supervisor.wait(timeout=30)
        if self._supervisor.stdout is not None:
            self._supervisor.stdout.close()
        return status

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Node:
    """One end of a network: a process that keeps its namespace."""

    def __init__(self, address: str) -> None:
        self.address = address
        words = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"]
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL)
        namespace = f"/proc/{self.process.pid}/ns/net"
        own = os.readlink("/proc/self/ns/net")
        until(lambda: os.readlink(namespace) != own)
        self.enter = ("nsenter", f"--net={namespace}", "--")

    def ip(self, *arguments: str) -> None:
        subprocess.run([*self.enter, _IP, *arguments], check=True)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class Network:
    """Two nodes, each of which reaches the other and itself, and nothing else."""

    def __init__(self) -> None:
        self.left, self.right = Node("198.51.100.1"), Node("198.51.100.2")  # TEST-NET-2
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        left, right = str(self.left.process.pid), str(self.right.process.pid)
        veth = ["name", "cable", "netns", left, "type", "veth", "peer", "name", "cable", "netns", right]
        subprocess.run([_IP, "link", "add", *veth], check=True)
        for node in (self.left, self.right):
            node.ip("address", "add", f"{node.address}/24", "dev", "cable")
            node.ip("link", "set", "lo", "up")
            node.ip("link", "set", "cable", "up")

    def cut(self) -> None:
        """From now on what the left sends is lost without a word to anybody."""
        self.left.ip("link", "set", "cable", "arp", "off")

    def mend(self) -> None:
        self.left.ip("link", "set", "cable", "arp", "on")

    def close(self) -> None:
        self.left.close()
        self.right.close()


class Stack:
    """See the module's docstring."""

    def __init__(self) -> None:
        if not (ROOT_OF_PACKAGES / "usr/sbin/nrpe").exists():
            pytest.fail("the real servers are not here: make .venv/monitoring/root", pytrace=False)
        self._servers: list[Server] = []
        self._at_the_end = contextlib.ExitStack()
        self.base = _PLACE / "base"
        try:
            self._lay_over()
            self.uid, self.gid = self._add_user()
            self._configure()
        except BaseException:
            self.close()
            raise

    # -- as if installed

    def _lay_over(self) -> None:
        kept = {name: Path("/etc", name).read_bytes() for name in _KEPT if Path("/etc", name).exists()}
        self._mount("tmpfs", "/run", "tmpfs", options="mode=0755")
        # A path of our own: colons and commas in that of the checkout would be syntax.
        packages = _PLACE / "packages"
        packages.mkdir(parents=True)
        self.base.mkdir()
        self._mount(str(ROOT_OF_PACKAGES), str(packages), flags=_MS_BIND)
        for name in _LAID_OVER:
            upper, work = _PLACE / f"{name}.upper", _PLACE / f"{name}.work"
            upper.mkdir()
            work.mkdir()
            self._mount(
                "overlay", f"/{name}", "overlay", f"lowerdir={packages}/{name}:/{name},upperdir={upper},workdir={work}"
            )
        for name, data in kept.items():
            path = Path("/etc", name)
            path.unlink(missing_ok=True)
            path.write_bytes(data)

    def _mount(self, source: str, target: str, kind: str = "none", options: str = "", flags: int = 0) -> None:
        result = _libc.mount(os.fsencode(source), os.fsencode(target), kind.encode(), flags, os.fsencode(options))
        if result != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)
        self._at_the_end.callback(_libc.umount2, os.fsencode(target), _MNT_DETACH)

    @staticmethod
    def _add_user() -> tuple[int, int]:
        """The user of the packages, with numbers that nobody has on this host. No shadow entry:
        ``*`` in its place suits PAM."""
        try:
            entry = pwd.getpwnam(USER)
            return entry.pw_uid, entry.pw_gid
        except KeyError:
            pass
        taken = {entry.pw_uid for entry in pwd.getpwall()} | {entry.gr_gid for entry in grp.getgrall()}
        number = max(set(range(100, 1000)) - taken)
        with open("/etc/group", "a") as file:
            file.write(f"{USER}:x:{number}:\n")
        with open("/etc/passwd", "a") as file:
            file.write(f"{USER}:*:{number}:{number}::/var/lib/nagios:/usr/sbin/nologin\n")
        return number, number

    def _configure(self) -> None:
        """What the packages' maintainer scripts do besides; and what this host has of ours is not
        to decide a test."""
        Path("/etc/check_mounts.conf").unlink(missing_ok=True)
        for template in Path("/usr/share/monitoring-plugins").glob("templates-*/*.cfg"):
            shutil.copy(template, "/etc/nagios-plugins/config")
        for name in _OWNED:
            self.own(name)
            for directory, _, files in os.walk(name):
                for entry in (directory, *(os.path.join(directory, file) for file in files)):
                    os.chown(entry, self.uid, self.gid, follow_symlinks=False)

    def install(self) -> Path:
        """The program by ``make install``, and the library it needs where its interpreter finds
        it."""
        words = ["make", "-s", "-C", str(ROOT), "install", f"PYTHON={PYTHON}", "PREFIX=/usr/local", "DESTDIR="]
        subprocess.run(words, check=True, capture_output=True)
        if subprocess.run([PYTHON, "-I", "-c", "import nagiosplugin"], check=False, capture_output=True).returncode:
            import nagiosplugin

            where = "import site; print(site.getsitepackages()[0])"
            site = subprocess.run(
                [PYTHON, "-I", "-c", where], check=True, capture_output=True, text=True
            ).stdout.strip()
            self._copy(Path(nagiosplugin.__file__).parent, Path(site, "nagiosplugin"))
        return PROGRAM

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "tests"))
        for item in (target, *target.rglob("*")):
            item.chmod(0o755 if item.is_dir() else 0o644)

    # -- files

    def write(self, path: Path | str, text: str, mode: int = 0o644, owner: str = "root") -> Path:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8", "surrogateescape")
        path.chmod(mode)
        uid, gid = self._identity(owner)
        os.chown(path, uid, gid)
        return path

    def own(self, path: Path | str) -> Path:
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, self.uid, self.gid)
        return path

    # -- programs

    @staticmethod
    def _identity(user: str) -> tuple[int, int]:
        entry = pwd.getpwnam(user)
        return entry.pw_uid, entry.pw_gid

    @staticmethod
    def _environment(user: str, env: dict[str, str] | None) -> dict[str, str]:
        entry = pwd.getpwnam(user)
        given = {"PATH": _PATH, "HOME": entry.pw_dir, "USER": user, "LOGNAME": user, "SHELL": entry.pw_shell}
        return {**given, **(env or {})}

    def run(
        self,
        *command: Path | str,
        user: str = USER,
        env: dict[str, str] | None = None,
        enter: Sequence[str] = (),
        stdin: str = "",
        timeout: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        uid, gid = self._identity(user)
        words = [*enter, "setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *map(str, command)]
        return subprocess.run(
            words, env=self._environment(user, env), cwd="/", input=stdin, capture_output=True, text=True,
            encoding="utf-8", errors="surrogateescape", timeout=timeout, check=False,
        )  # fmt: skip

    def server(
        self,
        *command: Path | str,
        user: str = USER,
        name: str = "",
        env: dict[str, str] | None = None,
        enter: Sequence[str] = (),
    ) -> Server:
        name = name or Path(command[0]).name
        log = self.base / f"{name}.{len(self._servers)}.log"
        server = Server(name, log, self._identity(user), list(map(str, command)), self._environment(user, env), enter)
        self._servers.append(server)
        self._at_the_end.callback(server.stop)
        return server

    def daemon(self, *arguments: str, interval: float = 1.0, timeout: float = 0.5, enter: Sequence[str] = ()) -> Server:
        """Give it after its first result."""
        cache = Path("/run/check_mounts/status")
        cache.unlink(missing_ok=True)
        words = ["--daemon", "--foreground", "--interval", str(interval), "-t", str(timeout), *arguments]
        server = self.server(PROGRAM, *words, user="root", enter=enter)
        server.until(cache.exists)
        return server

    def network(self) -> Network:
        network = Network()
        self._at_the_end.callback(network.close)
        return network

    def logs(self) -> list[tuple[str, str]]:
        """What the servers that run have printed."""
        return [(server.name, server.log) for server in self._servers if server.runs()]

    def close(self) -> None:
        self._at_the_end.close()


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    result = Stack()
    yield result
    result.close()


@pytest.fixture(scope="module")
def installed(stack: Stack) -> Path:
    return stack.install()
