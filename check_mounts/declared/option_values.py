"""The meaning of a mount option's value: a number, a size, a mode, a word. Pure.

Each function takes a value as it was declared or as the kernel shows it, and returns a value that
can be compared; None if the meaning is not certain."""

from __future__ import annotations

import re
from collections.abc import Callable

from check_mounts.typed import Optional

ValueOf = Callable[[bytes], Optional[object]]

_SIZE = re.compile(rb"(0[xX][0-9a-fA-F]+|[0-9]+)([kmgtpe]?)b?\Z", re.IGNORECASE)
_MAX_DIGITS = 20


def _in_base(base: int) -> Callable[[bytes], Optional[int]]:
    def number(value: bytes) -> Optional[int]:
        try:
            return int(value.decode("ascii"), base) if len(value) <= _MAX_DIGITS else None
        except ValueError:
            return None

    return number


hexadecimal_of = _in_base(16)
octal_of = _in_base(8)
decimal_of = _in_base(10)


def number_of(value: bytes) -> Optional[int]:
    """The number that the kernel's simple_strtoul() reads: ``0x10``, ``010``, ``16``.

    It finds out the base by itself."""
    if re.match(rb"0[0-7]+\Z", value):
        return octal_of(value)
    return hexadecimal_of(value) if value[:2].lower() == b"0x" else decimal_of(value)


def size_of(value: bytes) -> Optional[int]:
    """The bytes of ``1G``, ``1048576k``, ``0x1000`` (memparse() in lib/cmdline.c).

    None for another value, such as ``50%``."""
    match = _SIZE.match(value)
    number = None if match is None else number_of(match[1])
    if match is None or number is None:
        return None
    return number << (10 * b" kmgtpe".index(match[2].lower() or b" "))


def limit_of(value: bytes) -> Optional[int]:
    """A size; -1 for a word that means "no limit"."""
    return -1 if value in (b"unlimited", b"none") else size_of(value)


def masked(mask: int) -> Callable[[bytes], Optional[int]]:
    """The meaning of a mode if the kernel keeps only these bits of it."""

    def mode(value: bytes) -> Optional[int]:
        number = octal_of(value)
        return None if number is None else number & mask

    return mode


permissions_of = masked(0o7777)


def in_any_base(value: bytes) -> Optional[object]:
    """The modes that a value may mean.

    Some kernels read it as octal only with a leading zero: to them 444 is 0674, whatever its author
    meant.

    iso9660 and cifs do so (isofs_param_spec in fs/isofs/inode.c, smb3_fs_parameters), and udf since
    it has udf_param_spec."""
    return frozenset({octal_of(value), number_of(value)} - {None}) or None


def minutes_of(value: bytes) -> Optional[int]:
    """The minutes of an offset from UTC; the kernel takes the number in any base."""
    number = number_of(value.lstrip(b"+-"))
    return -number if number is not None and value.startswith(b"-") else number


def same(value: bytes) -> bytes:
    """The value itself."""
    return value


def word_of(value: bytes) -> bytes:
    """A word; upper and lower case are equal."""
    return value.lower()


def never(value: bytes) -> None:
    """The meaning of a value that is never compared."""


def one_of(**words: str) -> ValueOf:
    """The meaning of words for the same value: ``one_of(relaxed="r", r="r")``.

    Other words have no certain meaning."""
    known = {word.strip("_").encode(): meaning for word, meaning in words.items()}
    return lambda value: known.get(value.lower())


_YES_OR_NO = {
    **dict.fromkeys((b"1", b"yes", b"true", b"on"), True),
    **dict.fromkeys((b"0", b"no", b"false", b"off"), False),
}


def yes_or_no(value: bytes) -> Optional[bool]:
    """True or False by the words that the kernel takes for them."""
    return _YES_OR_NO.get(value.lower())


# SELinux policies have renamed these types and keep the old name as an alias; the kernel shows the
# new one.
_RENAMED_TYPES = frozenset(
    (b"svirt_sandbox_file_t", b"svirt_lxc_file_t", b"httpd_sys_script_ro_t", b"httpd_sys_script_rw_t")
)


def label_of(value: bytes) -> Optional[list[bytes]]:
    """User, role and type of an SELinux context, without its level: the kernel rewrites that.

    ``rootcontext=@target`` takes the context of the mount point (mount(8)).
    """
    parts = value.strip(b'"').split(b":")[:3]
    return None if len(parts) < 3 or parts[2] in _RENAMED_TYPES else parts
