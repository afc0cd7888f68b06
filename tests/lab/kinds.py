"""Mounts of every kind, what is done to them, and what check_mounts is to say: data.

:data:`KINDS` says how each mount is made, the fault it meets, and the condition expected then;
:data:`SERVERS` the servers, and the faults that each meets as a whole; :data:`RUNS` what
check_mounts is asked besides the plain survey. ``/mnt/NAME`` is a kind's mount point. README.md
says how to add to them; man/check_mounts.8 and docs/states.md quote the table."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PYTHON = "/usr/bin/python3"

# Stand for a condition: the mount is to be left alone; it is not there any more.
NOT_PROBED = "not probed"
NOT_MOUNTED = "not mounted"


@dataclasses.dataclass(frozen=True)
class Server:
    """A server in a network namespace of its own, what it needs on the client's side, and the fault
    that it meets as a whole: shell commands on the client's side, where ``{ns}`` runs a command in
    the namespace."""

    name: str
    serves: str
    fault: str = ""
    heal: str = ""
    client: str = ""


@dataclasses.dataclass(frozen=True)
class Kind:
    """One mount. ``make``, ``fault`` and ``heal`` are shell commands with ``{at}`` (its mount
    point), ``{host}`` (its server's address) and ``{srv}`` (its server's directory).

    ``expected`` is the condition under the fault, ``healthy`` the one before, and ``healed`` the
    one after, if that is another. ``words`` is its line in the documentation (none: the line before
    says it). ``warm``: a plain stat(2) is still answered well after the fault. ``unkillable``: its
    probe does not heed SIGKILL. ``nagios``: what a short run of an unprivileged user says, where
    that is something else. ``watched``: what the daemon says, where that is something else or
    changes in the course of time: it meets the faults after all that has been done with the mount,
    and waits for two seconds. ``spared``: while it is well and nobody uses it, the daemon may leave
    it alone (idle). ``cause``: words of the diagnosis."""

    name: str
    make: str
    expected: str
    words: str
    server: str = ""
    fault: str = ""
    heal: str = ""
    healthy: str = "ok"
    healed: str = ""
    warm: bool = False
    unkillable: bool = False
    nagios: str = ""
    watched: tuple[str, ...] = ()
    spared: bool = False
    cause: str = ""

    @property
    def is_watched(self) -> bool:
        """Whether the daemon is to see it fail and recover: not what stays broken once it was."""
        return self.healed not in ("dead", NOT_MOUNTED)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of check_mounts besides the plain survey, while the faults are in place: its arguments,
    the exit code, and the condition and some words of the diagnosis expected of some kinds by
    name."""

    name: str
    arguments: str
    code: int
    conditions: Mapping[str, str]
    causes: Mapping[str, str] = dataclasses.field(default_factory=dict)


SILENT = "does not answer on port 2049"
DROP = "{ns} iptables-legacy -A INPUT -p tcp -j DROP"
UNDROP = "{ns} iptables-legacy -F INPUT"

SFTP = f"{PYTHON} -I {shlex.quote(str(Path(__file__).with_name('sftp.py')))} {{host}} 2022"

SERVERS = [
    Server("drop", "nfs3", DROP, UNDROP),
    Server("rst", "nfs", "{ns} iptables-legacy -A INPUT -p tcp -j REJECT --reject-with tcp-reset", UNDROP),
    Server("stopped", "nfs", "{ns} rpc.nfsd 0", "{ns} rpc.nfsd -N 3 2"),
    Server("address", "nfs", "{ns} ip addr del {host}/24 dev eth0", "{ns} ip addr add {host}/24 dev eth0"),
    Server("link", "nfs", "{ns} ip link set eth0 down", "{ns} ip link set eth0 up"),
    Server("alive", "nfs3"),
    Server(
        "krb",
        "krb",
        client="mkdir /run/rpc_pipefs; mount -t rpc_pipefs none /run/rpc_pipefs; rpc.gssd -p /run/rpc_pipefs",
    ),
    Server("smb", "smb"),
    Server("smbdrop", "smb", DROP, UNDROP),
    Server("smbstop", "smb", "pkill -STOP --ns {pid} --nslist net smbd", "pkill -CONT --ns {pid} --nslist net smbd"),
    Server("diod", "9p"),
    Server("dioddrop", "9p", DROP, UNDROP),
    Server("sftp", "sftp"),
    Server(
        "sftpstop",
        "sftp",
        "pkill -STOP --ns {pid} --nslist net sftp-server",
        "pkill -CONT --ns {pid} --nslist net sftp-server",
    ),
    Server(
        "sftpdead",
        "sftp",
        "pkill --ns {pid} --nslist net -f sftp.py; pkill --ns {pid} --nslist net sftp-server",
        "{ns} " + SFTP,
    ),
]

