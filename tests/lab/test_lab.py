"""The guest itself, and the documents that quote the zoo."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conftest import until
from tests.lab import guest, kinds

PROBE = guest.CHECKOUT / "tests" / "lab" / "nothing-of-the-guest-gets-here"


def _processes(share: str) -> list[str]:
    """The command lines of this host's processes that name the directory shared with a guest."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes().decode("utf-8", "replace")
            except OSError:
                continue
            if share in words:
                found.append(words)
    return found


@pytest.mark.guest
def test_status_output_and_files_come_back() -> None:
    script = "echo said; echo complained >&2; printf '\\0\\377' > /run/lab/binary; echo $WORD $(pwd); exit 7"
    result = guest.run(["sh", "-c", script], 60, {"WORD": "two words; $HOME"})
    assert (result.status, result.timed_out) == (7, False)
    assert result.output == f"said\ncomplained\ntwo words; $HOME {guest.CHECKOUT}\n"
    assert result.files["binary"] == b"\0\xff"


@pytest.mark.guest
def test_the_guest_is_its_own_machine_and_leaves_no_trace() -> None:
    script = (
        f"mount -t tmpfs none /mnt && echo dirt > {PROBE} && rm -r /usr/bin/python3* && id -u && cat "
        f"{PROBE} && uname -n"
    )
    result = guest.run(["sh", "-c", script], 60)
    assert (result.status, result.output) == (0, "0\ndirt\nguest\n"), result
    assert not PROBE.exists()
    assert Path("/usr/bin/python3").exists()


@pytest.mark.guest
def test_the_timeout_ends_the_guest_whatever_it_does() -> None:
    # Nothing in it can be killed any more, not even by its own kernel.
    script = "echo begun; trap '' TERM INT HUP; mkdir /mnt/x; while :; do :; done"
    result = guest.run(["sh", "-c", script], 30)  # of which a busy host needs some to boot
    assert (result.status, result.timed_out, result.output) == (None, True, "begun\n")
    share = next(word for word in result.console.split() if word.startswith("lab_share="))[len("lab_share=") :]
    until(lambda: not _processes(share))
    assert not Path(share).exists()


@pytest.mark.guest
def test_the_harness_killed_or_told_to_end_takes_the_guest_along() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
        command = [
            sys.executable,
            "-m",
            "tests.lab.guest",
            "sh",
            "-c",
            "trap '' TERM; touch /run/lab/begun; sleep 1000",
        ]
        harness = subprocess.Popen(command, cwd=guest.CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shares: list[Path] = []

        def begun(shares: list[Path] = shares, pid: int = harness.pid) -> bool:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            words = [word for child in children for word in Path(f"/proc/{child}/cmdline").read_text().split("\0")]
            shares[:] = [Path(word[len("lab_share=") :]) for word in words if word.startswith("lab_share=")]
            return bool(shares) and (shares[0] / "begun").exists()

        until(begun)
        harness.send_signal(number)
        harness.wait()
        until(lambda share=str(shares[0]): not _processes(share))  # type: ignore[misc]
        assert shares[0].exists() == (number == signal.SIGKILL)
        shutil.rmtree(shares[0], ignore_errors=True)


@pytest.mark.guest
def test_what_hangs_in_the_guest_does_not_keep_it(tmp_path: Path) -> None:
    script = """
truncate -s 16M /srv/image; loop=$(losetup -f --show /srv/image); mkfs.ext4 -q $loop; modprobe dm_mod
export DM_DISABLE_UDEV=1; echo 0 32768 linear $loop 0 | dmsetup create x; mkdir -p /mnt/x; mount /dev/mapper/x /mnt/x
echo dirt > /mnt/x/file; dmsetup suspend --nolockfs x; exit 7"""
    result = guest.run(["sh", "-c", script], 40)
    assert (result.status, result.timed_out) == (7, False), result


@pytest.mark.guest
def test_a_checkout_below_a_directory_that_the_guest_covers(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert str(guest.CHECKOUT) != "/"
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        copy = Path(directory) / "a copy"
        for name in ("tests", "check_mounts"):
            shutil.copytree(guest.CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        if guest.LAYER.is_dir():
            (copy / ".venv" / "lab").mkdir(parents=True)
            (copy / ".venv" / "lab" / "root").symlink_to(guest.LAYER)
        command = [sys.executable, "-m", "tests.lab.guest", "sh", "-c", "pwd; ls -d check_mounts; ls /tmp"]
        result = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
        assert (result.returncode, result.stdout.split("\n")[:2]) == (0, [str(copy), "check_mounts"]), result


@pytest.mark.guest
def test_a_guest_that_dies_says_why() -> None:
    result = guest.run(["sh", "-c", "echo c > /proc/sysrq-trigger; sleep 60"], 60)
    assert (result.status, result.timed_out) == (None, False)
    assert "sysrq triggered crash" in result.console


def test_the_documentation_quotes_the_zoo() -> None:
    assert kinds.table() in (guest.CHECKOUT / "docs/states.md").read_text()


def test_the_manual_quotes_the_zoo() -> None:
    assert kinds.manual() in (guest.CHECKOUT / "man" / "check_mounts.8").read_text()
