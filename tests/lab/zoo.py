"""Mounts of every kind, what is done to them, and what check_mounts is to say. Runs in the guest: ``python3 -m tests.lab.zoo``.

:data:`KINDS` is data: how each mount is made, the fault it meets, and the condition expected then. To add a case, add a line (and,
if no server of :data:`SERVERS` meets that fault yet, a server). ``/mnt/NAME`` is its mount point.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, Optional

from tests.kernel import shut_down, workers_alive

LAB = Path("/run/lab")
PYTHON = "/usr/bin/python3"


# Stands for a condition: the mount is to be left alone.
NOT_PROBED = "not probed"


@dataclasses.dataclass(frozen=True)
class Server:
    """A server in a network namespace of its own, and the fault that it meets as a whole: shell commands on the client's side,
    where ``{ns}`` runs a command in the namespace."""

    name: str
    serves: str
    fault: str = ""
    heal: str = ""


@dataclasses.dataclass(frozen=True)
class Kind:
    """One mount. ``make`` and ``fault`` are shell commands with ``{at}`` (its mount point), ``{host}`` (the server's address) and
    ``{srv}`` (the server's directory). ``warm``: a plain stat(2) is still answered well after the fault. ``unkillable``: its probe
    does not heed SIGKILL. ``heals``: it is ok again once the faults are lifted."""

    name: str
    make: str
    expected: str
    words: str
    server: str = ""
    fault: str = ""
    heal: str = ""
    warm: bool = False
    unkillable: bool = False
    heals: bool = True


DROP = "{ns} iptables-legacy -A INPUT -p tcp -j DROP"
UNDROP = "{ns} iptables-legacy -F INPUT"

SERVERS = [
    Server("drop", "nfs3", DROP, UNDROP),
    Server("rst", "nfs", "{ns} iptables-legacy -A INPUT -p tcp -j REJECT --reject-with tcp-reset", UNDROP),
    Server("stopped", "nfs", "{ns} rpc.nfsd 0", "{ns} rpc.nfsd -N 3 2"),
    Server("address", "nfs", "{ns} ip addr del {host}/24 dev eth0", "{ns} ip addr add {host}/24 dev eth0"),
    Server("link", "nfs", "{ns} ip link set eth0 down", "{ns} ip link set eth0 up"),
    Server("alive", "nfs3"),
    Server("smb", "smb"),
    Server("smbdrop", "smb", DROP, UNDROP),
    Server("smbstop", "smb", "pkill -STOP --ns {pid} --nslist net smbd", "pkill -CONT --ns {pid} --nslist net smbd"),
    Server("diod", "9p"),
    Server("dioddrop", "9p", DROP, UNDROP),
]

V3 = "mount -t nfs -o vers=3,nolock,mountport=20048,nosharecache{more} {host}:/{export} {at}"
V4 = "mount -t nfs -o vers=4.2,nosharecache{more} {host}:/{export} {at}"


def nfs(name: str, server: str, expected: str, words: str, version: str = V4, more: str = "", export: str = "a", **rest: Any) -> Kind:
    make = version.replace("{more}", "," + more if more else "").replace("{export}", export)
    return Kind(name, make, expected, words, server, **rest)


def smb(name: str, server: str, expected: str, words: str, **rest: Any) -> Kind:
    make = "mount -t cifs -o guest,vers=3.0,nosharesock //{host}/share {at}"
    return Kind(name, make, expected, words, server, **rest)


def ninep(name: str, server: str, expected: str, words: str, cache: str = "none", **rest: Any) -> Kind:
    make = "mount -t 9p -o trans=tcp,version=9p2000.L,uname=root,access=user,aname={srv},cache=CACHE {host} {at}".replace("CACHE", cache)
    return Kind(name, make, expected, words, server, **rest)


def fuse(name: str, expected: str, words: str, options: str = "", fault: str = "", heal: str = "", **rest: Any) -> Kind:
    return Kind(name, f"fuse mount {name} {{at}} {options}", expected, words, fault=fault, heal=heal, **rest)


def disk(name: str, kind: str, expected: str, words: str, **rest: Any) -> Kind:
    size = "320M" if kind == "xfs" else "16M"
    make = f"truncate -s {size} /srv/{name}.img && mkfs.{kind} -q /srv/{name}.img && mount -o loop /srv/{name}.img {{at}}"
    return Kind(name, make, expected, words, **rest)


def dm(name: str, words: str, fault: str, heal: str) -> Kind:
    make = (
        f"truncate -s 16M /srv/{name}.img; loop=$(losetup -f --show /srv/{name}.img); mkfs.ext4 -q $loop; "
        f"echo 0 32768 linear $loop 0 | dmsetup create {name}; mount /dev/mapper/{name} {{at}}"
    )
    return Kind(name, make, "ok", f"ext4, {words}", fault=fault, heal=heal)


# fmt: off
KINDS = [
    # -- NFS whose server is silent: packets dropped
    # Measured on Linux 6.1: NFS 4.2 soft gives EIO (softerr: ETIMEDOUT) only after 92 s, whatever timeo says; NFS 3 after some seconds.
    nfs("nfs3-drop-soft", "drop", "dead", "NFS 3, soft: server drops packets", V3, "soft,timeo=10,retrans=1", warm=True),
    nfs("nfs4-drop-soft", "drop", "timed-out", "NFS 4.2, soft: server drops packets", V4, "soft,timeo=10,retrans=1", warm=True),
    nfs("nfs4-drop-softerr", "drop", "timed-out", "NFS 4.2, softerr: server drops packets", V4, "softerr,timeo=10,retrans=1", warm=True),
    nfs("nfs4-drop", "drop", "timed-out", "NFS 4.2, hard: server drops packets", warm=True),
    nfs("nfs3-drop", "drop", "timed-out", "NFS 3, hard: server drops packets", V3, warm=True),
    nfs("nfs4-drop-ac", "drop", "timed-out", "the same, attributes cached for an hour", more="actimeo=3600", warm=True),
    nfs("nfs4-drop-noac", "drop", "timed-out", "the same, attributes not cached", more="noac"),
    nfs("nfs4-drop-nocto", "drop", "timed-out", "the same, nocto", more="nocto", warm=True),
    nfs("nfs3-drop-nocto", "drop", "timed-out", "NFS 3, nocto: server drops packets", V3, "nocto", warm=True),
    Kind("bind-drop", "mount --bind /mnt/nfs4-drop {at}", "timed-out", "bind mount of an NFS whose server drops packets", warm=True),
    Kind("nfs4-drop/below", "mount -t tmpfs below {at}", "blocked", "tmpfs mounted below it"),
    Kind(
        "overlay-drop", "mkdir -p /srv/up /srv/wk && mount -t overlay -o lowerdir=/mnt/nfs3-drop,upperdir=/srv/up,workdir=/srv/wk o {at}",
        "timed-out", "overlay above an NFS whose server drops packets",
    ),
    # -- NFS whose server refuses, stops, or cannot be reached
    nfs("nfs4-rst", "rst", "timed-out", "NFS 4.2: server refuses connections (RST)", warm=True),
    nfs("nfs4-rst-b", "rst", "timed-out", "another export of the same server", export="b", warm=True),
    nfs("nfs4-stopped", "stopped", "timed-out", "NFS 4.2: nfsd stopped", warm=True),
    nfs("nfs4-stopped-b", "stopped", "timed-out", "another export of the same server", export="b", warm=True),
    nfs("nfs4-address", "address", "timed-out", "NFS 4.2: the server's address is gone", warm=True),
    nfs("nfs4-address-b", "address", "timed-out", "another export of the same server", export="b", warm=True),
    nfs("nfs4-link", "link", "timed-out", "NFS 4.2: the server's link is down", warm=True),
    nfs("nfs4-link-b", "link", "timed-out", "another export of the same server", export="b", warm=True),
    # -- NFS whose server answers
    nfs("nfs4", "alive", "ok", "NFS 4.2, healthy"),
    nfs("nfs3", "alive", "ok", "NFS 3, healthy", V3),
    nfs("nfs4-ro", "alive", "ok", "NFS 4.2, exported read-only", export="ro"),
    nfs("nfs4-owner", "alive", "ok", "root_squash, root directory 0700 of a user", export="owner"),
    nfs("nfs3-owner", "alive", "ok", "the same by NFS 3", V3, export="owner"),
    nfs("nfs4-mode", "alive", "denied", "root directory of mode 0000", export="mode", fault="chmod 0000 {srv}/mode", heal="chmod 755 {srv}/mode"),
    nfs("nfs3-mode", "alive", "denied", "the same by NFS 3", V3, export="mode"),
    Kind("bind-nfs4", "mount --bind /mnt/nfs4 {at}", "ok", "bind mount of a healthy NFS"),
    Kind("nfs4/below", "mount -t tmpfs below {at}", "ok", "tmpfs below a healthy NFS"),
    nfs(
        "nfs4-unexported", "alive", "dead", "NFS 4.2: no longer exported, though others still are", export="gone",
        fault="{ns} exportfs -u '*:/gone'", heal="{ns} exportfs -o rw,no_root_squash,fsid=14 '*:/gone'", warm=True,
    ),
    nfs("nfs3-unexported", "alive", "dead", "the same by NFS 3", V3, export="gone", warm=True),
    nfs(
        "nfs4-removed", "alive", "dead", "NFS 4.2: the export's root directory was removed and made again", export="removed",
        fault="rm -r {srv}/removed && mkdir {srv}/removed", warm=True, heals=False,
    ),
    nfs("nfs3-removed", "alive", "dead", "the same by NFS 3", V3, export="removed", warm=True, heals=False),
    nfs(
        "nfs4-fs", "alive", "dead", "NFS 4.2: the exported filesystem was unmounted on the server", export="fs",
        fault="{ns} umount -l {srv}/fs; {ns} exportfs -f", warm=True, heals=False,
    ),
    # -- CIFS
    smb("cifs", "smb", "ok", "CIFS, healthy"),
    smb("cifs-drop", "smbdrop", "timed-out", "CIFS: server drops packets"),
    smb("cifs-stopped", "smbstop", "timed-out", "CIFS: server stopped"),
    # -- 9p
    ninep("9p", "diod", "ok", "9p, healthy"),
    ninep("9p-drop", "dioddrop", "timed-out", "9p: server drops packets", unkillable=True),
    ninep("9p-drop-loose", "dioddrop", "timed-out", "9p, cache=loose: server drops packets", "loose", warm=True, unkillable=True),
    # -- FUSE
    fuse("fuse", "ok", "FUSE, healthy"),
    fuse("fuse-silent", "timed-out", "FUSE: daemon reads and never answers", "", "fuse hang fuse-silent", "fuse answer fuse-silent", unkillable=True),
    fuse("fuse-frozen", "timed-out", "FUSE: daemon does not even read", "", "fuse freeze fuse-frozen", "fuse answer fuse-frozen"),
    fuse("fuse-dead", "dead", "FUSE: daemon dead", "", "fuse die fuse-dead", heals=False),
    fuse("fuse-stale", "dead", "FUSE: daemon answers ESTALE", "", "fuse error fuse-stale 116", "fuse error fuse-stale 0"),
    fuse("fuse-user", NOT_PROBED, "FUSE of an unprivileged user, silent", "user_id=1000 group_id=1000", "fuse hang fuse-user", "fuse answer fuse-user"),
    # -- local
    disk("ext4", "ext4", "ok", "ext4, healthy"),
    disk("xfs", "xfs", "ok", "xfs, healthy"),
    disk("xfs-down", "xfs", "dead", "xfs, shut down", fault="shut-down {at}", heals=False),
    disk("ext4-down", "ext4", "ok", "ext4, shut down, on a kernel that does not say so (Linux 6.1)", fault="shut-down {at}"),
    disk("xfs-frozen", "xfs", "ok", "xfs, frozen (only writes hang)", fault="fsfreeze -f {at}", heal="fsfreeze -u {at}"),
    dm("dm-suspended", "its device suspended, root directory cached", "dmsetup suspend --nolockfs dm-suspended", "dmsetup resume dm-suspended"),
    dm("dm-error", "its device gives errors, root directory cached", "dmsetup suspend --nolockfs --noflush dm-error; "
       "echo 0 32768 error | dmsetup load dm-error; dmsetup resume dm-error", ""),
    Kind("tmpfs", "mount -t tmpfs none {at}", "ok", "tmpfs"),
    Kind("tmpfs-mode", "mount -t tmpfs -o mode=0000,uid=1000 none {at}", "denied", "a directory of mode 0000", heals=False),
    Kind("covered", "mount -t tmpfs none {at} && mount -t tmpfs over {at}", "ok", "two mounts on one mount point"),
]
# fmt: on


class Guest:
    """What is going on in the guest."""

    def __init__(self) -> None:
        self.sleepers: dict[str, int] = {}
        self.fuse = subprocess.Popen([PYTHON, "-I", "tests/fuse_server.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def shell(self, command: str, server: str = "", at: str = "") -> None:
        """A shell command with its places filled in; ``fuse`` and ``shut-down`` are our own."""
        places = {
            "{at}": at,
            "{host}": self.host(server),
            "{srv}": f"/srv/{server}",
            "{ns}": self.inside(server),
            "{pid}": str(self.sleepers.get(server)),
        }
        for place, text in places.items():
            command = command.replace(place, text)
        if command.startswith("fuse "):
            self.tell_fuse(command.split()[1:])
        elif command.startswith("shut-down "):
            shut_down(command.split()[1])
        elif command:
            subprocess.run(
                ["sh", "-ec", command], check=True, timeout=60, stdin=subprocess.DEVNULL, env={**os.environ, "DM_DISABLE_UDEV": "1"}
            )

    def host(self, server: str) -> str:
        names = [each.name for each in SERVERS]
        return f"10.9.{names.index(server) + 1}.2" if server else ""

    def inside(self, server: str) -> str:
        return f"nsenter -t {self.sleepers[server]} -n -m" if server in self.sleepers else ""

    def tell_fuse(self, words: Sequence[str]) -> None:
        assert self.fuse.stdin is not None and self.fuse.stdout is not None
        self.fuse.stdin.write("\t".join(words) + "\n")
        self.fuse.stdin.flush()
        answer = self.fuse.stdout.readline()
        assert answer.startswith("ok"), answer

    def start(self, server: Server) -> None:
        """Network namespace, addresses, the server itself."""
        self.shell("mkdir -p {srv}; mount -t tmpfs tmpfs {srv}", server.name)
        own, theirs = os.readlink("/proc/self/ns/net"), ""
        sleeper = subprocess.Popen(["unshare", "-n", "-m", "--propagation", "private", "sleep", "1000000"])
        self.sleepers[server.name] = sleeper.pid
        while theirs in ("", own) or Path(f"/proc/{sleeper.pid}/comm").read_text() != "sleep\n":
            theirs = os.readlink(f"/proc/{sleeper.pid}/ns/net")
            time.sleep(0.005)
        host = self.host(server.name)
        number = host.split(".")[2]
        self.shell(
            f"ip link add v{number} type veth peer name eth0 netns {sleeper.pid}; ip addr add 10.9.{number}.1/24 dev v{number}; "
            f"ip link set v{number} up; {{ns}} ip link set lo up; {{ns}} ip addr add {host}/24 dev eth0; {{ns}} ip link set eth0 up",
            server.name,
        )
        self.shell("{ns} sh -e <<'SERVE'\n" + SERVE[server.serves] + "\nSERVE", server.name)

    def mount(self, kind: Kind) -> None:
        at = Path("/mnt") / kind.name
        if not at.is_dir():
            at.mkdir(parents=True)
        self.shell(kind.make, kind.server, str(at))


# Run by a shell in the server's namespaces. nfsd needs a filesystem that can be exported, which an overlay is not: a tmpfs.
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
/a *(rw,no_root_squash,fsid=11)
/b *(rw,no_root_squash,fsid=12)
/gone *(rw,no_root_squash,fsid=14)
/removed *(rw,no_root_squash,fsid=15)
/mode *(rw,no_root_squash,fsid=16)
/ro *(ro,fsid=17)
/owner *(rw,root_squash,fsid=18)
/fs *(rw,no_root_squash,fsid=19)
END
mount --bind /run/nfs.conf /etc/nfs.conf
mount --bind /run/exports /etc/exports
RPCBIND
exportfs -a
rpc.nfsd VERSIONS 2
echo Y > /proc/fs/nfsd/v4_end_grace || :
rpc.mountd -p 20048 VERSIONS
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
    "smb": _SMB,
    "9p": "diod -n -N -S -U root -l {host}:564 -e {srv} -L /dev/null -d 0",
}


def check(*arguments: str, prefix: Sequence[str] = ()) -> dict[str, Any]:
    """A run of check_mounts over the zoo: its JSON, exit code and how long it took."""
    began = time.monotonic()
    command = [*prefix, PYTHON, "-m", "check_mounts", "--json", "-p", "/mnt/*", *arguments]
    result = subprocess.run(command, capture_output=True, timeout=100, check=False)
    try:
        value: dict[str, Any] = json.loads(result.stdout)
    except ValueError:
        value = {"garbage": result.stdout.decode("utf-8", "replace"), "findings": [], "left_out": []}
    seconds = time.monotonic() - began
    return {
        "code": result.returncode,
        "stderr": result.stderr.decode(),
        "seconds": seconds,
        "survey": value,
        "stuck": stuck_workers(),
    }


def stuck_workers() -> int:
    """How many processes of check_mounts have not ended; who was just killed gets a moment."""
    before: Optional[set[int]] = None
    alive = workers_alive()
    for _ in range(40):
        if alive == before:
            break
        time.sleep(0.05)
        before, alive = alive, workers_alive()
    return len(alive)


def plain_stats() -> dict[str, Optional[str]]:
    """What stat(2) says of each warm mount within 2 s: ``ok``, an errno, or None for no answer."""
    asked = {}
    for kind in KINDS:
        if kind.warm:
            read, write = os.pipe()
            pid = os.fork()
            if pid == 0:
                _stat_and_leave(f"/mnt/{kind.name}", write)
            os.close(write)
            asked[kind.name] = pid, read
    end = time.monotonic() + 2
    return {name: _answer(pid, read, end) for name, (pid, read) in asked.items()}


def _stat_and_leave(path: str, write: int) -> NoReturn:
    try:
        os.stat(path)
        os.write(write, b"ok")
    except OSError as error:
        os.write(write, str(error.errno).encode())
    finally:
        os._exit(0)


def _answer(pid: int, read: int, end: float) -> Optional[str]:
    ready = select.select([read], [], [], max(0, end - time.monotonic()))[0]
    answer = os.read(read, 10).decode() if ready else None
    os.close(read)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0 if ready else os.WNOHANG)
    return answer


def timed(report: dict[str, Any], name: str, action: Callable[[], Any]) -> Any:
    """Do one act of the play, note its time, and keep what is known so far where the host can read it."""
    began = time.monotonic()
    print(f"zoo: {name}", flush=True)
    result = report[name] = action()
    report["seconds"][name] = round(time.monotonic() - began, 1)
    (LAB / "report.json").write_text(json.dumps(report))
    return result


def victim() -> subprocess.Popen[bytes]:
    """Somebody else's process that hangs on NFS, and can be killed. It must stay so."""
    process = subprocess.Popen(["stat", "-f", "/mnt/nfs4-drop"], stdout=subprocess.DEVNULL)
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "D":
        time.sleep(0.01)
    return process


def ends(process: subprocess.Popen[bytes]) -> bool:
    """Whether SIGTERM ends it."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        return False
    return True


def build(guest: Guest) -> None:
    modules = [
        "veth",
        "nfs",
        "nfsv3",
        "nfsv4",
        "nfsd",
        "cifs",
        "9p",
        "9pnet_fd",
        "fuse",
        "loop",
        "dm_mod",
        "iptable_filter",
        "ipt_REJECT",
        "xt_tcpudp",
    ]
    subprocess.run(["modprobe", "-a", *modules], check=False)
    with open("/etc/hosts", "a") as hosts:  # diod refuses a peer that it has no name for
        hosts.writelines(f"10.9.{number}.{side} peer{number}-{side}\n" for number in range(1, len(SERVERS) + 1) for side in (1, 2))
    for server in SERVERS:
        guest.start(server)
    for kind in KINDS:
        guest.mount(kind)


def spoil(guest: Guest) -> None:
    # Warm attribute caches: reading a directory by NFS 4 makes its attributes stale, so what has been probed is looked at again.
    for kind in KINDS:
        if kind.warm:
            os.stat(f"/mnt/{kind.name}")
    for kind in KINDS:
        guest.shell(kind.fault, kind.server, f"/mnt/{kind.name}")
    for server in SERVERS:
        guest.shell(server.fault, server.name)


def heal(guest: Guest) -> None:
    for server in SERVERS:
        guest.shell(server.heal, server.name)
    for kind in KINDS:
        guest.shell(kind.heal, kind.server, f"/mnt/{kind.name}")


def recovered(deadline: float = 30.0) -> dict[str, Any]:
    """Check until all that heals has healed: reconnecting takes the kernel some seconds."""
    end = time.monotonic() + deadline
    expected = {f"/mnt/{kind.name}" for kind in KINDS if kind.heals and kind.expected != NOT_PROBED}
    while True:
        result = check("-t", "3")
        fine = {finding["mount_point"] for finding in result["survey"]["findings"] if finding["condition"] == "ok"}
        if expected <= fine or time.monotonic() > end:
            return result


def play() -> None:
    """All acts, and the report."""
    report: dict[str, Any] = {"seconds": {}}
    guest = Guest()
    timed(report, "build", lambda: build(guest))
    timed(report, "healthy", lambda: check("-t", "8"))
    timed(report, "spoil", lambda: spoil(guest))
    timed(report, "stat", plain_stats)
    bystander = victim()
    timed(report, "spoilt", lambda: check("-t", "8"))
    timed(report, "again", lambda: [check("-t", "1") for _ in range(9)])
    timed(report, "nagios", lambda: check("-t", "1", prefix=["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]))
    timed(report, "bystander", lambda: ends(bystander))
    timed(report, "heal", lambda: heal(guest))
    timed(report, "healed", recovered)
    timed(report, "unmount", lambda: unmount(guest))


def unmount(guest: Guest) -> dict[str, int]:
    """Hang an NFS again, check it, then get rid of it as an administrator does."""
    guest.shell(DROP, "drop")
    check("-t", "1")
    codes = {}
    for command in ("umount -f /mnt/nfs3-drop-nocto", "umount -l /mnt/nfs4-drop-ac"):
        codes[command] = subprocess.run(shlex.split(command), timeout=20, check=False, stderr=subprocess.DEVNULL).returncode
    return codes


if __name__ == "__main__":
    play()
    sys.exit(0)
