"""What systemd is told, byte for byte, over real sockets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from check_mounts.system.notify import Notifier
from tests.conftest import PYTHON, ROOT


@pytest.fixture(autouse=True)
def guard() -> Iterator[None]:
    """Who blocks for ever fails."""

    def too_long(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=["path", "abstract"])
def systemd(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, socket.socket]]:
    """What NOTIFY_SOCKET says, and the socket itself."""
    monkeypatch.chdir(tmp_path)  # the whole path may be longer than an address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(10)
        if request.param == "path":
            link = Path(f"/tmp/check_mounts-notify-{os.getpid()}")
            listening.bind("notify")
            link.symlink_to(tmp_path / "notify")
            yield str(link), listening
            link.unlink()
        else:
            name = f"check_mounts/notify/{os.getpid()}"
            listening.bind(f"\0{name}")
            yield f"@{name}", listening


def test_each_message(systemd: tuple[str, socket.socket]) -> None:
    address, listening = systemd
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.ready("42 mounts, 1 timed out: /home")
    assert listening.recv(8192) == b"READY=1\nSTATUS=42 mounts, 1 timed out: /home"
    notifier.status("checking")
    assert listening.recv(8192) == b"STATUS=checking"
    notifier.stopping("stopped by SIGTERM")
    assert listening.recv(8192) == b"STOPPING=1\nSTATUS=stopped by SIGTERM"
    notifier.watchdog()
    assert listening.recv(8192) == b"WATCHDOG=1"
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    head, _, number = listening.recv(8192).partition(b"\nMONOTONIC_USEC=")
    assert head == b"RELOADING=1"
    assert before <= int(number) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("a\nREADY=1\rb\0c", rb"a\012READY=1\015b\000c"),
        ("turned \u202e round, a line\u2028more", rb"turned \342\200\256 round, a line\342\200\250more"),
        ("bytes: \udcff, none: \ud800", rb"bytes: \377, none: \355\240\200"),
        ("bytes: \udcff", rb"bytes: \377"),
        ("für /höme", "für /höme".encode()),
        ("", b""),
    ],
)
@pytest.mark.parametrize("systemd", ["abstract"], indirect=True)
def test_a_status_is_one_assignment(systemd: tuple[str, socket.socket], status: str, told: bytes) -> None:
    address, listening = systemd
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.status(status)
    assert listening.recv(8192) == b"STATUS=" + told
    notifier.ready(status)
    assert listening.recv(8192) == b"READY=1\nSTATUS=" + told
    notifier.stopping(status)
    assert listening.recv(8192) == b"STOPPING=1\nSTATUS=" + told


@pytest.mark.parametrize("char", ["x", "\U0001f4be", "\n"])
@pytest.mark.parametrize("systemd", ["abstract"], indirect=True)
def test_a_long_status_is_clipped_to_what_systemd_takes(systemd: tuple[str, socket.socket], char: str) -> None:
    address, listening = systemd
    Notifier({"NOTIFY_SOCKET": address}).stopping(char * 100000)
    message = listening.recv(1 << 20)
    assert 1000 <= len(message) < 4096
    assert b"..." in message
    message.decode("utf-8")


def test_a_full_queue_does_not_block(systemd: tuple[str, socket.socket]) -> None:
    address, listening = systemd
    notifier = Notifier({"NOTIFY_SOCKET": address})
    for number in range(20000):
        notifier.status(str(number))
    assert listening.recv(8192) == b"STATUS=0"
    notifier.status("again")
    listening.setblocking(False)
    messages = []
    with pytest.raises(BlockingIOError):
        while True:
            messages.append(listening.recv(8192))
    assert messages[-1] == b"STATUS=again"
    assert len(messages) < 20000


@pytest.mark.parametrize("systemd", ["path"], indirect=True)
def test_systemd_may_be_gone_and_come_back(systemd: tuple[str, socket.socket], tmp_path: Path) -> None:
    address, listening = systemd
    notifier = Notifier({"NOTIFY_SOCKET": address})
    listening.close()
    notifier.status("nobody reads")
    (tmp_path / "notify").unlink()
    notifier.status("nobody is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as again:
        again.settimeout(10)
        again.bind("notify")
        notifier.status("here we are")
        assert again.recv(8192) == b"STATUS=here we are"


def _open() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}


@pytest.mark.parametrize(
    "address",
    [None, "", "@", "/", "relative", "vsock:2:1", "/no/such", "/dev/null", "@" + "x" * 200, "/a\0b", "/\ud800"],
)
def test_a_wrong_address_is_no_address(address: Optional[str]) -> None:
    environment = {} if address is None else {"NOTIFY_SOCKET": address}
    notifier = Notifier({**environment})
    notifier.ready("ready")
    notifier.status("status")
    notifier.reloading()
    notifier.stopping("stopping")
    notifier.watchdog()


@pytest.mark.parametrize("address", [None, "", "relative"])
def test_without_an_address_nothing_is_opened_or_wanted(address: Optional[str]) -> None:
    environment = {"WATCHDOG_USEC": "1000000", **({} if address is None else {"NOTIFY_SOCKET": address})}
    before = _open()
    notifier = Notifier(environment)
    assert _open() == before
    assert notifier.watchdog_interval is None


def test_the_socket_is_not_inherited(systemd: tuple[str, socket.socket]) -> None:
    before = _open()
    notifier = Notifier({"NOTIFY_SOCKET": systemd[0]})
    (fd,) = _open() - before
    assert not os.get_inheritable(fd)
    notifier.watchdog()


@pytest.mark.parametrize(
    ("microseconds", "pid", "interval"),
    [
        ("30000000", None, 15.0),
        ("1", None, 0.0000005),
        ("30000000", "ours", 15.0),
        ("30000000", "1", None),
        ("30000000", "", None),
        ("30000000", "x", None),
        ("30000000", "²", None),
        (None, "ours", None),
        ("", None, None),
        ("0", None, None),
        ("-1", None, None),
        ("1e6", None, None),
        (" 1", None, None),
        ("٣", None, None),
        ("18446744073709551615", None, None),
        ("9" * 5000, None, None),
    ],
)
def test_the_watchdog(microseconds: Optional[str], pid: Optional[str], interval: Optional[float]) -> None:
    environment = {"NOTIFY_SOCKET": "@check_mounts/none"}
    if microseconds is not None:
        environment["WATCHDOG_USEC"] = microseconds
    if pid is not None:
        environment["WATCHDOG_PID"] = str(os.getpid()) if pid == "ours" else pid
    assert Notifier(environment).watchdog_interval == interval


def test_nothing_of_the_package_but_text_is_loaded() -> None:
    code = (
        "import check_mounts.system.notify, sys; print(*sorted(name for name in sys.modules if "
        "name.startswith('check_mounts.')))"
    )
    result = subprocess.run(
        [PYTHON, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT)}
    )
    modules = ["clocks", "system", "system.notify", "text", "typed"]
    assert result.stdout.split() == [f"check_mounts.{name}" for name in modules]
