"""The daemon's side of the files that ``check_mounts --cached`` prints, written after each pass.
The modules cache and cachedjson, which read the files, say what they hold.

Import budget: what cache, cachedjson and replacing need."""

from __future__ import annotations

from collections.abc import Sequence

from check_mounts import cache, cachedjson
from check_mounts.system import replacing


def write(path: str, state: int, texts: Sequence[bytes], taken: float, valid_until: float) -> None:
    """Put a result into ``path``: the outputs at verbosity 0 to 3, finished; times in seconds on
    CLOCK_BOOTTIME.

    Raises OSError (also if /proc does not show the boot's ID), and ValueError for a result that
    every reader would refuse."""
    replacing.replace(path, compose(cache.Result(state, texts, taken, valid_until, cache.boot_id())))


def write_in(directory: int, name: str, state: int, texts: Sequence[bytes], taken: float, valid_until: float) -> None:
    """Put a result into a file in a directory that is open. If that fails, no result with another
    state stays there."""
    verdict = cache.VERDICT % cache.STATES[state]
    try:
        data = compose(cache.Result(state, texts, taken, valid_until, cache.boot_id()))
    except BaseException:
        replacing.remove_unless(directory, name, verdict)
        raise
    replacing.replace_in(directory, name, data, verdict=verdict)


def write_json_in(directory: int, name: str, json: bytes, taken: float, valid_until: float) -> None:
    """Put a result as JSON into a file in a directory that is open. If that fails, no result with
    another state stays there."""
    verdict = json[: json.index(b'"summary"')]
    try:
        data = cachedjson.composed(json, taken, valid_until, cache.boot_id())
    except BaseException:
        replacing.remove_unless(directory, name, verdict)
        raise
    replacing.replace_in(directory, name, data, verdict=verdict)


def compose(result: cache.Result) -> bytes:
    """The bytes of a file; the inverse of :func:`cache.parse`. Raises ValueError."""
    body = b"".join(result.texts)
    header = cache.header_of(result)
    return b"%b%b\n%b" % (header, cache.checksum(header, body), body)