V3 = "mount -t nfs -o vers=3,nolock,mountport=20048,nosharecache{more} {host}:/{export} {at}"
V4 = "mount -t nfs -o vers=4.2,nosharecache{more} {host}:/{export} {at}"


def nfs(
    name: str, server: str, expected: str, words: str, version: str = V4, more: str = "", export: str = "a", **rest: Any
) -> Kind:
    make = version.replace("{more}", "," + more if more else "").replace("{export}", export)
    return Kind(name, make, expected, words, server, **rest)


def smb(name: str, server: str, expected: str, words: str, **rest: Any) -> Kind:
    make = "mount -t cifs -o guest,vers=3.0,nosharesock //{host}/share {at}"
    return Kind(name, make, expected, words, server, **rest)


def ninep(name: str, server: str, expected: str, words: str, cache: str = "none", **rest: Any) -> Kind:
    make = (
        "mount -t 9p -o trans=tcp,version=9p2000.L,uname=root,access=user,aname={srv},cache=CACHE {host} {at}".replace(
            "CACHE", cache
        )
    )
    return Kind(name, make, expected, words, server, **rest)


def sshfs(name: str, server: str, expected: str, words: str, options: str = "", **rest: Any) -> Kind:
    return Kind(name, f"sshfs {options} -o directport=2022 {{host}}:{{srv}} {{at}}", expected, words, server, **rest)


def fuse(name: str, expected: str, words: str, options: str = "", fault: str = "", heal: str = "", **rest: Any) -> Kind:
    return Kind(name, f"fuse mount {name} {{at}} {options}", expected, words, fault=fault, heal=heal, **rest)


def disk(name: str, kind: str, expected: str, words: str, **rest: Any) -> Kind:
    size = "320M" if kind == "xfs" else "16M"
    make = (
        f"truncate -s {size} /srv/{name}.img && mkfs.{kind} -q /srv/{name}.img && mount -o loop /srv/{name}.img {{at}}"
    )
    return Kind(name, make, expected, words, **rest)


def dm(name: str, expected: str, words: str, fault: str, heal: str, options: str = "rw") -> Kind:
    make = (
        f"truncate -s 16M /srv/{name}.img; loop=$(losetup -f --show /srv/{name}.img); mkfs.ext4 -q $loop; "
        f"echo 0 32768 linear $loop 0 | dmsetup create {name}; mount -o {options} /dev/mapper/{name} {{at}}"
    )
    return Kind(name, make, expected, f"ext4 on device mapper, {words}", fault=fault, heal=heal, warm=True)


