"""The zoo of kinds.py, alive. Runs in the guest.

python3 -m tests.lab.zoo            play all acts, write a report
python3 -m tests.lab.zoo --shell    mount everything, then a shell with the command ``zoo``
"""

from __future__ import annotations

import concurrent.futures
import errno
import fnmatch
import importlib.util
import json
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, Optional

from tests.kernel import shut_down, workers_alive
from tests.lab.kinds import DROP, KINDS, PYTHON, RUNS, SERVE, SERVERS, Kind, Server
from tests.lab.watched import PASSES, Watch, fails, patient, recovers, remains

LAB = Path("/run/lab")
# A copy that everybody may read: the checkout may lie where only its owner gets in.
PRODUCT = "/run/product"


class Guest:
    """What is going on in the guest."""

    def __init__(self) -> None:
        self.sleepers: dict[str, int] = {}
        self.spoilt: set[str] = set()  # names of servers and kinds; no name is both
        self.lifted: dict[str, float] = {}  # when their faults were (CLOCK_MONOTONIC)
        self.fuse = subprocess.Popen(
            [PYTHON, "-I", "tests/fuse_server.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

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
                ["sh", "-ec", command],
                check=True,
                timeout=60,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "DM_DISABLE_UDEV": "1"},
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
            f"ip link add v{number} type veth peer name eth0 netns {sleeper.pid}; ip addr add "
            f"10.9.{number}.1/24 dev v{number}; "
            f"ip link set v{number} up; {{ns}} ip link set lo up; {{ns}} ip addr add {host}/24 dev eth0; {{ns}} "
            f"ip link set eth0 up",
            server.name,
        )
        self.shell("{ns} sh -e <<'SERVE'\n" + SERVE[server.serves] + "\nSERVE", server.name)
        self.shell(server.client, server.name)

    def mount(self, kind: Kind) -> None:
        at = Path("/mnt") / kind.name
        if not at.is_dir():
            at.mkdir(parents=True)
        self.shell(kind.make, kind.server, str(at))


def environment() -> dict[str, str]:
    """What the product needs."""
    return {**os.environ, "PYTHONPATH": PRODUCT}


def check(*arguments: str, prefix: Sequence[str] = ()) -> dict[str, Any]:
    """A run of check_mounts: its JSON, exit code and how long it took."""
    began = time.monotonic()
    # On a host that has other things to do the forks alone may take longer than the default
    # deadline leaves them.
    command = [*prefix, PYTHON, "-m", "check_mounts", "--json", "--deadline", "60", *arguments]
    result = subprocess.run(command, capture_output=True, timeout=100, check=False, cwd="/", env=environment())
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


def survey(timeout: float, prefix: Sequence[str] = ()) -> dict[str, Any]:
    """A run over the whole zoo, ``timeout`` seconds a mount."""
    return check("-t", str(timeout), "-p", "/mnt/*", prefix=prefix)


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
    """What stat(2) says of each warm mount."""
    return ask([kind.name for kind in KINDS if kind.warm], os.stat)


def ask(names: Sequence[str], question: Callable[[str], object]) -> dict[str, Optional[str]]:
    """What a question about each of these mounts comes to within 2 s: ``ok``, an errno, or None for
    no answer."""
    asked = {}
    for name in names:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            _ask_and_leave(lambda path=f"/mnt/{name}": question(path), write)  # type: ignore[misc]
        os.close(write)
        asked[name] = pid, read
    end = time.monotonic() + 2
    return {name: _answer(pid, read, end) for name, (pid, read) in asked.items()}


def _ask_and_leave(question: Callable[[], object], write: int) -> NoReturn:
    try:
        question()
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
    """Do one act of the play, note its time, and keep what is known so far where the host can read
    it."""
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


def provide_product() -> None:
    for name in ("check_mounts", "nagiosplugin"):
        source = importlib.util.find_spec(name)
        assert source is not None and source.origin is not None
        shutil.copytree(Path(source.origin).parent, f"{PRODUCT}/{name}", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["chmod", "-R", "a+rX", PRODUCT], check=True)
    subprocess.run([PYTHON, "-m", "compileall", "-q", PRODUCT], check=True)


def load_modules() -> None:
    """The filesystems, and what servers and faults need."""
    modules = [
        "veth",
        "nfs",
        "nfsv3",
        "nfsv4",
        "nfsd",
        "rpcsec_gss_krb5",
        "cifs",
        "9p",
        "9pnet_fd",
        "fuse",
        "autofs4",
        "loop",
        "dm_mod",
        "iptable_filter",
        "ipt_REJECT",
        "xt_tcpudp",
    ]
    subprocess.run(["modprobe", "-a", *modules], check=False)


