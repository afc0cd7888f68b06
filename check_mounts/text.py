"""Bytes of unknown origin -> text that cannot break any output.

Mount points, sources and arguments may hold any byte but NUL, and unprivileged users choose them.
All output of them goes through :func:`printable`, which escapes as the kernel does in mountinfo
(``\\012``), so a name looks the same everywhere and can be unescaped."""

from __future__ import annotations

import errno as errno_module
import itertools
import os
import re
import time
from collections.abc import Sequence

from check_mounts.clocks import Boottime, Epoch, epoch_of

# `|` ends the text in every Nagios-like core; the backslash is escaped so that the result stays
# unambiguous.
_SAFE = bytes(byte for byte in range(0x20, 0x7F) if byte not in b"\\|")


def _octal(data: bytes) -> str:
    return "".join(f"\\{byte:03o}" for byte in data)


def printable(data: bytes) -> str:
    """Text without control characters, ``|``, undecodable bytes and the like.

    Each byte that a terminal or log would act on becomes ``\\ooo``, as in proc_pid_mountinfo(5).
    Valid UTF-8 stays, unless Unicode calls it not printable: line and paragraph separators and
    bidirectional overrides break a line or reverse it."""
    if not data.translate(None, _SAFE):
        return data.decode("ascii")
    parts: list[str] = []
    # surrogateescape maps each undecodable byte to a lone surrogate, which isprintable() refuses.
    for char in data.decode("utf-8", "surrogateescape"):
        if char.isprintable() and char not in "\\|":
            parts.append(char)
        else:
            parts.append(_octal(char.encode("utf-8", "surrogateescape")))
    return "".join(parts)


def printable_argument(argument: str) -> str:
    """Printable text for an argument of the command line.

    Python has decoded it with surrogateescape. Secrets in it are masked: it may be a source in the
    wrong place."""
    return printable(without_secrets(os.fsencode(argument)))


# The mask replaces a secret. It holds no colon, `%` or `@`, so that a masked text is not masked
# again.
MASK = b"***"
_SECRET_KEY = (
    rb"[\w.\-]*(?:pass|passw(?:or)?d|passphrase|pw|pwd|secret|token|sig|signature|cred|credentials?|"
    rb"key|key-?_?id|auth|jwt|bearer)[0-9]*"
)
# A value of a list: rclone's may be in quotes, which are doubled within it, and then may hold
# anything.
_LISTED_VALUE = rb"""(?:'(?:[^']|'')*(?:'|\Z)|"(?:[^"]|"")*(?:"|\Z)|[^&,;#]*)"""


def without_secrets(data: bytes, logins: bool = True) -> bytes:
    """A source or an option without passwords, keys and tokens.

    They become ``ftp://bob:***@host/``, ``//bob%***@host/share``, ``password=***``,
    ``https://host/c?sig=***``. A user's name stays, except before a web server, where it may be a
    token.

    ``logins``: ``user:password@host`` may be a login even without ``//``. In doubt, too much is
    masked. The time is linear in the length."""
    if b"=" in data:
        data = _without_values(data)
    if b"@" not in data:
        return data
    if b"://" not in data:
        return _without_password(data, logins)
    before, *authorities = data.split(b"://")
    parts = [before]
    for part in authorities:
        parts.append(_without_login(part, is_web=parts[-1].lower().endswith((b"http", b"https"))))
    return b"://".join(parts)


def value_words(key: bytes, value: bytes) -> str:
    """The value of an option, fit for output: masked if the key says that it is secret."""
    return printable(without_secrets(key + b"=" + value).partition(b"=")[2])


def _without_values(data: bytes) -> bytes:
    """A text with the secret values of ``KEY=VALUE`` masked.

    They may stand in a query, in a list, or in an option, whose value may hold anything."""
    if re.match(rb"(?i)%s=" % _SECRET_KEY, data):
        return data.partition(b"=")[0] + b"=" + MASK
    user = re.match(rb"(?i)user(?:name)?=[^%]*%", data)  # smbmount's user%password
    if user is not None:
        return user[0] + MASK
    return re.sub(rb"(?i)([?&,;#]%s=)%s" % (_SECRET_KEY, _LISTED_VALUE), rb"\1" + MASK, data)


def _without_login(part: bytes, is_web: bool) -> bytes:
    """The part after ``://``, without a password, and without a possible token."""
    at = _end_of_login(part, b":")
    if at < 0:
        return part
    user, colon, _ = part[:at].partition(b":")
    if colon:
        return user + colon + MASK + part[at:]
    return (MASK if is_web else user) + part[at:]


def _end_of_login(part: bytes, separators: bytes) -> int:
    """The position of the ``@`` that ends the login before a host; -1 without a login.

    An ``@`` in the path ends no login; but some people write passwords with slashes, so a word
    before the first slash that cannot be a host belongs to a password."""
    end = min((at for at in map(part.find, (b"/", b"?", b"#", b"\\")) if at >= 0), default=len(part))
    at = part.rfind(b"@", 0, end)
    host = part[at + 1 : end]
    port = host.rpartition(b":")[2] if b":" in host and not host.startswith(b"[") else b""
    is_host = (not port or port.isdigit()) and not (b"%" in separators and b"%" in host)
    return at if is_host else part.rfind(b"@")


