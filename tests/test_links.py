"""Names are compared as the kernel has them: links in what is declared, named, and in patterns are
resolved, and nothing hangs at it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Fuse, Mounts, Plugin, in_time, remaining
from tests.daemon import Daemon, daemon
from tests.kernel import workers_alive

__all__ = ["daemon"]

pytestmark = pytest.mark.root


def _fstab(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "fstab"
    path.write_text("".join(f"{line}\n" for line in lines))
    return f"--fstab={path}"


def _link(base: Path, name: str, target: object) -> Path:
    path = base / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(str(target))
    return path


def _condition(plugin: Plugin, *arguments: str, below: bool = False) -> list[tuple[str, str]]:
    findings = json.loads(plugin(*arguments, "--json", below=below).stdout)["findings"]
    return [(each["mount_point"], each["condition"]) for each in findings]


WAYS = {
    "relative": ("home", "var/home", "home"),
    "absolute": ("home", "{base}/var/home", "home"),
    "a directory above": ("srv", "var", "srv/home"),
    "chain": ("a", "b", "a"),
    "dots in the target": ("x/home", ".././var//home/", "x/home"),
    "dots after the link": ("x", "var/other", "x/../home"),
    "trailing slashes": ("home", "var/home/", "home//"),
    "a link to the root": ("x/root", "/", "x/root{base}/var/home"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_declared_link(tmp_path: Path, mounts: Mounts, plugin: Plugin, way: str) -> None:
    home = mounts.tmpfs("var/home")
    (mounts.base / "var/other").mkdir()
    link, target, declared = (word.format(base=mounts.base) for word in WAYS[way])
    _link(mounts.base, link, target)
    if way == "chain":
        _link(mounts.base, "b", "c/../d")
        _link(mounts.base, "d", mounts.base / "var/home")
        (mounts.base / "c").mkdir()
    fstab = _fstab(tmp_path, f"none {mounts.base}/{declared} tmpfs defaults 0 0")
    result = plugin(fstab)
    assert (result.code, result.count("ok"), result.count("mounts")) == (0, 1, 1), result.stdout
    assert plugin("--expect", f"{mounts.base}/{declared},type=tmpfs").code == 0
    result = plugin(f"{mounts.base}/{declared}", below=False)
    assert (result.code, result.count("ok"), result.count("mounts")) == (0, 1, 1), result.stdout
    result = plugin("--expect", f"{mounts.base}/{declared},type=ext4", "-v")
    assert f": {home} (" in result.lines[1] and " changed: type is tmpfs, expected ext4 (--expect" in result.lines[1]
    if not declared.endswith("/"):
        assert f"declared as {mounts.base}/" in result.lines[1]
    assert not workers_alive()


ABSENT = {
    "a dangling link": ("home", "var/none", "home", "var/none"),
    "nothing": ("other", "var", "none", "none"),
    "the last component": ("home", "var/home", "home/none", "var/home/none"),
    "a directory": ("home", "var/other", "home", "var/other"),
    "a file on the way": ("home", "var/file", "home/none", "var/file/none"),
    "round": ("round", "round", "round", "round"),
    "round by two": ("one", "two", "one", "one"),
    "growing": ("grows", "grows/x", "grows", "grows"),
    "procfs": ("home", "/proc/self/cwd", "home", "/proc/self/cwd"),
}


@pytest.mark.parametrize("way", ABSENT)
def test_what_is_absent_is_missing(tmp_path: Path, mounts: Mounts, plugin: Plugin, way: str) -> None:
    mounts.tmpfs("var/home")
    (mounts.base / "var/other").mkdir()
    (mounts.base / "var/file").touch()
    link, target, declared, leads_to = ABSENT[way]
    _link(mounts.base, link, target)
    if way == "round by two":
        _link(mounts.base, "two", "one")
    result = plugin(_fstab(tmp_path, f"none {mounts.base}/{declared} tmpfs defaults 0 0"), "-v", below=False)
    path = leads_to if leads_to.startswith("/") else f"{mounts.base}/{leads_to}"
    assert result.code == 2
    assert f"CRITICAL: {path} missing: not mounted ({tmp_path}/fstab line 1" in result.stdout.decode(), result.stdout
    assert plugin(f"{mounts.base}/{declared}", below=False).code == 2


def test_a_bind_mount_of_what_a_link_leads_to(tmp_path: Path, mounts: Mounts, plugin: Plugin) -> None:
    data = mounts.tmpfs("data")
    (data / "www").mkdir()
    (data / "other").mkdir()
    _link(mounts.base, "home", "data")
    bound = mounts.bind(data / "www", "var/srv/www")
    _link(mounts.base, "srv", "var/srv")
    line = f"{mounts.base}/home/www {mounts.base}/srv/www none bind 0 0"
    assert plugin(_fstab(tmp_path, line)).code == 0
    result = plugin(_fstab(tmp_path, line.replace("home/www", "home/other")), "-v")
    assert result.code == 1
    assert " changed: it shows /www, expected /other " in result.line(bound)


def test_patterns(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    one, two = mounts.tmpfs("var/home/one"), mounts.tmpfs("var/home/two")
    home = _link(mounts.base, "home", "var/home")
    assert _condition(plugin, "-p", f"{home}/*") == [(str(one), "ok"), (str(two), "ok")]
    assert _condition(plugin, "-p", f"{home}/one") == [(str(one), "ok")]
    assert _condition(plugin, "-x", f"{home}/one", below=True) == [(str(two), "ok")]
    assert _condition(plugin, "-x", f"{home}/t*", below=True) == [(str(one), "ok")]
    assert _condition(plugin, "--expect-ro", f"{home}/*", below=True) == [(str(one), "changed"), (str(two), "changed")]
    config = tmp_path / "conf"
    config.write_text(f'[mount "{home}/one"]\nignore = yes\n[mount "{home}/t*"]\nseverity = ok=warning\n')
    config.chmod(0o644)
    result = plugin("--config", str(config))
    assert result.code == 1
    assert f"1 of 1 mounts failed: {two}" in result.verdict


def test_a_pattern_that_is_a_link_to_the_root_directory(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    home = mounts.tmpfs("home")
    (tmp_path / "root").symlink_to("/")
    result = plugin("-vvv", "-x", f"{tmp_path}/root", below=False)
    assert any(line.startswith("left out: / ") for line in result.lines)
    assert result.line(home).startswith("OK")
    result = plugin("-x", f"{tmp_path}/root{mounts.base}/*", below=False, state=False)
    assert result.verdict.startswith("MOUNTS OK")


def test_a_section_declares_by_a_link(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    home = mounts.tmpfs("var/home")
    link = _link(mounts.base, "home", "var/home")
    config = tmp_path / "conf"
    config.write_text(f'[mount "{link}"]\nexpect = yes\ntype = ext4\nseverity = changed=critical\n')
    config.chmod(0o644)
    result = plugin("--config", str(config), "-v")
    assert result.code == 2
    assert " changed: type is tmpfs, expected ext4" in result.line(home)


def test_a_users_mount_that_is_declared_by_a_link(fuse: Fuse, mounts: Mounts, plugin: Plugin) -> None:
    fuse.mount("cloud", user_id=4711, group_id=4711)
    link = _link(mounts.base, "link", "cloud")
    assert plugin("--expect", str(link)).count("ok") == 1
    fuse.command("die", "cloud")
    assert plugin("--expect", str(link)).code == 2


def test_below_what_answers_links_are_read(fuse: Fuse, mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    cloud, data = fuse.mount("cloud"), mounts.tmpfs("data")
    fuse.command("link", "cloud", "x", str(data))
    fuse.command("link", "cloud", "gone", "nothing")
    assert plugin("--expect", f"{cloud}/x,type=tmpfs").code == 0
    result = plugin("--expect", f"{cloud}/gone", "-v")
    assert f"{cloud}/nothing missing: not mounted (--expect, declared as {cloud}/gone)" in result.stdout.decode()
    result = plugin(f"{cloud}/x", "-vv", below=False)
    assert (result.code, result.count("ok")) == (0, 1), result.stdout
    assert result.line(data)
    assert "no mount was selected" in plugin("-p", f"{cloud}/none/*", below=False).verdict
    assert plugin(f"{cloud}/gone", below=False).code == 2
    assert (str(data), "ok") in _condition(plugin, "-p", f"{cloud}/x")
    assert (str(data), "ok") not in _condition(plugin, "-x", f"{cloud}/x", below=True)


@pytest.mark.parametrize("how", ["hang", "die"])
def test_below_what_does_not_answer_it_is_blocked(fuse: Fuse, mounts: Mounts, plugin: Plugin, how: str) -> None:
    cloud, data = fuse.mount("cloud"), mounts.tmpfs("data")
    fuse.command("link", "cloud", "x", str(data))
    link = _link(mounts.base, "link", "cloud/x")
    fuse.command(how, "cloud")
    words = {"hang": "timed out", "die": "is dead"}[how]
    for name in (f"{cloud}/x", str(link), f"{link}/below"):
        result = in_time(4, lambda: plugin("-t", "0.5", "--expect", name, "-vv"))  # noqa: B023
        assert result.code == 2
        path = f"{cloud}/x/below" if name.endswith("below") else f"{cloud}/x"
        assert f"{path} blocked: below {cloud}, which {words} (--expect" in result.stdout.decode(), result.stdout
        assert "missing" not in result.verdict
    result = in_time(6, lambda: plugin("-t", "0.5", str(link), "-vv", below=False))
    assert result.code == 2
    assert f": {cloud}/x blocked: below {cloud}, which {words} (named as {link})" in result.stdout.decode(), (
        result.stdout
    )
    if how == "hang":
        assert len(workers_alive()) == 1, "one process, however often"


def test_a_read_that_fails_is_unknown(fuse: Fuse, mounts: Mounts, plugin: Plugin) -> None:
    cloud = fuse.mount("cloud")
    fuse.command("link", "cloud", "x", "/nowhere")
    fuse.command("fail", "cloud", "readlink", "5")
    result = plugin("--expect", f"{cloud}/x", "-v")
    assert result.code == 3
    assert (
        f"{cloud}/x not probed: a link on its path cannot be read: Input/output error (EIO) (--expect)"
        in result.stdout.decode()
    )
    assert plugin(f"{cloud}/x", below=False).code == 3


def test_a_read_that_hangs_is_unknown_and_costs_one_process(fuse: Fuse, mounts: Mounts, plugin: Plugin) -> None:
    cloud, data = fuse.mount("cloud"), mounts.tmpfs("data")
    fuse.command("link", "cloud", "x", str(data))
    fuse.command("hang-readlink", "cloud")
    result = in_time(6, lambda: plugin("-t", "0.5", "--expect", f"{cloud}/x", "--expect", f"{cloud}/x/y", "-v"))
    assert result.code in (2, 3)  # the next run knows of the process that is stuck there
    assert " missing" not in result.stdout.decode().replace(" missing=", ""), result.stdout
    for _ in range(2):
        assert plugin("-t", "0.5", "--expect", f"{cloud}/x", "-v").code == 2
    assert len(remaining(1)) == 1


def test_what_is_left_alone_is_not_entered(fuse: Fuse, mounts: Mounts, plugin: Plugin) -> None:
    cloud = fuse.mount("cloud", user_id=4711, group_id=4711)
    fuse.command("hang", "cloud")
    mounts.tmpfs("data")
    for words in ([], ["-X", "fuse*", "--user-mounts"]):
        result = plugin("--expect", f"{cloud}/x", *words, "-v")
        assert (
            result.code,
            f"{cloud}/x not probed: below {cloud}, which is not checked" in result.stdout.decode(),
        ) == (
            3,
            True,
        )
        assert plugin(f"{cloud}/x", *words, below=False).code == 3
    assert fuse.waiting("cloud") == 0


def test_a_trigger_is_not_triggered(mounts: Mounts, plugin: Plugin) -> None:
    read, write = os.pipe()
    try:
        mounts.mount("auto", "autofs", "systemd-1", f"fd={write},pgrp={os.getpgrp()},minproto=5,maxproto=5,indirect")
        link = _link(mounts.base, "link", "auto/x")
        result = in_time(6, lambda: plugin("-t", "0.5", "--expect", f"{link}/y", "-v"))
        assert result.code == 2 and "auto/x/y missing" in result.stdout.decode(), result.stdout
        os.set_blocking(read, False)
        with pytest.raises(BlockingIOError):
            os.read(read, 1)
    finally:
        mounts.close()
        os.close(read)
        os.close(write)


def test_a_foreign_table_is_compared_by_its_text(tmp_path: Path, mounts: Mounts, plugin: Plugin) -> None:
    _link(mounts.base, "home", "var/home")
    table = tmp_path / "mountinfo"
    table.write_text(f"1 1 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:40 / {mounts.base}/var/home rw - tmpfs none rw\n")
    result = plugin("--mountinfo", str(table), "--expect", f"{mounts.base}/home", "-v", "-p", "/*")
    assert f"{mounts.base}/home missing" in result.stdout.decode()


def test_names_that_the_text_settles_cost_no_process(tmp_path: Path, mounts: Mounts, plugin: Plugin) -> None:
    home = mounts.tmpfs("var/home")
    trace = tmp_path / "trace"
    strace = ["strace", "-f", "-o", str(trace), "-e", "trace=clone,clone3,fork,vfork,readlinkat"]
    if subprocess.run(["which", "strace"], capture_output=True).returncode:
        pytest.skip("needs strace")

    def forks(*words: str) -> int:
        assert plugin(*words, "--max-workers", "1", wrapper=strace).code == 0
        return sum(
            "clone" in line or "fork" in line for line in trace.read_text().splitlines() if "resumed" not in line
        )

    plain = forks()
    assert forks("--expect", str(home)) == plain
    _link(mounts.base, "home", "var/home")
    assert forks(f"{mounts.base}/home", "--expect", f"{mounts.base}/home") == plain + 2
    assert (
        forks(*(word for each in range(20) for word in ("--expect", f"{mounts.base}/home{'/.' * each}"))) == plain + 2
    )


def test_the_daemon(tmp_path: Path, fuse: Fuse, mounts: Mounts, daemon: Daemon) -> None:
    home = mounts.tmpfs("var/home")
    other = mounts.tmpfs("other")
    link = _link(mounts.base, "home", "var/home")
    cloud = fuse.mount("cloud")
    fuse.command("link", "cloud", "x", str(other))
    daemon.start(_fstab(tmp_path, f"none {link} tmpfs defaults 0 0", f"none {cloud}/x tmpfs defaults 0 0"))
    assert daemon.cached().code == 0, daemon.cached("-v").stdout
    link.unlink()
    link.symlink_to("var/none")
    result = daemon.until(lambda result: result.code == 2)
    assert f"{mounts.base}/var/none missing" in result.verdict
    link.unlink()
    link.symlink_to(home)
    daemon.until(lambda result: result.code == 0)
    fuse.command("hang", "cloud")
    result = daemon.until(lambda result: result.code == 2)
    assert f"{cloud} (" in result.verdict and "missing" not in result.verdict
    assert f"{cloud}/x blocked: below {cloud}, which timed out" in daemon.cached("-vv").stdout.decode()
    fuse.command("answer", "cloud")
    daemon.until(lambda result: result.code == 0)


def test_the_daemon_finds_what_an_argument_leads_to(fuse: Fuse, mounts: Mounts, daemon: Daemon) -> None:
    cloud, data = fuse.mount("cloud"), mounts.tmpfs("data")
    fuse.command("link", "cloud", "x", str(data))
    daemon.start(f"{cloud}/x", below=False)
    daemon.until(lambda result: result.code == 0 and result.count("ok") == 1)
    mounts.detach(data)
    daemon.until(lambda result: result.code == 2)
