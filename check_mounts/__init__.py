"""check_mounts: tells which mounted filesystems of a host are dead, hung or denied, without ever
hanging itself."""

__version__ = "0.1.0"
