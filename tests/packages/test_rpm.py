"""The RPM package: built, installed in a fresh root by ``rpm --root``, run against a mount that
hangs, upgraded and removed.

What it requires stands in a package of the tests' own: the root is a Debian, and rpm knows nothing
of what is installed there."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from check_mounts import __version__
from tests.conftest import ROOT, until
from tests.fresh import DIRECTORY, FreshRoot, fresh_root
from tests.packages import GONE, OLD, main_pid, make, sources, stand_in, stuck, workers

pytestmark = [pytest.mark.root, pytest.mark.packages]
SPEC = ROOT / "packaging/check_mounts.spec"
NAME = f"check_mounts-{__version__}-1.noarch.rpm"
WHEELS = ROOT / ".venv/carried"
MONITORED = "/srv/hung (fuse.test fuse) timed out"
CFG = "/etc/nrpe.d/check_mounts.cfg"
CONF = "/etc/check_mounts.conf"
NAGIOSPLUGIN = "python3dist(nagiosplugin) = 1.3.2"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sources(tmp_path_factory.mktemp("rpm"))


@pytest.fixture(scope="module")
def rpm(source: Path) -> Path:
    return make(source, "rpm") / NAME


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make rpm-bundled`, which fetches the wheel."""
    copy = sources(tmp_path_factory.mktemp("bundled"))
    words = [str(copy / "packaging/build-rpm.sh"), __version__, "--with", "bundled"]
    subprocess.run(words, check=True, capture_output=True, env={"PATH": "/usr/bin:/bin", "WHEELS": str(WHEELS)})
    return copy / "dist" / NAME


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version before, with a module that is no more."""
    copy = sources(tmp_path_factory.mktemp("before"), version=OLD)
    return make(copy, "rpm") / f"check_mounts-{OLD}-1.noarch.rpm"


def _rpm(root: FreshRoot, *words: str) -> str:
    result = _try_rpm(root, *words)
    assert (result.returncode, "error" in result.stderr) == (0, False), (words, result.stderr)
    return result.stdout


def _try_rpm(root: FreshRoot, *words: str) -> subprocess.CompletedProcess[str]:
    """Debian's own rpm, there."""
    return root.run(["rpm", "--dbpath", "/var/lib/rpm", *words], check=False)


@contextlib.contextmanager
def _layered(place: Path) -> Iterator[list[str]]:
    """A tree for `rpm --root`, without anything that runs in it. What it writes is in place/upper.
    The words are the command for it."""
    for name in ("upper", "work", "root"):
        (place / name).mkdir(exist_ok=True)
    options = f"lowerdir={DIRECTORY}/root,upperdir={place}/upper,workdir={place}/work"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", str(place / "root")], check=True)
    try:
        yield ["rpm", "--root", str(place / "root"), "--dbpath", "/var/lib/rpm"]
    finally:
        subprocess.run(["umount", str(place / "root")], check=True)


