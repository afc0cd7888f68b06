"""The directory that this process was started in, remembered because the process changes to /
before the first probe."""

from __future__ import annotations

import functools
import os

from check_mounts.options.refusals import refuse


def absolute(option: str, path: str) -> str:
    """The path that an option gives, made absolute. Raises UsageError."""
    if path.startswith("/"):
        return path
    try:
        return f"{started_in()}/{path}" if path else refuse(option, "the path is empty")
    except OSError as error:
        return refuse(option, f"the working directory is not known: {error.strerror}")


@functools.lru_cache(maxsize=1)
def started_in() -> str:
    """The working directory when this was first called. Raises OSError.

    A daemon that reads its options again is in / by then."""
    return os.getcwd()
