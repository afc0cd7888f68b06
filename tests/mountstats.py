"""Text of /proc/self/mountstats as the kernel prints it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence


def escaped(name: bytes) -> bytes:
    """A name as mangle() and seq_path_root() write it."""
    return re.sub(rb"[ \t\n\\]", lambda byte: b"\\%03o" % ord(byte[0]), name)


def numbers(
    operations: int, rtt: int = 0, retransmitted: int = 0, timeouts: int = 0, queue: int = 0, execute: int = 0
) -> tuple[int, ...]:
    """The columns of one operation. Times are sums in milliseconds; ``execute`` is at least
    what the others make."""
    sent = operations + retransmitted
    return operations, sent, timeouts, 120 * sent, 100 * operations, queue, rtt, max(execute, queue + rtt), 0


def nfs(
    point: bytes, age: int, operations: Mapping[str, Sequence[int]], source: bytes = b"nas:/x", version: str = "1.1"
) -> bytes:
    """What nfs_show_stats prints of one mount."""
    lines = b"".join(
        b"\t%12s: %s\n" % (name.encode(), " ".join(map(str, columns)).encode()) for name, columns in operations.items()
    )
    return b"""device %s mounted on %s with fstype nfs4 statvers=%s
\topts:\trw,vers=4.2,rsize=1048576,proto=tcp,timeo=600,retrans=2,sec=sys,clientaddr=10.0.0.1,local_lock=none
\tage:\t%d
\timpl_id:\tname='',domain='',date='0,0'
\tcaps:\tcaps=0x3ffbffff,wtmult=512,dtsize=1048576,bsize=0,namlen=255
\tsec:\tflavor=1,pseudoflavor=1
\tevents:\t52 1310 2 90 10 12 1360 60 0 20 0 0 0 0 30 0 0 5 0 0 0 0 0 0 0 0 0\x20
\tbytes:\t1000 2000 0 0 1000 2000 1 1\x20
\tRPC iostats version: %s  p/v: 100003/4 (nfs)
\txprt:\ttcp 875 1 2 3 84 1207 1204 5 1420 7 16 11 1330
\tper-op statistics
%s
""" % (escaped(source), escaped(point), version.encode(), age, version.encode(), lines)


# Every operation of NFS 4.2, as Linux 6.12 prints them (nfs4_procedures in fs/nfs/nfs4xdr.c).
_OPERATIONS = """
NULL READ WRITE COMMIT OPEN OPEN_CONFIRM OPEN_NOATTR OPEN_DOWNGRADE CLOSE SETATTR FSINFO RENEW
SETCLIENTID SETCLIENTID_CONFIRM LOCK LOCKT LOCKU ACCESS GETATTR LOOKUP LOOKUP_ROOT REMOVE RENAME
LINK SYMLINK CREATE PATHCONF STATFS READLINK READDIR SERVER_CAPS DELEGRETURN GETACL SETACL
FS_LOCATIONS RELEASE_LOCKOWNER SECINFO FSID_PRESENT EXCHANGE_ID CREATE_SESSION DESTROY_SESSION
SEQUENCE GET_LEASE_TIME RECLAIM_COMPLETE LAYOUTGET GETDEVICEINFO LAYOUTCOMMIT LAYOUTRETURN
SECINFO_NO_NAME TEST_STATEID FREE_STATEID GETDEVICELIST BIND_CONN_TO_SESSION DESTROY_CLIENTID SEEK
ALLOCATE DEALLOCATE LAYOUTSTATS CLONE COPY OFFLOAD_CANCEL LOOKUPP LAYOUTERROR COPY_NOTIFY GETXATTR
SETXATTR LISTXATTRS REMOVEXATTR READ_PLUS
"""
NAMES = tuple(_OPERATIONS.split())
