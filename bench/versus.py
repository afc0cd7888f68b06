"""check_mounts beside its peers, on the same mounts: ``python -m bench.versus`` (``make versus``).

Two scenes. On this host, 20 healthy FUSE filesystems and one that hangs, in a mount namespace of
its own; all peers look at all of them. In the guest of tests/lab, its zoo: each kind that fails, in
a mount namespace in which it is the only one that can fail, so nothing keeps a peer from it; there
check_mounts looks at all of them at once. Each peer is asked every 10 s, five times, and what is
not answered within that time is killed, as a monitoring system does it.

Writes docs/versus.md between its markers. Needs root; runs for some ten minutes."""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import common, rounds, versus_page
from bench.peers import CHECKOUT, GROUPS, PEERS, Peer, Place
from tests.lab import guest, verdict, zoo
from tests.lab.kinds import KINDS, NOT_PROBED, PYTHON, Kind

HEALTHY = 20
# Healthy ones that look as if they were not, and a healthy one of each sort.
CONTROLS = ("nfs4", "nfs4-owner", "nfs4-krb", "nfs4-ro", "cifs", "9p", "fuse", "sshfs", "xfs-quota", "covered")
LAB = Path("/run/lab")
RESULTS = CHECKOUT / ".venv" / "versus" / "results.json"
_MOUNTS = "/media"
_PORT = 19100
_TIMEOUT = 900
_MEMORY_MIB = 3072
# Between the starts of the rounds of two kinds: a guest has one processor.
_APART = 0.18
# The timeout of check_mounts in the guest, where it starts some thirty workers on that processor.
_PATIENCE = 2


# Processes of this one that play a scene.
_running: list[subprocess.Popen[bytes]] = []


def kinds() -> list[Kind]:
    """Those offered to the peers: without what others show on another mount (no words), and without
    an autofs trigger that nobody uses, because a peer that is given its mount point asks it."""
    chosen = [kind for kind in KINDS if kind.expected != "ok" or kind.fault or kind.name in CONTROLS]
    return [kind for kind in chosen if kind.words and kind.name != "autofs-idle"]


def with_left(results: dict[str, Any], left: Mapping[str, int]) -> dict[str, Any]:
    """The results, each with how many processes and threads still wait for a filesystem."""
    for result in results.values():
        result["left"] = left.get(result.pop("namespace"), 0)
    return results


# -- 20 healthy, 1 hung


