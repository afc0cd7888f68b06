"""A range for WARNING that lies within that for CRITICAL is refused, if that is certain."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from check_mounts.judging.thresholds import Range
from check_mounts.options.contradictions import _is_within
from tests.conftest import Plugin

ALREADY = "could never be WARNING, because all of it is CRITICAL already, by"


@pytest.mark.parametrize(
    ("words", "warning", "critical"),
    [
        (["-w", "2", "-c", "1"], "2", "1"),
        (["-w", "@3:4", "-c", "2"], "@3:4", "2"),
        (["-w", "read=2", "-c", "read=1"], "read=2", "read=1"),
        (["-w", "read=2", "-c", "1"], "read=2", "1"),
        (["--usage-warning", "95", "--usage-critical", "90"], "95", "90"),
        (["--usage-warning", "5GiB:", "--usage-critical", "10GiB:"], "5GiB:", "10GiB:"),
        (["--inodes-warning", "@96:98", "--inodes-critical", "90"], "@96:98", "90"),
    ],
)
def test_it_is_refused(plugin: Plugin, words: list[str], warning: str, critical: str) -> None:
    result = plugin(*words, below=False, state=False)
    assert result.code == 3
    assert f"{words[0]}" in result.verdict
    assert result.verdict.endswith(f": '{warning}' {ALREADY} '{critical}'")


@pytest.mark.parametrize(
    "words",
    [
        ["-w", "1", "-c", "2"],
        ["-w", "1", "-c", "1"],
        ["-w", "0:", "-c", "1"],
        ["-w", "2", "-c", "@1:3"],
        ["-w", "1", "-c", "read=0.5"],
        ["-w", "read=0.5", "-c", "1"],
        ["-w", "read=2", "-c", "look-up=1"],
        ["--usage-warning", "95", "--usage-critical", "1GiB:"],
        ["--usage-warning", "10GiB:", "--usage-critical", "5GiB:"],
        ["--usage-warning", "90", "--usage-critical", "95"],
    ],
)
def test_it_is_taken(plugin: Plugin, words: list[str]) -> None:
    assert plugin(*words, "--allow-none").code == 0


def test_in_sections(plugin: Plugin, tmp_path: Path) -> None:
    config = tmp_path / "c.conf"

    def verdict(content: str, *words: str) -> str:
        config.write_text(content)
        config.chmod(0o644)
        return plugin("--config", str(config), "--allow-none", *words).verdict

    general = "[check_mounts]\ncritical = 1\n"
    why = f"warning: '2' {ALREADY} '1'"
    assert verdict(f'{general}[mount "/a"]\nwarning = 2\n').endswith(f"{config} line 4: {why}")
    assert verdict(f'{general}[mount "/*"]\nwarning = 2\n').endswith(f"{config} line 4: {why}")
    assert verdict('[mount "/*"]\nwarning = 2\ncritical = 1\n').endswith(f"{config} line 2: {why}")
    assert verdict('[mount "/a"]\ncritical = 1\n', "-c", "3").startswith("MOUNTS OK")
    assert verdict("[check_mounts]\nwarning = 2\ncritical = 1\n").endswith(f"{config} line 2: {why}")
    for content in (
        f'{general}[mount "/*"]\nwarning = 2\n[mount "/a"]\ncritical = 3\n',  # each mount may match both
        f'{general}[mount "/*"]\ncritical = 3\n[mount "/a"]\nwarning = 2\n',
        f'{general}[mount "/a"]\nwarning = 2\ncritical = 3\n',
    ):
        assert verdict(content).startswith("MOUNTS OK"), content


_ranges = some.builds(
    lambda start, more, inverted: Range("x", start, start + more, inverted),
    some.integers(0, 9).map(float),
    some.integers(0, 9).map(float),
    some.booleans(),
)


@given(_ranges, _ranges, some.lists(some.floats(0, 100), max_size=20))
def test_what_is_refused_is_never_warning(warning: Range, critical: Range, values: list[float]) -> None:
    if _is_within(warning, critical):
        assert all(critical.alerts(value) for value in values if warning.alerts(value))
    if _is_within(warning, critical, accumulates=True):
        assert all(critical.alerts(value + 1) for value in values if warning.alerts(value))