# fmt: off
KINDS = [
    # -- NFS whose server is silent: packets dropped Measured on Linux 6.1: NFS 4.2 soft gives EIO
    # (softerr: ETIMEDOUT) only after 92 s, whatever timeo says; NFS 3 after some seconds.
    nfs(
        "nfs3-drop-soft", "drop", "dead", "NFS 3, soft: server drops packets", V3, "soft,timeo=10,retrans=1", warm=True,
        nagios="timed-out", watched=("timed-out", "dead"), cause=SILENT,
    ),
    nfs(
        "nfs4-drop-soft", "drop", "timed-out", "NFS 4.2, soft: server drops packets", V4, "soft,timeo=10,retrans=1",
        warm=True,
        watched=("timed-out", "dead"),
    ),
    nfs(
        "nfs4-drop-softerr", "drop", "timed-out", "NFS 4.2, softerr: server drops packets", V4,
        "softerr,timeo=10,retrans=1", warm=True,
        watched=("timed-out", "dead"),
    ),
    nfs("nfs4-drop", "drop", "timed-out", "NFS 4.2, hard: server drops packets", warm=True, cause=SILENT),
    nfs("nfs3-drop", "drop", "timed-out", "NFS 3, hard: server drops packets", V3, warm=True),
    nfs(
        "nfs4-drop-ac", "drop", "timed-out", "NFS 4.2, hard, attributes cached for an hour: server drops packets",
        more="actimeo=3600", warm=True,
    ),
    nfs("nfs4-drop-noac", "drop", "timed-out", "NFS 4.2, hard, attributes not cached: server drops packets",
     more="noac"),
    nfs("nfs4-drop-nocto", "drop", "timed-out", "NFS 4.2, hard, nocto: server drops packets", more="nocto", warm=True),
    nfs("nfs3-drop-nocto", "drop", "timed-out", "NFS 3, hard, nocto: server drops packets", V3, "nocto", warm=True),
    Kind("bind-drop", "mount --bind /mnt/nfs4-drop {at}", "timed-out",
     "bind mount of an NFS whose server drops packets", warm=True),
    Kind("nfs4-drop/below", "mount -t tmpfs below {at}", "blocked",
     "anything mounted below an NFS whose server drops packets"),
    Kind(
        "overlay-drop", "mkdir -p /srv/up /srv/wk && mount -t overlay -o "
        "lowerdir=/mnt/nfs3-drop,upperdir=/srv/up,workdir=/srv/wk o {at}",
        "timed-out", "overlay above an NFS whose server drops packets",
    ),
    # -- NFS whose server refuses, stops, or cannot be reached
    nfs("nfs4-rst", "rst", "timed-out", "NFS 4.2: server refuses connections (RST)", warm=True),
    nfs("nfs4-rst-b", "rst", "timed-out", "", export="b", warm=True),
    nfs("nfs4-stopped", "stopped", "timed-out", "NFS 4.2: nfsd stopped", warm=True,
     cause="refuses connections on port 2049"),
    nfs("nfs4-stopped-b", "stopped", "timed-out", "", export="b", warm=True),
    nfs("nfs4-address", "address", "timed-out", "NFS 4.2: the server's address is gone", warm=True),
    nfs("nfs4-address-b", "address", "timed-out", "", export="b", warm=True),
    nfs("nfs4-link", "link", "timed-out", "NFS 4.2: the server's link is down", warm=True),
    nfs("nfs4-link-b", "link", "timed-out", "", export="b", warm=True),
    # -- NFS whose server answers
    nfs("nfs4", "alive", "ok", "NFS 4.2, healthy"),
    nfs("nfs3", "alive", "ok", "NFS 3, healthy", V3),
    nfs("nfs4-ro", "alive", "ok", "NFS 4.2, exported read-only", export="ro"),
    nfs("nfs4-owner", "alive", "ok", "NFS, root_squash, root directory 0700 of a user", export="owner"),
    nfs("nfs3-owner", "alive", "ok", "", V3, export="owner"),
    nfs(
        "nfs4-mode", "alive", "denied", "NFS, root directory of mode 0000", export="mode",
        fault="chmod 0000 {srv}/mode", heal="chmod 755 {srv}/mode",
    ),
    nfs("nfs3-mode", "alive", "denied", "", V3, export="mode"),
    nfs("nfs4-krb", "krb", "ok", "NFS, sec=krb5: root may, the owner has no ticket", more="sec=krb5", nagios="denied"),
    nfs(
        "nfs4-krb-denied", "krb", "denied", "NFS, sec=krb5: neither root nor the owner without a ticket may",
        more="sec=krb5", export="b",
        fault="chmod 0700 {srv}/b", heal="chmod 0755 {srv}/b",
    ),
    Kind("bind-nfs4", "mount --bind /mnt/nfs4 {at}", "ok", "bind mount of a healthy NFS"),
    Kind("nfs4/below", "mount -t tmpfs below {at}", "ok", "tmpfs below a healthy NFS"),
    nfs(
        "nfs4-unexported", "alive", "dead", "NFS 4.2: no longer exported, though others still are", export="gone",
        fault="{ns} exportfs -u '*:/gone'", heal="{ns} exportfs -o rw,no_root_squash,fsid=14 '*:/gone'", warm=True,
        cause="answers RPC: export is gone",
    ),
    nfs("nfs3-unexported", "alive", "dead", "", V3, export="gone", warm=True),
    nfs(
        "nfs4-removed", "alive", "dead", "NFS 4.2: the export's root directory was removed and made again",
        export="removed",
        fault="rm -r {srv}/removed && mkdir {srv}/removed", warm=True, healed="dead",
    ),
    nfs("nfs3-removed", "alive", "dead", "", V3, export="removed", warm=True, healed="dead"),
    nfs(
        "nfs4-fs", "alive", "dead", "NFS 4.2: the exported filesystem was unmounted on the server", export="fs",
        fault="{ns} umount -l {srv}/fs; {ns} exportfs -f", warm=True, healed="dead",
    ),
    Kind(
        "nfs4-frozen", "truncate -s 16M {srv}/frozen.img; mkfs.ext4 -q {srv}/frozen.img; mkdir {srv}/frozen; "
        "{ns} mount -o loop {srv}/frozen.img {srv}/frozen; {ns} exportfs -o "
        "rw,no_root_squash,no_subtree_check,fsid=30 '*:/frozen'; "
        "mount -t nfs -o vers=4.2,nosharecache {host}:/frozen {at}", "ok",
        "NFS 4.2: the server's filesystem is frozen (timed-out, with --write)", "alive",
        fault="{ns} fsfreeze -f {srv}/frozen", heal="{ns} fsfreeze -u {srv}/frozen",
    ),
    # -- CIFS
    smb("cifs", "smb", "ok", "CIFS, healthy"),
    # Measured on Linux 6.1: what is asked while the client connects again, or after 182 s of
    # silence, gets EAGAIN.
    smb("cifs-drop", "smbdrop", "timed-out", "CIFS: server drops packets", watched=("timed-out", "dead")),
    smb("cifs-stopped", "smbstop", "timed-out", "CIFS: server stopped", watched=("timed-out", "dead")),
    # -- 9p
    ninep("9p", "diod", "ok", "9p, healthy"),
    ninep("9p-drop", "dioddrop", "timed-out", "9p: server drops packets", unkillable=True),
    ninep("9p-drop-loose", "dioddrop", "timed-out", "9p, cache=loose: server drops packets", "loose", warm=True,
     unkillable=True),
    # -- FUSE
    fuse("fuse", "ok", "FUSE, healthy"),
    fuse(
        "fuse-silent", "timed-out", "FUSE: daemon reads and never answers", "", "fuse hang fuse-silent",
        "fuse answer fuse-silent",
        unkillable=True,
    ),
    fuse("fuse-frozen", "timed-out", "FUSE: daemon does not even read", "", "fuse freeze fuse-frozen",
     "fuse answer fuse-frozen"),
    fuse("fuse-dead", "dead", "FUSE: daemon dead", "", "fuse die fuse-dead", healed="dead"),
    fuse("fuse-stale", "dead", "FUSE: daemon answers ESTALE", "", "fuse error fuse-stale 116",
     "fuse error fuse-stale 0"),
    fuse(
        "fuse-user", NOT_PROBED, "FUSE of an unprivileged user, silent", "user_id=1000 group_id=1000",
        "fuse hang fuse-user", "fuse answer fuse-user", healthy=NOT_PROBED,
    ),
    sshfs("sshfs", "sftp", "ok", "sshfs, healthy", nagios="denied"),
    sshfs("sshfs-silent", "sftpstop", "timed-out", "sshfs: server stopped", unkillable=True, nagios="denied"),
    sshfs(
        "sshfs-gone", "sftpdead", NOT_MOUNTED,
        "sshfs: server dead, so sshfs unmounts it (missing, if it is named)",
        healed=NOT_MOUNTED,
    ),
    sshfs(
        "sshfs-dead", "sftpdead", "dead", "sshfs -o reconnect: server dead", "-o reconnect", nagios="denied",
        watched=("dead", "timed-out"),  # while it connects again
    ),
    # -- autofs
    Kind(
        "autofs", "printf '%s -vers=4.2,nosharecache {host}:/a\\n' /mnt/autofs /mnt/autofs-idle > /etc/auto.direct; "
        "echo '/- /etc/auto.direct' > /etc/auto.master; touch /etc/autofs.conf; automount -t 0; ls {at} > /dev/null",
        "timed-out", "NFS mounted by autofs, then its server drops packets", "drop", spared=True,
    ),
    Kind(  # healed it is mounted, because one of RUNS has asked for it
        "autofs-idle", "", NOT_PROBED,
        "autofs trigger whose server drops packets, not mounted (timed-out with --autofs probe)",
        healthy=NOT_PROBED, healed="ok", watched=("timed-out",), spared=True,
    ),
    # -- local
    disk("ext4", "ext4", "ok", "ext4, healthy"),
    disk("xfs", "xfs", "ok", "xfs, healthy"),
    disk("xfs-down", "xfs", "dead", "xfs, shut down", fault="shut-down {at}", healed="dead"),
    disk("ext4-down", "ext4", "ok", "ext4, shut down, on a kernel that does not say so (Linux 6.1)",
     fault="shut-down {at}", nagios="dead"),
    Kind(
        "xfs-quota", "truncate -s 320M /srv/xfs-quota.img && mkfs.xfs -q /srv/xfs-quota.img; "
        "mount -o loop,uquota /srv/xfs-quota.img {at}; chown 1000:1000 {at}; "
        "xfs_quota -x -c 'limit bhard=1k 1000' {at}", "ok", "xfs, its owner's quota used up (full, with --write)",
    ),
    disk("xfs-frozen", "xfs", "ok", "xfs, frozen (only writes hang)", fault="fsfreeze -f {at}",
     heal="fsfreeze -u {at}"),
    dm(
        "dm-suspended", "timed-out", "device suspended, root directory cached",
        "dmsetup suspend --nolockfs dm-suspended", "dmsetup resume dm-suspended",
    ),
    dm(
        # Mounted rw, ext4 would count an error as soon as it writes something: at any time.
        "dm-error", "ok", "mounted ro, device gives errors, root directory cached (failing, once ext4 counts one)",
        "dmsetup suspend --nolockfs --noflush dm-error; echo 0 32768 error | dmsetup load dm-error; "
        "dmsetup resume dm-error", "", options="ro",
    ),
    Kind("tmpfs", "mount -t tmpfs none {at}", "ok", "tmpfs"),
    Kind("tmpfs-mode", "mount -t tmpfs -o mode=0000,uid=1000 none {at}", "denied",
     "tmpfs, root directory of mode 0000", healthy="denied"),
    Kind("covered", "mount -t tmpfs none {at} && mount -t tmpfs over {at}", "ok",
     "two mounts on one mount point: the upper one"),
]
# fmt: on

