"""The daemon's result in a file, which ``check_mounts --cached`` prints in a few milliseconds;
the module cachedjson prints the one in the file beside it.

The daemon writes the file (daemon.status_file). It has a header line (version, state, times on
CLOCK_BOOTTIME, boot, lengths, checksum), then the output at verbosity 0 to 3. It is printed only if
everything about it is in order; anything else is UNKNOWN. NRPE starts a new interpreter for each
question, which would spend half of its time on imports. So this module imports only what the
interpreter loads anyway: ``posix``, not ``os``, which takes a tenth of a start. Annotations that
would need ``typing`` or a later Python than 3.9 are quoted."""

import binascii
import posix
import time

from check_mounts import RESULT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEFAULT_PATH = RESULT
# The suffixes of a daemon's files: the result, the survey, its process ID for everybody, the lock,
# which only the daemon's user can open, and the records of incidents that are not yet written.
SUFFIXES = ("", ".json", ".pid", ".lock", ".pending")

STATES = (b"OK", b"WARNING", b"CRITICAL", b"UNKNOWN")
VERDICT = b"check_mounts 1 %b "
_UNKNOWN = 3
_INFINITE = float("inf")
_MOST_SECONDS = 366 * 86400.0  # as values.MOST_SECONDS, which would take too long to import
_VERBOSITIES = 4
# 100,000 mounts may need this much at -vvv. A larger file is not ours: it must not fill the memory.
_LARGEST = 256 << 20
_PIECE = 64 << 10
_LONGEST_HEADER = 512
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_BOOT_ID_LENGTH = 36  # of a UUID in hexadecimal
_EIO = 5  # errno.EIO
_KIND, _REGULAR = 0o170000, 0o100000  # stat.S_IFMT and stat.S_IFREG
_LOOK, _READ = posix.O_PATH | posix.O_CLOEXEC, posix.O_RDONLY | posix.O_CLOEXEC
# The room for the age that a reader adds to the first line. A result can be older than a year only
# if the configured interval is longer than a year.
AGE_ROOM = len(" (as of 31536000 s ago)")
_ASK = "is the daemon running? systemctl status check_mounts"
_ANEW = "systemctl restart check_mounts makes a new one"


class Refused(Exception):
    """Why no result is printed, and what to do about it, on one line that is safe to print."""


class Malformed(Exception):
    """The part of a file that ``status_file.compose`` would not write so.

    The words show no content of the file."""


class Result:
    """The content of a file.

    ``state`` is 0 to 3. ``texts`` has the output at each verbosity. ``taken`` and ``valid_until``
    are seconds on CLOCK_BOOTTIME. ``boot`` is the ID of the boot."""

    __slots__ = ("boot", "state", "taken", "texts", "valid_until")

    def __init__(self, state: int, texts: "Sequence[bytes]", taken: float, valid_until: float, boot: bytes) -> None:
        self.state = state
        self.texts = texts
        self.taken = taken
        self.valid_until = valid_until
        self.boot = boot


def header_of(result: Result) -> bytes:
    """The header without its checksum. Raises ValueError."""
    if (
        result.state not in range(len(STATES))
        or len(result.texts) != _VERBOSITIES
        or not all(map(_is_finished, result.texts))
    ):
        raise ValueError("a state from 0 to 3 and four finished texts are needed")
    if not 0 <= result.taken <= result.valid_until < 1e12:
        raise ValueError("two finite times in order are needed")
    # Nanoseconds, as the clock has them: a rounded time may lie in the future of a quick reader.
    words = (result.taken, result.valid_until, result.boot, b",".join(b"%d" % len(text) for text in result.texts))
    return VERDICT % STATES[result.state] + b"%.9f %.9f %b %b " % words


def _is_finished(output: bytes) -> bool:
    """Whether an output has a first line (the verdict) and ends with a newline."""
    return output[:1] != b"\n" and output[-1:] == b"\n"


