"""A real Slurm: slurmctld, slurmd and scontrol, one node, and integrations/slurm/check_mounts-slurm
as its HealthCheckProgram and Prolog."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, Fuse, Mounts, until
from tests.monitoring.stack import Server, Stack, free_port

pytestmark = [pytest.mark.root, pytest.mark.monitoring]
README = ROOT / "integrations/slurm/README.md"
SCRIPT = Path("/etc/slurm/check_mounts-slurm")
SETTINGS = Path("/etc/slurm/check_mounts-slurm.conf")
CLEAR = Path("/run/check_mounts-slurm.clear")
NODE = "n1"
WHERE = Path("/srv/data")
HOSTILE = Path("/srv/a \"b' c=d;e|f$(g)\n  Reason=x\\h\xfc")
OURS = f"check_mounts: 1 of 1 mounts failed: {WHERE} missing: not mounted (--expect) (resumes by itself)"

CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/linear
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd.pid
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 CPUs=1 State=UNKNOWN
PartitionName=all Nodes={node} Default=YES State=UP
"""


def _blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", README.read_text(), re.M | re.S)


class Slurm:
    """One node, n1."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.base = stack.base / "slurm"
        for name in ("state", "spool"):
            (self.base / name).mkdir(parents=True)
        for name in ("slurmctld", "slurmd", "slurmstepd"):  # as update-alternatives does
            Path("/usr/sbin", name).unlink(missing_ok=True)
            Path("/usr/sbin", name).symlink_to(f"{name}-wlm")
        (install,) = _blocks("sh")
        Path("/etc/slurm").mkdir(exist_ok=True)
        subprocess.run(["sh", "-ec", install], check=True)
        ports = [free_port(), free_port()]
        host = socket.gethostname().partition(".")[0]
        text = CONFIGURATION.format(host=host, ports=ports, base=self.base, node=NODE) + _blocks("conf")[0]
        stack.write("/etc/slurm/slurm.conf", text.replace("HealthCheckInterval=60", "HealthCheckInterval=1"))
        self.controller = stack.server("/usr/sbin/slurmctld", "-D", user="root")
        self.controller.until_port(ports[0])
        self.node = stack.server("/usr/sbin/slurmd", "-D", "-N", NODE, user="root")
        self.node.until(lambda: self.flags == "IDLE")

    def run(self, *command: str) -> str:
        result = self._stack.run(*command, user="root")
        assert result.returncode == 0, (result, self.controller.log[-2000:])
        return result.stdout

    def show(self, what: str) -> str:
        found = re.search(rf"^ *{what}=(.*)$", self.run("scontrol", "show", "node", NODE), re.M)
        return found[1] if found else ""

    @property
    def flags(self) -> str:
        return self.show("State").partition(" ")[0]

    @property
    def reason(self) -> str:
        return self.show("Reason").rpartition(" [")[0]

    def drain(self, reason: str) -> None:
        self.run("scontrol", "update", f"NodeName={NODE}", "State=DRAIN", f"Reason={reason}")

    def resume(self) -> None:
        self.run("scontrol", "update", f"NodeName={NODE}", "State=RESUME")

    def until(self, flags: str, reason: str = "") -> None:
        try:
            until(lambda: (self.flags, self.reason) == (flags, reason))
        except AssertionError:
            raise AssertionError((self.flags, self.reason, self.node.log[-2000:])) from None

    def until_checked(self, times: int = 2) -> None:
        """Wait for so many more runs of the HealthCheckProgram."""
        for _ in range(times):
            mark = self.base / "ran"
            mark.unlink(missing_ok=True)
            until(mark.exists)


@pytest.fixture(scope="module")
def slurm(stack: Stack, installed: Path) -> Iterator[Slurm]:
    yield Slurm(stack)


@pytest.fixture(autouse=True)
def _settings(slurm: Slurm) -> Iterator[None]:
    """The shipped script as it is, that also tells that it has run."""
    SETTINGS.write_text(f"touch {slurm.base}/ran\n")
    yield
    SETTINGS.write_text("exit 0\n")
    if "DRAIN" in slurm.flags:
        slurm.resume()
    CLEAR.unlink(missing_ok=True)


def _mount(path: Path = WHERE) -> None:
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", path], check=True)


@pytest.fixture
def mounted() -> Iterator[None]:
    _mount()
    yield
    subprocess.run(["umount", WHERE], check=False, capture_output=True)


@pytest.fixture
def daemon(stack: Stack, slurm: Slurm, mounted: None) -> Iterator[Server]:
    server = stack.daemon("--expect", str(WHERE), "-p", "/srv/*")
    yield server
    server.stop()


def _unmount() -> None:
    subprocess.run(["umount", WHERE], check=True)


def test_it_drains_with_the_reason_and_resumes(slurm: Slurm, daemon: Server) -> None:
    slurm.until_checked()
    assert (slurm.flags, slurm.reason) == ("IDLE", "")
    _unmount()
    slurm.until("IDLE+DRAIN", OURS)
    since = slurm.show("Reason")
    slurm.until_checked()
    assert slurm.show("Reason") == since  # with the time at which it began
    _mount()
    slurm.until("IDLE")


def test_a_mount_that_hangs(slurm: Slurm, daemon: Server) -> None:
    fuse = Fuse(Mounts(Path("/srv")))
    try:
        fuse.mount("hung", source="filer1:/scratch")
        fuse.command("hang", "hung")
        until(lambda: slurm.flags == "IDLE+DRAIN")
        assert slurm.reason.startswith(
            "check_mounts: 1 of 2 mounts failed: /srv/hung (fuse.test filer1:/scratch) timed "
        )
        fuse.command("answer", "hung")
        slurm.until("IDLE")
    finally:
        fuse.close()
        subprocess.run(["umount", "-l", "/srv/hung"], check=False)


@pytest.mark.parametrize("reason", ["maintenance", f"{OURS} keep: Bob", OURS.removeprefix("check_")])
def test_what_somebody_else_has_drained_stays(slurm: Slurm, daemon: Server, reason: str) -> None:
    slurm.drain(reason)
    slurm.until_checked()
    _unmount()
    until(lambda: "CRITICAL" in slurm.run("sh", "-c", "check_mounts --cached; true"))
    slurm.until_checked()
    assert (slurm.flags, slurm.reason) == ("IDLE+DRAIN", reason)
    _mount()
    until(lambda: "OK" in slurm.run("sh", "-c", "check_mounts --cached; true"))
    slurm.until_checked()
    assert (slurm.flags, slurm.reason) == ("IDLE+DRAIN", reason)


def test_somebody_keeps_a_node_that_this_has_drained(slurm: Slurm, daemon: Server) -> None:
    _unmount()
    slurm.until("IDLE+DRAIN", OURS)
    slurm.drain(f"{OURS} and the disk")
    _mount()
    until(lambda: "OK" in slurm.run("sh", "-c", "check_mounts --cached; true"))
    slurm.until_checked()
    assert (slurm.flags, slurm.reason) == ("IDLE+DRAIN", f"{OURS} and the disk")


def test_a_node_that_was_resumed_too_early_is_drained_again(slurm: Slurm, daemon: Server) -> None:
    _unmount()
    slurm.until("IDLE+DRAIN", OURS)
    slurm.resume()
    slurm.until("IDLE+DRAIN", OURS)


def test_the_reason_follows(slurm: Slurm, daemon: Server) -> None:
    _unmount()
    slurm.until("IDLE+DRAIN", OURS)
    fuse = Fuse(Mounts(Path("/srv")))
    try:
        fuse.mount("dead")
        fuse.command("die", "dead")
        until(lambda: "2 of 2 mounts failed" in slurm.reason)
        _mount()
        until(lambda: "1 of 2 mounts failed: /srv/dead " in slurm.reason)
    finally:
        fuse.close()
        subprocess.run(["umount", "-l", "/srv/dead"], check=False)
    slurm.until("IDLE")


def test_a_job_waits_until_the_mount_answers(slurm: Slurm, daemon: Server) -> None:
    """Only the Prolog, as between two health checks."""
    SETTINGS.write_text('[ -n "${SLURM_JOB_ID-}" ] || exit 0\n')
    _unmount()
    until(lambda: "CRITICAL" in slurm.run("sh", "-c", "check_mounts --cached; true"))
    done = slurm.base / "done"
    job = slurm.run("sbatch", "-o", "/dev/null", "--wrap", f"touch {done}").split()[-1]
    slurm.until("IDLE+DRAIN", OURS)  # not "Prolog error", which nobody would undo
    assert "JobState=PENDING" in slurm.run("scontrol", "show", "job", job)
    assert not done.exists()
    _mount()
    SETTINGS.write_text("")
    slurm.until("IDLE")
    slurm.run("scontrol", "update", f"JobId={job}", "StartTime=now")  # else Slurm gives it two minutes
    until(done.exists)


@pytest.mark.parametrize("drained", [False, True])
def test_no_result_changes_nothing(slurm: Slurm, daemon: Server, drained: bool) -> None:
    if drained:
        _unmount()
        slurm.until("IDLE+DRAIN", OURS)
    before = slurm.show("Reason")
    daemon.stop()
    Path("/run/check_mounts/status").unlink()
    CLEAR.unlink(missing_ok=True)
    slurm.until_checked()
    assert (slurm.flags, slurm.show("Reason")) == ("IDLE+DRAIN" if drained else "IDLE", before)
    done = slurm.base / f"done.{drained}"
    if not drained:
        slurm.run("srun", "touch", str(done))
        assert done.exists()


@pytest.mark.parametrize("code", [0, 1, 2])
def test_an_exit_code_without_a_verdict_changes_nothing(stack: Stack, tmp_path: Path, code: int) -> None:
    """As of Python that cannot load the program: scontrol is not even asked."""
    asked, settings = tmp_path / "asked", tmp_path / "settings"
    stack.write(tmp_path / "scontrol", f"#!/bin/sh\necho asked >> {asked}\n", mode=0o755)
    stack.write(tmp_path / "broken", f"#!/bin/sh\nexit {code}\n", mode=0o755)
    settings.write_text(f"PATH={tmp_path}:$PATH\nCHECK={tmp_path}/broken\nCLEAR={tmp_path}/clear\n")
    script = stack.write(tmp_path / "script", SCRIPT.read_text().replace(str(SETTINGS), str(settings)), mode=0o755)
    for job in {}, {"SLURM_JOB_ID": "7"}:
        result = stack.run(script, user="root", env={"SLURMD_NODENAME": NODE, **job})
        assert (result.returncode, result.stderr, asked.exists()) == (0, "", False)


def test_a_name_that_means_something_to_others(stack: Stack, slurm: Slurm) -> None:
    path = os.fsencode(str(HOSTILE).replace("\xfc", "\udcfc"))
    with stack.daemon("--expect", os.fsdecode(path), "-p", "/srv/a*"):
        until(lambda: slurm.flags == "IDLE+DRAIN")
        assert slurm.reason == (
            "check_mounts: 1 of 1 mounts failed: /srv/a ?b? c?d?e?174f?(g)?012  Reason?x?134h?374 missing: not mounted "
            "(--expect) (resumes by itself)"
        )
        _mount(Path(os.fsdecode(path)))
        try:
            slurm.until("IDLE")
        finally:
            subprocess.run(["umount", path], check=True)


def test_a_long_reason_is_cut(stack: Stack, slurm: Slurm) -> None:
    with stack.daemon("--expect", "/srv/" + "x/" * 1000, "-p", "/srv/x*"):
        until(lambda: slurm.flags == "IDLE+DRAIN")
        assert len(slurm.reason) == 200 + len("check_mounts:  (resumes by itself)")


def test_slurmctld_that_hangs_and_a_node_that_is_well(stack: Stack, slurm: Slurm, daemon: Server) -> None:
    """Slurm kills a HealthCheckProgram after 60 s; a healthy node asks slurmctld nothing."""
    fake, asked = slurm.base / "bin", slurm.base / "asked"
    stack.write(fake / "scontrol", f"#!/bin/sh\necho asked >> {asked}\nexec sleep 1000\n", mode=0o755)
    slurm.until_checked()
    assert CLEAR.exists()
    SETTINGS.write_text(f"PATH={fake}:$PATH\nLIMIT=0.5\n")
    time.sleep(2.5)  # for several checks
    assert not asked.exists()
    _unmount()
    until(asked.exists)
    for job, code in ({}, 0), ({"SLURM_JOB_ID": "7"}, 1):
        begun = time.monotonic()
        result = stack.run(SCRIPT, user="root", env={"SLURMD_NODENAME": NODE, **job})
        assert (result.returncode, time.monotonic() - begun < 10) == (code, True)
        assert "slurmctld does not tell the state of n1" in result.stderr
    SETTINGS.write_text("")
    slurm.until("IDLE+DRAIN", OURS)


def test_settings(stack: Stack, slurm: Slurm, daemon: Server) -> None:
    """As the README has them: a result that is too old drains, too."""
    (_, settings) = _blocks("conf")
    SETTINGS.write_text(settings)
    daemon.stop()
    Path("/run/check_mounts/status").unlink()
    until(lambda: slurm.flags == "IDLE+DRAIN")
    assert "check_mounts: " in slurm.reason


def test_the_readme_shows_a_reason_as_it_is() -> None:
    (shown, *_) = _blocks("text")
    assert re.fullmatch(r"Reason=check_mounts: [A-Za-z0-9 ./:_,()+@%-]+ \(resumes by itself\)\n", shown)
