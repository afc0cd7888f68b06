"""What `make install` puts where, and that it works there."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from check_mounts import __version__
from tests.conftest import ROOT, Fuse, Mounts

_SHARED = re.search("^SHARED := (.*)$", (ROOT / "Makefile").read_text(), re.M)
assert _SHARED
SHARED = _SHARED[1].split()
SHIPPED = [path for place in SHARED for path in sorted((ROOT / place).rglob("*")) if path.is_file()]
EXPECTED = {
    "bin/check_mounts",
    "share/check_mounts/check_mounts.conf.sample",
    "share/bash-completion/completions/check_mounts",
    "share/zsh/site-functions/_check_mounts",
    "share/fish/vendor_completions.d/check_mounts.fish",
    "share/man/man5/check_mounts.conf.5",
    "share/man/man8/check_mounts.8",
    *(f"share/check_mounts/{path.relative_to(ROOT)}" for path in SHIPPED),
    *(f"lib/check_mounts/{path.relative_to(ROOT)}" for path in (ROOT / "check_mounts").rglob("*.py")),
    "lib/check_mounts/check_mounts/py.typed",
    "lib/check_mounts/installed",
}


def _make(*arguments: str, source: Path = ROOT) -> str:
    command = ["make", "-s", "-C", str(source), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def project(tmp_path: Path) -> Path:
    """A copy of what is installed, with a package inside of a package."""
    source = tmp_path / "source"
    copied = ("check_mounts", "bin", "man", "tools", *SHARED)
    for name in copied:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (
        "Makefile",
        "check_mounts.conf.sample",
        "pyproject.toml",
        "setup.py",
        "README.md",
        "LICENSE",
        "check_mounts.in",
    ):
        shutil.copy(ROOT / name, source)
    for name in ("room", "room/inner"):
        (source / "check_mounts" / name).mkdir()
        (source / "check_mounts" / name / "__init__.py").write_text("")
    return source


def _modules(base: Path) -> set[str]:
    found = (base / "check_mounts").rglob("*")
    return {str(path.relative_to(base)) for path in found if path.suffix == ".py" or path.name == "py.typed"}


def _files(base: Path) -> set[str]:
    return {str(path.relative_to(base)) for path in base.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def _compiled(base: Path) -> set[str]:
    """The modules that need not be compiled at each start by those who may not write there."""
    return {path.name.partition(".")[0] for path in base.rglob("__pycache__/*.pyc")}


def test_install_runs_and_uninstall_leaves_nothing(tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    _make("install", f"PREFIX={prefix}", f"PYTHON={sys.executable}")
    assert _files(prefix) == EXPECTED
    assert _compiled(prefix) == {path.stem for path in (ROOT / "check_mounts").rglob("*.py")}
    program = prefix / "bin/check_mounts"
    result = subprocess.run(
        [program, "-p", "/", "--state-dir", str(tmp_path / "state")], env={}, cwd="/", capture_output=True, check=False
    )
    assert result.stdout.startswith(b"MOUNTS OK - 1 mount checked in "), result
    for path in SHIPPED:
        copy = prefix / "share/check_mounts" / path.relative_to(ROOT)
        assert "/usr/local" not in copy.read_text(), path
        assert copy.stat().st_mode & 0o777 == (0o755 if path.stat().st_mode & 0o100 else 0o644), path
    for name in ("nrpe", "nagios"):
        place = prefix / "share/check_mounts" / name
        assert f"puts these files into `{place}`" in (place / "README.md").read_text()
    assert f"NOPASSWD: {program} -t 5\n" in (prefix / "share/check_mounts/nrpe/check_mounts.sudoers").read_text()
    _make("uninstall", f"PREFIX={prefix}")
    assert _files(prefix) == _compiled(prefix) == set()


@pytest.mark.parametrize("damage", ["import no_such_module\n", "(", "raise OSError\n", "1 / 0\n"])
@pytest.mark.parametrize("words", [[], ["--cached"]])
def test_half_an_upgrade_is_unknown(tmp_path: Path, damage: str, words: list[str]) -> None:
    """Where Python ends with 1 of its own, that would be WARNING."""
    library = tmp_path / "library"
    (library / "check_mounts").mkdir(parents=True)
    for name in ("__init__", "__main__"):
        shutil.copy(ROOT / f"check_mounts/{name}.py", library / "check_mounts")
    (library / "check_mounts/__main__.py").write_text(damage)
    program = tmp_path / "check_mounts"
    text = (ROOT / "check_mounts.in").read_text("utf-8")
    program.write_text(text.replace("@PYTHON@", sys.executable).replace("@LIBDIR@", str(library)))
    program.chmod(0o755)
    done = subprocess.run([program, *words], env={}, cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    assert re.fullmatch(
        r"MOUNTS UNKNOWN - Python 3\.\d+ cannot load check_mounts \(\w+\): install it again\n", done.stdout
    )


def test_destdir_is_not_written_into_files(tmp_path: Path) -> None:
    _make("install", f"DESTDIR={tmp_path}", "PREFIX=/usr")
    assert _files(tmp_path / "usr") == EXPECTED
    for name in EXPECTED:
        assert str(tmp_path) not in (tmp_path / "usr" / name).read_text()
    assert (tmp_path / "usr/bin/check_mounts").read_text().startswith("#!/usr/bin/python3 -IS\n")


def test_a_package_in_a_package_is_installed_and_what_is_no_more_is_removed(tmp_path: Path) -> None:
    source, prefix = project(tmp_path), tmp_path / "prefix"
    installed = prefix / "lib/check_mounts"
    for name in ("room/inner/old.py", "old/__init__.py", "old.py"):
        (installed / "check_mounts" / name).parent.mkdir(parents=True, exist_ok=True)
        (installed / "check_mounts" / name).write_text("")
    subprocess.run([sys.executable, "-m", "compileall", "-q", installed], check=True)
    for _ in range(2):
        _make("install", f"PREFIX={prefix}", f"PYTHON={sys.executable}", source=source)
        assert _modules(installed) == _modules(source)
        assert _modules(installed) >= {"check_mounts/room/inner/__init__.py", "check_mounts/py.typed"}
        assert "old" not in _compiled(prefix)
        assert not (installed / "check_mounts/old").exists()


def test_files_that_are_no_more_are_removed(tmp_path: Path) -> None:
    """Of all that an earlier version installed, and nothing of others."""
    source, prefix = project(tmp_path), tmp_path / "prefix"
    old = [source / name for name in ("nrpe/old.cfg", "nagios/deep/er/old.cfg", "man/check_mounts-old.1")]
    for path in old:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x\n")
    (source / "nagios/deep/er/old.cfg").chmod(0o755)
    _make("install", f"PREFIX={prefix}", f"PYTHON={sys.executable}", source=source)
    installed = [prefix / "share/check_mounts/nrpe/old.cfg", prefix / "share/check_mounts/nagios/deep/er/old.cfg"]
    installed.append(prefix / "share/man/man1/check_mounts-old.1")
    assert [path.stat().st_mode & 0o777 for path in installed] == [0o644, 0o755, 0o644]
    others = prefix / "share/man/man1/check_mounts-other.1"
    others.write_text("somebody else's")
    (prefix / "lib/check_mounts/older").mkdir()
    for path in old:
        path.unlink()
    _make("install", f"PREFIX={prefix}", f"PYTHON={sys.executable}", source=source)
    assert not any(path.exists() for path in installed)
    modules = {f"lib/check_mounts/check_mounts/room/{name}__init__.py" for name in ("", "inner/")}
    assert _files(prefix) == {*EXPECTED, *modules, str(others.relative_to(prefix))}
    assert not (prefix / "lib/check_mounts/older").exists() and not (prefix / "share/check_mounts/nagios/deep").exists()
    _make("uninstall", f"PREFIX={prefix}", source=source)
    assert _files(prefix) == {str(others.relative_to(prefix))}


def test_uninstall_names_what_stays_in_etc(tmp_path: Path) -> None:
    stays = [
        "check_mounts.conf", "cron.d/check_mounts", "nagios/nrpe.d/check_mounts.cfg", "nagios/nrpe_local.cfg",
        "sudoers.d/check_mounts", "systemd/system/check_mounts.service",
        "systemd/system/check_mounts.service.d", "systemd/system/multi-user.target.wants/check_mounts.service",
    ]  # fmt: skip
    other = ["crontab", "nagios/other.cfg", "systemd/system/check_mounts.service.d/override.conf", "loop/x"]
    etc = tmp_path / "etc"
    for name in (*stays, *other):
        path = etc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".wants/check_mounts.service"):
            path.symlink_to("/etc/systemd/system/check_mounts.service")
        elif not name.endswith(".d"):
            path.write_text("command[x]=/usr/bin/check_mountsx\n")
    (etc / "nagios/nrpe_local.cfg").write_text("command[x]=sudo /usr/bin/check_mounts -t 5\n")
    (etc / "loop/again").symlink_to("..")
    said = _make("uninstall", f"DESTDIR={tmp_path}", "PREFIX=/usr")
    assert said.splitlines() == [
        "These files are yours, and stay:",
        *(f"  {etc}/{name}" for name in stays),
        "A unit stops with: systemctl disable --now check_mounts",
    ]
    shutil.rmtree(etc)
    assert _make("uninstall", f"DESTDIR={tmp_path}", "PREFIX=/usr") == ""


@pytest.mark.root
def test_uninstall_touches_no_mount(mounts: Mounts, fuse: Fuse) -> None:
    (mounts.base / "etc").mkdir(parents=True)
    (mounts.base / "etc/check_mounts.conf").touch()
    fuse.mount("etc/check_mounts hung")
    fuse.command("hang", "etc/check_mounts hung")
    said = _make("uninstall", f"DESTDIR={mounts.base}", "PREFIX=/usr")
    fuse.command("answer", "etc/check_mounts hung")
    assert said.count("\n") == 2


def test_a_build_has_a_package_in_a_package(tmp_path: Path) -> None:
    """What pip asks setuptools for; pip itself may want the network."""
    source, target = project(tmp_path), tmp_path / "target"
    command = [sys.executable, "setup.py", "-q", "build", "--build-lib", str(target)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    assert _modules(target) == _modules(source)
    told = [sys.executable, "setup.py", "--name", "--version"]
    result = subprocess.run(told, cwd=source, check=True, capture_output=True, text=True)
    assert result.stdout.split() == ["check_mounts", __version__]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="no tomllib")
def test_both_descriptions_of_the_package_say_the_same() -> None:
    """Debian 11's setuptools reads setup.py only."""
    import tomllib  # type: ignore[import-not-found,unused-ignore]

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    old = runpy.run_path(str(ROOT / "setup.py"))["described_here"]()
    assert old == {
        "name": project["name"],
        "version": __version__,
        "python_requires": project["requires-python"],
        "install_requires": project["dependencies"],
        "extras_require": project["optional-dependencies"],
    }