def checksum(header: bytes, body: bytes) -> bytes:
    """The checksum over all bytes of the file but itself."""
    return b"%08x" % binascii.crc32(body, binascii.crc32(header + b"\n"))


def boot_id() -> bytes:
    """The ID of this boot. Raises OSError.

    CLOCK_BOOTTIME starts again with each boot, so times of another boot mean nothing."""
    words = _told(_BOOT_ID).strip()
    if len(words) != _BOOT_ID_LENGTH:  # a container that hides it: two boots would look the same
        raise OSError(_EIO, posix.strerror(_EIO))
    return words


def run(arguments: "list[str]", paint: "Callable[[bytes], bytes]" = bytes) -> int:
    """Run ``check_mounts --cached`` with these arguments, and return the exit code.

    Prints a result, or one line that says why it prints no result. Unexpected exceptions reach the
    last boundary, in __main__, which makes them UNKNOWN, too."""
    try:
        path, limit, verbosity = options(arguments)
        result = load(path, parse)
        boot, now = present()
        check_valid(result, path, limit, boot, now)
        age = now - result.taken
        state, output = result.state, _with_age(result.texts[min(verbosity, _VERBOSITIES - 1)], age)
    except Refused as refusal:
        put(paint(f"MOUNTS UNKNOWN - {refusal}\n".encode()))
        # A caller that throws stdout away, such as a submission from cron, must learn of it, too.
        if any(argument.startswith("--submit") for argument in arguments):
            put(f"check_mounts: not submitted: {refusal}\n".encode(), fd=2)
        return _UNKNOWN
    put(paint(output))
    return state


def is_in_run(arguments: "list[str]") -> bool:
    """Whether the file is on the filesystem of /run itself, which is in memory and cannot hang.

    No link may lead out of it. A filesystem mounted there, also on the file, is asked nothing."""
    try:
        path = options(arguments)[0]
    except Refused:  # nothing is read then
        return True
    names = path.split("/")
    if names[:2] != ["", "run"] or ".." in names:
        return False
    flags = _LOOK | posix.O_NOFOLLOW
    fds: "list[int]" = []
    try:
        fds.append(posix.open("/run", flags))
        run = _mount_id(fds[0])
        for name in filter(None, names[2:]):
            fds.append(posix.open(name, flags, dir_fd=fds[-1]))
            if _mount_id(fds[-1]) != run:  # a look-up of a name in it might hang
                return False
        return True
    except FileNotFoundError:  # then nothing is read, either
        return True
    except OSError:  # a link in the path: opened with O_PATH, it is not a directory
        return False
    finally:
        for fd in fds:
            posix.close(fd)


def _mount_id(fd: int) -> bytes:
    """The line of /proc that names the mount of a descriptor. Raises OSError.

    Reading it asks no filesystem."""
    return next(line for line in _told(f"/proc/self/fdinfo/{fd}").split(b"\n") if line.startswith(b"mnt_id:"))


def _told(path: str) -> bytes:
    """What the kernel says in a file of /proc. Raises OSError."""
    fd = posix.open(path, _READ)
    try:
        return posix.read(fd, 512)
    finally:
        posix.close(fd)


def options(arguments: "list[str]") -> "tuple[str, float, int]":
    """The file to read, the greatest age in seconds, and the verbosity. Raises Refused.

    Parsed by hand, because importing argparse would double the time."""
    path, limit, verbosity = DEFAULT_PATH, _INFINITE, 0
    left = arguments[::-1]
    while left:
        argument = left.pop()
        name, equals, value = argument.partition("=")
        if name in ("--cache", "--max-age"):
            value = value if equals else _take_value(name, left)
            if name == "--cache":
                path = _file(value)
            else:
                limit = _seconds(value)
        elif argument == "--verbose":
            verbosity += 1
        elif argument[:2] == "-v" and not argument[1:].strip("v"):
            verbosity += len(argument) - 1
        elif argument not in ("--cached", "--json", "--brief"):
            raise Refused(f"argument {_shown(argument)}: does not go with --cached")
    if "--json" in arguments:
        path += SUFFIXES[1]
    elif "--brief" in arguments:
        raise Refused("argument --brief: goes with --json only")
    return path, limit, verbosity