def build(guest: Guest) -> None:
    provide_product()
    load_modules()
    with open("/etc/hosts", "a") as hosts:  # diod refuses a peer that it has no name for
        hosts.writelines(
            f"10.9.{number}.{side} peer{number}-{side}\n" for number in range(1, len(SERVERS) + 1) for side in (1, 2)
        )
    # Most of their time servers and mounts wait for each other, so many are made at a time.
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(guest.start, SERVERS))
        list(pool.map(guest.mount, [kind for kind in KINDS if kind.server]))
    for kind in KINDS:
        if not kind.server:
            guest.mount(kind)


def chosen(names: Sequence[str]) -> tuple[list[Server], list[Kind]]:
    """The servers and kinds that match the globs; all where there are none."""
    globs = names or ["*"]

    def matches(name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, glob) for glob in globs)

    return [each for each in SERVERS if matches(each.name)], [each for each in KINDS if matches(each.name)]


def spoil(guest: Guest, names: Sequence[str] = ()) -> None:
    """Bring the faults on, where they are not yet."""
    servers, kinds = chosen(names)
    # Warm attribute caches: reading a directory by NFS 4 makes its attributes stale, so what has
    # been probed is looked at again.
    for kind in kinds:
        if kind.warm and kind.name not in guest.spoilt and kind.server not in guest.spoilt:
            os.stat(f"/mnt/{kind.name}")
    for kind in kinds:
        if kind.name not in guest.spoilt:
            guest.spoilt.add(kind.name)
            guest.shell(kind.fault, kind.server, f"/mnt/{kind.name}")
    for server in servers:
        if server.name not in guest.spoilt:
            guest.spoilt.add(server.name)
            guest.shell(server.fault, server.name)


def heal(guest: Guest, names: Sequence[str] = ()) -> None:
    """Lift the faults, where they are."""
    servers, kinds = chosen(names)
    for server in servers:
        if server.name in guest.spoilt:
            guest.spoilt.remove(server.name)
            guest.shell(server.heal, server.name)
            guest.lifted[server.name] = time.monotonic()
    for kind in kinds:
        if kind.name in guest.spoilt:
            guest.spoilt.remove(kind.name)
            guest.shell(kind.heal, kind.server, f"/mnt/{kind.name}")
            if kind.heal:
                guest.lifted[kind.name] = time.monotonic()


def forks(count: int) -> float:
    """How long it takes here to start as many processes of the size of check_mounts as it needs,
    and to end them: seconds."""
    program = (
        "import os, time, check_mounts.run\nbegan, (read, write) = time.monotonic(), os.pipe()\n"
        f"for number in range({count}):\n"
        "    if os.fork() == 0:\n        os.write(write, b'x')\n        time.sleep(1000)\n    os.read(read, 1)\n"
        "print(time.monotonic() - began, flush=True)\nos.killpg(0, 9)\n"
    )
    return float(
        subprocess.run([PYTHON, "-c", program], stdout=subprocess.PIPE, start_new_session=True, check=False).stdout
    )


def recovered(deadline: float = 240.0) -> dict[str, Any]:
    """One run, as soon as the kernel lets everything that heals be used again: reconnecting takes
    it 10 to 60 s, the longer the longer the outage was. That is found out by other means than the
    product."""
    end = time.monotonic() + deadline
    waiting = {kind.name for kind in KINDS if (kind.healed or kind.healthy) == "ok"}
    while waiting and time.monotonic() < end:
        answers = ask(sorted(waiting), lambda path: os.statvfs(path) and os.listdir(path))
        waiting = {
            name for name, answer in answers.items() if answer not in ("ok", str(errno.EACCES))
        }  # root may be squashed
    return survey(8)


def play() -> None:
    """All acts, and the report."""
    report: dict[str, Any] = {"kernel": os.uname().release, "seconds": {}}
    guest = Guest()
    nagios = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
    timed(report, "build", lambda: build(guest))
    timed(report, "healthy", lambda: survey(8))
    timed(report, "spoil", lambda: spoil(guest))
    timed(report, "stat", plain_stats)
    bystander = victim()
    timed(report, "spoilt", lambda: survey(8))
    timed(report, "again", lambda: [survey(0.5) for _ in range(9)])
    timed(report, "forks", lambda: forks(sum(kind.expected == "timed-out" for kind in KINDS)))
    timed(report, "nagios", lambda: survey(patient(report["forks"]), nagios))
    timed(report, "runs", lambda: {run.name: check(*shlex.split(run.arguments)) for run in RUNS})
    timed(report, "bystander", lambda: ends(bystander))
    timed(report, "heal", lambda: heal(guest))
    timed(report, "healed", recovered)
    timed(report, "watch", lambda: watch(guest, report["forks"]))
    timed(report, "unmount", lambda: unmount(guest))


