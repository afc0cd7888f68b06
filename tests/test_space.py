"""How full: what is judged, what is too small for a bound, and that one full disk is told once."""

from __future__ import annotations

import errno
import os
import re
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import pytest

from check_mounts import filesystems
from check_mounts.judging.policy import Policy, judge_all, judged
from check_mounts.judging.thresholds import parse_capacity
from check_mounts.model import Condition, Finding, LeftOut, Mount, Reason, State, Survey
from check_mounts.outcome import Outcome, Step, Usage
from check_mounts.report.plugin import Presentation, report
from tests.conftest import Mounts, Plugin, in_time
from tests.daemon import Daemon, daemon

__all__ = ["daemon"]

GIB, MIB = 1 << 30, 1 << 20
# 97 % used; a tenth is kept for root.
FULL = Usage(100 * GIB, 13 * GIB, 3 * GIB, 1000, 900)
CRITICAL_90 = Policy(usage_critical=parse_capacity("90"))
FREE_10 = Policy(usage_warning=parse_capacity("10GiB:"))
_ids = iter(range(100, 1 << 20))


def mount(point: str, fs_type: str = "ext4", source: str = "/dev/sda1", options: str = "rw", own: str = "rw") -> Mount:
    number = next(_ids)
    split = tuple(word.encode() for word in options.split(","))
    return Mount(
        number, 1, (0, number), b"/", point.encode(), (own.encode(),), (), fs_type.encode(), source.encode(), split
    )


def found(where: Mount, usage: Optional[Usage] = FULL, condition: Condition = Condition.OK) -> Finding:
    return Finding(where.mount_point, where, condition, "", Outcome(usage=usage), 0.01)


def overlay(number: int, upper: str = "/var/lib/docker/overlay2", source: str = "overlay") -> Mount:
    return mount(
        f"/merged/{number}",
        "overlay",
        source,
        f"rw,lowerdir=/l,upperdir={upper}/{number}/diff,workdir={upper}/{number}/work",
    )


def full(*findings: Finding, policy: Policy = CRITICAL_90, left_out: Sequence[Mount] = ()) -> list[str]:
    survey = Survey(findings, tuple(LeftOut(each, Reason.TYPE_EXCLUDED) for each in left_out))
    return [each.finding.mount_point.decode() for each in judge_all(survey, policy) if each.condition is Condition.FULL]


def printed(*findings: Finding, policy: Policy = FREE_10, verbosity: int = 0) -> str:
    return report(judged(Survey(findings), policy), Presentation(verbosity, perfdata="none")).whole


# -- what is not judged


@pytest.mark.parametrize(
    "where",
    [
        mount("/snap/core/1", "squashfs", "/dev/loop0", "ro", "ro"),
        mount("/media/cd", "iso9660", "/dev/sr0", "ro", "ro"),
        mount("/apex/x", "erofs", "/dev/dm-3", "ro", "ro"),
        mount("/rom", "squashfs", "/dev/root", "ro"),
        mount("/old", "cramfs", "/dev/mtdblock0", "ro"),
        mount("/older", "romfs", "/dev/mtdblock1", "ro"),
        mount("/media/dvd", "udf", "/dev/sr0", "ro", "ro"),
        mount("/usr", "ext4", "/dev/mapper/usr-verity", "ro", "ro"),
        mount("/live", "btrfs", "/dev/vda2", "ro", "ro"),
        mount("/usr", "overlay", "overlay", "ro,lowerdir=/usr:/run/extensions/x", "ro"),
        mount("/tank/.zfs/snapshot/daily", "zfs", "tank@daily", "ro", "rw"),
        mount("/img", "fuse.squashfuse", "squashfuse", "ro"),
        mount("/tmp/.mount_x", "fuse.x.AppImage", "x.AppImage", "ro"),
        mount("/tmp/.mount_nvim", "fuse.nvim-linux-x86_64.appimage", "nvim-linux-x86_64.appimage", "ro"),
        mount("/tmp/.mount_tool", "fuse", "tool.appimage", "ro", "ro"),
        # Of other daemons, too, that mount what they show read-only.
        mount("/img/a", "fuse.dwarfs", "dwarfs", "ro,user_id=0", "ro"),
        mount("/img/b", "fuse.erofsfuse", "erofsfuse", "ro", "ro"),
        mount("/img/c", "fuse.isofuse", "/srv/image.iso", "ro", "ro"),
        mount("/cvmfs/x", "fuse.cvmfs2", "cvmfs2", "ro"),
        mount("/cvmfs/x", "fuse", "cvmfs2", "ro"),
        mount("/mnt/dav", "davfs", "https://host/dav", "rw"),
        mount("/misc", "autofs", "/etc/auto.misc", "rw"),
        mount("/sys/fs/bpf", "bpf", "bpf", "rw"),
    ],
    ids=lambda where: f"{where.fs_type.decode()}-{where.mount_point.decode()}",
)
def test_what_nobody_can_fill_is_not_judged(where: Mount) -> None:
    bursting = Usage(55 * MIB, 0, 0, 100, 0)
    policy = CRITICAL_90._replace(inodes_critical=parse_capacity("90"), usage_warning=parse_capacity("1M:"))
    assert full(found(where, bursting), policy=policy) == []
    output = report(judged(Survey((found(where, bursting),)), policy), Presentation()).whole
    assert (
        output.startswith("MOUNTS OK - 1 mount checked in 0.0 s |")
        and " used'" not in output
        and " inodes'" not in output
    )