def _take_value(name: str, left: "list[str]") -> str:
    """The word after an option. Raises Refused.

    As in argparse, a word that looks like an option is not a value: the user forgot the value."""
    if not left or left[-1][:1] == "-":
        raise Refused(f"argument {name}: expected one argument")
    return left.pop()


def _file(word: str) -> str:
    if not word:
        raise Refused("argument --cache: '' is not the name of a file")
    return word


def _seconds(word: str) -> float:
    try:
        value = float(word) if not word.strip("0123456789.") else 0.0
    except ValueError:
        value = 0.0
    if not value > 0:
        raise Refused(f"argument --max-age: '{_shown(word)}' is not a positive number of seconds")
    if value > _MOST_SECONDS:
        raise Refused(f"argument --max-age: '{_shown(word)}' is more than a year")
    return value


def _with_age(output: bytes, age: float) -> bytes:
    """The output with its age in seconds on the first line; unchanged if it is younger than 1 s."""
    if age < 1:
        return output
    end = output.index(b"\n")
    perfdata = output.find(b" | ", 0, end)  # nothing else has a bar
    at = end if perfdata < 0 else perfdata
    return b"%b (as of %d s ago)%b" % (output[:at], age, output[at:])


def load(path: str, understand: "Callable[[bytes], Result]") -> Result:
    """What ``understand`` makes of the content of ``path``. Raises Refused."""
    try:
        return understand(read(path))
    except Malformed as error:
        raise Refused(f"{_shown(path)} is malformed ({error}): {_ANEW}") from None
    except OSError as error:
        from check_mounts import unreadable

        directory = _split(path)[0]
        raise Refused(unreadable.why(error, _shown(path), directory, _shown(directory), _ASK)) from None


def present() -> "tuple[bytes, float]":
    """The ID of this boot, and the time on CLOCK_BOOTTIME. Raises Refused."""
    try:
        boot = boot_id()
    except OSError as error:
        raise Refused(f"{_BOOT_ID} cannot be read: {posix.strerror(error.errno or 0)}: is /proc mounted?") from None
    # The clock comes last: if it were read earlier, a result written meanwhile would seem to come
    # from the future.
    return boot, time.clock_gettime(time.CLOCK_BOOTTIME)


def read(path: str) -> bytes:
    """The content of ``path``, if only trusted users can have written it. Raises Refused, OSError.

    The file is opened relative to the directory that was checked, not through its path again, so
    that both checks are about the same place."""
    directory, name = _split(path)
    fd = posix.open(directory, _LOOK | posix.O_DIRECTORY)
    try:
        place = posix.fstat(fd)
        # A sticky bit does not help: a user who may create files in the directory could create this
        # one while the daemon's does not exist.
        if place.st_mode & 0o022:
            shown = _shown(directory)
            raise Refused(f"users other than its owner can write to {shown}: chmod go-w, or use another directory")
        return _read_entry(fd, name, place.st_uid, path)
    finally:
        posix.close(fd)


def _split(path: str) -> "tuple[str, str]":
    """The directory and the name in it."""
    head, slash, name = path.rpartition("/")
    return head.rstrip("/") or slash or ".", name or "."


