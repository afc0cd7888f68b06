"""--check-config: all that is wrong with the configuration, without a look at any mount."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from check_mounts.options import ini_syntax
from check_mounts.options.refusals import Origin
from tests.conftest import Plugin, Result
from tests.daemon import Daemon, daemon

__all__ = ["daemon"]

Check = Callable[..., Result]


@pytest.fixture
def check(plugin: Plugin, tmp_path: Path) -> Check:
    """Runs it with a configuration that is written first."""

    def run(content: str, *arguments: str, mode: int = 0o644) -> Result:
        path = tmp_path / "c.conf"
        path.write_text(content)
        path.chmod(mode)
        result = plugin("--check-config", "--config", str(path), *arguments, below=False, state=False)
        assert result.stderr == b""
        assert result.lines.pop() == ""
        assert [line for line in result.lines if line.startswith("MOUNTS ")] == result.lines[:1]
        assert result.code == (0 if result.lines[0].startswith("MOUNTS OK - ") else 3)
        result.lines[:] = [line.replace(str(path), "FILE") for line in result.lines]
        return result

    return run


def test_a_valid_one(check: Check, tmp_path: Path) -> None:
    fstab = tmp_path / "fstab"
    fstab.write_text("tmpfs /tmp tmpfs rw 0 0\n")
    content = '[check_mounts]\ntimeout = 3\n[mount "/srv"]\nas = nobody\n[submit "nrdp:https://h/"]\ntoken = x\n'
    result = check(content, f"--fstab={fstab}", mode=0o600)
    assert result.lines == [f"MOUNTS OK - the configuration is valid: FILE, {fstab}"]


def test_all_problems_at_once(check: Check) -> None:
    content = """[check_mounts]
