"""The operations of all mounts from window to window, and as lines of a file, so that another
daemon goes on with them. Pure.

Import budget: ``json``, ``zlib``; what unusual needs."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping

from check_mounts.judging import past, unusual
from check_mounts.judging.unusual import Course
from check_mounts.slowness import Unusual
from check_mounts.typed import TYPE_CHECKING, Any, NamedTuple, Optional

if TYPE_CHECKING:
    from check_mounts.traffic import Operation

# The operations that are judged: their names in NFS 3 and 4 (nfs3_procedures, nfs4_procedures).
# LOCK waits for another owner, DELEGRETURN and LAYOUTRETURN for other work of this client; COPY,
# CLONE and ALLOCATE take as long as the file is large; and what keeps the lease is counted for all
# mounts of a server together.
JUDGED = frozenset(
    b"GETATTR SETATTR LOOKUP ACCESS READLINK READ WRITE COMMIT CREATE MKDIR SYMLINK MKNOD REMOVE RMDIR RENAME LINK "
    b"READDIR READDIRPLUS FSSTAT FSINFO PATHCONF OPEN OPEN_NOATTR CLOSE LOOKUPP STATFS GETACL GETXATTR".split()
)
# What reads and writes data takes the longer, the more it is: up to 16 KiB, 128 KiB, and more, on
# average in a window, are compared only with their like.
_SIZED, _SIZES = frozenset((b"READ", b"WRITE", b"READ_PLUS")), (16 << 10, 128 << 10)
# The most operations of mounts that have a course. A course takes about a kilobyte.
MOST = 20_000
# An operation that was not done for so long is forgotten.
_FORGOTTEN = 28 * past.DAY
# The longest file, in bytes. Names may be long, and have six bytes for each of theirs.
LONGEST = 16 << 20
# How the file begins.
BEGINNING = b"check_mounts-usual "
_VERSION, _LONGEST_HEAD = 1, 100


class Key(NamedTuple):
    """A mount. What is mounted from elsewhere at the same place has another past."""

    source: bytes
    mount_point: bytes


class Courses:
    """The courses of all operations. ``age``: for how long daemons have watched this host, in
    seconds."""

    def __init__(self, age: float = 0.0) -> None:
        self.age = age
        self._mounts: dict[Key, dict[bytes, Course]] = {}
        self._count = 0
        self._tidied = age

    def take(
        self,
        seconds: float,
        moved: Mapping[Key, Mapping[bytes, Operation]],
        factor: Callable[[bytes], Optional[float]],
    ) -> None:
        """Take in what was done on the mounts in the last seconds. ``factor`` says for a mount
        point how many times the usual time is unusual; None if that mount is not judged."""
        begun, self.age = self.age, self.age + seconds
        for key, operations in moved.items():
            times = factor(key.mount_point)
            if times is None:
                self._forget(key)
                continue
            for name, done in operations.items():
                if name in JUDGED and done.operations > 0:
                    course = self._course(key, _kind(name, done))
                    if course is not None:
                        course.add(begun, self.age, done.operations, done.rtt / 1000.0, times)
        self._pass_by()

    def skip(self, seconds: float) -> None:
        """Let time pass of which nothing is known."""
        self.take(seconds, {}, lambda mount_point: None)

    def unusual(self, key: Key) -> Optional[Unusual]:
        """The operation of a mount that takes most times the usual, if any is unusual."""
        found = [
            Unusual(kind.partition(b" ")[0].decode("ascii"), course.seconds, course.usual)
            for kind, course in self._mounts.get(key, {}).items()
            if course.is_unusual and course.usual is not None
        ]
        return max(found, key=lambda each: each.seconds / each.usual, default=None)

    def _course(self, key: Key, kind: bytes) -> Optional[Course]:
        """The course of an operation; None if there are too many."""
        known = self._mounts.get(key, {}).get(kind)
        return self.add(key, kind, Course(past.Past(self.age))) if known is None else known

    def add(self, key: Key, kind: bytes, course: Course) -> Optional[Course]:
        """Add the course of an operation that has none, unless there are too many."""
        if self._count >= MOST:
            return None
        self._mounts.setdefault(key, {})[kind] = course
        self._count += 1
        return course

    def _forget(self, key: Key) -> None:
        self._count -= len(self._mounts.pop(key, ()))

    def _pass_by(self) -> None:
        """End what has not been done for long, and forget what nobody does any more."""
        for _, _, course in self._each():
            course.pass_by(self.age)
        if self.age - self._tidied < past.DAY:
            return
        self._tidied = self.age
        for key, kind, course in list(self._each()):
            if self.age - course.ended > _FORGOTTEN:
                del self._mounts[key][kind]
                self._count -= 1
        self._mounts = {key: courses for key, courses in self._mounts.items() if courses}

    def _each(self) -> Iterator[tuple[Key, bytes, Course]]:
        for key, courses in self._mounts.items():
            for kind, course in courses.items():
                yield key, kind, course

    # -- for a file

    def told(self) -> bytes:
        """All of it for a file: a line with version, age, length and checksum, and a line for each
        operation, as many as fit."""
        lines, room = [], LONGEST - _LONGEST_HEAD
        for key, kind, course in self._each():
            line = _line([_words(key.source), _words(key.mount_point), _words(kind), course.told()])
            room -= len(line)
            if room < 0:
                break
            lines.append(line)
        body = b"".join(lines)
        return b"%b%d %d %d %d\n%b" % (BEGINNING, _VERSION, self.age, len(body), zlib.crc32(body), body)


def remembered(data: bytes) -> Courses:
    """The courses that were told. Raises ValueError if these are not all of them."""
    head, _, body = data.partition(b"\n")
    try:
        version, age, length, checksum = map(int, head[len(BEGINNING) :].split())
    except ValueError:
        version = age = length = checksum = -1
    if not head.startswith(BEGINNING) or version != _VERSION:
        raise ValueError("it is not a file of this version of check_mounts")
    if age < 0 or len(body) != length or zlib.crc32(body) != checksum:
        raise ValueError("it is damaged")
    courses = Courses(float(age))
    for line in body.splitlines():
        _remember(courses, line)
    return courses


def _remember(courses: Courses, line: bytes) -> None:
    """Raises ValueError if the line makes no sense."""
    try:
        source, mount_point, kind, told = json.loads(line)
        courses.add(Key(_bytes(source), _bytes(mount_point)), _bytes(kind), unusual.remembered(told))
    except Exception as error:
        raise ValueError("it is damaged") from error


def _kind(name: bytes, done: Operation) -> bytes:
    """``READ 2``: the operation, and the class of its size where that matters."""
    if name not in _SIZED:
        return name
    size = (done.bytes_sent + done.bytes_received) / done.operations
    return b"%b %d" % (name, sum(size > most for most in _SIZES))


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


def _words(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _bytes(words: str) -> bytes:
    return words.encode("utf-8", "surrogateescape")
