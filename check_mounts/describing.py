"""What the program says of itself: ``--help``, ``--help-all``, ``--version``, ``--completion``."""

from __future__ import annotations

import os
from collections.abc import Mapping

from check_mounts import __version__
from check_mounts.model import State
from check_mounts.system.printing import write
from check_mounts.system.signals import Interrupts
from check_mounts.typed import Any, Optional


def run(given: Mapping[str, Any], interrupts: Interrupts, terminal: Optional[int]) -> int:
    """Print it, and return the exit code. ``terminal`` is a descriptor; None if stdout leads to
    none."""
    words, state = f"check_mounts {__version__}\n", State.UNKNOWN
    if "completion" in given:
        from check_mounts import completion

        words, state = completion.script(given["completion"]), State.OK
    elif "help" in given or "help_all" in given:
        from check_mounts.options import option_parser
        from check_mounts.system.terminal import columns

        width = option_parser.WIDTH if terminal is None else columns(terminal, os.environ)
        words = option_parser.help_text("help_all" in given, width)
    write(words.encode("utf-8"), interrupts)
    return state.value
