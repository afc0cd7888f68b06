"""The Debian package: built, installed in a fresh Debian, run against a mount that hangs, upgraded,
removed and purged."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from check_mounts import __version__
from check_mounts.probing.lines import PREFIX
from tests.conftest import ROOT, until
from tests.fresh import FreshRoot, fresh_root
from tests.packages import GONE, OLD, main_pid, make, sources, stuck, workers

pytestmark = [pytest.mark.root, pytest.mark.packages]
NAME = f"check-mounts_{__version__}-1"
NRPE = "/etc/nagios/nrpe.d/check_mounts.cfg"
CONFFILES = {
    "/etc/icinga2/conf.d/check_mounts-command.conf",
    "/etc/nagios-plugins/config/check_mounts.cfg",
    NRPE,
    "/etc/sudoers.d/check_mounts",
}
COMPLETIONS = {
    "/usr/share/bash-completion/completions/check_mounts",
    "/usr/share/zsh/vendor-completions/_check_mounts",
    "/usr/share/fish/vendor_completions.d/check_mounts.fish",
}
CONF = "/etc/check_mounts.conf"
ENABLED = "/etc/systemd/system/multi-user.target.wants/check_mounts.service"
MONITORED = "/srv/hung (fuse.test fuse) timed out"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(sources(tmp_path_factory.mktemp("deb")), "deb")


@pytest.fixture(scope="module")
def deb(dist: Path) -> Path:
    return dist / f"{NAME}_all.deb"


@pytest.fixture(scope="module")
def before(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version before: it has a module that is no more, and another file below /etc."""
    tree = tmp_path_factory.mktemp("before") / "tree"
    subprocess.run(["dpkg-deb", "-R", str(deb), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace(f"Version: {__version__}-1", f"Version: {OLD}-1"))
    init = tree / "usr/lib/check_mounts/check_mounts/__init__.py"
    init.write_text(init.read_text().replace(__version__, OLD))
    (tree / GONE.lstrip("/")).write_text("")
    (tree / "etc/nagios/nrpe.d/check_mounts.cfg").write_text("# of the version before\n")
    result = tree.parent / f"check-mounts_{OLD}-1_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", str(tree), str(result)], check=True, capture_output=True)
    return result


def _apt(root: FreshRoot, *words: str) -> str:
    return root.run(["apt-get", "-q", "-y", *words]).stdout


def _apt_with_dependencies(root: FreshRoot) -> set[str]:
    """What is there once everything but the package is installed."""
    root.offline()
    _apt(root, "install", "python3-nagiosplugin", "python3-prometheus-client", "sudo")
    root.run(["useradd", "-M", "nagios"])  # as Debian's packages for monitoring have it
    return root.tree()


def test_what_is_built(dist: Path) -> None:
    kinds = {"-1.debian.tar.xz", "-1.dsc", "-1_all.deb", ".orig.tar.gz"}
    names = {path.name for path in dist.iterdir()}
    assert {f"check-mounts_{__version__}{kind}" for kind in kinds} <= names
    assert not (dist.parent / "build").exists()


def test_a_second_build_elsewhere_is_the_same(dist: Path, tmp_path: Path) -> None:
    elsewhere = {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    again = make(sources(tmp_path, "else where"), "deb", umask=0o077, env=elsewhere)
    for path in dist.glob("*[!so]"):  # but .changes and .buildinfo, which tell of the host
        if path.suffix not in (".changes", ".buildinfo"):
            assert (again / path.name).read_bytes() == path.read_bytes(), path.name


def test_lintian_finds_nothing(dist: Path) -> None:
    words = [
        "lintian",
        "--allow-root",
        "-I",
        "--pedantic",
        "--fail-on",
        "error,warning,info,pedantic",
        str(next(dist.glob("*.changes"))),
    ]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, ""), result.stdout + result.stderr


def test_what_it_depends_on(deb: Path) -> None:
    def field(name: str) -> list[str]:
        words = ["dpkg-deb", "-f", str(deb), name]
        return re.split(r", *", subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip())

    assert set(field("Depends")) == {"python3:any (>= 3.9)", "python3-nagiosplugin (>= 1.3.2)"}
    assert field("Recommends") == ["python3-prometheus-client"]
    assert field("Architecture") == ["all"]


