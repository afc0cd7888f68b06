"""The daemon's result as JSON, which ``check_mounts --cached --json`` prints.

The daemon writes it into FILE.json after each pass, with a second line that this reader replaces:
boot, times on CLOCK_BOOTTIME, and a checksum over all other bytes. So a program that reads the file
itself finds JSON, and this reader need not understand JSON to know that the object is whole and
valid. Import budget: cache; with --brief, and if the result cannot be trusted, report.jsonform."""

import binascii
import time

from check_mounts import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

_SECOND = b'"cache": {"boot": "%b", "taken": %.9f, "valid_until": %.9f, "checksum": '
_WORDS = 9  # of the second line
_END = b"}\n"


def composed(json: bytes, taken: float, valid_until: float, boot: bytes) -> bytes:
    """The content of a file: an object whose first line holds version, state and summary, with the
    second line. Times are in seconds on CLOCK_BOOTTIME."""
    end = json.index(b"\n") + 1
    # Views: with many mounts the object is large, and must not be in memory three times.
    first, rest = memoryview(json)[:end], memoryview(json)[end:]
    return b"".join((first, _second(first, rest, taken, valid_until, boot), b"\n", rest))


def _second(
    first: "bytes | memoryview", rest: "bytes | memoryview", taken: float, valid_until: float, boot: bytes
) -> bytes:
    """The second line. ``first`` has its newline."""
    words = _SECOND % (boot, taken, valid_until)
    return b'%b"%08x"},' % (words, binascii.crc32(rest, binascii.crc32(words, binascii.crc32(first))))


def parse(data: bytes) -> cache.Result:
    """The inverse of ``composed``; the texts are the first line and the rest. Raises Malformed."""
    first, _, tail = data.partition(b"\n")
    second, newline, rest = tail.partition(b"\n")
    words = second.split(b" ")
    if first[:12] != b'{"version": ' or not newline or rest[-2:] != _END:
        raise cache.Malformed("an object in lines")
    if first[12:15] != b"1, " or len(words) != _WORDS or words[0] != b'"cache":':
        raise cache.Malformed("version: the daemon and the plugin are of different releases")
    try:
        state = cache.STATES.index(first.split(b'"', 6)[5])
        boot, taken, valid_until = words[2][1:-2], float(words[4][:-1]), float(words[6][:-1])
    except (IndexError, ValueError):
        raise cache.Malformed("its first lines") from None
    if second != _second(first + b"\n", rest, taken, valid_until, boot):
        raise cache.Malformed("checksum")
    if not 0 <= taken <= valid_until < 1e12:
        raise cache.Malformed("its times")
    return cache.Result(state, (first, rest), taken, valid_until, boot)


def run(arguments: "list[str]") -> int:
    """Run ``check_mounts --cached --json`` with these arguments, and return the exit code."""
    try:
        path, limit, _ = cache.options(arguments)
    except cache.Refused:
        return cache.run(arguments)  # which says so in plain text, as for every wrong option
    shorten = _brief if "--brief" in arguments else _whole
    result, age = None, None
    try:
        result = cache.load(path, parse)
        boot, now = cache.present()
        age = now - result.taken if result.boot == boot else None
        cache.check_valid(result, path, limit, boot, now)
    except cache.Refused as refusal:
        cache.put(_unknown(str(refusal), age, result, shorten))
        return 3
    cache.put(_with(age, shorten(result), b"null"))
    return result.state


def _with(age: "Optional[float]", json: bytes, last: bytes) -> bytes:
    """An object with its age and the last object: the age stands at the beginning of the second
    line, for those who read with a pair of eyes."""
    end = json.index(b"\n") + 1
    words = b"null" if age is None else b"%.3f" % age
    return b"".join((json[:end], b'"age": %b, ' % words, memoryview(json)[end:-2], b',\n"last": %b' % last, _END))


def _whole(result: cache.Result) -> bytes:
    first, rest = result.texts
    return first + b"\n" + rest


def _brief(result: cache.Result) -> bytes:
    import json

    from check_mounts.report import jsonform

    return jsonform.shortened(json.loads(_whole(result)))


def _unknown(
    why: str, age: "Optional[float]", result: "Optional[cache.Result]", shorten: "Callable[[cache.Result], bytes]"
) -> bytes:
    """The object that says why there is no current result.

    A program that reads findings must not take old ones for those of now: they are in ``last``, on
    one line, so that nobody who reads line by line mistakes them either."""
    from check_mounts.report import jsonform

    last = b"null" if result is None else shorten(result).rstrip(b"\n").replace(b"\n", b" ")
    return _with(age, jsonform.failure("UNKNOWN", why, time.time(), is_brief=shorten is _brief), last)
