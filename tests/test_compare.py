"""Declarations, compared with the tables of real systems and rule by rule."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check_mounts import mounttable, selection
from check_mounts.declared import compare
from check_mounts.declared.fstab import read_fstab
from check_mounts.declared.spec import parse_spec
from check_mounts.model import Condition, Declarer, ExpectedMount, Mount
from check_mounts.naming import leads
from check_mounts.naming.devices import Devices
from check_mounts.readonly import read_only

FIXTURES = Path(__file__).parent / "fixtures" / "fstab"
NAMES = sorted(path.name for path in FIXTURES.iterdir())
REPORT: dict[str, list[object]] = {"deviations": [], "excused": [], "complaints": []}


class FixtureDevices(Devices):
    """Links as in a real /dev, in a tree of its own; the numbers of nodes from the fixture, since
    only root makes device nodes."""

    def __init__(self, dev: Path, links: str) -> None:
        super().__init__(str(dev))
        self.numbers: dict[bytes, tuple[int, int]] = {}
        for line in links.splitlines():
            name, target = line.split(" ")
            path = dev / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if ":" in target:
                path.touch()
                major, minor = target.split(":")
                self.numbers[f"/dev/{name}".encode()] = (int(major), int(minor))
            else:
                path.symlink_to(target)

    def number(self, name: bytes) -> Optional[tuple[int, int]]:
        return self.numbers.get(name)


def devices_of(directory: Path, tmp_path: Path) -> Devices:
    links = directory / "links"
    return FixtureDevices(tmp_path / "dev", links.read_text() if links.exists() else "")


def report(fstab: Path, table: bytes, devices: Devices) -> dict[str, Any]:
    entries, complaints = read_fstab(str(fstab))
    entries = [leads.led(entry, leads.Found()) for entry in entries]  # by their text
    mounts, unparsed = mounttable.parse(table)
    assert not unparsed
    deviations, excused = compare.compared(entries, mounts, mounttable.visible(mounts), devices=devices)[:2]

    def plain(text: str) -> str:
        return text.replace(str(fstab), "FSTAB")

    return {
        "deviations": [[os.fsdecode(one.mount_point), one.condition.value, plain(one.detail)] for one in deviations],
        "excused": [[os.fsdecode(one.mount_point), plain(one.detail)] for one in excused],
        "complaints": [plain(str(one)) for one in complaints],
    }


def verdicts(name: str) -> dict[str, Any]:
    return dict(json.loads((FIXTURES / name / "expected.json").read_text()))


@pytest.mark.parametrize("name", NAMES)
def test_no_false_alarm(name: str, tmp_path: Path) -> None:
    directory = FIXTURES / name
    table = (directory / "mountinfo").read_bytes()
    wanted = {**REPORT, "excused": verdicts(name).get("excused", [])}
    fstab = directory / "fstab"
    assert report(fstab, table, devices_of(directory, tmp_path)) == wanted
    # As on a host whose /dev does not tell: an unprivileged container, udev that is late.
    undecided = report(fstab, table, Devices(str(tmp_path / "none")))
    assert undecided["deviations"] == [] or name == "automount-nofail"


def replaced(text: str, old: str, new: str) -> str:
    assert old in text, old
    return text.replace(old, new, 1)


def changed_table(variant: dict[str, Any], table: str) -> str:
    if "from" in variant:
        table = replaced(table, variant["from"], variant["to"])
    if "remove" in variant:
        assert variant["remove"] in table
        table = "".join(line for line in table.splitlines(keepends=True) if variant["remove"] not in line)
        table = table.replace("22 21 0:40", "22 20 0:40") if "21 20" not in table else table
    return table + str(variant.get("append", ""))


@pytest.mark.parametrize(
    ("name", "variant"), [(name, one["name"]) for name in NAMES for one in verdicts(name)["variants"]]
)
def test_broken(name: str, variant: str, tmp_path: Path) -> None:
    directory = FIXTURES / name
    wanted = verdicts(name)
    one = next(one for one in wanted["variants"] if one["name"] == variant)
    fstab = tmp_path / "fstab"
    text = (directory / "fstab").read_text() + one.get("fstab_append", "")
    fstab.write_text(replaced(text, one["fstab_from"], one["fstab_to"]) if "fstab_from" in one else text)
    found = report(
        fstab, changed_table(one, (directory / "mountinfo").read_text()).encode(), devices_of(directory, tmp_path)
    )
    assert found["deviations"] == one.get("deviations", [])
    assert found["complaints"] == one.get("complaints", [])
    if "excused" in one:
        assert found["excused"] == one["excused"]


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_its_own(name: str) -> None:
    """What the table itself shows, declared word for word, is no deviation: whatever the kernel
    prints is accepted back."""
    mounts, _ = mounttable.parse((FIXTURES / name / "mountinfo").read_bytes())
    visible = mounttable.visible(mounts)
    entries = [
        ExpectedMount(one.mount_point, one.source, one.fs_type, one.super_options + one.options, "x")
        for one in mounts
        if one.mount_id in visible
    ]
    assert compare.compared(entries, mounts, visible, devices=Devices("/nonexistent"))[:2] == ([], [])


# Names below /dev
# ------------------------------------------------------------------------------------------------


def test_links_are_followed_below_dev_only(tmp_path: Path) -> None:
    links = (
        "sda1 8:1\ndisk/by-uuid/x ../../sda1\nabs /dev/disk/by-uuid/x\nout ../../mnt/hangs\nfar /mnt/hangs\n"
        "round round\ndir/link ../dir2\ndir2/y 8:2\n"
    )
    devices = FixtureDevices(tmp_path / "dev", links)
    for name in (b"/dev/sda1", b"/dev/disk/by-uuid/x", b"/dev/abs", b"/dev//disk/../abs", b"/dev/./sda1"):
        assert devices.resolve(name) == b"/dev/sda1", name
    for name in (b"/dev/out", b"/dev/far", b"/dev/round", b"/dev/none", b"/mnt/x", b"/dev/../mnt", b"relative", b""):
        assert devices.resolve(name) is None, name
    assert devices.resolve(b"/dev/dir/link/y") == b"/dev/dir2/y"
    assert devices.is_named_in(b"/dev/disk/by-uuid", b"/dev/sda1", (0, 1))
    assert devices.is_named_in(b"/dev/disk/by-uuid", None, (8, 1))
    assert not devices.is_named_in(b"/dev/disk/by-uuid", b"/dev/dir2/y", (8, 2))
    assert Devices(str(tmp_path / "dev")).number(b"/dev/sda1") is None  # no block device
    assert Devices().number(b"/dev/null") is None


# Rules one by one
# ------------------------------------------------------------------------------------------------


def mount(
    fs_type: str, source: str, options: str = "rw,relatime", more: str = "rw", point: bytes = b"/m", root: bytes = b"/"
) -> Mount:
    words = (tuple(text.encode().split(b",")) for text in (options, more))
    return Mount(9, 1, (0, 9), root, point, next(words), (), fs_type.encode(), source.encode(), next(words))


def words(spec: str, there: Mount, ignore: tuple[bytes, ...] = ()) -> str:
    entry = parse_spec(there.mount_point + (b"," + spec.encode() if spec else b""))
    globs = [selection.compile_glob(pattern) for pattern in ignore]
    deviations, _ = compare.compared([entry], [there], {9}, globs, Devices("/nonexistent"))[:2]
    return "; ".join(one.detail.replace(" (--expect)", "") for one in deviations)


@pytest.mark.parametrize(
    ("spec", "there"),
    [
        ("source=/dev/sda1,type=auto", mount("ext4", "/dev/sda1")),
        ("type=ext4\\,xfs", mount("xfs", "/dev/sda1")),
        ("type=ext3", mount("ext3", "/dev/sda1")),
        ("type=ntfs-3g", mount("fuseblk", "/dev/sda1")),
        ("type=davfs", mount("fuse", "https://x/")),
        ("source=UUID=x", mount("ext4", "/dev/sda1")),
        ("source=ID=x", mount("btrfs", "/dev/sda1")),
        ("source=/srv/image", mount("ext4", "/dev/loop3")),
        ("source=mon1:/", mount("ceph", "192.0.2.1:6789:/")),
        ("source=disk1:disk2", mount("fuse.mergerfs", "mergerfs")),
        # What a mount helper makes of a source.
        ("source=D:,type=drvfs", mount("9p", "drvfsa", more="rw,aname=drvfs;path=D:;uid=1000,trans=virtio")),
        ("source=C:\\Users,type=drvfs", mount("virtiofs", "drvfsaC4")),
        (
            "source=fs-0123:/data,type=efs,tls,_netdev",
            mount("nfs4", "127.0.0.1:/", more="rw,port=20049,addr=127.0.0.1"),
        ),
        ("source=fs-0123,type=efs", mount("nfs4", "fs-0123.efs.eu-west-1.amazonaws.com:/", more="rw,addr=10.0.0.1")),
        ("source=gluster1:/vol,type=glusterfs", mount("fuse.glusterfs", "gluster2:/vol")),
        ("source=gluster1\\,gluster2:vol,type=glusterfs", mount("fuse.glusterfs", "gluster1:/vol")),
        ("source=https://x/dav,type=davfs", mount("fuse", "https://x/dav/")),
        ("source=bucket:/x,type=fuse.s3fs", mount("fuse.s3fs", "s3fs")),
        ("source=gdrive:,type=rclone", mount("fuse.rclone", "gdrive{aB1}:")),
        ("source=bucket,type=fuse.mount-s3", mount("fuse", "mountpoint-s3")),
        ("source=/dev/sda1,type=lowntfs-3g", mount("fuseblk", "/dev/sda1")),
        ("source=mhddfs#/a\\,/b,type=fuse", mount("fuse.mhddfs", "/a;/b")),
        ("source=sshfs#me@host:/x,type=fuse", mount("fuse.sshfs", "me@host:/x")),
        ("source=me@host:/x,type=sshfs", mount("fuse.sshfs", "me@host:/x")),
        ("source=curlftpfs#ftp://bob:pw@h/,type=fuse", mount("fuse", "curlftpfs#ftp://bob:pw@h/")),
        ("source=mfsmaster:,type=moosefs", mount("fuse.mfs", "mfsmaster:9421")),
        ("source=mon1\\,mon2:/data,type=ceph", mount("ceph", "admin@b3acfc0d.cephfs=/data")),
        ("source=admin@.cephfs=/data,type=ceph", mount("ceph", "192.0.2.1:6789,192.0.2.2:6789:/data")),
        ("source=:/data,type=cephfs", mount("ceph", "192.0.2.1:6789:/data")),
        ("source=mgs1@tcp:mgs2@tcp:/scratch,type=lustre", mount("lustre", "192.0.2.1@tcp:192.0.2.2@tcp:/scratch")),
        ("source=nfs://filer/x,type=nfs", mount("nfs4", "filer:/x", more="rw,addr=192.0.2.1")),
        ("source=filer1\\,filer2:/x,type=nfs", mount("nfs", "filer2:/x", more="rw,addr=192.0.2.1")),
        ("source=//user%pw@srv/share,type=cifs", mount("cifs", "//srv/share")),
        ("source=\\\\srv\\share,type=smb3", mount("cifs", "//srv/share")),
        ("type=fuse.eosx", mount("fuse.eosxd", "eosxd")),
        ("type=fuse.mfs", mount("fuse.moosefs", "x:9421")),
        ("source=fuse,type=fuse.weed", mount("fuse.seaweedfs", "filer:8888:/")),  # seaweedfs/seaweedfs#5043
        ("source=/dev/sda,type=btrfs", mount("btrfs", "/dev/sdb")),  # one of its other devices
        ("source=/dev/sda1,type=bcachefs", mount("bcachefs", "/dev/sdb1")),
        # What stands for the root filesystem.
        ("source=/dev/nfs,type=nfs,rw", mount("nfs", "192.168.1.2:/srv/nfs1", point=b"/")),
        ("source=/dev/nfs,type=nfs4", mount("nfs4", "192.168.1.2:/srv/nfs1", point=b"/")),
        ("source=nfsroot,type=nfs", mount("nfs", "192.168.1.2:/srv/nfs1", point=b"/")),
        ("source=/dev/cifs,type=cifs", mount("cifs", "//192.168.1.2/root", point=b"/")),
        ("source=/dev/root,type=ext4", mount("ext4", "/dev/mmcblk0p2", point=b"/")),
        ("source=hostshare,type=9p", mount("9p", "/dev/root", more="rw,trans=virtio", point=b"/")),
        ("source=rootfs,type=virtiofs", mount("virtiofs", "myfs", point=b"/")),
        ("source=/dev/ram0,type=ext2", mount("ext2", "/dev/root", point=b"/")),
        ("source=LABEL=root,type=ext4", mount("ext4", "/dev/mapper/live-rw", point=b"/")),
        ("source=overlayroot,type=overlay", mount("overlay", "airootfs", point=b"/")),
        ("source=[fe80::1%eth0]:/x", mount("nfs4", "[fe80::1%eth0]:/x")),
        ("source=[FE80:0::1]:/x/", mount("nfs4", "[fe80::1]:/x")),
        ("source=share,type=9p", mount("9p", "share", more="rw,trans=virtio")),
        ("suid,dev", mount("fuse.sshfs", "a:", "rw,nosuid,nodev")),
        ("user", mount("ext4", "/dev/sda1")),
        ("dev,user", mount("ext4", "/dev/sda1", "rw,nodev")),
        ("nodev,dev", mount("ext4", "/dev/sda1")),
        ("strictatime", mount("ext4", "/dev/sda1", "rw")),
        ("noatime,nodiratime", mount("ext4", "/dev/sda1", "rw,noatime")),
        ("relatime", mount("tmpfs", "tmpfs", "rw")),
        ("acl,barrier=1,data=ordered,errors=remount-ro,nobarrier,user_xattr", mount("ext4", "/dev/sda1")),
        ("sync", mount("nfs", "a:/b")),
        ("sync", mount("ext4", "/dev/sda1", more="rw,sync")),
        ("timeo=9000", mount("nfs", "a:/b", more="rw,timeo=6000")),
        ("rsize=8192", mount("nfs", "a:/b", more="rw,rsize=4096")),
        ("vers=4", mount("nfs4", "a:/b", more="rw,vers=4.2")),
        ("vers=4,minorversion=2", mount("nfs4", "a:/b", more="rw,vers=4.2")),
        ("v4.2,tcp", mount("nfs4", "a:/b", more="rw,vers=4.2,proto=tcp6")),
        ("vers=4.1", mount("nfs4", "a:/b", more="rw,vers=4,minorversion=1")),
        ("vers=3.02", mount("cifs", "//a/b", more="rw,vers=3.02")),
        ("size=1G", mount("tmpfs", "x", more="rw,size=1048576k")),
        ("size=1000", mount("tmpfs", "x", more="rw,size=4k")),
        ("size=50%", mount("tmpfs", "x", more="rw,size=4k")),
        ("uid=daemon", mount("vfat", "x", more="rw,uid=7")),
        ("fmask=0022", mount("vfat", "x", more="rw,fmask=22")),
        ("subvolid=0", mount("btrfs", "x", more="rw,subvolid=5,subvol=/")),
        ("compress=zstd", mount("f2fs", "x", more="rw,compress=zstd:3")),
        ("x-any,comment=x,_netdev,defaults,auto,group", mount("ext4", "x", more="rw")),
        ("ro", mount("iso9660", "x", "ro", "ro")),
        ("", mount("squashfs", "x", "ro", "ro")),
        ("", mount("fuse.squashfuse", "x", "ro", "ro")),
        ("", mount("ext4", "x", "rw,rotten", "rw,errors=ro")),
    ],
)
def test_healthy(spec: str, there: Mount) -> None:
    assert words(spec, there) == ""


@pytest.mark.parametrize(
    ("spec", "there", "told"),
    [
        ("source=/dev/sda1", mount("ext4", "/dev/sdb1"), "source is /dev/sdb1, expected /dev/sda1"),
        ("source=a:/x", mount("nfs4", "b:/x", more="rw,addr=192.0.2.1"), "source is b:/x, expected a:/x"),
        ("source=/dev/sda1", mount("nfs4", "b:/x"), "source is b:/x, expected /dev/sda1"),
        ("source=UUID=x", mount("tmpfs", "tmpfs"), "source is tmpfs, expected UUID=x"),
        ("source=share", mount("9p", "other"), "source is other, expected share"),
        ("source=https://x/dav,type=davfs", mount("ext4", "/dev/sda1"), "source is /dev/sda1, expected https://x/dav"),
        ("source=gl:/vol,type=efs", mount("tmpfs", "tmpfs"), "source is tmpfs, expected gl:/vol"),
        ("source=/dev/nfs,type=nfs", mount("nfs", "a:/x"), "source is a:/x, expected /dev/nfs"),
        ("source=a:/x,type=nfs", mount("nfs", "b:/x", point=b"/"), "source is b:/x, expected a:/x"),
        ("source=gl:/a,type=glusterfs", mount("fuse.glusterfs", "gl:/b"), "source is gl:/b, expected gl:/a"),
        ("source=h:/a,type=sshfs", mount("fuse.sshfs", "h:/b"), "source is h:/b, expected h:/a"),
        (
            "source=mon1:/a,type=ceph",
            mount("ceph", "admin@b3acfc0d.fs=/b"),
            "source is admin@b3acfc0d.fs=/b, expected mon1:/a",
        ),
        ("source=mgs@tcp:/a", mount("lustre", "192.0.2.1@tcp:/b"), "source is 192.0.2.1@tcp:/b, expected mgs@tcp:/a"),
        ("source=nfs://a/y,type=nfs", mount("nfs", "a:/x"), "source is a:/x, expected nfs://a/y"),
        (
            "source=bob:pw@h:/a,type=sshfs",
            mount("fuse.sshfs", "bob:pw@h:/b"),
            "source is bob:***@h:/b, expected bob:***@h:/a",
        ),
        ("source=//u%pw@a/s,type=cifs", mount("cifs", "//a/t"), "source is //a/t, expected //u%***@a/s"),
        ("type=fuse.goofys", mount("fuse.s3fs", "x"), "type is fuse.s3fs, expected fuse.goofys"),
        ("type=ext4", mount("ext3", "x"), "type is ext3, expected ext4"),
        ("type=fuse.sshfs", mount("ext4", "x"), "type is ext4, expected fuse.sshfs"),
        ("type=nfs", mount("fuse.sshfs", "x:"), "type is fuse.sshfs, expected nfs"),
        ("type=ext4\\,xfs", mount("vfat", "x"), "type is vfat, expected ext4,xfs"),
        ("user,exec", mount("ext4", "x", "rw,noexec"), "noexec is in force, expected exec"),
        ("noatime,relatime", mount("ext4", "x"), "noatime is not in force, but expected"),
        ("nosuid", mount("ext4", "x"), "nosuid is not in force, but expected"),
        ("strictatime", mount("ext4", "x"), "relatime is in force, expected strictatime"),
        ("relatime", mount("ext4", "x", "rw,noatime"), "noatime is in force, expected relatime"),
        ("nodiratime", mount("ext4", "x"), "nodiratime is not in force, but expected"),
        ("sync", mount("ext4", "x"), "sync is not in force, but expected"),
        ("async", mount("ext4", "x", more="rw,sync"), "sync is in force, expected async"),
        ("acl", mount("ext4", "x", more="rw,noacl"), "noacl is in force, expected acl"),
        ("errors=panic", mount("ext4", "x", more="rw,errors=continue"), "errors is continue, expected panic"),
        ("proto=tcp", mount("nfs", "x", more="rw,proto=rdma"), "proto is rdma, expected tcp"),
        ("timeo=100", mount("nfs", "x", more="rw,timeo=600"), "timeo is 600, expected 100"),
        ("size=1G", mount("tmpfs", "x", more="rw,size=2097152k"), "size is 2097152k, expected 1G"),
        ("ro", mount("ext4", "x"), "mounted rw, expected ro"),
        ("rw", mount("squashfs", "x", "ro", "ro"), "mounted ro, expected rw"),
        ("source=\x1b0;x\x07:/a|b", mount("nfs", "\n:/"), "source is \\012:/, expected \\0330;x\\007:/a\\174b"),
    ],
)
def test_told(spec: str, there: Mount, told: str) -> None:
    assert words(spec, there) == told


def test_ignored_options() -> None:
    there = mount("nfs4", "a:/b", "rw", "rw,vers=4.2,soft")
    assert words("vers=3,hard,nodev", there) != ""
    assert words("vers=3,hard,nodev", there, (b"vers=*", b"hard", b"no???")) == ""
    assert words("ro", there, (b"ro",)) == ""


def test_read_only_without_a_declaration() -> None:
    assert read_only(mount("ext4", "x", "ro")) == "mounted ro"
    assert read_only(mount("ext4", "x", "rw", "ro")) == "mounted ro"
    assert read_only(mount("ext4", "x", "rw", "rw,emergency_ro")) == "mounted rw, but stopped (emergency_ro)"
    for fs_type in ("squashfs", "iso9660", "sysfs", "overlay", "fuse.portal"):
        assert read_only(mount(fs_type, "x", "ro", "ro")) is None


def of_two(spec: bytes, below: Mount, there: Mount) -> list[str]:
    below = below._replace(mount_id=1, parent_id=0, device=(8, 1))
    there = there._replace(device=(8, 1))
    deviations, _ = compare.compared([parse_spec(spec)], [below, there], {1, 9}, devices=Devices("/nonexistent"))[:2]
    return [one.detail for one in deviations]


def test_bind_mounts_take_after_what_they_are_bound_from() -> None:
    data = mount("ext4", "/dev/sda1", point=b"/data")
    bound = mount("ext4", "/dev/sda1", root=b"/x", more="rw,commit=30")
    spec = b"/m,bind,source=/data/x,commit=5"
    assert of_two(spec, data, bound) == []
    read_only = bound._replace(options=(b"ro",))
    assert of_two(spec, data, read_only) == ["mounted ro, expected rw (--expect)"]
    assert of_two(spec, data._replace(options=(b"ro",)), read_only) == []
    elsewhere = bound._replace(root=b"/y")
    assert of_two(spec, data, elsewhere) == ["it shows /y, expected /x (bound from /data/x) (--expect)"]
    assert of_two(spec, data._replace(fs_type=b"autofs"), elsewhere) == []


def test_root_is_mounted_by_the_boot_loader_s_word() -> None:
    """Unless its device is there: then the name is known to mean another one."""
    root = mount("ext4", "/dev/nvme0n1p1", point=b"/")
    entry = parse_spec(b"/,source=/dev/xvda1,type=ext3")
    assert compare.compared([entry], [root], {9}, devices=Devices("/nonexistent"))[:2] == ([], [])


@pytest.mark.parametrize(
    ("by", "deviates"), [(Declarer.HOST, False), (Declarer.CONFIGURATION, False), (Declarer.COMMAND_LINE, True)]
)
def test_root_of_a_live_image(by: Declarer, deviates: bool) -> None:
    """Files that were made for a host say nothing of it, whatever they are called."""
    root = mount("overlay", "overlay", point=b"/")
    entry = ExpectedMount(b"/", None, b"ext4", (), "--expect", by=by)
    deviations, _ = compare.compared([entry], [root], {9}, devices=Devices("/nonexistent"))[:2]
    assert bool(deviations) == deviates


def test_two_declarations_are_one_deviation() -> None:
    there = mount("ext4", "/dev/sda1", "ro")
    first = parse_spec(b"/m,type=ext4")
    second = parse_spec(b"/m,type=xfs")._replace(origin="unit m.mount")
    third = first._replace(origin="/etc/fstab line 3")
    deviations, _ = compare.compared([first, second, third], [there], {9}, devices=Devices("/nonexistent"))[:2]
    assert [(one.condition, one.mount, one.detail) for one in deviations] == [
        (
            Condition.READ_ONLY,
            there,
            "mounted ro, expected rw (--expect, /etc/fstab line 3); mounted ro, expected rw; type is ext4, "
            "expected xfs (unit m.mount)",
        )
    ]


spec_words = st.lists(
    st.sampled_from(
        [
            b"source=",
            b"type=",
            b"ro",
            b"=",
            b"vers=4",
            b"size=9k",
            b"UUID=x",
            b"/dev/",
            b"a:/",
            b"//s/t",
            b"\\",
            b",",
            b'"',
            b"%",
        ]
    )
)


@given(st.lists(spec_words.map(b"".join), max_size=5), st.sampled_from(NAMES), st.integers(0, 20))
def test_never_raises(parts: list[bytes], name: str, which: int) -> None:
    """Whatever is declared of whatever mount: a reason in words or a comparison."""
    mounts, _ = mounttable.parse((FIXTURES / name / "mountinfo").read_bytes())
    there = mounts[which % len(mounts)]
    try:
        entry = parse_spec(there.mount_point.replace(b",", b"\\,") + b"".join(b"," + part for part in parts))
    except ValueError:
        return
    deviations, _ = compare.compared([entry], mounts, mounttable.visible(mounts), devices=Devices("/nonexistent"))[:2]
    assert all(one.detail.isprintable() for one in deviations)
