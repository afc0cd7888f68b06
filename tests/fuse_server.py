"""FUSE filesystems that answer, fall silent and die on command: the hung file server of the tests.

Run as a program of its own (a hung mount must not hang the tests), it mounts through /dev/fuse
itself and obeys lines on stdin. Tests give these by ``fuse.command("delay", "ID", "0.2")``, see
Fuse in conftest.py:

    mount ID MOUNTPOINT KEY=VALUE...  mount; the keys are uid gid mode file_mode nlink user_id
                                      group_id allow_other default_permissions source type
    answer ID                         answer again, also what has been read meanwhile
    die ID                            close the connection: everybody gets ENOTCONN

    hang ID                           read requests from now on, but never answer: who waits cannot
                                      be killed
    freeze ID                         do not even read requests from now on: who waits can be killed
    hang-lookup ID                    never answer LOOKUP of a name, but all else
    hang-readlink ID                  never answer READLINK, but all else
    hang-at ID OPERATION              never answer that operation, but all else
    delay ID SECONDS                  each answer, of whatever operation, takes so long

    error ID N                        answer GETATTR and STATFS with errno N (0: as usual)
    fail ID OPERATION N               answer that operation, or "all", with errno N (0: as usual)
    fail-after ID OPERATION OTHER N   from the first time that OPERATION was asked for, answer OTHER
                                      with errno N
    nostatfs ID                       answer STATFS with ENOSYS
    refuse-noatime ID N               answer OPENDIR with errno N if it is to leave the access time
                                      alone

    statfs ID KEY=N...                what STATFS says: blocks bfree bavail files ffree bsize
                                      namelen frsize
    attr ID KEY=N...                  what GETATTR says of the root directory: mode (octal) uid gid
                                      nlink
    entries ID INO:TYPE:HEX...        what READDIR says: inode, d_type, and the name in hexadecimal
    link ID NAME TARGET               a symbolic link in the root directory
    spoil ID                          what is written is read back differently
    take-nothing ID                   each write is of 0 bytes
    direct ID                         who opens a file from now on does without the kernel's cache

    asked ID                          which operations have been asked for so far
    waiting ID                        how many requests have been read and not answered

An OPERATION is a name in OPERATIONS. Files can be made in the root directory, written, read and
removed.

Each command is answered with a line: "ok ...", or "error ...". The format of the messages is that
of include/uapi/linux/fuse.h."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import stat
import struct
import sys
import time

_HEADER = struct.Struct("<IIQQIIII")  # len opcode unique nodeid uid gid pid padding
_OUT = struct.Struct("<IiQ")
_ATTR = struct.Struct("<QQQQQQIIIIIIIIII")

OPERATIONS = {
    "lookup": 1, "forget": 2, "getattr": 3, "setattr": 4, "readlink": 5, "mknod": 8, "unlink": 10, "open": 14,
    "read": 15, "write": 16,
    "statfs": 17, "release": 18, "fsync": 20, "flush": 25, "init": 26, "opendir": 27, "readdir": 28, "releasedir": 29,
    "access": 34,
    "create": 35, "interrupt": 36, "destroy": 38, "poll": 40, "batch_forget": 42, "tmpfile": 51,
}  # fmt: skip
LOOKUP, FORGET, GETATTR, READLINK, STATFS, RELEASE = 1, 2, 3, 5, 17, 18
INIT, OPENDIR, READDIR, RELEASEDIR, INTERRUPT, ACCESS, DESTROY, BATCH_FORGET = 26, 27, 28, 29, 36, 34, 38, 42
SETATTR, UNLINK, OPEN, READ, WRITE, FSYNC, FLUSH, CREATE = 4, 10, 14, 15, 16, 20, 25, 35
_FIRST_LINK = 1 << 20  # the nodes of links are numbered from here
_NO_ANSWER = (FORGET, BATCH_FORGET, INTERRUPT)

_libc = ctypes.CDLL(None, use_errno=True)


class Filesystem:
    """One mounted filesystem: an empty root directory with a subdirectory ``sub``, and what files
    are made in it."""

    def __init__(self, mount_point: bytes, options: dict[str, str]) -> None:
        self.uid, self.gid = int(options.get("uid", 0)), int(options.get("gid", 0))
        self.mode = int(options.get("mode", "755"), 8)
        self.nlink = int(options.get("nlink", 2))
        self.file_mode = int(options.get("file_mode", "600"), 8)
        self.state = "answer"
        self.error = 0
        self.offers_statfs = True
        self.hangs_at_lookup = self.hangs_at_readlink = False
        self.links: list[tuple[bytes, bytes]] = []  # name and target
        self.delay = 0.0
        self.failing: dict[int, int] = {}
        self.failing_after: dict[int, tuple[int, int]] = {}
        self.hangs_at = 0
        self.statfs = dict(
            blocks=1000, bfree=500, bavail=500, files=100, ffree=50, bsize=4096, namelen=255, frsize=4096
        )
        self.entries: list[tuple[int, int, bytes]] = []
        self.spoils = False
        self.takes_nothing = False
        self.is_direct = False
        self.refuses_noatime = 0
        self.asked: list[int] = []
        self.names: dict[bytes, int] = {}
        self.files: dict[int, bytearray] = {}
        self.read: list[bytes] = []
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        data = f"fd={self.fd},rootmode=40000,user_id={options.get('user_id', 0)},group_id={options.get('group_id', 0)}"
        if options.get("allow_other", "1") == "1":
            data += ",allow_other"
        if options.get("default_permissions") == "1":
            data += ",default_permissions"
        source = options.get("source", "fuse").encode()
        if _libc.mount(source, mount_point, options.get("type", "fuse.test").encode(), 0, data.encode()) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        # Until INIT is answered everybody waits for that, and can be killed: not the silence that
        # is wanted.
        select.select([self.fd], [], [])
        self.receive()

    def receive(self) -> None:
        """Read one request; answer it unless silence has been ordered."""
        try:
            data = os.read(self.fd, 1 << 20)
        except OSError as error:
            if error.errno == errno.ENODEV:  # unmounted
                self.close()
            return
        opcode = _HEADER.unpack_from(data)[1]
        if opcode in _NO_ANSWER:
            return
        hangs = (
            opcode == self.hangs_at
            or (self.hangs_at_lookup and opcode == LOOKUP)
            or (self.hangs_at_readlink and opcode == READLINK)
        )
        if hangs or (self.state == "hang" and opcode not in (RELEASE, RELEASEDIR, DESTROY)):
            self.read.append(data)
        else:
            self.reply(data)

    def order(self, state: str) -> None:
        """Change behaviour; whoever answers again also answers what has been read."""
        self.state = state
        if state == "answer":
            self.hangs_at_lookup = self.hangs_at_readlink = False
            self.hangs_at = 0
            pending, self.read = self.read, []
            for data in pending:
                self.reply(data)

    def close(self) -> None:
        """Die."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def reply(self, data: bytes) -> None:
        """Answer one request."""
        _, opcode, unique, node, *_ = _HEADER.unpack_from(data)
        self.asked.append(opcode)
        time.sleep(self.delay)
        number, body = self._answer(opcode, node, data[_HEADER.size :])
        try:
            os.write(self.fd, _OUT.pack(_OUT.size + len(body), -number, unique) + body)
        except OSError:  # ENOENT: whoever asked has given up
            pass

    def _answer(self, opcode: int, node: int, body: bytes) -> tuple[int, bytes]:
        if opcode == INIT:
            return 0, struct.pack(
                "<IIIIHHIIHHIIHHIIII", 7, 31, 65536, 0, 12, 10, 65536, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
            )
        if opcode in self.failing_after:
            other, later = self.failing_after[opcode]
            self.failing[other] = later
        number = self.failing.get(opcode, self.failing.get(0, 0)) or (self.error if opcode in (GETATTR, STATFS) else 0)
        if number:
            return number, b""
        if opcode == GETATTR:
            return 0, struct.pack("<QII", 0, 0, 0) + self._attributes(node)
        for number, (name, target) in enumerate(self.links, _FIRST_LINK):
            if opcode == LOOKUP and body.rstrip(b"\0") == name:
                return 0, struct.pack("<QQQQII", number, 0, 0, 0, 0, 0) + self._attributes(number)
            if opcode == READLINK and node == number:
                return 0, target
        if opcode == LOOKUP:
            return self._look_up(body.rstrip(b"\0"))
        if opcode == STATFS and self.offers_statfs:
            return 0, struct.pack("<QQQQQIII", *self.statfs.values()) + b"\0" * 28
        if opcode == OPENDIR and self.refuses_noatime and struct.unpack_from("<I", body)[0] & os.O_NOATIME:
            return self.refuses_noatime, b""
        if opcode == OPENDIR:
            return 0, struct.pack("<QII", 1, 0, 0)
        if opcode == READDIR:
            return 0, self._listing(*struct.unpack_from("<QI", body, 8))
        if opcode in (RELEASEDIR, RELEASE, ACCESS, DESTROY, FSYNC, FLUSH):
            return 0, b""
        return self._answer_of_file(opcode, node, body)

    def _look_up(self, name: bytes) -> tuple[int, bytes]:
        node = 2 if name == b"sub" else self.names.get(name)
        return (errno.ENOENT, b"") if node is None else (0, self._entry(node))

    def _entry(self, node: int) -> bytes:
        return struct.pack("<QQQQII", node, 0, 0, 0, 0, 0) + self._attributes(node)

    def _listing(self, offset: int, size: int) -> bytes:
        listing = b""
        for position, (inode, kind, name) in enumerate(self.entries):
            if position >= offset:
                entry = struct.pack("<QQII", inode, position + 1, len(name), kind) + name
                entry += b"\0" * (-len(entry) % 8)
                if len(listing) + len(entry) > size:
                    break
                listing += entry
        return listing

    def _answer_of_file(self, opcode: int, node: int, body: bytes) -> tuple[int, bytes]:
        if opcode == CREATE:
            node = 3 + len(self.files)
            self.names[body[16:].rstrip(b"\0")], self.files[node] = node, bytearray()
            return 0, self._entry(node) + struct.pack("<QII", node, 0, 0)
        if opcode == OPEN and self.is_direct:
            return 0, struct.pack("<QII", 0, 1, 0)  # FOPEN_DIRECT_IO
        if opcode == WRITE and self.takes_nothing:
            return 0, struct.pack("<II", 0, 0)
        if opcode == WRITE:
            offset, size = struct.unpack_from("<QI", body, 8)
            self.files[node][offset : offset + size] = body[40 : 40 + size]
            return 0, struct.pack("<II", size, 0)
        if opcode == READ:
            offset, size = struct.unpack_from("<QI", body, 8)
            data = self.files[node][offset : offset + size]
            return 0, bytes(len(data)) if self.spoils else bytes(data)
        if opcode == UNLINK:
            return 0 if self.names.pop(body.rstrip(b"\0"), None) else errno.ENOENT, b""
        if opcode == SETATTR:
            return 0, struct.pack("<QII", 0, 0, 0) + self._attributes(node)
        return errno.ENOSYS, b""

    def _attributes(self, node: int) -> bytes:
        if node in self.files:
            mode, size = stat.S_IFREG | self.file_mode, len(self.files[node])
            return _ATTR.pack(node, size, 8, 0, 0, 0, 0, 0, 0, mode, 1, self.uid, self.gid, 0, 4096, 0)
        mode = stat.S_IFDIR | self.mode if node < _FIRST_LINK else stat.S_IFLNK | 0o777
        return _ATTR.pack(node, 0, 0, 0, 0, 0, 0, 0, 0, mode, self.nlink, self.uid, self.gid, 0, 4096, 0)


