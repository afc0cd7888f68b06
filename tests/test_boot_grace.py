"""``--boot-grace``: in the first minutes after boot, a declared network mount may be missing.

The clock is the kernel's own: each run is in a time namespace of its own, in which the host was
booted when the test says (time_namespaces(7))."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from check_mounts.clocks import Boottime, boottime
from check_mounts.declared import grace
from check_mounts.declared.fstab import parse_fstab_line
from check_mounts.declared.mountoptions import split_options
from check_mounts.model import BootGrace, ExpectedMount
from check_mounts.system import processes
from tests.conftest import ROOT, Mounts, Plugin, Result, until
from tests.daemon import Daemon, daemon

__all__ = ["daemon"]
pytestmark = pytest.mark.root


def booted_since(seconds: float) -> list[str]:
    """What runs a command as if this host had been booted so many seconds ago."""
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    return ["unshare", "--time", "--boottime", str(round(seconds - now)), "--fork", "--kill-child"]


def _run(plugin: Plugin, fstab: Path, since: float, *arguments: str) -> Result:
    return plugin(f"--fstab={fstab}", *arguments, wrapper=booted_since(since))


@pytest.fixture
def fstab(tmp_path: Path, mounts: Mounts) -> Path:
    mounts.tmpfs("there")
    return tmp_path / "fstab"


def _entry(point: Path, source: str = "filer:/export", fs_type: str = "nfs4", options: str = "defaults") -> str:
    return f"{source} {point} {fs_type} {options} 0 0\n"


def test_the_first_minutes_and_then(fstab: Path, mounts: Mounts, plugin: Plugin) -> None:
    srv = mounts.base / "srv"
    fstab.write_text(_entry(srv))
    early = _run(plugin, fstab, 40)
    assert (early.code, early.verdict) == (
        1,
        f"MOUNTS WARNING - 1 of 2 mounts failed: {srv} missing: not mounted yet, less than 300 s after boot"
        f" ({fstab} line 1)",
    )
    assert early.count("missing") == 1
    for late in (_run(plugin, fstab, 310), _run(plugin, fstab, 40, "--boot-grace", "30")):
        assert (late.code, late.verdict) == (
            2,
            f"MOUNTS CRITICAL - 1 of 2 mounts failed: {srv} missing: not mounted ({fstab} line 1)",
        )
    assert _run(plugin, fstab, 310, "--boot-grace", "400").code == 1
    assert _run(plugin, fstab, 40, "--boot-grace", "0").code == 2
    assert json.loads(_run(plugin, fstab, 40, "--json").stdout)["state"] == "WARNING"


def test_the_words_do_not_change_from_check_to_check(fstab: Path, mounts: Mounts, plugin: Plugin) -> None:
    """Archives take each new text for an event."""
    fstab.write_text(_entry(mounts.base / "srv"))
    assert _run(plugin, fstab, 40).verdict == _run(plugin, fstab, 140).verdict


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ("/dev/sdz9 {} ext4 _netdev", 1),
        ("filer:/export {} nfs bg,retry=2", 1),
        ("//filer/share {} cifs credentials=/etc/x", 1),
        ("me@host:/dir {} fuse.sshfs defaults", 1),
        ("filer:/export {} auto defaults", 1),
        ("filer:/volume {} glusterfs defaults", 1),
        ("host1,host2:/ {} ceph name=x", 1),
        ("filer:/export {} nfs4,nfs defaults", 1),
        ("filer:/export {} nfs4 x-systemd.automount", 1),
        ("filer:/export {} nfs4 nofail", 0),
        ("filer:/export {} nfs4 noauto", 0),
        ("/dev/sdz9 {} ext4 defaults", 2),
        ("UUID=1234 {} xfs x-systemd.mount-timeout=10min", 2),
        ("tmpfs {} tmpfs defaults", 2),
        ("filer:/looks/like/one {} tmpfs defaults", 2),
        ("/opt {} none bind", 2),
        ("/opt {} none bind,_netdev", 1),
    ],
)
def test_which_mounts_have_it(fstab: Path, mounts: Mounts, plugin: Plugin, entry: str, code: int) -> None:
    fstab.write_text(entry.format(mounts.base / "srv") + " 0 0\n")
    assert _run(plugin, fstab, 40).code == code
    assert _run(plugin, fstab, 900).code == (0 if code == 0 else 2)


def test_what_needs_such_a_mount_waits_with_it(fstab: Path, mounts: Mounts, plugin: Plugin) -> None:
    base = mounts.base
    fstab.write_text(
        _entry(base / "srv")
        + _entry(base / "srv/below/it", "tmpfs", "tmpfs")
        + _entry(base / "home", f"{base}/srv/home", "none", "bind")
        + _entry(base / "srvice", "tmpfs", "tmpfs")
    )
    result = _run(plugin, fstab, 40, "-v")
    assert result.code == 2
    assert result.line(base / "srv/below/it") == (
        f"WARNING: {base}/srv/below/it missing: not mounted yet, because {base}/srv is not ({fstab} line 2)"
    )
    assert result.line(base / "home").startswith(f"WARNING: {base}/home missing: not mounted yet, because {base}/srv ")
    assert result.line(base / "srvice").startswith("CRITICAL")


def test_a_name_has_it_only_where_it_is_declared(fstab: Path, mounts: Mounts, plugin: Plugin) -> None:
    declared, other = mounts.base / "srv", mounts.base / "other"
    fstab.write_text(_entry(declared))
    young = booted_since(40)
    named = plugin(f"--fstab={fstab}", str(declared), below=False, wrapper=young)
    assert (named.code, named.count("missing")) == (1, 1)
    assert plugin(str(declared), below=False, wrapper=young).code == 2
    assert plugin(f"--fstab={fstab}", str(declared), str(other), below=False, wrapper=young).code == 2


def test_declared_on_the_command_line_and_in_the_configuration(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    mounts.tmpfs("there")
    srv = mounts.base / "srv"
    for spec, code in ((f"{srv},type=nfs4", 1), (f"{srv},_netdev", 1), (f"{srv},source=filer:/x", 1), (f"{srv}", 2)):
        assert plugin("--expect", spec, wrapper=booted_since(40)).code == code, spec
    config = tmp_path / "conf"
    for lines, since, code in (
        ("type = nfs4", 40, 1),
        ("", 40, 2),
        ("boot-grace = 600", 500, 1),
        ("boot-grace = 600", 700, 2),
        ("type = nfs4\nboot-grace = 0", 40, 2),
    ):
        config.write_text(f'[mount "{srv}"]\nexpect = yes\n{lines}\n')
        result = plugin("--config", str(config), wrapper=booted_since(since))
        assert result.code == code, (lines, result.stdout)
    config.write_text(f'[check_mounts]\nboot-grace = 30\n[mount "{srv}"]\nexpect = yes\ntype = nfs4\n')
    assert plugin("--config", str(config), wrapper=booted_since(40)).code == 2
    assert plugin("--config", str(config), "--boot-grace", "60", wrapper=booted_since(40)).code == 1


def test_nodes_that_run_jobs_have_none(fstab: Path, mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    """As the page for Slurm says: a job must not start on a mount that is not there yet."""
    page = (ROOT / "integrations/slurm/README.md").read_text()
    (block,) = re.findall(r"^```ini\n(.*?)^```$", page, re.M | re.S)
    fstab.write_text(_entry(mounts.base / "srv"))
    config = tmp_path / "conf"
    config.write_text(block.replace("/etc/fstab", str(fstab)))
    assert plugin("--config", str(config), wrapper=booted_since(40)).code == 2
    config.write_text(block.replace("/etc/fstab", str(fstab)).replace("boot-grace", "#"))
    assert plugin("--config", str(config), wrapper=booted_since(40)).code == 1


def test_no_severity_makes_it_worse_and_none_is_made_worse(fstab: Path, mounts: Mounts, plugin: Plugin) -> None:
    fstab.write_text(_entry(mounts.base / "srv"))
    assert _run(plugin, fstab, 40, "--severity", "missing=unknown").code == 1
    assert _run(plugin, fstab, 40, "--severity", "missing=ok").code == 0


def test_a_mount_that_is_there_has_none(fstab: Path, mounts: Mounts, plugin: Plugin) -> None:
    srv = mounts.tmpfs("srv")
    fstab.write_text(_entry(srv, options="defaults,_netdev"))
    result = _run(plugin, fstab, 40)
    assert (result.code, "changed: " in result.verdict) == (1, True)


def test_a_wait_has_none(fstab: Path, mounts: Mounts, plugin: Plugin) -> None:
    fstab.write_text(_entry(mounts.base / "srv"))
    result = _run(plugin, fstab, 40, "--wait", "--timeout", "1")
    assert (result.code, result.verdict[:17]) == (2, "MOUNTS CRITICAL -")


def test_the_table_of_another_host_has_none(fstab: Path, mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    """It is not this host that was booted."""
    table = tmp_path / "mountinfo"
    table.write_text(Path("/proc/self/mountinfo").read_text())
    fstab.write_text(_entry(mounts.base / "srv"))
    assert _run(plugin, fstab, 40, "--mountinfo", str(table), "-X", "tmpfs").code == 2


def test_in_a_container_its_own_boot_counts(fstab: Path, mounts: Mounts, plugin: Plugin) -> None:
    fstab.write_text(_entry(mounts.base / "srv"))
    container = ["unshare", "--pid", "--mount", "--mount-proc", "--fork", "sh", "-c", '"$@"; exit $?', "sh"]
    assert plugin(f"--fstab={fstab}", "--boot-grace", "60", wrapper=container).code == 1
    assert plugin(f"--fstab={fstab}", "--boot-grace", "60").code == 2


def test_the_daemon_raises_it_by_itself(daemon: Daemon, mounts: Mounts, tmp_path: Path) -> None:
    """Long before its next check."""
    mounts.tmpfs("there")
    srv, fstab = mounts.base / "srv", tmp_path / "fstab"
    fstab.write_text(_entry(srv))
    daemon.start(f"--fstab={fstab}", "--boot-grace", "48", "--interval", "600", wrapper=booted_since(40))
    assert f"{srv} is missing: not mounted yet, less than 48 s after boot" in daemon.log
    assert daemon.cache.read_text().split(" ", 3)[2] == "WARNING"
    until(lambda: f"{srv} is missing: not mounted (" in daemon.log, 30)
    until(lambda: daemon.cache.read_text().split(" ", 3)[2] == "CRITICAL")
    assert daemon.log.count(f"{srv} is missing") == 2
    assert daemon.log.count("Checked ") == 1


# -- pure


def _expected(line: str) -> ExpectedMount:
    fields = parse_fstab_line(line.encode(), 1)
    assert fields is not None
    return ExpectedMount(fields.target, fields.source, fields.fs_type, split_options(fields.options or b""), "")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("600", 900), ("10min", 900), ("1h 30s", 3930), ("1h30s", 3930), ("90.5s", 390.5), ("1d", 86700),
        ("infinity", 300), ("0", 300), ("", 300), ("5 parsecs", 300), ("99d", 300), ("-5", 300), ("min", 300),
    ],
)  # fmt: skip
def test_systemds_own_time_is_added(value: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grace, "booted", lambda procfs: boottime())
    each = ExpectedMount(b"/a", b"f:/x", b"nfs", (b"x-systemd.mount-timeout=" + value.encode(),), "")
    found = grace.of(each, BootGrace(300.0))
    assert found is not None
    assert abs(found.until - boottime() - seconds) < 5


def test_nobody_who_hides_pid_1_is_younger_than_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for start in (None, 1 << 62):
        monkeypatch.setattr(processes, "process_start", lambda pid, procfs, start=start: start)
        assert grace.booted() == Boottime(0.0)
