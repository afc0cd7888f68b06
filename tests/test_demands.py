"""What should be mounted, held against real mounts, and what the files say, end to end."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Fuse, Mounts, Plugin

pytestmark = pytest.mark.root


@pytest.fixture
def fstab(tmp_path: Path, mounts: Mounts) -> Path:
    path = tmp_path / "fstab"
    path.write_text(f"data {mounts.base}/data tmpfs nodev,nosuid 0 0\n")
    return path


def _mounted(mounts: Mounts, options: str = "nodev,nosuid", name: str = "data") -> Path:
    path = mounts.point(name)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "data", str(path)], check=True)
    mounts.adopt(path)
    return path


def test_as_declared(mounts: Mounts, plugin: Plugin, fstab: Path) -> None:
    _mounted(mounts)
    result = plugin(f"--fstab={fstab}")
    assert (result.code, result.count("ok"), result.count("mounts")) == (0, 1, 1)


def test_not_mounted_is_missing(mounts: Mounts, plugin: Plugin, fstab: Path) -> None:
    _mounted(mounts, name="other")
    result = plugin(f"--fstab={fstab}")
    assert (
        result.verdict
        == f"MOUNTS CRITICAL - 1 of 2 mounts failed: {mounts.base}/data missing: not mounted ({fstab} line 1)"
    )
    assert plugin(f"--fstab={fstab}", "-x", f"{mounts.base}/data").code == 0
    assert plugin(f"--fstab={fstab}", "-X", "tmpfs", "--allow-none").code == 0


def test_nofail_may_be_absent_and_is_named(mounts: Mounts, plugin: Plugin, fstab: Path) -> None:
    _mounted(mounts, name="other")
    fstab.write_text(fstab.read_text().replace("nodev", "nofail"))
    result = plugin(f"--fstab={fstab}", "-v")
    assert result.code == 0
    assert any(line.startswith(f"absent: {mounts.base}/data: ") and "nofail" in line for line in result.lines)


def test_another_option_is_changed(mounts: Mounts, plugin: Plugin, fstab: Path) -> None:
    path = _mounted(mounts, "nosuid")
    result = plugin(f"--fstab={fstab}", "-v")
    assert result.code == 1
    assert (
        result.line(path)
        == f"WARNING: {path} (tmpfs data) changed: nodev is not in force, but expected ({fstab} line 1)"
    )
    assert plugin(f"--fstab={fstab}", "--ignore-option", "nod*").code == 0


def test_another_device_is_changed(tmp_path: Path, mounts: Mounts, plugin: Plugin, fstab: Path) -> None:
    path = mounts.point("data")
    for name in ("one", "two"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(16 << 20)
        subprocess.run(["mkfs.ext4", "-q", str(tmp_path / name)], check=True)
    devices = []
    try:
        for name in ("one", "two"):
            command = ["losetup", "--find", "--show", str(tmp_path / name)]
            devices.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
        subprocess.run(["mount", devices[1], str(path)], check=True)
        mounts.adopt(path)
        fstab.write_text(f"{devices[0]} {path} ext4 defaults 0 0\n")
        result = plugin(f"--fstab={fstab}", "-v")
        assert result.code == 1
        assert result.line(path).endswith(f" changed: source is {devices[1]}, expected {devices[0]} ({fstab} line 1)")
        fstab.write_text(f"{devices[1]} {path} ext4 defaults 0 0\n")
        assert plugin(f"--fstab={fstab}").code == 0
        subprocess.run(["mount", "-o", "remount,ro", str(path)], check=True)
        result = plugin(f"--fstab={fstab}", "-v")
        assert result.code == 2
        assert result.line(path).endswith(f" read-only: mounted ro, expected rw ({fstab} line 1)")
        assert plugin(f"--fstab={fstab}", "--expect-ro", str(path)).code == 0
        fstab.write_text("")  # declared by nobody, but there are declarations
        assert plugin(f"--fstab={fstab}", "-v").line(path).endswith(" read-only: mounted ro, which nobody declared")
        assert plugin().code == 0
        subprocess.run(["umount", str(path)], check=True)
    finally:
        mounts.close()
        for device in devices:
            subprocess.run(["losetup", "-d", device], check=True)


def test_a_mount_that_fails_by_itself_keeps_its_condition(fuse: Fuse, plugin: Plugin, fstab: Path) -> None:
    dead = fuse.mount("data")
    fuse.command("die", "data")
    result = plugin(f"--fstab={fstab}", "-v")
    assert " dead: " in result.line(dead)
    remark = result.lines[result.lines.index(result.line(dead)) + 1]
    assert remark.startswith("  changed: type is fuse.test, expected tmpfs")


def test_an_expectation_on_the_command_line(mounts: Mounts, plugin: Plugin) -> None:
    path = _mounted(mounts)
    assert plugin("--expect", f"{path}/,type=tmpfs,source=data,nosuid").code == 0
    result = plugin("--expect", f"{path},type=xfs", "-v")
    assert result.line(path).endswith(" changed: type is tmpfs, expected xfs (--expect)")


def test_units(mounts: Mounts, plugin: Plugin) -> None:
    assert plugin("--systemd", "-p", "/nothing/*", "--allow-none", below=False).code in (0, 2)


def _config(tmp_path: Path, text: str) -> str:
    path = tmp_path / "check_mounts.conf"
    path.write_text(text)
    path.chmod(0o644)
    return str(path)


def test_the_configuration(tmp_path: Path, mounts: Mounts, plugin: Plugin) -> None:
    data, other = _mounted(mounts), _mounted(mounts, name="other")
    path = _config(
        tmp_path,
        f"""[check_mounts]
