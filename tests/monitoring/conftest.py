"""The fixtures of stack.py, and servers' logs in the report of a test that fails."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from tests.monitoring.stack import Stack, installed, stack

__all__ = ["installed", "stack"]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    report = (yield).get_result()
    used = getattr(item, "funcargs", {}).get("stack")
    if isinstance(used, Stack) and report.failed:
        report.sections += [(f"log of {name}", log[-8000:]) for name, log in used.logs()]