def _asked(words: Sequence[str], *defined: str) -> list[str]:
    definitions = [word for each in defined for word in ("--define", each)]
    return subprocess.run(
        ["rpmspec", "-q", "--dbpath", "/dev/null", *definitions, *words, str(SPEC)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()


def test_what_is_built(rpm: Path) -> None:
    assert {path.name for path in rpm.parent.iterdir()} == {NAME, f"check_mounts-{__version__}-1.src.rpm"}
    every = subprocess.run(
        ["rpm", "--dbpath", "/dev/null", "-qpl", str(rpm)], check=True, capture_output=True, text=True
    )
    assert set(every.stdout.split()) > {
        "/usr/bin/check_mounts", "/usr/share/bash-completion/completions/check_mounts",
        "/usr/share/zsh/site-functions/_check_mounts", "/usr/share/fish/vendor_completions.d/check_mounts.fish",
    }  # fmt: skip
    listed = subprocess.run(
        ["rpm", "--dbpath", "/dev/null", "-qpc", str(rpm)], check=True, capture_output=True, text=True
    ).stdout.split()
    assert listed == [CONF, CFG, "/etc/sudoers.d/check_mounts"]


def test_a_second_build_elsewhere_is_the_same(rpm: Path, tmp_path: Path) -> None:
    elsewhere = {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    again = make(sources(tmp_path, "else where"), "rpm", umask=0o077, env=elsewhere)
    for path in rpm.parent.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_source_package_gives_the_same_files(rpm: Path, tmp_path: Path) -> None:
    words = ["rpmbuild", "--rebuild", "--nodeps", "--quiet", "--dbpath", f"{tmp_path}/db"]
    words += ["--define", f"_topdir {tmp_path}", "--define", "__os_install_post %{nil}"]
    subprocess.run([*words, str(next(rpm.parent.glob("*.src.rpm")))], check=True, capture_output=True)
    contents = [
        subprocess.run(["rpm2cpio", str(each)], check=True, capture_output=True).stdout
        for each in (rpm, tmp_path / "RPMS/noarch" / NAME)
    ]
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("defined", "requires"),
    [
        (("fedora 42", "dist .fc42"), {"python3 >= 3.9", "python3dist(nagiosplugin) >= 1.3.2"}),
        (("rhel 9", "dist .el9"), {"python3 >= 3.9", "python3dist(nagiosplugin) >= 1.3.2"}),
        (("rhel 8", "dist .el8"), {"python39 >= 3.9"}),
        (("suse_version 1600", "sle_version 160000"), {"python3 >= 3.9", "python3dist(nagiosplugin) >= 1.3.2"}),
        (("suse_version 1500", "sle_version 150600"), {"python311 >= 3.9"}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_each_distribution_calls_it(defined: tuple[str, ...], requires: set[str]) -> None:
    assert set(_asked(["-q", "--requires"], *defined)) - {"config(check_mounts) = 0.1.0-1"} >= requires
    carries = "bundled(python3-nagiosplugin) = 1.4.0" in _asked(["-q", "--provides"], *defined)
    assert carries == (len(requires) == 1)


def test_the_macros_of_systemd_are_the_distribution_s_own_where_it_has_them() -> None:
    own = ["systemd_post() echo theirs %{*}", "systemd_preun() :", "systemd_postun_with_restart() :"]
    assert "echo theirs check_mounts.service" in _asked(["-P"], *own)
    assert "echo theirs check_mounts.service" not in _asked(["-P"])


def test_it_is_upgraded_while_a_mount_hangs_and_leaves_nothing(before: Path, rpm: Path, tmp_path: Path) -> None:
    with fresh_root(boot=True) as root:
        root.offline()
        root.run(["apt-get", "-q", "-y", "install", "--no-install-recommends", "python3-nagiosplugin", "rpm"])
        fresh = root.tree()
        _rpm(root, "-U", root.copy(stand_in(tmp_path), "/tmp"))
        old, new = root.copy(before, "/tmp"), root.copy(rpm, "/tmp")
        refused = _try_rpm(root, "-U", old)
        assert "python3dist(nagiosplugin) >= 1.3.2 is needed by" in refused.stderr
        _rpm(root, "-U", root.copy(stand_in(tmp_path, NAGIOSPLUGIN, release=2), "/tmp"))
        server = root.hung("/srv/hung")
        root.write(CONF, "[check_mounts]\ntimeout = 1\n", 0o600)
        _rpm(root, "-U", old)
        assert root.run(["systemctl", "is-enabled", "check_mounts"]).stdout == "enabled\n"  # Debian's preset
        root.run(["systemctl", "start", "check_mounts"])
        stuck(root)
        _is_upgraded(root, new)
        assert [line.split()[-1] for line in _try_rpm(root, "-V", "check_mounts").stdout.splitlines()] == [CONF, CFG]
        assert "timeout = 1" in root.path(CONF).read_text()
        _rpm(root, "-e", "check_mounts")
        assert root.run(["systemctl", "is-active", "check_mounts"], check=False).stdout == "inactive\n"
        assert [name for name in root.processes() if name.startswith("check_mounts")] == ["check_mounts:w"]
        assert _left(root.tree() - fresh) == {"/etc/nrpe.d", f"{CFG}.rpmsave", f"{CONF}.rpmsave", f"{CONF}.rpmnew"}
        server.command("answer", "/srv/hung")
        until(lambda: workers(root) == 0)


def _is_upgraded(root: FreshRoot, new: str) -> None:
    pid = main_pid(root)
    assert root.path(GONE).exists()
    with root.path(CFG).open("a") as cfg:
        cfg.write("# mine\n")
    began = time.monotonic()
    _rpm(root, "-U", new)
    assert time.monotonic() - began < 60
    assert main_pid(root) not in (pid, "0")
    assert __version__ in root.run(["check_mounts", "--version"], check=False).stdout
    assert not any("no_more" in path for path in root.tree())
    assert root.path(CFG).read_text().endswith("# mine\n")
    stuck(root)  # and no second worker


def test_with_nagiosplugin_inside_it_needs_nothing_but_python(bundled: Path, tmp_path: Path) -> None:
    with fresh_root() as root:
        fresh = root.tree()
    with _layered(tmp_path) as rpm:
        for package in (stand_in(tmp_path), bundled):
            subprocess.run([*rpm, "-U", str(package)], check=True, capture_output=True)
        pages = {path.name for path in (tmp_path / "root/usr/share/licenses").rglob("LICENSE*")}
        assert pages == {"LICENSE", "LICENSE.nagiosplugin"}
    with fresh_root(layer=tmp_path / "upper") as root:
        compiled = {path for path in root.tree() - fresh if path.endswith(".pyc")}
        modules = {path for path in root.tree() - fresh if re.match(r"/usr/lib/check_mounts/.*\.py$", path)}
        assert len(compiled) == len(modules) > 100
        assert root.run(["check_mounts"]).stdout.startswith("MOUNTS OK - ")
        _nobody_is_root_by_it(root, tmp_path)
        root.hung("/srv/hung")
        for program in ("/usr/lib64/nagios/plugins/check_mounts", "/usr/lib/nagios/plugins/check_mounts"):
            result = root.run([program, "-t", "1"], check=False)
            assert (result.returncode, MONITORED in result.stdout) == (2, True), result
    with _layered(tmp_path) as rpm:
        (tmp_path / f"root{min(compiled)}").unlink()
        another_python = stand_in(tmp_path, release=2)
        subprocess.run([*rpm, "-U", str(another_python)], check=True, capture_output=True)
        assert (tmp_path / f"root{min(compiled)}").exists()
        subprocess.run([*rpm, "-e", "check_mounts"], check=True, capture_output=True)
    with fresh_root(layer=tmp_path / "upper") as root:
        assert _left(root.tree() ^ fresh) == set()


def _left(paths: set[str]) -> set[str]:
    """The list of rpm is no file of ours, and each system with rpm has this directory."""
    return {path for path in paths if not path.startswith("/var/lib/rpm")} - {"/usr/share/licenses"}


def _nobody_is_root_by_it(root: FreshRoot, tmp_path: Path) -> None:
    text = root.path("/etc/sudoers.d/check_mounts").read_text()
    assert re.findall(r"^[^#\n].*", text, re.M) == []
    rule = tmp_path / "rule"
    rule.write_text(text.replace("# nrpe ALL=", "nrpe ALL="))
    assert re.findall(r"^[^#\n].*", rule.read_text(), re.M) == ["nrpe ALL=(root) NOPASSWD: /usr/bin/check_mounts -t 5"]
    rule.chmod(0o440)
    subprocess.run(["/usr/sbin/visudo", "-cf", str(rule)], check=True, capture_output=True)