@pytest.mark.parametrize(
    "where",
    [
        mount("/", "ext4"),
        mount("/home", "ext4", options="ro"),  # the kernel has stopped it
        mount("/export", "nfs4", "filer1:/export", "ro", "ro"),  # others write to it
        mount("/bound", "ext4", own="ro"),
        mount("/media/stick", "udf", "/dev/sdb1"),
        mount("/tank", "zfs", "tank"),
        mount("/tmp", "tmpfs", "tmpfs"),
        overlay(1),
        mount("/data", "fuse.sshfs", "host:/data"),
        mount("/pub", "fuse.sshfs", "host:/pub", "ro", "ro"),
        mount("/usb", "fuseblk", "/dev/sdb1", "ro"),
        mount("/unheard", "of", "something"),
    ],
    ids=lambda where: f"{where.fs_type.decode()}-{where.mount_point.decode()}",
)
def test_all_else_is_judged(where: Mount) -> None:
    assert full(found(where)) == [where.mount_point.decode()]


@pytest.mark.parametrize("size", [0, -1])
def test_what_counts_no_space_is_not_judged(size: int) -> None:
    policy = CRITICAL_90._replace(usage_warning=parse_capacity("1G:"))
    assert full(found(mount("/x"), Usage(size, 0, 0, 0, 0)), policy=policy) == []


# -- bounds that cannot be met


def small(size: int = 5 * MIB, inodes: int = 1000) -> Finding:
    return found(mount("/run/lock", "tmpfs", "none"), Usage(size, size, size, inodes, inodes))


@pytest.mark.parametrize(
    ("bound", "size", "met"),
    [
        ("10GiB:", 5 * MIB, False),
        ("10GiB:", 10 * GIB, True),
        ("10GiB:", 10 * GIB - 1, False),
        ("5M:", 5 * MIB, True),
        ("@0:500M", 100 * MIB, False),
        ("@0:500M", 501 * MIB, True),
        ("@1K:500M", 100 * MIB, True),
        ("0:10G", 5 * MIB, True),
        ("~:10G", 100 * GIB, True),
        ("90", 5 * MIB, True),
        ("99%", 1, True),
    ],
)
def test_which_bounds_can_be_met(bound: str, size: int, met: bool) -> None:
    assert parse_capacity(bound).can_be_met(size) is met


