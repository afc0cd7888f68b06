"""Mounts on autofs triggers with a timeout: they expire although they are checked. All real, with
an automounter of the tests' own."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.automounter import Trigger
from tests.conftest import Mounts, Plugin

pytestmark = pytest.mark.root


@pytest.fixture
def trigger(mounts: Mounts) -> Iterator[Trigger]:
    made = Trigger(mounts.mount_at, mounts.point("auto"))
    yield made
    made.close()


def expires_while(trigger: Trigger, plugin: Plugin, *arguments: str, seconds: float = 2.5) -> bool:
    """Whether what is on a trigger expires within twice its timeout and a bit, though it is checked
    again and again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        plugin(*arguments)
        if trigger.expires():
            return True
    return False


def test_a_mount_that_nobody_uses_expires(trigger: Trigger, mounts: Mounts, plugin: Plugin) -> None:
    mounts.mount_at(trigger.path, "tmpfs")
    assert plugin("-v").count("ok") == 1
    result = plugin("-v")
    assert (result.code, result.count("idle"), result.count("ok")) == (0, 1, 0)
    assert not expires_while(trigger, plugin, "--automounted", "probe")
    assert expires_while(trigger, plugin)
