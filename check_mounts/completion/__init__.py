"""``--completion SHELL``: a script that completes command lines of check_mounts in a shell."""

from __future__ import annotations

import importlib


def script(shell: str) -> str:
    """The script for one of option_table.SHELLS."""
    made: str = importlib.import_module(f"check_mounts.completion.{shell}").script()
    return made