def test_what_could_never_meet_a_bound_is_no_alarm_and_counted() -> None:
    others = [
        found(mount("/boot/efi", "vfat", "/dev/sda1"), Usage(511 * MIB, 500 * MIB, 500 * MIB, 0, 0)),
        found(mount("/big")),
    ]
    words = printed(small(), *others, policy=FREE_10._replace(usage_critical=parse_capacity("1GiB:")))
    assert words.startswith(
        "MOUNTS WARNING - 1 of 3 mounts failed, 2 too small for '10GiB:', 2 too small for '1GiB:': /big (ext4 "
        "/dev/sda1) full: "
    )
    assert printed(small(), others[0]) == "MOUNTS OK - 2 mounts checked in 0.0 s, 2 too small for '10GiB:'\n"


def test_each_that_is_too_small_is_named() -> None:
    lines = printed(small(), found(mount("/big"), Usage(GIB << 10, GIB << 9, GIB << 9, 0, 0)), verbosity=1).split("\n")[
        1:-1
    ]
    assert lines == [
        "OK: /run/lock (tmpfs none) ok in 0.010 s",
        "  too small for '10GiB:' (5.0 MiB, 1000 inodes in all)",
    ]
    fat = found(mount("/boot/efi", "vfat", "/dev/sda1"), Usage(511 * MIB, 500 * MIB, 500 * MIB, 0, 0))
    assert (
        printed(fat, verbosity=1).split("\n")[2] == "  too small for '10GiB:' (511.0 MiB in all)"
    )  # it counts no inodes


def test_a_bound_that_can_be_met_still_holds() -> None:
    """It has 5 MiB in all and 1 MiB left: 10 GiB are no bound for it, 2 MiB are."""
    policy = FREE_10._replace(usage_critical=parse_capacity("2MiB:"))
    (judgement,) = judge_all(Survey((found(mount("/s", "tmpfs"), Usage(5 * MIB, MIB, MIB, 10, 5)),)), policy)
    assert (judgement.condition, judgement.state, judgement.too_small) == (
        Condition.FULL,
        State.CRITICAL,
        ("'10GiB:'",),
    )
    assert judgement.words == "full: 80.0 % used, 1.0 MiB free (critical range 2MiB:)"


def test_inodes_likewise() -> None:
    policy = Policy(inodes_warning=parse_capacity("100K:"))
    assert (
        printed(small(inodes=1000), policy=policy)
        == "MOUNTS OK - 1 mount checked in 0.0 s, 1 too small for '100K:' inodes\n"
    )
    assert printed(small(inodes=0), policy=policy) == "MOUNTS OK - 1 mount checked in 0.0 s\n"
    assert full(found(mount("/x"), Usage(GIB, GIB, GIB, 1 << 20, 1 << 10)), policy=policy) == ["/x"]


def test_what_is_kept_for_root_is_no_room() -> None:
    """11 GiB in all, of which 2 are root's: nobody else ever has 10."""
    where = found(mount("/x"), Usage(11 * GIB, 11 * GIB, 9 * GIB, 0, 0))
    assert printed(where) == "MOUNTS OK - 1 mount checked in 0.0 s, 1 too small for '10GiB:'\n"


@pytest.mark.parametrize("free", [2, 50, 92])
def test_where_nothing_is_available_nothing_is_known_of_a_reserve(free: int) -> None:
    """A Btrfs without room for metadata has much free and nothing available: it is full, and not
    too small for a bound."""
    where = found(mount("/x", "btrfs"), Usage(100 * GIB, free * GIB, 0, 0, 0))
    assert full(where, policy=FREE_10) == ["/x"]
    assert full(found(mount("/s"), Usage(9 * GIB, GIB, 0, 0, 0)), policy=FREE_10) == []


def test_many_bounds_are_not_listed() -> None:
    policy = Policy(
        usage_warning=parse_capacity("1GiB:"),
        usage_critical=parse_capacity("2GiB:"),
        inodes_warning=parse_capacity("3M:"),
    )
    assert printed(small(), policy=policy) == "MOUNTS OK - 1 mount checked in 0.0 s, 1 too small for their bounds\n"


def test_what_was_said_of_one_mount_is_meant() -> None:
    named = Policy(usage_warning=parse_capacity("10GiB:")._replace(for_one=True))
    policy = FREE_10._replace(exception=lambda point: named if point == b"/run/lock" else None)
    assert full(small(), policy=policy) == ["/run/lock"]


