"""A container as a pod is one: a mount namespace with a root directory of its own, few
capabilities, and, if wanted, PIDs of its own. The programs of this host are its image."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

# $1 is an empty directory, $2 what `make install` made, $3 a file of "HOST POD" lines (volumes), $4
# the procfs that is mounted: "own", "host" (hostPID).
_SCRIPT = """
set -e
root=$1 out=$2 volumes=$3 procfs=$4
shift 4
mount --make-rprivate /
mount -t tmpfs -o mode=0755 pod "$root"
cd "$root"
mkdir -p usr proc host/proc dev etc tmp old
mount --rbind /usr usr
for name in bin sbin lib lib32 lib64; do
    if [ -L "/$name" ]; then ln -s "$(readlink "/$name")" "$name"
    elif [ -d "/$name" ]; then mkdir "$name" && mount --bind "/$name" "$name"
    fi
done
mount --bind "$out/usr/local" usr/local
mkdir -p dev && touch dev/null && mount --bind /dev/null dev/null
ln -s /proc/self/fd/2 dev/stderr
cp /etc/ld.so.cache etc/ 2>/dev/null || :
if [ "$procfs" = host ]; then mount --rbind /proc proc
else mount --bind /proc host/proc; mount -t proc proc proc
fi
while read -r here there; do
    mkdir -p "./$there"
    mount --bind "$here" "./$there"
done <"$volumes"
mount -o remount,ro,bind "$root" 2>/dev/null || :
pivot_root . old
cd /
umount -l old
exec "$@"
"""


def command(
    base: Path, image: Path, volumes: dict[str, Path], capabilities: Sequence[str], host_pid: bool = True
) -> list[str]:
    """What runs a program of the image in a new pod. ``volumes``: path in the pod -> directory
    here."""
    root, listing = base / "pod", base / "volumes"
    root.mkdir(exist_ok=True)
    listing.write_text("".join(f"{here} {there}\n" for there, here in volumes.items()))
    own = [] if host_pid else ["--pid", "--fork", "--kill-child"]
    procfs = "host" if host_pid else "own"
    rights = ",".join(["-all", *(f"+{each.lower()}" for each in capabilities)])
    return [
        "unshare", "--mount", "--propagation", "private", *own, "sh", "-c", _SCRIPT, "sh",
        str(root), str(image), str(listing), procfs,
        "setpriv", f"--bounding-set={rights}", "--inh-caps=-all", "--no-new-privs", "--",
    ]  # fmt: skip


class Pods:
    """Pods that a test starts and kills."""

    def __init__(self) -> None:
        self._all: list[subprocess.Popen[bytes]] = []

    def start(self, words: Sequence[str], log: Optional[Path] = None) -> subprocess.Popen[bytes]:
        stderr = subprocess.PIPE if log is None else log.open("ab")
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr)
        self._all.append(process)
        return process

    def close(self) -> None:
        for process in self._all:
            process.kill()
            process.communicate()
