"""The shorter way to our modules gives what Python gives, and an edited module takes effect."""

from __future__ import annotations

import compileall
import os
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PYTHON, ROOT

CODE = """
import sys
sys.path.insert(0, {place!r})
from check_mounts.guard import loading
if {quickly!r}:
    loading.begin()
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
try:
    import check_mounts.one, check_mounts.sub.two
    from check_mounts import sub
    for module in (check_mounts.one, check_mounts.sub.two, sub):
        spec = module.__spec__
        print(module.__name__, module.__file__, module.__cached__, module.__package__)
        print(getattr(module, "__path__", None), module.__doc__)
        print(spec.name, spec.origin, spec.cached, spec.has_location, spec.submodule_search_locations)
        print(module.VALUE, module.place.__code__.co_filename, isinstance(spec.loader, type(sub.__loader__)))
    import check_mounts.none
except ImportError as error:
    print(type(error).__name__, error, error.name)
own = [path for path in opened if "check_mounts" in path]
print("opened", sum(path.endswith(".pyc") for path in own), sum(path.endswith(".py") for path in own), file=sys.stderr)
"""


class Package:
    """A small package with our loader in it."""

    def __init__(self, place: Path) -> None:
        self.place, self.root = place, place / "check_mounts"
        for directory in (self.root / "guard", self.root / "sub"):
            directory.mkdir(parents=True)
            (directory / "__init__.py").write_text(module("0"))
        shutil.copy(ROOT / "check_mounts" / "guard" / "loading.py", self.root / "guard")
        for name in ("__init__.py", "one.py", "sub/two.py"):
            (self.root / name).write_text(module("1"))

    def compile(self, mode: py_compile.PycInvalidationMode) -> None:
        assert compileall.compile_dir(self.place, quiet=1, force=True, invalidation_mode=mode)

    def run(self, *options: str, quickly: bool = True) -> tuple[str, str]:
        code = CODE.format(place=str(self.place), quickly=quickly)
        command = [PYTHON if options else sys.executable, *options, "-IS", "-B", "-c", code]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        return result.stdout, result.stderr

    def both(self, *options: str) -> str:
        """The output, once it is the same in both ways."""
        ours, _ = self.run(*options)
        assert ours == self.run(*options, quickly=False)[0]
        return ours


def module(value: str) -> str:
    return f"VALUE = {value!r}\ndef place():\n    pass\n"


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Package]:
    yield Package(tmp_path / "place")


MODES = list(py_compile.PycInvalidationMode)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_modules_are_as_python_makes_them(package: Package, mode: py_compile.PycInvalidationMode) -> None:
    package.compile(mode)
    told = package.both()
    assert "check_mounts.sub.two" in told and "ModuleNotFoundError No module named 'check_mounts.none'" in told


def test_without_compiled_modules(package: Package) -> None:
    assert package.both().count("\n1 ") == 2


@pytest.mark.parametrize("mode", MODES[:2], ids=lambda mode: mode.name)
def test_an_edited_module_takes_effect(package: Package, mode: py_compile.PycInvalidationMode) -> None:
    package.compile(mode)
    file = package.root / "one.py"
    before = file.stat()
    file.write_text(module("2"))  # of the same size
    if mode is py_compile.PycInvalidationMode.TIMESTAMP:
        os.utime(file, (before.st_atime, before.st_mtime + 1))
    else:
        os.utime(file, (before.st_atime, before.st_mtime))
    assert "\n2 " in package.both()


@pytest.mark.parametrize("data", [b"", b"abc", None])
def test_a_compiled_module_that_is_broken(package: Package, data: bytes | None) -> None:
    package.compile(py_compile.PycInvalidationMode.TIMESTAMP)
    (compiled,) = (package.root / "__pycache__").glob("one.*.pyc")
    whole = compiled.read_bytes()
    compiled.write_bytes(whole[:4] + whole[3:4] * 4 + whole[8:] if data is None else data)
    assert package.run()[0].count("\n1 ") == 2


@pytest.mark.parametrize(
    "options", [("-O",), ("-X", "pycache_prefix=/nonexistent"), ("--check-hash-based-pycs", "always")]
)
def test_what_is_unusual_is_left_to_python(package: Package, options: tuple[str, ...]) -> None:
    package.compile(py_compile.PycInvalidationMode.UNCHECKED_HASH)
    package.both(*options)


@pytest.mark.parametrize(("mode", "sources"), [("TIMESTAMP", 0), ("CHECKED_HASH", 3), ("UNCHECKED_HASH", 0)])
def test_what_is_opened(package: Package, mode: str, sources: int) -> None:
    package.compile(py_compile.PycInvalidationMode[mode])
    ways = [package.run(quickly=quickly)[1] for quickly in (True, False)]
    assert ways == [f"opened 3 {sources}\n"] * 2