def test_two_mounts_of_one_filesystem_are_one_too_small() -> None:
    one = small()
    assert one.mount is not None
    elsewhere = one.mount._replace(mount_point=b"/run/lock2")
    other = one._replace(mount_point=b"/run/lock2", mount=elsewhere)
    assert printed(one, other) == "MOUNTS OK - 2 mounts checked in 0.0 s, 1 too small for '10GiB:'\n"


# -- one full disk is told once

ROOT = mount("/", source="/dev/vda1")


def test_the_disk_tells_for_its_overlays() -> None:
    overlays = [found(overlay(number)) for number in range(6)]
    survey = Survey((*overlays, found(ROOT)))
    judgements = judge_all(survey, CRITICAL_90)
    assert [each.finding.mount_point for each in judgements if each.state is not State.OK] == [b"/"]
    assert judgements[0].finding.mount_point == b"/"
    assert all(
        each.condition is Condition.OK and each.finding.remarks == ("same space as /",) for each in judgements[1:]
    )


def test_others_write_between_the_two_looks() -> None:
    later = FULL._replace(free=FULL.free - 300 * MIB, available=FULL.available - 300 * MIB, inodes_free=850)
    assert full(found(ROOT), found(overlay(1), later)) == ["/"]


@pytest.mark.parametrize(
    "usage",
    [
        FULL._replace(size=90 * GIB),  # a quota of its project
        FULL._replace(free=FULL.free - 2 * GIB, available=FULL.available - 2 * GIB),
    ],
)
def test_other_numbers_are_another_space(usage: Usage) -> None:
    assert full(found(ROOT), found(overlay(1), usage)) == ["/", "/merged/1"]


def test_the_nearest_mount_on_the_way_is_the_disk() -> None:
    docker = mount("/var/lib/docker", "xfs", "/dev/vdb1")
    other = FULL._replace(inodes=77, inodes_free=5)
    assert full(found(ROOT), found(docker, other), found(overlay(1), other)) == ["/", "/var/lib/docker"]
    # Whose numbers are those of / by chance, or by another namespace: it is the path that leads
    # elsewhere.
    near = FULL._replace(inodes_free=899)
    assert full(found(ROOT), found(docker, other), found(overlay(1), near)) == ["/", "/var/lib/docker", "/merged/1"]


def test_a_relative_upper_layer_is_known_by_all_its_numbers() -> None:
    """Docker mounts so where its options would be too long."""
    relative = mount("/merged/x", "overlay", "overlay", "rw,lowerdir=l/A:l/B,upperdir=abc/diff,workdir=abc/work")
    assert full(found(ROOT), found(relative)) == ["/"]
    assert full(found(ROOT), found(relative, FULL._replace(inodes_free=899))) == ["/", "/merged/x"]


def test_full_to_the_last_byte_proves_nothing() -> None:
    """Two filesystems of one size that do not count inodes look the same then."""
    brimful = Usage(100 * GIB, 0, 0, 0, 0)
    relative = mount("/merged/x", "overlay", "overlay", "rw,upperdir=abc/diff")
    assert full(found(ROOT, brimful), found(relative, brimful)) == ["/", "/merged/x"]
    assert full(found(ROOT, brimful), found(overlay(1), brimful)) == ["/"]


def test_a_disk_that_is_not_told_leaves_it_to_one_overlay() -> None:
    overlays = [found(overlay(number)) for number in range(6)]
    assert full(*overlays, left_out=[ROOT]) == ["/merged/0"]
    assert full(*overlays, left_out=[]) == ["/merged/0"]


def test_who_is_milder_with_the_disk_has_the_overlay_told() -> None:
    mild = Policy(usage_warning=parse_capacity("90"))
    policy = CRITICAL_90._replace(exception=lambda point: mild if point == b"/" else None)
    assert full(found(ROOT), found(overlay(1)), found(overlay(2)), policy=policy) == ["/merged/1", "/"]
    silent = CRITICAL_90._replace(exception=lambda point: Policy() if point == b"/" else None)
    assert full(found(ROOT), found(overlay(1)), found(overlay(2)), policy=silent) == ["/merged/1"]


