"""The declaration of ``--expect``: a mount point, its source, its type and its options. Pure."""

from __future__ import annotations

import re

from check_mounts.declared.entry import declared_mount
from check_mounts.declared.option_spelling import check_spelling, check_type
from check_mounts.model import Declarer, ExpectedMount
from check_mounts.text import printable

_UNESCAPED_COMMA = re.compile(rb"(?<!\\),")


def parse_spec(spec: bytes) -> ExpectedMount:
    """The mount that ``MOUNTPOINT[,source=SOURCE][,type=TYPE][,OPTION]...`` declares.

    ``\\,`` is a comma in a value; other backslashes stand for themselves.

    Raises ValueError with a reason in words.
    """
    if b"\0" in spec:
        raise ValueError("it holds a NUL")
    point, *words = (word.replace(b"\\,", b",") for word in _UNESCAPED_COMMA.split(spec))
    known: dict[bytes, bytes] = {}
    options = []
    for word in words:
        key, _, value = word.partition(b"=")
        if not word:
            raise ValueError("an option is empty (write '\\,' for a comma in a value)")
        if key not in (b"source", b"type"):
            options.append(word)
        elif not value or key in known:
            raise ValueError(f"{printable(key)}= " + ("is given twice" if value else "has no value"))
        else:
            known[key] = value
    if known.get(b"type") == b"swap":
        raise ValueError("swap has no mount point")
    check_type(known.get(b"type", b"auto"))
    for option in options:
        check_spelling(option, known.get(b"type"))
    return declared_mount(point, known.get(b"source"), known.get(b"type"), tuple(options), "--expect")._replace(
        by=Declarer.COMMAND_LINE,
    )
