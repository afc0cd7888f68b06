"""A program in the place of an NFS server: ``close ADDRESS`` closes each connection, ``mumble
ADDRESS`` sends replies that belong to no request."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
import time


def mumble(connection: socket.socket) -> None:
    """Once a request has come, reply again and again, to none that was made."""
    with connection, contextlib.suppress(OSError):
        while connection.recv(65536, socket.MSG_PEEK):
            connection.sendall(struct.pack(">7I", 0x80000000 | 24, 4711, 1, 0, 0, 0, 0))
            time.sleep(0.2)


def main() -> None:
    """The command line."""
    with socket.create_server((sys.argv[2], 2049)) as listener:
        while True:
            connection = listener.accept()[0]
            if sys.argv[1] == "close":
                connection.recv(1)
                connection.close()
            else:
                threading.Thread(target=mumble, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