def test_what_lies_upon_an_overlay() -> None:
    below = mount("/merged/1", "overlay", "overlay", "rw,upperdir=/var/u,workdir=/var/w")
    upon = mount("/inner", "overlay", "overlay", "rw,upperdir=/merged/1/u,workdir=/merged/1/w")
    changed = FULL._replace(inodes_free=890)
    assert full(found(upon, changed), found(below), found(ROOT)) == ["/"]


def test_layers_in_a_circle_end() -> None:
    one = mount("/a", "overlay", "overlay", "rw,upperdir=/b/u")
    other = mount("/b", "overlay", "overlay", "rw,upperdir=/a/u")
    assert full(found(one), found(other)) == ["/a"]


@pytest.mark.parametrize(
    ("fs_type", "source", "options"),
    [
        ("ecryptfs", "/home/.ecryptfs/bob/.Private", "rw,ecryptfs_sig=x"),
        ("fuse.bindfs", "/srv/data", "rw"),
        ("fuse.gocryptfs", "/home/bob/cipher", "rw"),
        ("fuse.fuse-overlayfs", "fuse-overlayfs", "rw"),
        ("aufs", "none", "rw,si=1234"),
        ("fuse.mergerfs", "1/a:2/b", "rw"),
    ],
)
def test_other_layers(fs_type: str, source: str, options: str) -> None:
    assert full(found(mount("/l", fs_type, source, options)), found(ROOT)) == ["/"]


def test_a_loop_image_on_a_disk_is_a_disk_of_its_own() -> None:
    assert full(found(ROOT), found(mount("/image", "ext4", "/dev/loop0"))) == ["/", "/image"]


def test_twins_are_two() -> None:
    """Equal numbers are no proof for what lies upon nothing."""
    assert full(found(ROOT), found(mount("/twin", "xfs", "/dev/vdb1")), found(mount("/t", "tmpfs", "t"))) == [
        "/",
        "/twin",
        "/t",
    ]


@pytest.mark.parametrize(
    ("fs_type", "sources", "options"),
    [
        ("9p", ("C:\\", "drivers"), "rw,trans=fd,rfd=8,wfd=8"),  # /mnt/c and /usr/lib/wsl/drivers of one disk
        ("9p", ("mount0", "mount1"), "rw,trans=virtio"),
        ("virtiofs", ("one", "other"), "rw"),
        ("vboxsf", ("vagrant", "data"), "rw"),
        ("fuse.vmhgfs-fuse", ("vmhgfs-fuse", "vmhgfs-fuse"), "rw,user_id=0"),
        ("fuse.rclone", ("gdrive:a", "gdrive:b"), "rw,user_id=0"),
        ("ceph", ("a@f.fs=/a", "a@f.fs=/b"), "rw"),
    ],
)
def test_directories_of_one_disk_that_name_no_server(fs_type: str, sources: Sequence[str], options: str) -> None:
    shares = [found(mount(f"/s{number}", fs_type, source, options)) for number, source in enumerate(sources)]
    assert full(*shares) == ["/s0"]
    assert full(shares[0], found(mount("/o", fs_type, sources[1], options), FULL._replace(inodes_free=1))) == [
        "/s0",
        "/o",
    ]
    # Of local disks that are twins each tells its own.
    assert full(*(found(mount(f"/d{number}", "ocfs2", f"/dev/sd{number}")) for number in range(2))) == ["/d0", "/d1"]
    assert full(*(found(mount(f"/d{number}", "xfs", f"/dev/sd{number}")) for number in range(2))) == ["/d0", "/d1"]