def _read_entry(directory: int, name: str, owner: int, path: str) -> bytes:
    # O_NONBLOCK: a FIFO would make us wait for a writer.
    fd = posix.open(name, _READ | posix.O_NONBLOCK | posix.O_NOFOLLOW | posix.O_NOCTTY, dir_fd=directory)
    try:
        _check_file(posix.fstat(fd), owner, path)
        pieces, size = [], 0
        while piece := posix.read(fd, _PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > _LARGEST:
                raise Refused(f"{_shown(path)} is larger than {_LARGEST >> 20} MiB: {_ANEW}")
        return b"".join(pieces)
    finally:
        posix.close(fd)


def _check_file(status: "posix.stat_result", owner: int, path: str) -> None:
    if status.st_mode & _KIND != _REGULAR:
        raise Refused(f"{_shown(path)} is not a regular file: name the file that the daemon writes, its --cache")
    if status.st_uid not in (0, posix.geteuid(), owner):
        trusted = "root, the caller or the owner of its directory"
        raise Refused(f"{_shown(path)} belongs to uid {status.st_uid}, not to {trusted}: chown it")
    if status.st_mode & 0o022:
        raise Refused(f"users other than its owner can write to {_shown(path)}: chmod go-w")


def parse(data: bytes) -> Result:
    """The inverse of ``status_file.compose``. Raises Malformed.

    It accepts only data that compose can have written."""
    end = data.find(b"\n", 0, _LONGEST_HEADER)
    header, body = data[: max(end, 0)], data[end + 1 :]
    words = header.split(b" ")
    if len(words) != 8 or words[0] != b"check_mounts":
        raise Malformed("header")
    if words[1] != b"1":
        raise Malformed("version: the daemon and the plugin are of different releases")
    try:
        state, taken, valid_until = STATES.index(words[2]), float(words[3]), float(words[4])
        lengths = [int(word) for word in words[6].split(b",")]
    except ValueError:
        raise Malformed("header") from None
    if len(lengths) != _VERBOSITIES or min(lengths) < 1 or sum(lengths) != len(body):
        raise Malformed("length")
    if words[7] != checksum(header[: -len(words[7])], body):
        raise Malformed("checksum")
    ends = [sum(lengths[: index + 1]) for index in range(_VERBOSITIES)]
    texts = [body[end - length : end] for end, length in zip(ends, lengths)]
    result = Result(state, texts, taken, valid_until, words[5])
    # A correct checksum does not prove that the content makes sense: times may be infinite, a
    # number may have another notation, a text may have no verdict.
    try:
        if header_of(result) + words[7] == header:
            return result
    except ValueError:
        pass
    raise Malformed("header")


def check_valid(result: Result, path: str, limit: float, boot: bytes, now: float) -> None:
    """Raises Refused unless a result is still valid.

    ``now`` is a time on CLOCK_BOOTTIME, ``limit`` the greatest age; both are in seconds. The
    comparisons also refuse NaN."""
    age, valid = now - result.taken, result.valid_until - result.taken
    if result.boot != boot:
        raise Refused(f"the result in {_shown(path)} is from another boot: {_ASK}")
    if not age >= 0:
        raise Refused(f"the result in {_shown(path)} is {_time(-age)} from the future: {_ANEW}")
    if not age <= valid:
        raise Refused(f"the result in {_shown(path)} is {_time(age)} old, and was valid for {_time(valid)}: {_ASK}")
    if not age <= limit:
        raise Refused(f"the result in {_shown(path)} is {_time(age)} old, --max-age is {_time(limit)}: {_ASK}")


def _shown(argument: str) -> str:
    from check_mounts import text  # only now: its imports take longer than printing a good result

    return text.printable_argument(argument)


def _time(seconds: float) -> str:
    from check_mounts import text

    return text.seconds_words(round(seconds, 1))


def put(data: bytes, fd: int = 1) -> None:
    """Write to stdout (or stderr).

    A reader that is gone (EPIPE) learns nothing; the exit code still says the state."""
    view = memoryview(data)
    while view:
        try:
            view = view[posix.write(fd, view) :]
        except BlockingIOError:  # our caller shares the pipe, and has made it non-blocking
            import select

            select.select([], [fd], [])
        except OSError:
            return