def test_it_runs_without_systemd_and_leaves_nothing(deb: Path) -> None:
    with fresh_root() as root:
        fresh = _apt_with_dependencies(root)
        _apt(root, "install", root.copy(deb, "/tmp"))
        _is_in_place(root, fresh)
        _runs(root)
        _nobody_is_root_by_it(root)
        _is_compiled_for_another_python(root)
        stray = "/usr/lib/check_mounts/check_mounts/__pycache__/no_more.cpython-311.pyc"
        root.write(stray, "")
        _apt(root, "remove", "check-mounts")
        assert {path for path in root.tree() - fresh if not path.startswith(("/run/", "/var/lib/check_mounts"))} == {
            *CONFFILES, "/etc/icinga2", "/etc/icinga2/conf.d", "/etc/nagios", "/etc/nagios-plugins",
            "/etc/nagios-plugins/config", "/etc/nagios/nrpe.d", ENABLED, CONF,
        }  # fmt: skip
        _apt(root, "purge", "check-mounts")
        assert root.tree() - fresh == set()
        assert fresh - root.tree() == set()


def _is_in_place(root: FreshRoot, fresh: set[str]) -> None:
    new = root.tree() - fresh
    assert {path for path in new if path.startswith("/etc/") and not root.path(path).is_dir()} == {
        *CONFFILES, ENABLED, CONF,
    }  # fmt: skip
    recorded = root.run(["dpkg-query", "-Wf", "${Conffiles}", "check-mounts"]).stdout
    assert set(re.findall(r"/\S+", recorded)) == CONFFILES
    assert new > COMPLETIONS
    modules = {path for path in new if re.match(r"/usr/lib/check_mounts/.*\.py$", path)}
    compiled = {
        re.sub(r"__pycache__/(\w+)\.cpython-\d+\.pyc$", r"\1.py", path) for path in new if path.endswith(".pyc")
    }
    assert compiled == modules and len(modules) > 100
    conf = root.path(CONF).read_text().splitlines()
    assert [line for line in conf if not line.startswith("#") and line] == ["[check_mounts]"]
    root.run(["check_mounts", "--check-config"])
    for path in CONFFILES | {CONF, "/lib/systemd/system/check_mounts.service"}:
        text = root.path(path).read_text()
        assert not re.search(r"/usr/local|[Ii]nstall this file|[Cc]opy this file", text) or "icinga2" in path, path
    assert "/usr/local/bin" not in root.path("/etc/icinga2/conf.d/check_mounts-command.conf").read_text()
    said = [
        path.read_text().replace("/usr/local/bin", "/usr/bin")
        for path in (ROOT / "nrpe/check_mounts.cfg", root.path(NRPE))
    ]
    commands = [re.findall(r"^#?command.*", text, re.M) for text in said]
    assert commands[0] == commands[1] != []
    assert root.path("/etc/sudoers.d/check_mounts").stat().st_mode & 0o7777 == 0o440
    root.run(["visudo", "-c"])


def _runs(root: FreshRoot) -> None:
    assert root.run(["check_mounts"]).stdout.startswith("MOUNTS OK - ")
    # As fast as from `make install`: the program looks for no site-packages.
    assert root.path("/usr/bin/check_mounts").read_text().startswith("#!/usr/bin/python3 -IS\n")
    server = root.hung("/srv/hung")
    result = root.run(["/usr/lib/nagios/plugins/check_mounts", "-t", "1"], check=False)
    assert (result.returncode, MONITORED in result.stdout) == (2, True), result
    assert root.run(["check_mounts", "--cached"], check=False).returncode == 3
    root.run(["check_mounts", "--daemon", "-t", "1"])
    stuck(root)
    result = root.run(["setpriv", "--reuid=65534", "--clear-groups", "check_mounts", "--cached"], check=False)
    assert (result.returncode, MONITORED in result.stdout) == (2, True), result
    server.command("answer", "/srv/hung")
    until(lambda: workers(root) == 0)
    root.run(["sh", "-c", 'kill $(cat /proc/[0-9]*/stat | sed -n "s/ (check_mounts[:)].*//p")'], check=False)
    until(lambda: not [name for name in root.processes() if name.startswith("check_mounts")])


def _is_compiled_for_another_python(root: FreshRoot) -> None:
    """What python3's package runs when it comes with another version."""
    compiled = {path for path in root.tree() if path.startswith("/usr/lib/check_mounts") and path.endswith(".pyc")}
    root.run(["py3clean", "-p", "check-mounts"])
    assert not compiled & root.tree()
    root.run(["/usr/share/python3/runtime.d/check-mounts.rtupdate", "rtupdate", "python3.8", "python3.9"])
    assert compiled <= root.tree()