def test_exports_of_one_filesystem_of_a_server() -> None:
    exports = [found(mount(f"/e{number}", "nfs4", f"filer1:/e{number}")) for number in range(3)]
    assert full(*exports) == ["/e0"]
    assert full(exports[0], found(mount("/o", "nfs4", "filer2:/e0"))) == ["/e0", "/o"]
    assert full(exports[0], found(mount("/o", "nfs4", "filer1:/o"), FULL._replace(inodes_free=1))) == ["/e0", "/o"]
    shares = [
        found(mount(f"/s{number}", "cifs", f"//filer1/s{number}"), Usage(100 * GIB, GIB, GIB, 0, 0))
        for number in range(2)
    ]
    assert full(*shares) == ["/s0"]
    brimful = [
        found(mount(f"/s{number}", "cifs", f"//filer1/s{number}"), Usage(100 * GIB, 0, 0, 0, 0)) for number in range(2)
    ]
    assert full(*brimful) == ["/s0", "/s1"]


def test_datasets_of_one_pool() -> None:
    datasets = [
        found(mount(f"/{name}", "zfs", name), Usage(size * GIB, GIB, GIB, 0, 0))
        for name, size in (("tank", 20), ("tank/a", 30))
    ]
    assert full(*datasets) == ["/tank"]
    other = found(mount("/dozer", "zfs", "dozer"), Usage(20 * GIB, GIB, GIB, 0, 0))
    quota = found(mount("/q", "zfs", "tank/q"), Usage(20 * GIB, MIB, MIB, 0, 0))
    assert full(*datasets, other, quota) == ["/tank", "/dozer", "/q"]


def out_of_space(where: Mount, number: int = errno.ENOSPC) -> Finding:
    """As --write finds it."""
    outcome = Outcome(Step.CREATE, number, usage=Usage(100 * GIB, 0, 0, 1000, 10))
    return Finding(
        where.mount_point, where, Condition.FULL, "No space left on device (ENOSPC) at create", outcome, 0.01
    )


def test_no_space_to_write_is_told_once() -> None:
    overlays = [out_of_space(overlay(number)) for number in range(6)]
    assert full(*overlays, out_of_space(ROOT), policy=Policy()) == ["/"]
    assert full(*overlays, out_of_space(ROOT), policy=CRITICAL_90) == ["/"]
    (told, *others) = judge_all(Survey((*overlays, out_of_space(ROOT))), Policy())
    assert told.finding.mount_point == b"/"
    assert {each.finding.remarks for each in others} == {
        ("same space as /", "full: No space left on device (ENOSPC) at create")
    }
    assert {each.state for each in others} == {State.OK}


def test_no_space_where_the_disk_has_some_is_told() -> None:
    """As in a project with a quota of its own, or where nobody wrote to the disk."""
    assert full(out_of_space(overlay(1)), found(ROOT, Usage(100 * GIB, 0, 0, 1000, 10)), policy=Policy()) == [
        "/merged/1"
    ]


def test_a_quota_is_told_by_each() -> None:
    findings = [out_of_space(overlay(1), errno.EDQUOT), out_of_space(ROOT, errno.EDQUOT)]
    assert full(*findings, policy=Policy()) == ["/merged/1", "/"]


def test_overlays_of_one_small_disk_are_one_too_small() -> None:
    tiny = Usage(MIB, MIB, MIB, 10, 9)
    words = printed(*(found(overlay(number), tiny) for number in range(6)), found(ROOT, tiny))
    assert words == "MOUNTS OK - 7 mounts checked in 0.0 s, 1 too small for '10GiB:'\n"


def test_thousands_take_no_time() -> None:
    """Be it that they are alike, or that nothing tells where they lie and no two have the same
    numbers."""
    overlays = [found(overlay(number), FULL._replace(inodes_free=number)) for number in range(5000)]
    assert in_time(5.0, lambda: full(*overlays, found(ROOT))) == ["/"]
    assert len(in_time(5.0, lambda: full(*overlays))) == 5000
    twins = [found(mount(f"/t{number}", "xfs", f"/dev/{number}")) for number in range(5000)]
    assert len(in_time(5.0, lambda: full(*twins, *overlays))) >= 5000


# -- real ones

EMPTY_SQUASHFS_INODE = struct.pack("<HHHHIIIIHHI", 1, 0o755, 0, 0, 0, 1, 0, 2, 3, 0, 2)


