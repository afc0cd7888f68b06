"""Why the daemon's result cannot be read, and what to do about it: loaded only then.

Import budget: text."""

import posix

from check_mounts import text


def why(error: OSError, path: str, directory: str, shown: str, ask: str) -> str:
    """One line. ``path`` and ``shown`` (the directory) are fit for output; ``ask`` asks for the
    daemon."""
    if isinstance(error, FileNotFoundError):
        return f"{path} is not there: {ask}"
    words, uid = text.error_words(error.errno or 0), posix.geteuid()
    if isinstance(error, PermissionError) and not _may_enter(directory):
        # Root's own runs create the directory for root alone; the daemon opens it to others.
        return f"{path} cannot be read: {words}: {shown} is closed to uid {uid}: {ask}"
    return f"{path} cannot be read: {words}: name a regular file (not a link) that uid {uid} may read"


def _may_enter(directory: str) -> bool:
    """Whether we may look up names in a directory. Without that right, even ``.`` is not found."""
    try:
        posix.close(posix.open(f"{directory}/.", posix.O_PATH | posix.O_CLOEXEC))
    except OSError as error:
        return not isinstance(error, PermissionError)
    return True
