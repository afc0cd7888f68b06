"""What a probe's outcome means: errno, mode and mount ID -> condition and words. Pure; the one place where errno is judged."""

from __future__ import annotations

import enum
import errno
import stat
from typing import Optional

from check_mounts import text
from check_mounts.model import DENIED_ERRORS, Condition, Mount, Outcome, Step

# This machine ran short of something; it says nothing about the filesystem.
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.ENAMETOOLONG})
# The path leads elsewhere by now: the mount point was renamed, removed, or replaced by a symbolic link.
_PATH_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class Elsewhere(enum.Enum):
    """The look-up did not end on the mount: only a fresh mount table can say whether it is gone or hidden."""

    OTHER_MOUNT = "its mount point leads to another mount"
    NO_PATH = "its mount point cannot be reached"


def shut_down(mount: Mount) -> bool:
    """ext4 and xfs that were shut down (by an I/O error or on purpose) say so in their options, while ext4 still answers from the
    page cache as if nothing had happened.
    """
    return b"shutdown" in mount.super_options or b"shutdown" in mount.options


def led_elsewhere(mount: Mount, outcome: Outcome, trigger: bool = False) -> Optional[Elsewhere]:
    """Whether the probe missed the mount; None where it did not. ``trigger``: an autofs mount is meant to lead elsewhere."""
    if outcome.step == Step.LOOK_UP and outcome.errno in _PATH_GONE:
        return Elsewhere.NO_PATH
    if not trigger and outcome.mount_id is not None and outcome.mount_id != mount.mount_id:
        return Elsewhere.OTHER_MOUNT
    return None


def classify_write(outcome: Outcome) -> tuple[Condition, str]:
    """Condition and detail of a write probe that came back, of a mount whose reading steps were answered."""
    if outcome.errno is None or outcome.step is None:
        return Condition.OK, ""
    words = f"{text.error_words(outcome.errno)} at {outcome.step.word}"
    if outcome.errno == errno.EBADMSG and outcome.step is Step.VERIFY:
        return Condition.DEAD, "what was read back is not what was written"
    if outcome.errno in _OURS:
        return Condition.UNPROBED, words
    if outcome.errno in (errno.ENOSPC, errno.EDQUOT):
        return Condition.FULL, words
    if outcome.errno == errno.EROFS:
        return Condition.READ_ONLY, words
    if outcome.errno in DENIED_ERRORS:
        return Condition.DENIED, f"{words} for {whose(outcome)}" if outcome.acted_as is not None else words
    return Condition.DEAD, words


def classify(mount: Mount, outcome: Outcome) -> tuple[Condition, str]:
    """Condition and detail of a mount whose probe came back; the mount itself was seen (:func:`led_elsewhere` is None)."""
    if outcome.nlink == 0 and stat.S_ISDIR(outcome.mode or 0):
        # A bind-mounted file that was replaced by a rename has no link any more and is as good as before; a directory is not.
        # NFS: the export's root directory was removed while the server still holds it open; every use fails with ESTALE.
        return Condition.DEAD, "its root directory was removed (nlink 0)"
    if outcome.errno is not None and outcome.step is not None and outcome.errno not in DENIED_ERRORS:
        if outcome.errno in _OURS:
            return Condition.UNPROBED, f"{outcome.step.word}: {text.error_words(outcome.errno)}"
        return Condition.DEAD, text.error_words(outcome.errno)
    if shut_down(mount):
        return Condition.DEAD, "the filesystem was shut down"
    if outcome.mode is not None and stat.S_ISDIR(outcome.mode) and not outcome.mode & 0o111:
        return Condition.DENIED, f"mode {stat.S_IMODE(outcome.mode):04o} does not allow access"
    if outcome.errno is not None and outcome.step is not None:
        return Condition.DENIED, _refusal(outcome)
    return Condition.OK, ""


def _refusal(outcome: Outcome) -> str:
    assert outcome.errno is not None and outcome.step is not None
    words = text.error_words(outcome.errno)
    if outcome.step != Step.READ or outcome.acted_as is None:
        return f"{words} at {outcome.step.word}"
    return f"{words} for {whose(outcome)}"


def whose(outcome: Outcome) -> str:
    """Who was refused: ``its owner, uid 1000``."""
    return f"{'its owner, ' if outcome.acted_as == outcome.uid else ''}uid {outcome.acted_as}"