def squashfs(path: Path) -> None:
    """An image with an empty root directory (fs/squashfs/squashfs_fs.h): uncompressed, with no
    fragments, exports or xattrs."""
    none, inodes = (1 << 64) - 1, 96
    directories = inodes + 2 + len(EMPTY_SQUASHFS_INODE)
    ids = directories + 6
    head = struct.pack(
        "<5I6H8Q",
        0x73717368,
        1,
        0,
        1 << 17,
        0,
        1,
        17,
        0x213,
        1,
        4,
        0,
        0,
        ids + 8,
        ids,
        none,
        inodes,
        directories,
        none,
        none,
    )
    blocks = (
        struct.pack("<H", 0x8000 | len(EMPTY_SQUASHFS_INODE)) + EMPTY_SQUASHFS_INODE + struct.pack("<HI", 0x8004, 0)
    )
    path.write_bytes((head + blocks + struct.pack("<Q", directories)).ljust(1 << 16, b"\0"))


@pytest.fixture
def image(mounts: Mounts, tmp_path: Path) -> Path:
    squashfs(tmp_path / "image")
    point = mounts.point("snap")
    subprocess.run(["mount", "-o", "loop,ro", "-t", "squashfs", str(tmp_path / "image"), str(point)], check=True)
    mounts.adopt(point)
    assert os.statvfs(point).f_bavail == 0
    return point


@pytest.mark.root
def test_a_real_image_is_always_full(image: Path, plugin: Plugin) -> None:
    result = plugin("--usage-warning", "90", "--usage-critical", "10GiB:", "--inodes-warning", "90", "-v")
    assert (result.code, result.lines[1:]) == (0, [""])
    assert re.fullmatch(r"MOUNTS OK - 1 mount checked in \d+\.\d s", result.verdict)


@pytest.mark.root
def test_a_real_filesystem_that_is_too_small(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    lock = mounts.tmpfs("lock", "size=5m")
    result = plugin("--usage-warning", "10GiB:", "-v")
    assert result.code == 0 and result.verdict.endswith(" s, 1 too small for '10GiB:'")
    assert result.line(lock).startswith(f"OK: {lock} (tmpfs none) ok in ")
    assert result.lines[2].startswith("  too small for '10GiB:' (5.0 MiB, ")
    config = tmp_path / "conf"
    for section, code in ((f'"{lock}"', 1), (f'"{lock}*"', 0), ('"/*"', 0)):
        config.write_text(f"[mount {section}]\nusage-warning = 10GiB:\n")
        assert plugin("--config", str(config)).code == code, section


@pytest.mark.root
def test_six_real_overlays_on_one_full_disk(mounts: Mounts, plugin: Plugin, daemon: Daemon) -> None:
    disk = mounts.tmpfs("disk", "size=1m")
    for number in range(6):
        for name in ("lower", "upper", "work"):
            (disk / str(number) / name).mkdir(parents=True)
        layers = ",".join(f"{name}dir={disk / str(number) / name}" for name in ("lower", "upper", "work"))
        mounts.mount(f"merged/{number}", "overlay", "overlay", layers)
    (disk / "file").write_bytes(bytes(1000 << 10))
    asked = ("--usage-critical", "90", "--inodes-critical", "99", "-vv")
    result = plugin(*asked)
    assert (result.code, result.count("full"), result.count("ok")) == (2, 1, 6)
    assert f" - 1 of 7 mounts failed: {disk} (tmpfs none) full: 9" in result.verdict
    assert sum(line == f"  same space as {disk}" for line in result.lines) == 6
    # Without the disk one of them tells.
    assert plugin(*asked, "-x", str(disk)).count("full") == 1
    daemon.start(*asked[:4])
    assert daemon.cached().count("full") == 1


def test_the_table_knows_what_lies_upon_others() -> None:
    assert all(
        filesystems.traits(name).layered
        for name in (b"overlay", b"aufs", b"ecryptfs", b"fuse.bindfs", b"fuse.fuse-overlayfs")
    )
    assert not any(filesystems.traits(name).layered for name in (b"ext4", b"tmpfs", b"nfs4", b"fuse.sshfs", b"zfs"))
