"""Name the files of administrators that an uninstallation leaves alone: ``what_stays.py /etc
/usr/local/bin/check_mounts`` prints those that are called after check_mounts or name the program.

It steps into no mount and follows no link, because a mount below /etc may hang.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator

NAME = b"check_mounts"
LARGEST = 1 << 20  # bytes; what people write is smaller


def mount_points() -> set[bytes]:
    """All mount points, without asking any of them."""
    with open("/proc/self/mountinfo", "rb") as table:
        fields = [line.split(b" ")[4] for line in table]
    return {re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), field) for field in fields}


def files(directory: bytes, closed: set[bytes]) -> Iterator[os.DirEntry[bytes]]:
    """What is below a directory, but for mounts."""
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.path in closed:
            continue
        yield entry
        if entry.is_dir(follow_symlinks=False):
            yield from files(entry.path, closed)


def names(entry: os.DirEntry[bytes], program: bytes) -> bool:
    """Whether a regular file names the program."""
    if not entry.is_file(follow_symlinks=False):
        return False
    try:
        fd = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            return re.search(re.escape(program) + rb"(?![\w.-])", file.read(LARGEST)) is not None
    except OSError:
        return False


def staying(directory: bytes, program: bytes) -> Iterator[bytes]:
    """What is ours by its name, and what names the program."""
    ours = b""  # a directory that is named already
    for entry in files(directory, mount_points()):
        if ours and entry.path.startswith(ours):
            continue
        if entry.name.startswith(NAME):
            ours = entry.path + b"/"
            yield entry.path
        elif names(entry, program):
            yield entry.path


def main() -> None:
    """The command line."""
    directory, program = map(os.fsencode, sys.argv[1:])
    found = list(staying(directory, program))
    if found:
        print("These files are yours, and stay:")
        for path in found:
            print(f"  {path.decode('utf-8', 'replace')}".encode("unicode_escape").decode("ascii"))
    if any(path.endswith(b".service") for path in found):
        print("A unit stops with: systemctl disable --now check_mounts")


if __name__ == "__main__":
    main()
