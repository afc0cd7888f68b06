"""What holds for one mount, resolved from the options and the sections, and where it was said."""

from __future__ import annotations

from pathlib import Path

import pytest

from check_mounts.model import Condition, State
from check_mounts.options import command_line, settled
from check_mounts.options.rules import Rulebook, Rules

CONFIGURATION = """[check_mounts]
timeout = 4
ignore-option = addr=*
severity = denied=ok

[mount "/home/*"]
timeout = 8
usage-warning = 90%
severity = timed-out=warning
options = nodev

[mount "/home/old"]
as = self
expect-ro = yes
write = yes
ignore-option = x
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.conf"
    path.write_text(CONFIGURATION)
    path.chmod(0o644)
    return path


def rulebook(file: Path, *arguments: str) -> Rulebook:
    given = command_line.given([f"--config={file}", *arguments])
    return settled.understand(given).settings.writes.__self__  # type: ignore[attr-defined,no-any-return]


def rules(file: Path, mount_point: bytes, *arguments: str) -> Rules:
    return rulebook(file, *arguments).of(mount_point)


def test_what_no_section_speaks_of(file: Path) -> None:
    found = rules(file, b"/srv", "-v", "--write")
    assert (found.timeout, found.user, found.write, found.ignore) == (4.0, "owner", True, False)
    assert str(found) == (
        '[mount "/srv"]\n'
        "ignore = no (default)\n"
        f"timeout = 4 ({file} line 2)\n"
        "as = owner (default)\n"
        "write = yes (command line)\n"
        f"severity = denied=ok ({file} line 4)\n"
        f"ignore-option = 1 pattern ({file} line 3)"
    )


def test_what_sections_say(file: Path) -> None:
    found = rules(file, b"/home/old")
    assert found.policy.severity == {Condition.DENIED: State.OK, Condition.TIMED_OUT: State.WARNING}
    assert str(found) == (
        '[mount "/home/old"]\n'
        "ignore = no (default)\n"
        f"timeout = 8 ({file} line 7)\n"
        f"as = self ({file} line 13)\n"
        f"write = no ({file} line 14)\n"
        f"severity = denied=ok, timed-out=warning ({file} line 4, {file} line 9)\n"
        f"usage-warning = 90% ({file} line 8)\n"
        f"expect-ro = yes ({file} line 14)\n"
        f"options = nodev ({file} line 10)\n"
        f"ignore-option = 2 patterns ({file} line 3, {file} line 16)"
    )
    assert found.expect_ro and found.by_path
    assert found.declared is not None and found.declared.options == (b"nodev",)


def test_the_command_line_comes_first(file: Path) -> None:
    found = rules(file, b"/home/old", "-t", "2", "--as=owner", "--severity=timed-out=ok", "--usage-warning=50")
    assert (found.timeout, found.user, found.policy.severity[Condition.TIMED_OUT]) == (2.0, "owner", State.OK)
    assert "timeout = 2 (command line)\nas = owner (command line)\n" in str(found)
    assert "usage-warning = 50 (command line)\n" in str(found)
    assert f"severity = denied=ok, timed-out=ok ({file} line 4, command line)\n" in str(found)


def test_secrets_are_masked(file: Path) -> None:
    file.write_text('[mount "/s"]\nsource = //bob%hush@nas/x\noptions = nodev, user=u%hush, password=hush\n')
    words = str(rules(file, b"/s"))
    assert "hush" not in words
    assert f"source = //bob%***@nas/x ({file} line 2)\n" in words
    assert f"options = nodev,user=u%***,password=*** ({file} line 3)" in words


def test_only_mounts_that_a_section_speaks_of_are_told(file: Path) -> None:
    book = rulebook(file, "--expect-ro=/home/a")
    assert book.told(b"/srv") == ()
    assert book.told(b"/home/a") == [
        f"timeout = 8 ({file} line 7)",
        f"severity = denied=ok, timed-out=warning ({file} line 4, {file} line 9)",
        f"usage-warning = 90% ({file} line 8)",
        "expect-ro = yes (command line)",
        f"options = nodev ({file} line 10)",
        f"ignore-option = 1 pattern ({file} line 3)",
    ]


def test_rules_are_resolved_once_until_links_are_known(file: Path) -> None:
    book = rulebook(file)
    assert book.of(b"/home/a") is book.of(b"/home/a")
    assert book.of(b"/data/a").timeout == 4.0
    book.follow(lambda path: path.replace(b"/home", b"/data"))
    assert book.of(b"/data/a").timeout == 8.0


def test_they_cannot_be_changed(file: Path) -> None:
    with pytest.raises(AttributeError):
        rules(file, b"/").timeout = 1.0  # type: ignore[misc]