verbose = 2
write = yes
[mount "{mounts.base}/*"]
critical = 1000
[mount "{data}"]
expect = yes
options = noexec
severity = changed=critical
write = no
[mount "{mounts.base}/gone"]
expect = yes
source = filer1:/gone
[mount "{mounts.base}/ignored"]
ignore = yes
expect = yes
""",
    )
    result = plugin("--config", path, "--json")
    found = {finding["mount_point"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert found[str(data)]["condition"] == "changed"
    assert found[str(data)]["state"] == "CRITICAL"
    assert found[str(data)]["text"] == f"changed: noexec is not in force, but expected ({path} line 6)"
    assert found[str(data)]["outcome"]["seconds"]["create"] is None
    assert found[str(other)]["outcome"]["seconds"]["create"] is not None
    assert found[f"{mounts.base}/gone"]["condition"] == "missing"
    assert set(found) == {str(data), str(other), f"{mounts.base}/gone"}


def test_the_rules_of_each_mount_and_where_they_come_from(tmp_path: Path, mounts: Mounts, plugin: Plugin) -> None:
    data, other, ignored = (_mounted(mounts, name=name) for name in ("data", "other", "ignored"))
    path = _config(
        tmp_path,
        f'[mount "{data}"]\nexpect = yes\noptions = noexec\nseverity = changed=critical\n'
        f'[mount "{ignored}"]\nignore = yes\n',
    )
    lines = plugin("--config", path, "-vvv").lines
    rules = [line for line in lines if line.startswith("  rule: ")]
    assert rules == [
        f"  rule: severity = changed=critical ({path} line 4)",
        f"  rule: expect = yes ({path} line 2)",
        f"  rule: options = noexec ({path} line 3)",
        f"  rule: ignore = yes ({path} line 6)",
    ]
    assert lines[lines.index(rules[-1]) - 1].endswith("the configuration says to ignore it")
    places = {word: place for place, line in enumerate(lines) for word in (data, other) if f": {word} (" in line}
    assert places[data] < lines.index(rules[0]) < lines.index(rules[2]) < places[other]
    assert not any(line.startswith("  rule: ") for line in plugin("--config", path, "-vv").lines)


def test_a_timeout_of_its_own(tmp_path: Path, fuse: Fuse, plugin: Plugin) -> None:
    quick, slow = fuse.mount("quick"), fuse.mount("slow")
    for name in ("quick", "slow"):
        fuse.command("delay", name, "0.4")
    path = _config(tmp_path, f'[check_mounts]\ntimeout = 6\n[mount "{quick}"]\ntimeout = 0.2\n')
    result = plugin("--config", path, "-v", "-v")
    assert result.line(quick).endswith(" timed out after 0.2 s")
    assert result.line(slow).startswith("OK: ")


def test_an_owner_of_its_own(tmp_path: Path, mounts: Mounts, plugin: Plugin) -> None:
    closed = mounts.tmpfs("closed", "uid=1000,mode=0700")
    path = _config(tmp_path, f'[mount "{closed}"]\nas = 4711\n')
    assert plugin("--config", path, "-v").line(closed).endswith(" denied: Permission denied (EACCES) for uid 4711")
    assert plugin("-v").code == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[check_mounts]\ntimeout = x\n", "line 2: timeout: 'x' is not a positive number of seconds"),
        ("[check_mounts]\nwarning = stat=1\n", None),
        ('[mount "/"]\nas = no-such-user\n', "line 2: as: there is no user 'no-such-user'"),
        ('[mount "/"]\ntimeout = 3600\n', "line 2: timeout: 3600 s is longer than the deadline of 9 s"),
        ('[mount "/"]\nno-such-key = 1\n', None),
    ],
)
def test_wrong_configurations(tmp_path: Path, plugin: Plugin, text: str, words: str) -> None:
    path = _config(tmp_path, text)
    result = plugin("--config", path, below=False)
    assert result.code == 3
    assert result.verdict.startswith(f"MOUNTS UNKNOWN - {path} line 2")
    assert words is None or result.verdict == f"MOUNTS UNKNOWN - {path} {words}"
    assert result.stderr == b""


@pytest.mark.parametrize("option", ["--config", "--fstab"])
def test_files_that_are_not_there(plugin: Plugin, option: str) -> None:
    result = plugin(f"{option}=/no/such/file", below=False)
    assert (result.code, result.stderr) == (3, b"")
    assert "/no/such/file: No such file or directory" in result.verdict


def test_extra_opts(tmp_path: Path, mounts: Mounts, plugin: Plugin) -> None:
    _mounted(mounts, name="other")
    path = tmp_path / "plugins.ini"
    path.write_text(f"[mounts]\nexpect={mounts.base}/gone\n[check_mounts]\nverbose=\n")
    path.chmod(0o644)
    assert plugin(f"--extra-opts=mounts@{path}").count("missing") == 1
    assert plugin("--extra-opts", env={**plugin.environment, "MP_CONFIG_FILE": str(path)}).count("missing") == 0


def test_usage_is_judged_once_a_superblock(mounts: Mounts, plugin: Plugin) -> None:
    data = _mounted(mounts, "size=1M")
    mounts.bind(data, "bind")
    (data / "file").write_bytes(bytes(960 << 10))
    result = plugin("--usage-warning", "50", "--usage-critical", "90", "-v")
    assert result.code == 2
    assert (result.count("full"), result.count("ok")) == (1, 1)
    assert result.line(data).endswith(" full: 93.8 % used, 64.0 KiB free (critical range 90)")
    perfdata = result.lines[0].partition(" | ")[2]
    assert f"'{data} used'=983040B;524288;943718;0;1048576" in perfdata
    assert perfdata.count(" used'") == 1
    assert plugin("--usage-critical", "10k:").code == 0
    assert plugin("--usage-critical", "1M:").code == 2
    assert plugin("--inodes-critical", "0").code == 2
    assert plugin("--usage-critical", "90", "--severity", "full=ok").code == 0


def test_steps_have_thresholds_and_perfdata(fuse: Fuse, plugin: Plugin) -> None:
    path = fuse.mount("fuse")
    fuse.command("delay", "fuse", "0.2")
    result = plugin("-w", "statfs=0.1", "-c", "5", "--perfdata", "steps", "-v")
    assert result.code == 1
    assert " slow: statfs took 0." in result.line(path)
    assert f"'{path} statfs'=0." in result.lines[0]


def test_the_command_line_wins_over_a_section(tmp_path: Path, mounts: Mounts, plugin: Plugin) -> None:
    path = _config(tmp_path, f'[mount "{mounts.base}/*"]\nwarning = 5\nseverity = ok=warning\nwrite = no\n')
    _mounted(mounts)
    assert plugin("--config", path).code == 1
    assert plugin("--config", path, "--severity", "ok=ok").code == 0
    assert plugin("--config", path, "-w", "0.0000001", "--severity", "ok=ok").count("slow") == 1
    assert any(line.startswith("  create: ") for line in plugin("--config", path, "--write", "-vvv").lines)


@pytest.mark.parametrize(
    "line", ["as = no-such-user", "fstab = /no/such/file", "deadline = 3", "mountinfo = /no/such/file"]
)
def test_what_turns_out_to_be_wrong_later_is_found_in_its_file(tmp_path: Path, plugin: Plugin, line: str) -> None:
    path = _config(tmp_path, f"[check_mounts]\n\n{line}\n")
    result = plugin("--config", path, below=False)
    assert (result.code, result.stderr) == (3, b"")
    assert result.verdict.startswith(f"MOUNTS UNKNOWN - {path} line 3: {line.split(' ')[0]}: ")


@pytest.mark.parametrize("key", ["help", "version", "config=/no/such", "extra-opts", "h", "V"])
def test_extra_opts_cannot_say_everything(tmp_path: Path, plugin: Plugin, key: str) -> None:
    path = tmp_path / "plugins.ini"
    path.write_text(f"[check_mounts]\n{key}{'' if '=' in key else '='}\n")
    path.chmod(0o644)
    result = plugin(f"--extra-opts=@{path}", below=False)
    assert result.code == 3
    assert result.verdict.startswith(f"MOUNTS UNKNOWN - {path} line 2: ")


def test_a_wrong_line_of_fstab_is_no_ok(mounts: Mounts, plugin: Plugin, fstab: Path) -> None:
    _mounted(mounts)
    fstab.write_text(fstab.read_text() + "tmpfs /elsewhere\n")
    result = plugin(f"--fstab={fstab}")
    assert result.code == 3
    assert result.verdict.endswith(f"{fstab} line 2: it has no filesystem type")


def test_expect_ro_no_of_the_configuration(tmp_path: Path, mounts: Mounts, plugin: Plugin) -> None:
    data = mounts.mount("data", "tmpfs", flags=1)
    path = _config(tmp_path, f'[mount "{data}"]\nexpect-ro = no\n')
    assert plugin("--config", path, "-v").line(data).endswith(f"read-only: mounted ro, expected rw ({path} line 2)")


def test_each_place_that_declares_a_part_is_named(tmp_path: Path, mounts: Mounts, plugin: Plugin, fstab: Path) -> None:
    data = _mounted(mounts)
    one, two = f'[mount "{mounts.base}/*"]\noptions = noexec\n', f'[mount "{data}"]\ntype = ext4\nexpect-ro = yes\n'
    path = _config(tmp_path, one + two)
    words = "type is tmpfs, expected ext4; noexec is not in force, but expected; mounted rw, expected ro"
    sections = f"{path} line 1, {path} line 3"
    assert plugin("--config", path, "-v").line(data).endswith(f" changed: {words} ({sections}, {path} line 5)")
    path = _config(tmp_path, one + two.replace("type = ext4", "options = nosymfollow"))
    only = f"nosymfollow is not in force, but expected; mounted rw, expected ro ({path} line 3, {path} line 5)"
    assert plugin("--config", path, "-v").line(data).endswith(f" changed: {only}")
    fstab.write_text(f"data {data} tmpfs nodev,nosuid 0 0\n")
    told = plugin(f"--fstab={fstab}", f"--expect-ro={data}", "-v").line(data)
    assert told.endswith(f" changed: mounted rw, expected ro ({fstab} line 1, --expect-ro)")


def test_usage_is_judged_whatever_else_is_wrong(tmp_path: Path, mounts: Mounts, plugin: Plugin) -> None:
    data = _mounted(mounts, "size=1M")
    (data / "below").mkdir()
    (data / "file").write_bytes(bytes(960 << 10))
    result = plugin("--usage-critical", "90", "--expect", f"{data},noexec", "--severity", "changed=ok", "-v")
    assert result.code == 2
    assert " full: 9" in result.line(data)
    assert "  changed: noexec is not in force, but expected (--expect)" in result.lines
    bind = mounts.bind(data / "below", "zbind")
    path = _config(tmp_path, f'[mount "{bind}"]\nusage-critical = 90\n')
    result = plugin("--config", path, "-v")
    assert (result.code, result.count("full")) == (2, 1)
    assert f"'{bind} used'=" in result.lines[0]