def test_no_shipped_file_has_the_name_of_one_that_is_there() -> None:
    """An administrator copies them where others are: services.conf in /etc/icinga2/conf.d/ is
    Debian's, or his own."""
    for place in sorted({path.parent for path in SHIPPED}):
        names = {path.name for path in place.iterdir() if path.is_file()}
        others = {name for name in names if not name.startswith(("check_mounts", "example"))}
        assert others <= {"README.md", "director-basket.json"}, place
        copied = re.findall(
            r"^(?:.*&& )?install (?:-m \d+ )?((?:\w[\w.-]* )+)/etc/\S+", (place / "README.md").read_text(), re.M
        )
        assert {word for words in copied for word in words.split()} <= {
            name for name in names if name.startswith("check_mounts")
        }, place


@pytest.mark.parametrize("name", ["check_mounts.8", "check_mounts.conf.5"])
def test_the_manual_has_no_warnings(name: str) -> None:
    page = str(ROOT / "man" / name)
    command = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page]
    result = subprocess.run(command, capture_output=True, check=True, env={"PATH": "/usr/bin:/bin", "MANWIDTH": "80"})
    assert result.stderr == b""
    assert result.stdout


@pytest.mark.root
def test_sudo_accepts_its_rule(tmp_path: Path) -> None:
    rule = tmp_path / "rule"
    rule.write_text((ROOT / "nrpe/check_mounts.sudoers").read_text())
    rule.chmod(0o440)
    subprocess.run(["/usr/sbin/visudo", "-cf", str(rule)], check=True, capture_output=True)


