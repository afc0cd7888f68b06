"""Declared options against what mount(8) and the kernel make of them, for random options on every
type that mounts here.

Two oracles. A line of fstab by which mount(8) has just mounted something is no deviation. And of
what was mounted by other options, a deviation is told if a flag that the line names is shown
otherwise, and only of what is shown otherwise.

Each case is made from its number alone; MOUNT_ORACLE_CASES says how many there are,
MOUNT_ORACLE_FIRST where they begin."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

import pytest

from check_mounts import mounttable
from check_mounts.declared import compare
from check_mounts.declared.fstab import read_fstab
from check_mounts.model import Mount
from tests.conftest import Mounts

pytestmark = pytest.mark.root

FIRST = int(os.environ.get("MOUNT_ORACLE_FIRST", "0"))
CASES = int(os.environ.get("MOUNT_ORACLE_CASES", "300"))
CHUNK = 50

# Options that any filesystem takes, as mount(8) knows them, and the flag in the table that each is
# about.
FLAGS = {
    "nosuid": "nosuid", "suid": "nosuid", "nodev": "nodev", "dev": "nodev", "noexec": "noexec", "exec": "noexec",
    "nosymfollow": "nosymfollow", "symfollow": "nosymfollow", "nodiratime": "nodiratime", "diratime": "nodiratime",
    "noatime": "noatime", "atime": "noatime", "relatime": "relatime", "strictatime": "strictatime",
    "nostrictatime": "strictatime",
    "ro": "ro", "rw": "ro", "sync": "sync", "async": "sync", "dirsync": "dirsync", "lazytime": "lazytime",
    "nolazytime": "lazytime",
    "mand": "mand", "nomand": "mand",
}  # fmt: skip
NOISE = ["norelatime", "user", "users", "owner", "group", "defaults", "auto", "noauto", "nofail", "_netdev",
    "x-systemd.growfs", "silent",
         "X-mount.mkdir", "comment=x", "iversion", "x-initrd.mount", "nouser"]  # fmt: skip
OWN = {
    "ext4": """commit=5 commit=30 commit=0 errors=remount-ro errors=continue data=ordered data=writeback barrier=0
        barrier=1 nobarrier
        barrier discard nodiscard acl noacl user_xattr delalloc nodelalloc auto_da_alloc noauto_da_alloc
        min_batch_time=0
        min_batch_time=50 max_batch_time=15000 max_batch_time=9 inode_readahead_blks=64 inode_readahead_blks=32
        stripe=16 resuid=7
        resgid=0 init_itable=10 init_itable=3 noinit_itable block_validity noblock_validity dioread_lock
        dioread_nolock grpid bsdgroups
        nogrpid sysvgroups minixdf bsddf nouid32 max_dir_size_kb=0 max_dir_size_kb=100 debug""",
    "ext2": "errors=continue noacl acl user_xattr grpid minixdf nouid32",
    "xfs": """allocsize=64k allocsize=1m allocsize=65536 logbufs=4 logbsize=32k logbsize=262144 inode32 inode64
        noquota quota uquota
        usrquota uqnoenforce gquota gqnoenforce pquota pqnoenforce wsync swalloc noalign largeio nolargeio discard
        nodiscard
        filestreams grpid bsdgroups nogrpid sysvgroups ikeep noikeep dax=always dax=never logbufs=0 logbsize=0""",
    "btrfs": """compress compress=no compress=lzo compress=zlib compress=zlib:9 compress=zstd compress=zstd:7
        compress-force=zstd
        compress=zstd:19 compress-force=zlib:12 commit=0
        commit=30 commit=7 ssd nossd ssd_spread nossd_spread discard discard=sync discard=async nodiscard nobarrier
        barrier noacl acl
        autodefrag noautodefrag nodatacow datacow nodatasum flushoncommit noflushoncommit notreelog treelog
        max_inline=2048
        max_inline=1k thread_pool=3 space_cache=v2 user_subvol_rm_allowed skip_balance fatal_errors=panic subvol=/
        subvolid=5
        subvolid=0 degraded""",
    "squashfs": "errors=continue errors=panic",
    "erofs": "user_xattr nouser_xattr acl noacl cache_strategy=disabled cache_strategy=readahead",
    "tmpfs": """size=1m size=1000 size=4097 size=0x10000 size=010000 size=1024K size=50% size=0 nr_inodes=10k
        nr_inodes=100 nr_blocks=64
        mode=1777 mode=755 mode=0700 mode=01777 uid=0 uid=1000 gid=0 gid=7 uid=0x10 huge=never huge=always
        huge=within_size inode32
        inode64 noswap mpol=default mpol=local""",
    "ramfs": "mode=755 mode=0700 mode=1777 size=1m anything=else",
    "proc": "hidepid=0 hidepid=1 hidepid=2 hidepid=invisible hidepid=off hidepid=ptraceable hidepid=4 gid=0 "
    "gid=7 subset=pid",
    "overlay": """index=on index=off metacopy=on metacopy=off redirect_dir=on redirect_dir=off redirect_dir=follow
        redirect_dir=nofollow
        xino=on xino=off xino=auto nfs_export=off uuid=null uuid=off volatile userxattr""",
    "bind": "",
}  # fmt: skip
# What a filesystem may make smaller or otherwise, what is a default of its superblock, and what is
# another word for a flag.
UNCERTAIN = frozenset(
    ["stripe", "thread_pool", "max_inline", "space_cache", "size", "nr_blocks", "mpol", "discard", "redirect_dir"]
)
DEVICES = {
    "ext4": ["mkfs.ext4", "-q", "-O", "quota"], "ext2": ["mkfs.ext2", "-q"], "xfs": ["mkfs.xfs", "-q"],
    "btrfs": ["mkfs.btrfs", "-q"],
    "squashfs": ["mksquashfs"], "erofs": ["mkfs.erofs"],
}  # fmt: skip
MEBIBYTES = {"xfs": 300, "btrfs": 120}


class Place(NamedTuple):
    """Where one type is mounted from: ``source`` is the first field of fstab, ``options`` what it
    cannot do without."""

    fs_type: str
    source: str
    options: str = ""


class Bench:
    """A mount point, a file for fstab, and something to mount of every type that this kernel has
    and that can be made here."""

    def __init__(self, directory: Path, mounts: Mounts) -> None:
        self.point = mounts.point("point")
        self.fstab = directory / "fstab"
        self.devices: list[str] = []
        self.places = [Place("tmpfs", "tmpfs"), Place("ramfs", "ramfs"), Place("proc", "proc")]
        self._overlay(directory, mounts)
        self._binds(mounts)
        for fs_type, command in DEVICES.items():
            if f"\t{fs_type}\n" in Path("/proc/filesystems").read_text() and shutil.which(command[0]):
                self.places.append(Place(fs_type, self._device(fs_type, command, directory)))

    def _overlay(self, directory: Path, mounts: Mounts) -> None:
        below = mounts.tmpfs("layers")
        for name in ("lower", "upper", "work"):
            (below / name).mkdir()
        self.places.append(
            Place("overlay", "overlay", f"lowerdir={below}/lower,upperdir={below}/upper,workdir={below}/work")
        )
        self.places.append(Place("overlay", "overlay", f"lowerdir={below}/lower:{below}/upper"))

    def _binds(self, mounts: Mounts) -> None:
        for number, options in enumerate(
            ["rw", "ro,nosuid", "noatime,noexec", "strictatime,nodev", "nodiratime,nosymfollow"]
        ):
            path = mounts.point(f"source{number}")
            subprocess.run(["mount", "-t", "tmpfs", "-o", options.replace("ro,", ""), "tmpfs", str(path)], check=True)
            mounts.adopt(path)
            (path / "below").mkdir()
            subprocess.run(["mount", "-o", f"remount,bind,{options}", str(path)], check=True)
            self.places += [Place("bind", str(path), "bind"), Place("bind", f"{path}/below", "bind")]
        self.places += [Place("bind", str(self.point), "bind")]

    def _device(self, fs_type: str, command: list[str], directory: Path) -> str:
        image, content = directory / f"{fs_type}.img", directory / "content"
        content.mkdir(exist_ok=True)
        if fs_type == "squashfs":
            full = [*command, str(content), str(image), "-quiet", "-no-progress"]
        elif fs_type == "erofs":
            full = [*command, str(image), str(content)]
        else:
            with image.open("wb") as file:
                file.truncate(MEBIBYTES.get(fs_type, 32) << 20)
            full = [*command, str(image)]
        subprocess.run(full, check=True, capture_output=True)
        losetup = subprocess.run(
            ["losetup", "--find", "--show", str(image)], check=True, capture_output=True, text=True
        )
        self.devices.append(losetup.stdout.strip())
        return self.devices[-1]

    def close(self) -> None:
        subprocess.run(["umount", "-q", str(self.point)], check=False)
        for device in self.devices:
            subprocess.run(["losetup", "-d", device], check=True)

    def mounted(self, place: Place, options: list[str]) -> Optional[tuple[list[str], list[Mount], Mount]]:
        """The deviations of the line that was mounted, the mount table and the mount; None where
        mount(8) refuses."""
        self.declare(place, options)
        done = subprocess.run(["mount", "--fstab", str(self.fstab), str(self.point)], capture_output=True, check=False)
        if done.returncode != 0:
            return None
        try:
            mounts, _ = mounttable.read("/proc/self/mountinfo")
            mount = next(mount for mount in reversed(mounts) if mount.mount_point == os.fsencode(self.point))
            return self.deviations(mounts), mounts, mount
        finally:
            subprocess.run(["umount", str(self.point)], check=True)

    def declare(self, place: Place, options: list[str]) -> None:
        given = ",".join(filter(None, [place.options, *options])) or "defaults"
        fs_type = "none" if place.fs_type == "bind" else place.fs_type
        self.fstab.write_text(f"{place.source} {self.point} {fs_type} {given} 0 0\n")

    def deviations(self, mounts: list[Mount]) -> list[str]:
        entries, complaints = read_fstab(str(self.fstab))
        assert not complaints
        found, _ = compare.compared(entries, mounts, mounttable.visible(mounts))[:2]
        return [part for one in found for part in one.detail.rpartition(" (")[0].split("; ")]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    directory = tmp_path_factory.mktemp("oracle")
    mounts = Mounts(directory / "mnt")
    result = Bench(directory, mounts)
    yield result
    result.close()
    mounts.close()


def random_options(random_: random.Random, fs_type: str) -> list[str]:
    own = OWN[fs_type].split()
    options = [random_.choice(list(FLAGS)) for _ in range(random_.randint(0, 4))]
    options += [random_.choice(own) for _ in range(random_.randint(0, 3)) if own]
    options += [random_.choice(NOISE) for _ in range(random_.choice((0, 0, 1)))]
    random_.shuffle(options)
    return options


def mutated(random_: random.Random, options: list[str], fs_type: str) -> list[str]:
    """Some options dropped, turned round or added."""
    kept = [option for option in options if random_.random() < 0.6]
    turned = [
        option[2:] if option.startswith("no") else f"no{option}"
        for option in options
        if "=" not in option and random_.random() < 0.3
    ]
    return [
        *kept,
        *(word for word in turned if word in FLAGS or word in OWN[fs_type].split()),
        *random_options(random_, fs_type)[:2],
    ]


def shown(mount: Mount) -> tuple[set[str], dict[str, str]]:
    flags, values = set(), {}
    options = [option.decode() for option in (*mount.options, *mount.super_options)]
    for option in options:
        key, equals, value = option.partition("=")
        if equals:
            values[key] = value
        else:
            flags.add(key)
    if not flags & {"noatime", "relatime"}:
        flags.add("strictatime")
    return flags, values


def forbidden(place: Place, options: list[str], first: Mount, second: Mount) -> set[str]:
    """What the second mount shows otherwise than the first though the line that made the first
    names it."""
    flags, values = shown(first)
    other_flags, other_values = shown(second)
    named = {FLAGS[option] for option in options if option in FLAGS}
    if is_writable(place):
        named.add("ro")  # fstab's default is rw
    if place.fs_type != "bind" and {"relatime", "strictatime"} & named and "nodiratime" not in named:
        named.add("noatime")  # the order is the kernel's: they are one choice
    differs = {flag for flag in named if (flag in flags) != (flag in other_flags)}
    for option in options:
        key, equals, _ = option.partition("=")
        opposite = key[2:] if key.startswith("no") else f"no{key}"
        if (
            equals
            and key not in UNCERTAIN
            and values.get(key, "") != other_values.get(key, "")
            and key in values
            and key in other_values
        ):
            differs.add(key)
        if not equals and key in flags and opposite in other_flags and key not in UNCERTAIN:
            differs.add(opposite)
    return differs - excepted(place, options, first, flags, other_flags)


def excepted(place: Place, options: list[str], first: Mount, flags: set[str], other_flags: set[str]) -> set[str]:
    """What differs and is yet not certain."""
    found = set()
    if "noatime" in other_flags:
        found.add("nodiratime")  # no access times at all: none of directories
    words = [option for option in options if option in ("noatime", "atime", "relatime", "strictatime", "nostrictatime")]
    if set(words) <= {"atime"}:
        found |= {"relatime", "strictatime"}
    if not set(words) & {"noatime", "atime"} and not set(words) & {"relatime", "strictatime"}:
        found.add("noatime")
    if place.fs_type in (
        "tmpfs",
        "ramfs",
        "overlay",
        "proc",
    ):  # mounted with strictatime by others before fstab is read
        found |= {"relatime", "strictatime"} if "noatime" not in flags ^ other_flags else set()
    if first.fs_type == b"proc":  # systemd has mounted it long before
        found |= {"sync", "dirsync", "lazytime", "mand"}
    if place.fs_type == "bind":
        found |= {"sync", "dirsync", "lazytime", "mand"}
    return found | disobeyed(options, flags)


def disobeyed(options: list[str], flags: set[str]) -> set[str]:
    """Flags that are not as they were declared: a later ``user`` takes back ``exec``, a bind mount
    has those of its source."""
    last = {FLAGS[option]: option for option in options if option in FLAGS}
    return {flag for flag, option in last.items() if (flag == option) != (flag in flags)}


def is_writable(place: Place) -> bool:
    return place.fs_type in ("ext2", "ext4", "xfs", "btrfs", "tmpfs", "ramfs") or "upperdir" in place.options


def about(words: str) -> str:
    """The flag or key that a deviation is about."""
    return re.split(
        "[ ,=]", words.replace("mounted ro", "ro").replace("mounted rw", "ro").replace("the filesystem is", "ro")
    )[0]


def check(bench: Bench, number: int) -> int:
    """One case; how many of its two mounts there were."""
    random_ = random.Random(number)
    place = random_.choice(bench.places)
    options = random_options(random_, place.fs_type)
    others = mutated(random_, options, place.fs_type)
    first = bench.mounted(place, options)
    if first is None:
        return 0
    case = f"case {number}: {place.source} {place.fs_type} {','.join(options)}"
    assert first[0] == [], f"{case}: told of what was mounted by this very line, {first[2]}"
    second = bench.mounted(place, others)
    if second is None:
        return 1
    bench.declare(place, [option for option in options if option not in ("noauto",)])
    told = bench.deviations(second[1])
    case += f" -> {','.join(others)}: {first[2]} -> {second[2]}"
    wanted = forbidden(place, options, first[2], second[2])
    assert told or not wanted, f"{case}: not told, though these differ: {wanted}"
    (flags, values), (other_flags, other_values) = shown(first[2]), shown(second[2])
    differs = (flags ^ other_flags) | ({"ro"} if {"rw", "ro"} & (flags ^ other_flags) else set())
    differs |= {key for key in values.keys() | other_values.keys() if values.get(key) != other_values.get(key)}
    for words in told:
        name = about(words)
        assert name in differs or (name in UNCERTAIN and differs), f"{case}: told {words!r}, which does not differ"
    return 2


@pytest.mark.parametrize("chunk", range(FIRST, FIRST + CASES, CHUNK))
def test_mount(chunk: int, bench: Bench) -> None:
    mounted = [check(bench, number) for number in range(chunk, min(chunk + CHUNK, FIRST + CASES))]
    assert sum(mounted) > len(mounted) / 2  # most cases are lines that mount(8) takes
