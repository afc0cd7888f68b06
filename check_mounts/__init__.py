"""check_mounts: tells which mounted filesystems of a host are dead, hung or denied, without ever
hanging itself."""

__version__ = "0.1.0"

# The file that keeps the daemon's result, unless --cache names another.
RESULT = "/run/check_mounts/status"