RUNS = [
    Run("named", "-t 1 /mnt/sshfs-gone /mnt/nfs4", 2, {"sshfs-gone": "missing", "nfs4": "ok"}),
    Run(
        "write",
        "-t 2 --write -p /mnt/nfs4 -p /mnt/nfs3 -p /mnt/nfs4-owner -p /mnt/nfs4-ro -p /mnt/cifs -p /mnt/9p -p "
        "/mnt/sshfs "
        "-p /mnt/ext4 -p /mnt/xfs -p /mnt/xfs-frozen -p /mnt/xfs-quota -p /mnt/tmpfs -p /mnt/nfs4-frozen",
        2,
        {
            "nfs4": "ok",
            "nfs3": "ok",
            "nfs4-owner": "ok",
            "nfs4-ro": "read-only",
            "cifs": "ok",
            "9p": "ok",
            "sshfs": "ok",
            "ext4": "ok",
            "xfs": "ok",
            "xfs-frozen": "timed-out",
            "xfs-quota": "full",
            "tmpfs": "ok",
            "nfs4-frozen": "timed-out",
        },
        {"nfs4-frozen": "answers RPC: this client is stuck"},
    ),
    Run("autofs", "-t 1 --autofs probe -p /mnt/autofs-idle", 2, {"autofs-idle": "timed-out"}),
]