timout = 5
as = nobdy
submit = ncsa:host
fstab = /nowhere/fstab
[mont "/srv"]
expect = maybe
[mount "/srv"]
expect = maybe
as = nobdy
colour = red
[submit "nrdp:http://host/"]
ca = /nowhere/ca
[submit "smtp:host"]
user = x
"""
    first, *others = check(content).lines
    assert first == (
        "MOUNTS UNKNOWN - FILE line 2: unknown key 'timout' in [check_mounts]; the nearest is 'timeout' "
        "(and 10 more problems)"
    )
    assert [line.partition(": ")[0] for line in others] == [
        f"FILE line {n}" for n in (6, 11, 9, 5, 3, 10, 4, 12, 13, 14)
    ]
    assert others[0] == "FILE line 6: unknown section [mont ...]; the nearest is 'mount'"
    assert others[4] == "FILE line 3: as: there is no user 'nobdy'"


def test_nobody_reads_more_than_twenty(check: Check) -> None:
    lines = check("[check_mounts]\n" + "colour = red\n" * 1000).lines
    assert len(lines) == 20
    assert lines[0].endswith("(and 19 more problems)")


def test_of_the_command_line(plugin: Plugin) -> None:
    words = ["-t", "30", "--deadline", "3", "--as", "nobdy", "--submit", "ncsa:x", "--local", "--remote"]
    result = plugin("--check-config", *words, below=False, state=False)
    assert (result.code, result.stderr) == (3, b"")
    assert "argument --deadline: 3 s is shorter than the timeout of 30 s" in result.verdict
    told = "\n".join(result.lines)
    assert "there is no user 'nobdy'" in told and "'ncsa:...' is not a destination" in told and "--local" in told
    result = plugin("--check-config", "--timout", below=False, state=False)
    assert result.verdict == "MOUNTS UNKNOWN - --timout: unknown option; the nearest is --timeout"


@pytest.mark.parametrize("words", [["--json"], ["-v", "/srv"], ["--per-mount"], ["--remote", "-t", "3"], ["--write"]])
def test_the_words_of_a_check(check: Check, words: list[str]) -> None:
    assert check("", *words).code == 0


def test_bad_lines_of_fstab(check: Check, tmp_path: Path) -> None:
    fstab = tmp_path / "fstab"
    fstab.write_text("x /tmp\ntmpfs /tmp tmpfs rw 0 0\nx relative ext4\n")
    result = check("", f"--fstab={fstab}")
    assert result.lines == [
        f"MOUNTS UNKNOWN - {fstab} line 1: it has no filesystem type (and 1 more problem)",
        f"{fstab} line 3: the mount point is not an absolute path",
    ]


def test_files_of_destinations(check: Check, tmp_path: Path) -> None:
    (tmp_path / "ca").touch()
    content = f'[submit "icinga2:https://h:5665"]\nca = {tmp_path}/ca\ncertificate = {tmp_path}/no\n'
    assert check(content).lines == [
        f"MOUNTS UNKNOWN - FILE line 3: certificate: {tmp_path}/no: No such file or directory"
    ]


def test_a_password_that_all_may_read(check: Check) -> None:
    content = '[submit "nrdp:https://h/"]\ntoken = geheim\n'
    assert check(content, mode=0o600).code == 0
    lines = check(content, mode=0o644).lines
    assert "refused, because everybody can read the file (mode 0644)" in lines[0] and "geheim" not in str(lines)


BAD = [
    ["--metrics", "{}/x.txt"],
    ["--metrics", "{}/status.prom"],
    ["--cache", "/status"],
    ["--cache", "{}/nowhere/below/status"],
    ["--cache", "{}/file/status"],
    ["--cache", "{}/open/run/status"],
    ["--cache", "{}/others/status"],
    ["--mountinfo", "/nowhere/mountinfo"],
    ["--interval", "0"],
    ["--max-age", "5"],
    ["--json"],
    ["--per-mount"],
    ["--submit", "nowhere:x"],
    ["--submit-host", "x;y"],
    ["--expect", "relative"],
    ["--as", "nobdy"],
    ["--extra-opts=@/nowhere"],
    ["--systemd", "--fstab=/nowhere"],
    ["--deadline", "1"],
    ["relative"],
]


@pytest.mark.parametrize("words", BAD, ids=lambda words: words[0] if words else "")
def test_it_refuses_what_the_start_refuses(daemon: Daemon, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "status.prom").write_text("mine\n")
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "status").write_text("mine\n")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    filled = ["--daemon", "--foreground", *(word.format(tmp_path) for word in words)]
    start = daemon.plugin.start(*filled, below=False, state=False)
    refused = Result(start)
    checked = daemon.plugin("--check-config", *filled, below=False, state=False)
    assert (checked.code, checked.verdict.replace(" (and 1 more problem)", "")) == (3, refused.verdict)
    assert refused.code == 3 and refused.verdict.startswith("MOUNTS UNKNOWN - ")


def test_beside_a_daemon_and_without_a_trace(daemon: Daemon, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    words = ["--daemon", "--foreground", "--interval", "1", "--metrics", f"{tmp_path}/x.prom"]
    for cache in (daemon.cache, fresh / "status"):
        if cache == daemon.cache:
            daemon.start()
        result = daemon.plugin("--check-config", *words, "--cache", str(cache), below=False, state=False)
        assert result.verdict.startswith("MOUNTS OK - ")
    assert not fresh.exists() and not (tmp_path / "x.prom").exists()
    daemon.until_checked()


def test_the_directory_of_the_metrics(daemon: Daemon, tmp_path: Path) -> None:
    words = ["--check-config", "--daemon", "--cache", str(tmp_path / "run" / "status")]
    result = daemon.plugin(*words, "--metrics", f"{tmp_path}/no/x.prom", below=False, state=False)
    assert result.verdict == f"MOUNTS UNKNOWN - argument --metrics: {tmp_path}/no: No such file or directory"
    (tmp_path / "link").symlink_to(tmp_path)
    result = daemon.plugin(*words, "--metrics", f"{tmp_path}/link/x.prom", below=False, state=False)
    assert result.verdict.endswith("/link: a symbolic link leads to it")


@pytest.mark.root
def test_no_mount_is_touched(check: Check, hung: Path) -> None:
    assert check(f'[mount "{hung}"]\nexpect = yes\n', str(hung)).code == 0


@pytest.mark.root
@pytest.mark.parametrize("words", ["--config={}", "--fstab={}"])
def test_a_file_that_hangs(plugin: Plugin, hung: Path, words: str) -> None:
    result = plugin("--check-config", words.format(hung / "file"), below=False, state=False)
    assert (result.code, f"reading {hung}/file" in result.verdict) == (3, True)


@pytest.mark.root
def test_an_unprivileged_check(plugin: Plugin, public: Path) -> None:
    """It has no use for root's directory of the result."""
    config = public / "c.conf"
    config.write_text("[check_mounts]\ntimeout = 3\n")
    config.chmod(stat.S_IRUSR | stat.S_IROTH)
    options: dict[str, object] = {"user": 65534, "group": 65534, "extra_groups": [], "cwd": "/"}
    environment = {"PYTHONPATH": str(public), "PATH": os.environ["PATH"]}
    words = ["--check-config", f"--config={config}"]
    result = Result(plugin.start(*words, below=False, state=False, env=environment, **options))  # type: ignore[arg-type]
    assert (result.code, result.verdict) == (0, f"MOUNTS OK - the configuration is valid: {config}")


def test_skipped_lines() -> None:
    data = b"[a]\nx = 1\ny = 2\n[b]\nz = 3\nw = \0\n[c]\n"
    try:
        ini_syntax.skipped.update((Origin("f", 2), Origin("f", 4)))
        assert [line for _, line in ini_syntax.lines(data, "f")] == [b"[a]", b"y = 2", b"[c]"]
    finally:
        ini_syntax.skipped.clear()


def test_a_daemon_without_the_library_of_the_metrics(plugin: Plugin, tmp_path: Path) -> None:
    """It starts, and says the same."""
    (tmp_path / "prometheus_client.py").write_text("raise ImportError('broken')\n")
    environment = {**plugin.environment, "PYTHONPATH": f"{tmp_path}:{plugin.environment['PYTHONPATH']}"}
    words = ("--check-config", "--daemon", "--metrics", f"{tmp_path}/x.prom")
    result = plugin(*words, below=False, state=False, env=environment)
    assert result.code == 0
    assert (
        "note: no metrics would be written: the library prometheus_client cannot be used (ImportError: broken); "
        in (result.stdout.decode())
    )