def _without_password(data: bytes, logins: bool) -> bytes:
    """``user:password@host:/path`` or ``//user%password@host/share`` without the password.

    A source that begins with a single slash is a path."""
    slashes = data[:2] in (b"//", b"\\\\")
    if not (slashes or logins) or (data[:1] in (b"/", b"\\", b"[") and not slashes):
        return data
    begin = 2 if slashes else data.find(b"#", 0, data.find(b"@")) + 1
    at = -1 if slashes else _before_export(data, begin)
    if at < 0:
        at = begin + _end_of_login(data[begin:], b":%")
    separator = min(
        (place for place in (data.find(b":", begin, at), data.find(b"%", begin, at)) if place >= 0), default=-1
    )
    # `host:/x@y` has a path with an `@`, but no login.
    is_path = not slashes and data[separator : separator + 2] == b":/" and _before_export(data, begin) < 0
    return data if separator < 0 or at < begin or is_path else data[: separator + 1] + MASK + data[at:]


def _before_export(data: bytes, begin: int) -> int:
    """The position of the last ``@`` before a ``host:``; -1 without one.

    After ``host:/`` only an ``@`` before another ``host:/`` counts."""
    colon = data.find(b":", begin)
    end = rb":/" if data[colon : colon + 2] == b":/" else rb":"
    found = [match.start() for match in re.finditer(rb"@(?=\[?[\w.:\-]+\]?%s)" % end, data[begin:])]
    return begin + found[-1] if found else -1


def one_line(message: str) -> str:
    """A message made of safe and unsafe parts, on one line.

    Only characters that could break the line are escaped; backslashes stay."""
    return "".join(char if char.isprintable() and char != "|" else escaped(char) for char in message)


def escaped(char: str) -> str:
    """A character as its bytes in octal. Never raises.

    Some surrogates stand for a byte that was not UTF-8 (surrogateescape); any other is written as
    UTF-8 would write it."""
    return _octal(char.encode("utf-8", "surrogateescape" if "\udc80" <= char <= "\udcff" else "surrogatepass"))


def clipped(text: str, limit: int) -> str:
    """``text`` without its middle if it is longer than ``limit`` characters."""
    if len(text) <= limit:
        return text
    head = (limit - 3) // 2
    return text[:head] + "..." + text[len(text) - (limit - 3 - head) :]


def excerpt(value: bytes) -> str:
    """A part of what somebody wrote, fit for a message: without secrets, and not too long."""
    return clipped(printable(without_secrets(value)[:1000]), 120)


def fitting(sizes: Sequence[int], room: int, note: int) -> tuple[int, int]:
    """The number of items, from the first one on, that fit into ``room``, and the room left.

    If not all of them fit, ``note`` is reserved first, for a note on how many more there are. A
    negative number means that neither the note nor any item fits."""
    if sum(sizes) <= room:
        return len(sizes), room - sum(sizes)
    room -= note
    count = 0
    while count < len(sizes) and sizes[count] <= room:
        room -= sizes[count]
        count += 1
    return count, room


def encoded(text: str, encoding: str) -> bytes:
    """``text`` as bytes. Never raises.

    A character that ``encoding`` lacks is escaped like an unprintable byte."""
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        return b"".join(map(_encoded_char, text, itertools.repeat(encoding)))
    except (LookupError, UnicodeError):  # no such encoding, or one that is no encoding of texts (idna)
        return encoded(text, "ascii")


def _encoded_char(char: str, encoding: str) -> bytes:
    try:
        return char.encode(encoding)
    except UnicodeEncodeError:
        return _octal(char.encode("utf-8", "surrogatepass")).encode(encoding)


def error_words(number: int) -> str:
    """An errno in words: ``Input/output error (EIO)``.

    Some numbers have no name: 512 is ERESTARTSYS, seen after ``umount -f``."""
    name = errno_module.errorcode.get(number)
    return f"errno {number}" if name is None else f"{os.strerror(number)} ({name})"


def error_of(error: BaseException) -> str:
    """An error in words: ``Cannot allocate memory (ENOMEM)``, ``ValueError: too large``."""
    if isinstance(error, OSError) and error.errno:
        return error_words(error.errno)
    return one_line(f"{type(error).__name__}: {error}")


def seconds_words(seconds: float) -> str:
    """A number of seconds as people write it: ``5 s``, ``0.25 s``."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + " s"


def moment(when: float) -> str:
    """A time on CLOCK_BOOTTIME as people read it, in local time: ``2026-11-25 17:04:05``."""
    return moment_of(epoch_of(Boottime(when)))


def moment_of(when: Epoch) -> str:
    """The same for seconds since the epoch."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))


def counted(count: int, noun: str) -> str:
    """A number with its noun: ``1 mount``, ``2 mounts``, ``2 processes``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith('s') else 's'}"


def size_words(size: float) -> str:
    """A number of bytes as ``df -h`` says it, with the unit in full: ``1.2 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if size < 1024 or unit == "PiB":
            break
        size /= 1024
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
