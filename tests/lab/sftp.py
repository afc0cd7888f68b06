"""An SFTP server on a TCP port, without ssh: what sshfs speaks to with ``-o directport``. ``python3
-I sftp.py ADDRESS PORT``."""

import os
import signal
import socket
import sys

SERVER = "/usr/lib/openssh/sftp-server"

listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
if os.fork():
    os._exit(0)  # it listens: whoever waited for us may connect
os.setsid()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    connection = listener.accept()[0]
    if os.fork() == 0:
        os.dup2(connection.fileno(), 0)
        os.dup2(connection.fileno(), 1)
        os.execv(SERVER, [SERVER])
    connection.close()
