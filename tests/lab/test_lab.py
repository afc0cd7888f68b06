"""The guest itself, and the documents that quote the zoo."""

from __future__ import annotations

import os
from pathlib import Path

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


def test_status_output_and_files_come_back() -> None:
    script = "echo said; echo complained >&2; printf '\\0\\377' > /run/lab/binary; echo $WORD $(pwd); exit 7"
    result = guest.run(["sh", "-c", script], 60, {"WORD": "two words; $HOME"})
    assert (result.status, result.timed_out) == (7, False)
    assert result.output == f"said\ncomplained\ntwo words; $HOME {guest.CHECKOUT}\n"
    assert result.files["binary"] == b"\0\xff"


def test_the_guest_is_its_own_machine_and_leaves_no_trace() -> None:
    script = f"mount -t tmpfs none /mnt && echo dirt > {PROBE} && rm -r /usr/bin/python3* && id -u && cat {PROBE} && uname -n"
    result = guest.run(["sh", "-c", script], 60)
    assert (result.status, result.output) == (0, "0\ndirt\nguest\n"), result
    assert not PROBE.exists()
    assert Path("/usr/bin/python3").exists()


def test_the_timeout_ends_the_guest_whatever_it_does() -> None:
    # Nothing in it can be killed any more, not even by its own kernel.
    script = "echo begun; trap '' TERM INT HUP; mkdir /mnt/x; while :; do :; done"
    result = guest.run(["sh", "-c", script], 5)
    assert (result.status, result.timed_out, result.output) == (None, True, "begun\n")
    share = next(word for word in result.console.split() if word.startswith("lab_share="))[len("lab_share=") :]
    until(lambda: not _processes(share))
    assert not Path(share).exists()


def test_a_guest_that_dies_says_why() -> None:
    result = guest.run(["sh", "-c", "echo c > /proc/sysrq-trigger; sleep 60"], 60)
    assert (result.status, result.timed_out) == (None, False)
    assert "sysrq triggered crash" in result.console


def test_the_readme_quotes_the_zoo() -> None:
    assert kinds.table() in (guest.CHECKOUT / "README.md").read_text()


def test_the_manual_quotes_the_zoo() -> None:
    assert kinds.manual() in (guest.CHECKOUT / "man" / "check_mounts.8").read_text()