# Run by a shell in the server's namespaces. nfsd needs a filesystem that can be exported, which an
# overlay is not: a tmpfs.
_NFS = """
mkdir -p {srv}/fs {srv}/a {srv}/b {srv}/ro {srv}/owner {srv}/mode {srv}/gone {srv}/removed {srv}/a/below
chmod 0700 {srv}/owner; chown 1000:1000 {srv}/owner
mount -t tmpfs tmpfs /var/lib/nfs
mount -t tmpfs tmpfs /run
mount -t tmpfs exported {srv}/fs
mount -t nfsd nfsd /proc/fs/nfsd
mkdir /var/lib/nfs/v4recovery
touch /var/lib/nfs/rmtab /var/lib/nfs/etab
cat > /run/nfs.conf <<END
[exports]
rootdir={srv}
END
cat > /run/exports <<END
/a *(rw,no_subtree_check,no_root_squash,fsid=11)
/b *(rw,no_subtree_check,no_root_squash,fsid=12)
/gone *(rw,no_subtree_check,no_root_squash,fsid=14)
/removed *(rw,no_subtree_check,no_root_squash,fsid=15)
/mode *(rw,no_subtree_check,no_root_squash,fsid=16)
/ro *(ro,no_subtree_check,fsid=17)
/owner *(rw,no_subtree_check,root_squash,fsid=18)
/fs *(rw,no_subtree_check,no_root_squash,fsid=19)
END
mount --bind /run/nfs.conf /etc/nfs.conf
mount --bind /run/exports /etc/exports
RPCBIND
exportfs -a
rpc.nfsd -G 10 VERSIONS 2  # nobody opens a file by NFS 4 before this time of grace is over; 10 s is the least
rpc.mountd -p 20048 VERSIONS
"""
_KERBEROS = """
mkdir -p /etc/krb5kdc {srv}/kdc {srv}/a {srv}/b
chown 1000:1000 {srv}/a {srv}/b
cat > /etc/krb5.conf <<END
[libdefaults]
default_realm = LAB
dns_lookup_kdc = false
dns_lookup_realm = false
[realms]
LAB = {
 kdc = {host}
}
[logging]
kdc = FILE:{srv}/kdc/log
END
cat > /etc/krb5kdc/kdc.conf <<END
[realms]
LAB = {
 database_name = {srv}/kdc/principal
 key_stash_file = {srv}/kdc/stash
 supported_enctypes = aes256-cts-hmac-sha1-96:normal
}
END
kdb5_util create -s -P secret
set -- $(getent hosts {host})
for principal in nfs/$2 host/guest; do
    kadmin.local addprinc -randkey $principal
    kadmin.local ktadd $principal
done
krb5kdc
rpc.svcgssd -n
"""
_SMB = """
mkdir {srv}/share; chmod 777 {srv}/share
mount -t tmpfs tmpfs /run
mkdir -p /run/smb /run/samba
cat > /run/smb/smb.conf <<END
[global]
map to guest = Bad User
server min protocol = SMB2
disable netbios = yes
load printers = no
printcap name = /dev/null
private dir = /run/smb
lock directory = /run/smb
state directory = /run/smb
cache directory = /run/smb
pid directory = /run/smb
ncalrpc dir = /run/smb
log file = /run/smb/log
[share]
path = {srv}/share
guest ok = yes
read only = no
END
smbd -D -s /run/smb/smb.conf
"""
SERVE = {
    "nfs3": _NFS.replace("RPCBIND", "rpcbind -w").replace("VERSIONS", ""),
    "nfs": _NFS.replace("RPCBIND", "").replace("VERSIONS", "-N 3"),
    "lease": _NFS.replace("RPCBIND", "").replace("-G 10", "-G 10 -L 10").replace("VERSIONS", "-N 3"),
    "krb": _KERBEROS
    + _NFS.replace("RPCBIND", "")
    .replace("VERSIONS", "-N 3")
    .replace("no_subtree_check,", "no_subtree_check,sec=krb5,"),
    "smb": _SMB,
    "sftp": SFTP,
    "9p": "diod -n -N -S -U root -l {host}:564 -e {srv} -L /dev/null -d 0",
}


def table() -> str:
    """What check_mounts says when..., as docs/states.md has it."""
    rows = [f"| {kind.words} | {kind.expected} |{' still ok |' if kind.warm else ' |'}" for kind in KINDS if kind.words]
    return "\n".join(["| what happened | check_mounts | plain `stat`, where that is tested |", "|---|---|---|", *rows])


def manual() -> str:
    """The same, as the man page has it."""
    lines = []
    for condition in dict.fromkeys(kind.expected for kind in KINDS):
        words = [kind.words.replace("-", "\\-") for kind in KINDS if kind.expected == condition and kind.words]
        lines += [".TP", ".B " + condition.replace("-", "\\-"), ";\n".join(words) + "."]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(), manual(), sep="\n\n")