def _obey(line: str, filesystems: dict[str, Filesystem]) -> str:
    command, name, *rest = line.split("\t")
    if command == "mount":
        options = dict(option.split("=", 1) for option in rest[1:])
        filesystems[name] = Filesystem(os.fsencode(rest[0]), options)
    elif command == "waiting":
        return str(len(filesystems[name].read))
    elif command == "die":
        filesystems.pop(name).close()
    elif command == "error":
        filesystems[name].error = int(rest[0])
    elif command == "fail":
        filesystems[name].failing[OPERATIONS.get(rest[0], 0)] = int(rest[1])
    elif command == "fail-after":
        filesystems[name].failing_after[OPERATIONS[rest[0]]] = OPERATIONS[rest[1]], int(rest[2])
    elif command == "hang-at":
        filesystems[name].hangs_at = OPERATIONS[rest[0]]
    elif command == "statfs":
        filesystems[name].statfs.update((key, int(value)) for key, _, value in (word.partition("=") for word in rest))
    elif command == "attr":
        for key, _, value in (word.partition("=") for word in rest):
            setattr(filesystems[name], key, int(value, 8 if key == "mode" else 10))
    elif command == "entries":
        fields = [word.split(":") for word in rest]
        filesystems[name].entries = [
            (int(inode), int(kind), bytes.fromhex(hexadecimal)) for inode, kind, hexadecimal in fields
        ]
    elif command == "spoil":
        filesystems[name].spoils = True
    elif command == "direct":
        filesystems[name].is_direct = True
    elif command == "take-nothing":
        filesystems[name].takes_nothing = True
    elif command == "refuse-noatime":
        filesystems[name].refuses_noatime = int(rest[0])
    elif command == "asked":
        words = {number: word for word, number in OPERATIONS.items()}
        return " ".join(words.get(number, str(number)) for number in filesystems[name].asked)
    elif command == "delay":
        filesystems[name].delay = float(rest[0])
    elif command == "hang-lookup":
        filesystems[name].hangs_at_lookup = True
    elif command == "link":
        filesystems[name].links.append((os.fsencode(rest[0]), os.fsencode(rest[1])))
    elif command == "hang-readlink":
        filesystems[name].hangs_at_readlink = True
    elif command == "nostatfs":
        filesystems[name].offers_statfs = False
    else:
        filesystems[name].order(command)
    return name


def main() -> None:
    """Serve until stdin ends."""
    with contextlib.suppress(OSError):  # what is slow is to be what a test has asked for, on a busy host, too
        os.nice(-10)
    filesystems: dict[str, Filesystem] = {}
    listening: dict[int, Filesystem] = {}
    buffer = b""
    changed = True
    while True:
        if changed:
            listening = {fs.fd: fs for fs in filesystems.values() if fs.fd >= 0 and fs.state != "freeze"}
            poll = select.poll()
            for fd in (0, *listening):
                poll.register(fd, select.POLLIN)
            changed = False
        for fd, _ in poll.poll():
            if fd != 0:
                listening[fd].receive()
                changed = changed or listening[fd].fd < 0
                continue
            changed = True
            data = os.read(0, 65536)
            if not data:
                return
            buffer += data
            while b"\n" in buffer:
                line, _, buffer = buffer.partition(b"\n")
                try:
                    answer = "ok " + _obey(os.fsdecode(line), filesystems)
                except (OSError, KeyError, ValueError) as error:
                    answer = f"error {error}"
                sys.stdout.write(answer + "\n")
                sys.stdout.flush()
            break


if __name__ == "__main__":
    main()
