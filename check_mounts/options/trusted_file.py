"""Files that only root or the caller can have written: their content, or why they are refused.

Import budget: ``os``, ``stat``. All questions to the files go through ``reading``."""

from __future__ import annotations

import os
import stat

from check_mounts import text
from check_mounts.options.refusals import ConfigError, Unreadable
from check_mounts.system import reading
from check_mounts.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from check_mounts.tablelines import Opener

MAX_SIZE = 1 << 20


def shown(path: str) -> str:
    """A path, fit for any output."""
    return text.clipped(text.printable_argument(path), 400)


def read(path: str, opener: Opener = os.open) -> tuple[bytes, int]:
    """Read the bytes and the mode of a file that only root or the caller can have written, and that
    ``opener`` opens.

    Raises ConfigError, and FileNotFoundError if there is no such file."""
    try:
        mode, uid, data = reading.ask("reading", path, lambda name: _opened(name, opener))
    except FileNotFoundError:
        raise
    except PermissionError as error:
        raise Unreadable(None, f"{shown(path)}: {error.strerror}") from None
    except OSError as error:
        raise ConfigError(None, f"{shown(path)}: {error.strerror}") from None
    _check_status(shown(path), mode, uid)
    if len(data) > MAX_SIZE:
        raise ConfigError(None, f"{shown(path)}: larger than 1 MiB")
    return data, stat.S_IMODE(mode)


def missing(path: str) -> ConfigError:
    """The error for a file that does not exist."""
    return ConfigError(None, f"{shown(path)}: No such file or directory")


def _opened(path: str, opener: Opener) -> tuple[int, int, bytes]:
    """Mode, owner and content of a file; no content if it is not a regular one. Raises OSError."""
    # Without O_NONBLOCK, a FIFO would block until a process opens it for writing.
    descriptor = opener(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        return status.st_mode, status.st_uid, _bytes_of(descriptor) if stat.S_ISREG(status.st_mode) else b""
    finally:
        os.close(descriptor)


def _bytes_of(descriptor: int) -> bytes:
    """The rest of a file, but little more than MAX_SIZE bytes, because it may be growing."""
    data = b""
    while len(data) <= MAX_SIZE and (chunk := os.read(descriptor, 1 << 18)):
        data += chunk
    return data


def _check_status(path: str, mode: int, uid: int) -> None:
    """Raises ConfigError for a directory or a device, and for a file that other users can write.

    The file must be trusted: it names users to act as, and switches alarms off. POSIX ACLs that let
    others write show in the mode bits of the group."""
    if stat.S_ISDIR(mode):
        raise ConfigError(None, f"{path}: it is a directory")
    if not stat.S_ISREG(mode):
        raise ConfigError(None, f"{path}: not a regular file")
    if uid not in (0, os.geteuid()):
        raise ConfigError(None, f"{path}: refused, because it belongs to uid {uid}, neither root nor the caller")
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        others = f"not only its owner can write to it (mode {stat.S_IMODE(mode):04o})"
        raise ConfigError(None, f"{path}: refused, because {others}")