def many() -> dict[str, Any]:
    """The scene on this host."""
    rounds.private_mounts()
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="versus-") as base:
        os.environ["VERSUS_PROGRAM"] = common.install(Path(base) / "prefix", sys.executable)
        names = [f"m{number:02}" for number in range(HEALTHY)] + ["hung"]
        server = subprocess.Popen(
            [sys.executable, "-I", str(CHECKOUT / "tests/fuse_server.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            return _many(Path(base), server, names)
        finally:
            server.kill()  # ends the connections, and all that waits for them
            server.wait()
            time.sleep(0.5)
            for name in names:
                rounds.detach(f"{_MOUNTS}/{name}")


def _many(base: Path, server: subprocess.Popen[str], names: Sequence[str]) -> dict[str, Any]:
    subprocess.run(["mount", "-t", "tmpfs", "none", _MOUNTS], check=True)
    mounts = [f"{_MOUNTS}/{name}" for name in names]
    for name, mount in zip(names, mounts):
        os.mkdir(mount)
        _tell(server, "mount", name, mount)
    play = rounds.Rounds(PEERS, Place(mounts, mounts, base / "peers", _PORT), dict(os.environ))
    try:
        play.prepare()
        _tell(server, "hang", "hung")
        return with_left(play.play(time.monotonic() + 1), rounds.count_left())
    finally:
        play.end()


def _tell(server: subprocess.Popen[str], *words: str) -> None:
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write("\t".join(words) + "\n")
    server.stdin.flush()
    answer = server.stdout.readline()
    assert answer.startswith("ok"), answer


# -- the zoo; these run in the guest


def inside(group: int) -> None:
    """The scene in the guest, with the peers of one group; writes its results where the host can
    read them."""
    everything = zoo.Guest()
    zoo.build(everything)
    _note("mounted")
    subprocess.run(["mount", "--make-rshared", "/mnt"], check=True)
    results = (_together if _is_ours(GROUPS[group]) else _one_by_one)(everything, _peers(group))
    left = rounds.count_left()
    value = {
        "kernel": os.uname().release,
        "kinds": {name: with_left(of_peers, left) for name, of_peers in results.items()},
    }
    (LAB / "versus.json").write_text(json.dumps(value))


def _peers(group: int) -> list[Peer]:
    return [peer for peer in PEERS if peer.name in GROUPS[group]]


def _is_ours(names: Sequence[str]) -> bool:
    return names[0].startswith("check_mounts")


def _note(text: str) -> None:
    print(f"versus: {time.monotonic():.0f} s: {text}", flush=True)


def _together(everything: zoo.Guest, peers: Sequence[Peer]) -> dict[str, Any]:
    """The rounds of peers that look at all kinds at once: under the empty name."""
    os.environ["VERSUS_PROGRAM"] = f"{PYTHON} -m check_mounts"
    mounts = [f"/mnt/{kind.name}" for kind in kinds()]
    expected = [f"/mnt/{kind.name}" for kind in kinds() if kind.expected != NOT_PROBED]
    play = rounds.Rounds(peers, Place(mounts, expected, Path("/run/versus"), _PORT, _PATIENCE), zoo.environment())
    play.prepare()
    _note("peers are ready")
    zoo.spoil(everything)
    _note("spoilt")
    return {"": play.play(time.monotonic() + 1)}


def _one_by_one(everything: zoo.Guest, peers: Sequence[Peer]) -> dict[str, Any]:
    """The rounds of peers that have each kind for themselves."""
    singles = {kind.name: _child(number, kind, peers) for number, kind in enumerate(kinds())}
    for ready, _ in singles.values():
        os.read(ready, 1)
    _note("peers are ready")
    zoo.spoil(everything)
    _note("spoilt")
    began = time.monotonic() + 1
    for number, (_, go) in enumerate(singles.values()):
        os.write(go, f"{began + number * _APART}\n".encode())
    for ready, _ in singles.values():
        os.read(ready, 1)
    _note("done")
    return {name: json.loads(_file(name).read_text()) for name in singles}


def _file(name: str) -> Path:
    return Path(f"/run/versus-{name.replace('/', '-')}.json")


def _child(number: int, kind: Kind, peers: Sequence[Peer]) -> tuple[int, int]:
    """A process that plays the rounds of one kind: where it says that it is ready, and later that
    it is done; where it is told when they begin."""
    (ready, say_ready), (go, say_go) = os.pipe(), os.pipe()
    if os.fork() == 0:
        try:
            _single(number, kind, peers, say_ready, go)
        finally:
            os._exit(1)
    os.close(say_ready)
    os.close(go)
    return ready, say_go


def _single(number: int, kind: Kind, peers: Sequence[Peer], ready: int, go: int) -> None:
    _alone(f"/mnt/{kind.name}")
    mounts = [f"/mnt/{kind.name}"]
    place = Place(mounts, mounts, Path(f"/run/versus-{number}"), _PORT + number * len(peers))
    play = rounds.Rounds(peers, place, zoo.environment())
    play.prepare()
    os.write(ready, b"r")
    results = play.play(float(os.read(go, 100)))
    _file(kind.name).write_text(json.dumps(results))
    os.write(ready, b"d")
    time.sleep(1000)  # what it has started is counted first


def _alone(mount: str) -> None:
    """Leave out all other kinds, while they are still well."""
    rounds.private_mounts()
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed(points):
        if point.startswith("/mnt/") and point != mount and not mount.startswith(point + "/"):
            rounds.detach(point)


# -- both


def play_zoo(group: int) -> dict[str, Any]:
    """The scene in the guest, seen from the host."""
    guest.MEMORY_MIB = _MEMORY_MIB
    result = guest.run([PYTHON, "-m", "bench.versus", "--inside", str(group)], _TIMEOUT, verdict.environment())
    if result.status != 0:
        raise guest.Failure(f"the guest did not come to its end ({result.status}):\n{result.output}\n{result.console}")
    print(result.output, end="", file=sys.stderr)
    value: dict[str, Any] = json.loads(result.files["versus.json"])
    return value


def all_zoos() -> dict[str, Any]:
    """A guest for each group of peers, two at a time, each on a processor of its own."""
    processors: queue.Queue[int] = queue.Queue()
    for processor in sorted(os.sched_getaffinity(0))[-2:]:
        processors.put(processor)

    def one(group: int) -> dict[str, Any]:
        processor = processors.get()
        try:
            value: dict[str, Any] = _in_a_process("--group", str(group), prefix=["taskset", "-c", str(processor)])
        finally:
            processors.put(processor)
        print(f"versus: the zoo: {', '.join(GROUPS[group])}: done", flush=True)
        return value

    with concurrent.futures.ThreadPoolExecutor(processors.qsize()) as pool:
        try:
            values = list(pool.map(one, range(len(GROUPS))))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in _running:
                process.terminate()
            raise
    merged: dict[str, Any] = {}
    for value in values:
        for name, of_peers in value["kinds"].items():
            merged.setdefault(name, {}).update(of_peers)
    return {"kernel": values[0]["kernel"], "kinds": merged}


def _in_a_process(*arguments: str, prefix: Sequence[str] = ()) -> Any:
    command = [*prefix, sys.executable, "-m", "bench.versus", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=CHECKOUT) as process:
        _running.append(process)
        try:
            output = process.communicate()[0]
        except BaseException:
            process.terminate()
            raise
        finally:
            _running.remove(process)
    if process.returncode:
        raise guest.Failure(f"{' '.join(arguments)}: exit status {process.returncode}")
    return json.loads(output)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench.versus", description=__doc__, allow_abbrev=False)
    parser.add_argument("--many", action="store_true", help="only 20 healthy and one that hangs, as JSON")
    parser.add_argument("--group", type=int, help="only the zoo, with one group of peers, as JSON")
    parser.add_argument("--inside", type=int, metavar="GROUP", help="the same; in the guest")
    parser.add_argument("--page", action="store_true", help="write the page again from what was measured last")
    values = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that all is taken away
    if values.inside is not None:
        inside(values.inside)
    elif values.many:
        json.dump(many(), sys.stdout)
    elif values.group is not None:
        json.dump(play_zoo(values.group), sys.stdout)
    else:
        if not values.page:
            RESULTS.write_text(json.dumps(both(), indent=1))
        results = json.loads(RESULTS.read_text())
        versus_page.write(results)
        print(versus_page.generated(results))
    return 0


def both() -> dict[str, Any]:
    """Both scenes, one after the other."""
    print("versus: 20 healthy mounts and one that hangs", flush=True)
    of_many = _in_a_process("--many")  # it changes its mount namespace
    print("versus: the zoo", flush=True)
    return {"when": time.strftime("%Y-%m-%d"), "many": of_many, "zoo": all_zoos()}


if __name__ == "__main__":
    guest.plainly(main)