def watch(guest: Guest, forks: float) -> dict[str, Any]:
    """The faults once more, those that can be lifted, and their end, with the daemon running:
    nobody tells it anything."""
    daemon = Watch(environment(), forks)
    daemon.until_checked(1)
    seen: dict[str, Any] = {"healthy": daemon.result(), "held": [], "timeout": daemon.timeout}
    began = daemon.now
    spoil(guest, [each.name for each in SERVERS] + [kind.name for kind in KINDS if kind.heal])
    seen["spoil"] = began, daemon.now
    daemon.until_told([kind for kind in KINDS if kind.unkillable], healed=False)
    seen["held"].append(daemon.held())
    last = daemon.passes + PASSES
    # Somebody else checks, too: the memory of what is stuck is one and the same.
    seen["beside"] = survey(1)
    for _ in range(PASSES):
        if daemon.passes < last:
            seen["held"].append(daemon.held())
            daemon.until_checked(1)
    daemon.until_told([kind for kind in KINDS if fails(kind)], healed=False)
    daemon.until_checked(1)  # the news come before the result
    seen["held"].append(daemon.held())
    seen["spoilt"] = daemon.result()
    offset = time.monotonic() - daemon.now
    heal(guest)
    seen["lifted"] = {name: round(when - offset, 2) for name, when in guest.lifted.items()}
    daemon.until_told([kind for kind in KINDS if recovers(kind)], healed=True)
    daemon.until_checked(1)
    seen["healed"] = daemon.result()
    seen["remains"] = remains(sorted({pid for each in seen["held"] for pid in each["pids"]}))
    return {**seen, "end": daemon.end(), "lines": daemon.lines}


def unmount(guest: Guest) -> dict[str, int]:
    """Hang an NFS again, check it, then get rid of it as an administrator does."""
    guest.shell(DROP, "drop")
    survey(1)
    codes = {}
    for command in ("umount -f /mnt/nfs3-drop-nocto", "umount -l /mnt/nfs4-drop-ac"):
        codes[command] = subprocess.run(
            shlex.split(command), timeout=20, check=False, stderr=subprocess.DEVNULL
        ).returncode
        if f" {command.split()[-1]} " in Path("/proc/self/mountinfo").read_text():
            codes[command] = -1  # it says that it has, and has not
    return codes


CONTROL = "/run/zoo"
HELP = """\
zoo list [NAME...]     the mounts, and what check_mounts says of them when they are spoilt
zoo spoil [NAME...]    bring the fault on: of a mount or of a server, by globs; without NAME on all
zoo heal [NAME...]     lift it
check_mounts ...       the product of this checkout
"""


def interact() -> int:
    """Mount everything, then a shell, in which ``zoo`` spoils and heals."""
    print(f"mounting {len(KINDS)} kinds, about half a minute...", flush=True)
    guest = Guest()
    build(guest)
    command = Path("/usr/bin/zoo")
    command.write_text(f'#!/bin/sh\ncd {shlex.quote(os.getcwd())} && exec {PYTHON} -m tests.lab.zoo --tell "$@"\n')
    command.chmod(0o755)
    product = Path("/usr/bin/check_mounts")
    product.write_text(f'#!/bin/sh\nPYTHONPATH={PRODUCT} exec {PYTHON} -m check_mounts "$@"\n')
    product.chmod(0o755)
    print(HELP, flush=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(CONTROL)
        listener.listen()
        shell = subprocess.Popen(["bash", "-i"] if shutil.which("bash") else ["sh", "-i"])
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the shell's
        listener.settimeout(0.2)
        while shell.poll() is None:
            try:
                connection = listener.accept()[0]
            except socket.timeout:
                continue
            with connection:
                connection.send(_obey(guest, connection.recv(65536).decode().split("\0")).encode())
    return shell.returncode


def _obey(guest: Guest, words: Sequence[str]) -> str:
    act = {"spoil": spoil, "heal": heal}.get(words[0])
    servers, kinds = chosen(words[1:])
    if words[0] == "list":
        return "".join(f"{kind.name:20} {kind.server:10} {kind.expected:10} {kind.words}\n" for kind in kinds)
    if act is None:
        return HELP
    if not (servers or kinds):
        return f"there is no mount and no server {' '.join(words[1:])}\n"
    try:
        act(guest, words[1:])
    except (subprocess.SubprocessError, OSError) as error:
        return f"{error}\n"
    return ""


def tell(words: Sequence[str]) -> int:
    """The command ``zoo`` in the shell."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(CONTROL)
        connection.send("\0".join(words or ["help"]).encode())
        print(connection.recv(2**20).decode(), end="")
    return 0


def main() -> int:
    """The command line."""
    if sys.argv[1:2] == ["--shell"]:
        return interact()
    if sys.argv[1:2] == ["--tell"]:
        return tell(sys.argv[2:])
    play()
    return 0


if __name__ == "__main__":
    sys.exit(main())