def test_nrpe_and_sudo_agree_on_the_command() -> None:
    command = re.search(r"^command\[check_mounts\]=sudo (.*)$", (ROOT / "nrpe/check_mounts.cfg").read_text(), re.M)
    assert command
    assert f"NOPASSWD: {command[1]}\n" in (ROOT / "nrpe/check_mounts.sudoers").read_text()


def test_the_version_is_the_same_everywhere() -> None:
    for page in (ROOT / "man").iterdir():
        (said,) = re.findall(r'^\.TH .* "check_mounts (\S+)"', page.read_text(), re.M)
        assert said == __version__, page
    assert re.search(rf"^## {re.escape(__version__)} \(", (ROOT / "CHANGELOG.md").read_text(), re.M)
    changelog = (ROOT / "packaging/debian/changelog").read_text()
    assert changelog.startswith(f"check-mounts ({__version__}-1) unstable; urgency=medium\n")
    spec = (ROOT / "packaging/check_mounts.spec").read_text()
    assert re.findall(r"^Version: +(\S+)$", spec, re.M) == [__version__]
    assert re.findall(r"^%changelog\n\* .* - (\S+)-1$", spec, re.M) == [__version__]


def test_one_nagiosplugin_is_carried() -> None:
    """By check_mounts.pyz, and by the RPM package that has it inside."""
    (version,) = re.findall(r"^nagiosplugin==(\S+)", (ROOT / "tools/nagiosplugin.txt").read_text(), re.M)
    spec = (ROOT / "packaging/check_mounts.spec").read_text()
    assert f"nagiosplugin-{version}-py3-none-any.whl\n" in spec
    assert f"bundled(python3-nagiosplugin) = {version}\n" in spec
