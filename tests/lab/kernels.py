"""The zoo on Debian's own kernels, in emulated machines: ``python3 -m tests.lab.kernels
[SUITE...]`` (``make lab-kernels``).

For the night: two minutes a kernel in a QEMU without KVM. The guest is that of guest.py, but for
its kernel and for virtio-9p in the place of hostfs. Needs Debian's archive (and on other systems
the package debian-archive-keyring); installs nothing."""

from __future__ import annotations

import argparse
import json
import lzma
import os
import platform
import subprocess
from pathlib import Path

from tests.lab import guest, packages, verdict
from tests.lab.kinds import KINDS

HOME = guest.CHECKOUT / ".venv" / "lab-kernels"
MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SUITES = {"bullseye": "5.10", "bookworm": "6.1", "trixie": "6.12"}
TIMEOUT = 2400

# What it takes to reach the root filesystem; what these need is found in modules.dep.
_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")

_INIT = """#!/busybox sh
/busybox mkdir -p /proc /upper /host /layer /modules /root
/busybox mount -t proc proc /proc
for module in MODULES; do /busybox insmod /$module || echo "guest: no $module"; done
/busybox mount -t tmpfs tmpfs /upper
/busybox mkdir /upper/upper /upper/work
options=trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro
for tag in host layer modules; do /busybox mount -t 9p -o $options $tag /$tag || echo "guest: no $tag"; done
/busybox mount -t overlay -o lowerdir=/modules:/layer:/host,upperdir=/upper/upper,workdir=/upper/work none /root
exec /busybox switch_root /root SHARE/init inside SHARE 9p
"""


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="tests.lab.kernels", description="The zoo on Debian's kernels.", allow_abbrev=False
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)} (default: all)")
    suites = parser.parse_args().suites or list(SUITES)
    for unknown in set(suites) - set(SUITES):
        parser.error(f"there is no suite {unknown}")
    failed = False
    try:
        _fetch_machine()
        for suite in suites:
            kernel = _fetch_kernel(suite)
            failed |= _play(kernel, suite)
    except packages.Failure as failure:
        raise guest.Failure(str(failure)) from None
    return int(failed)


def _play(kernel: Path, suite: str) -> bool:
    version = next((kernel / "usr/lib/modules").iterdir()).name
    print(f"{suite}: Linux {version}", flush=True)
    value = verdict.report(_machine(kernel, version), TIMEOUT)
    assert value["kernel"] == version and version.startswith(SUITES[suite] + "."), value["kernel"]
    (HOME / f"{suite}.json").write_text(json.dumps(value, indent=1))
    found = verdict.differences(value)
    print("\n".join(found) or f"all {len(KINDS)} kinds are as expected")
    print(verdict.times(value), flush=True)
    return bool(found)


def _fetch_machine() -> None:
    if not (HOME / "root").exists():
        packages.fetch(HOME, ["qemu-system-x86", "busybox-static"])


def _fetch_kernel(suite: str) -> Path:
    """Where the newest kernel of a suite is unpacked."""
    home = HOME / suite
    if (home / "root").exists():
        return home / "root"
    (home / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    sources = home / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {MIRROR} {suite} main\n")
    only = ["-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=/dev/null"]
    packages.apt(home, *only, "update")
    depends = packages.apt(home, *only, "depends", "linux-image-amd64", program="apt-cache")
    name = next(word for word in depends.split() if word.startswith("linux-image-") and word != "linux-image-amd64")
    packages.apt(home, *only, "download", name, cwd=home)
    packages.unpack(sorted(home.glob("*.deb")), home / "root", lambda root: _depmod(home, root))
    return home / "root"


def _depmod(home: Path, root: Path) -> None:
    version = next((root / "usr/lib/modules").iterdir()).name
    depmod = home / "depmod"  # kmod goes by the name it is called by
    depmod.unlink(missing_ok=True)
    depmod.symlink_to(guest.LAYER / "usr/bin/kmod")
    subprocess.run([str(depmod), "-b", str(root), version], check=True)


def _initramfs(kernel: Path, version: str, share: Path) -> bytes:
    """A root filesystem in memory that mounts the real one: cpio, format "newc"
    (Documentation/driver-api/early-userspace)."""
    tree = kernel / "usr/lib/modules" / version
    needs = dict(line.split(":", 1) for line in (tree / "modules.dep").read_text().splitlines())
    order: list[str] = []
    for module in _MODULES:
        path = next((path for path in needs if Path(path).name.split(".")[0] == module), None)
        if path is not None:  # else it is built in
            order += [each for each in [*reversed(needs[path].split()), path] if each not in order]
    files = {"busybox": (HOME / "root/usr/bin/busybox").read_bytes()}
    for path in order:
        content = (tree / path).read_bytes()
        files[Path(path).name.split(".")[0]] = lzma.decompress(content) if path.endswith(".xz") else content
    names = " ".join(name for name in files if name != "busybox")
    files["init"] = _INIT.replace("MODULES", names).replace("SHARE", str(share)).encode()
    return b"".join(_entry(name, content) for name, content in files.items()) + _entry("TRAILER!!!", b"")


def _entry(name: str, content: bytes) -> bytes:
    """One file of a cpio archive, executable."""
    fields = [0, 0o100755, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def _machine(kernel: Path, version: str) -> guest.Machine:
    tools = HOME / "root/usr"

    def command(share: Path) -> list[str]:
        (share / "initramfs").write_bytes(_initramfs(kernel, version, share))
        shares = {"host": "/", "layer": str(guest.LAYER), "modules": str(kernel)}
        virtfs = [
            f"local,path={path},mount_tag={tag},security_model=none,readonly=on,multidevs=remap"
            for tag, path in shares.items()
        ]
        virtfs.append(f"local,path={share},mount_tag=share,security_model=none")
        return [
            str(tools / "bin/qemu-system-x86_64"), "-L", str(tools / "share/qemu"), "-L", str(tools / "share/seabios"),
            "-M", "pc", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(os.cpu_count() or 1), "-m", "2048",
            "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
            "-kernel", str(kernel / f"boot/vmlinuz-{version}"), "-initrd", str(share / "initramfs"),
            "-append", "console=ttyS0 quiet panic=-1", *[word for each in virtfs for word in ("-virtfs", each)],
        ]  # fmt: skip

    libraries = tools / "lib" / f"{platform.machine()}-linux-gnu"
    return guest.Machine(command, lambda share: {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": str(libraries)})


if __name__ == "__main__":
    guest.plainly(main)
