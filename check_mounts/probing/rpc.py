"""The bytes of the remote procedure call that does nothing, and of its replies (RFC 5531; the
numbers of NFS are in RFC 1813 and RFC 8881).

Import budget: ``struct``. Nothing here makes a system call, and memory is bounded whatever a server
sends."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from check_mounts.probing.replies import Verdict
from check_mounts.typed import Optional

_NFS_PROGRAM, _RPC_VERSION = 100003, 2
_CALL, _REPLY = 0, 1
_ACCEPTED, _DENIED = 0, 1
_AUTH_NONE = 0
_LAST_FRAGMENT = 0x80000000
_WORD = struct.Struct(">I")
_ACCEPT_ERRORS = {1: "PROG_UNAVAIL", 2: "PROG_MISMATCH", 3: "PROC_UNAVAIL", 4: "GARBAGE_ARGS", 5: "SYSTEM_ERR"}
_DENIALS = {0: "RPC_MISMATCH", 1: "AUTH_ERROR"}
# A reply to NULL has 24 bytes and a verifier of up to 400 bytes. A longer record is not a reply.
# After _MOST_BYTES in all we stop listening.
_LONGEST_VERIFIER, _LONGEST_RECORD, _MOST_BYTES = 400, 4096, 65536


def null_call(xid: int, version: int) -> bytes:
    """The call of procedure 0 of NFS without credentials, as one record of one fragment (RFC 5531,
    sections 9 and 11)."""
    words_of_call = (xid, _CALL, _RPC_VERSION, _NFS_PROGRAM, version, 0, _AUTH_NONE, 0, _AUTH_NONE, 0)
    return struct.pack(">11I", _LAST_FRAGMENT | 4 * len(words_of_call), *words_of_call)


def read_reply(record: bytes, xid: int) -> Optional[tuple[Verdict, str]]:
    """The meaning of a record as a reply to the call ``xid``; None if it belongs to another call.
    An RPC error proves that the server is alive."""
    size = len(record) // 4
    fields = struct.unpack_from(f">{size}I", record)
    if size < 4:
        return Verdict.GARBAGE, ""
    if fields[0] != xid:
        return None
    if fields[1:3] == (_REPLY, _ACCEPTED):
        return _read_status(fields)
    error = _DENIALS.get(fields[3], "") if fields[1:3] == (_REPLY, _DENIED) else ""
    return (Verdict.RPC_ERROR if error else Verdict.GARBAGE), error


def _read_status(fields: tuple[int, ...]) -> tuple[Verdict, str]:
    """The meaning of the status of an accepted call, which comes after a verifier (flavour, length,
    bytes padded to words)."""
    at = 5 + (fields[4] + 3) // 4 if len(fields) > 4 and fields[4] <= _LONGEST_VERIFIER else len(fields)
    if at >= len(fields):
        return Verdict.GARBAGE, ""
    if fields[at] == 0:
        return Verdict.RPC_ANSWERED, ""
    error = _ACCEPT_ERRORS.get(fields[at], "")
    return (Verdict.RPC_ERROR if error else Verdict.GARBAGE), error


class Records:
    """Bytes -> records (RFC 5531, section 11). It keeps at most one record and the bytes of one
    read."""

    def __init__(self) -> None:
        self._bytes, self._record = bytearray(), bytearray()
        self._taken = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take ``data``; yield the records that are complete now. Raises ValueError for a record
        that is too long, and for too many bytes in all."""
        self._taken += len(data)
        self._bytes += data
        while len(self._bytes) >= _WORD.size:
            (mark,) = _WORD.unpack_from(self._bytes)
            end = _WORD.size + (mark & ~_LAST_FRAGMENT)
            if len(self._record) + end > _LONGEST_RECORD:
                raise ValueError("no record of a reply to NULL is that long")
            if len(self._bytes) < end:
                break
            self._record += self._bytes[_WORD.size : end]
            del self._bytes[:end]
            if mark & _LAST_FRAGMENT:
                yield bytes(self._record)
                self._record.clear()
        if self._taken > _MOST_BYTES:
            raise ValueError("bytes without end, and no reply among them")