def _nobody_is_root_by_it(root: FreshRoot) -> None:
    asked = ["setpriv", "--reuid=nagios", "--regid=nagios", "--init-groups", "sudo", "-n"]
    check = [*asked, "/usr/bin/check_mounts", "-t", "5"]
    assert root.run(check, check=False).returncode == 1
    rule = root.path("/etc/sudoers.d/check_mounts")
    text = rule.read_text()
    rule.write_text(text.replace("# nagios ALL=", "nagios ALL="))
    assert root.run(check, check=False).stdout.startswith("MOUNTS ")
    assert root.run([*check, "-v"], check=False).returncode == 1
    rule.write_text(text)


def test_under_systemd_it_is_upgraded_while_a_mount_hangs(before: Path, deb: Path) -> None:
    with fresh_root(boot=True) as root:
        fresh = _apt_with_dependencies(root)
        server = root.hung("/srv/hung")
        old, new = root.copy(before, "/tmp"), root.copy(deb, "/tmp")
        root.write(CONF, "[check_mounts]\ntimeout = 1\n", 0o600)
        _apt(root, "install", old)
        assert root.run(["systemctl", "is-enabled", "check_mounts"]).stdout == "enabled\n"
        assert "timeout = 1" in root.path(CONF).read_text()
        stuck(root)
        _is_upgraded(root, new)
        _keeps_what_the_administrator_chose(root, new)
        _apt(root, "remove", "check-mounts")
        assert root.run(["systemctl", "is-active", "check_mounts"], check=False).stdout == "inactive\n"
        assert [name for name in root.processes() if name.startswith("check_mounts")] == ["check_mounts:w"]
        assert any(name.startswith(PREFIX) for name in os.listdir(root.path("/run/check_mounts")))
        _apt(root, "purge", "check-mounts")
        assert root.tree() - fresh == set()
        server.command("answer", "/srv/hung")
        until(lambda: workers(root) == 0)


def _is_upgraded(root: FreshRoot, new: str) -> None:
    """In bounded time: the daemon is asked to go, and is not waited for if its worker is stuck."""
    pid = main_pid(root)
    assert root.path(GONE).exists()
    began = time.monotonic()
    _apt(root, "install", new)
    assert time.monotonic() - began < 60
    assert main_pid(root) not in (pid, "0")
    assert __version__ in root.run(["check_mounts", "--version"], check=False).stdout
    assert not root.path(GONE).exists()
    assert "# of the version before" not in root.path(NRPE).read_text()
    stuck(root)  # and no second worker


def _keeps_what_the_administrator_chose(root: FreshRoot, new: str) -> None:
    cfg = root.path(NRPE)
    cfg.write_text(cfg.read_text() + "# mine\n")
    root.path("/etc/icinga2/conf.d/check_mounts-command.conf").unlink()
    conf = root.path(CONF).read_text()
    root.path(CONF).write_text("[check_mounts]\nno-such-option = 1\n")  # the daemon cannot start
    root.run(["systemctl", "disable", "--now", "check_mounts"])
    root.run(["dpkg", "-i", new])
    assert cfg.read_text().endswith("# mine\n")
    assert not root.path("/etc/icinga2/conf.d/check_mounts-command.conf").exists()
    assert root.run(["systemctl", "is-enabled", "check_mounts"], check=False).stdout == "disabled\n"
    root.path(CONF).write_text(conf)
    root.run(["systemctl", "start", "check_mounts"])


def test_what_was_installed_by_hand_is_named(deb: Path) -> None:
    with fresh_root() as root:
        root.offline()
        named = ["/etc/systemd/system/check_mounts.service", "/etc/nagios4/conf.d/check_mounts.cfg"]
        for path in named:
            root.write(path, "")
        root.run(["apt-get", "-q", "-y", "install", "python3-nagiosplugin"])
        said = root.run(["dpkg", "-i", root.copy(deb, "/tmp")]).stderr
        assert re.findall(r"check-mounts: (\S+) is there", said) == named


def test_nagios_gets_each_command_once(deb: Path, tmp_path: Path) -> None:
    """It does not start if a command is defined twice."""
    subprocess.run(["dpkg-deb", "-x", str(deb), str(tmp_path)], check=True)

    def commands(path: Path) -> list[str]:
        return re.findall(r"command_name\t(\S+)", path.read_text())

    ours = commands(ROOT / "nagios/check_mounts.cfg")
    assert commands(tmp_path / "etc/nagios-plugins/config/check_mounts.cfg") == ours
    assert commands(tmp_path / "usr/share/check_mounts/nagios/check_mounts.cfg") == []
    services = (tmp_path / "usr/share/check_mounts/nagios/check_mounts.cfg").read_text()
    assert services.count("define ") + len(ours) == (ROOT / "nagios/check_mounts.cfg").read_text().count("define ")
