"""What is known of each type of filesystem: one table. Pure; looks at nothing but the text of a mount.

Import budget: ``typing``. What a mount point holds is decided by its type in many places: whether it is probed at all, whether it can
hang on the network, how its source names its servers, what its numbers and attributes may be trusted for. All of that stands here.
"""

from __future__ import annotations

from typing import NamedTuple

from check_mounts.model import Mount


class Traits(NamedTuple):
    """What a type is like. Without arguments: a local filesystem that nothing special is known of.

    ``pseudo``: it shows the kernel's own state, with no storage behind it. ``network``: it depends on another machine. ``image``: it
    is made once and never written to. ``sourceless``: neither a device nor a server is behind it, its source is what somebody wrote.
    ``device``: its source is a block device. ``known``: the kernel has a type of this name, so no mount helper makes another of it.
    """

    pseudo: bool = False
    network: bool = False
    image: bool = False
    sourceless: bool = False
    device: bool = False
    known: bool = False


_PLAIN = Traits()
_TABLE: dict[bytes, Traits] = {}


def _are(names: bytes, **traits: bool) -> None:
    for name in names.split():
        _TABLE[name] = _TABLE.get(name, _PLAIN)._replace(**traits)


# tmpfs, ramfs, overlay and squashfs hold files, so they are none of these.
_are(
    b"""binder binfmt_misc bpf cgroup cgroup2 configfs cpuset debugfs devpts devtmpfs efivarfs fusectl functionfs gadgetfs
    hugetlbfs ipathfs mqueue nfsd nsfs openpromfs oprofilefs pidfs proc pstore resctrl rootfs rpc_pipefs securityfs selinuxfs
    smackfs spufs sysfs tracefs usbdevfs usbfs xenfs""",
    pseudo=True, sourceless=True, known=True,
)  # fmt: skip
_are(
    b"""9p acfs afs auristorfs beegfs ceph cifs coda davfs gfs gfs2 glusterfs gpfs lustre lustre_lite mmfs ncpfs nfs nfs3 nfs4
    ocfs2 orangefs panfs pvfs2 smb3 smbfs vboxsf virtiofs""",
    network=True,
)  # fmt: skip
_are(
    b"""fuse.afpfs fuse.ceph fuse.ceph-fuse fuse.cephfs fuse.curlftpfs fuse.davfs2 fuse.gcsfuse fuse.glusterfs fuse.goofys
    fuse.httpfs fuse.juicefs fuse.lizardfs fuse.mfs fuse.moosefs fuse.rclone fuse.s3fs fuse.s3ql fuse.seaweedfs fuse.smbnetfs
    fuse.sshfs fuse.webdavfs""",
    network=True,
)  # fmt: skip
_are(b"cramfs erofs iso9660 romfs squashfs udf", image=True)
_are(
    b"""ext2 ext3 ext4 xfs btrfs vfat msdos exfat ntfs ntfs3 iso9660 udf squashfs erofs f2fs jfs reiserfs nilfs2 gfs2 ocfs2 hfs
    hfsplus minix cramfs romfs bcachefs""",
    device=True, known=True,
)  # fmt: skip
_are(b"tmpfs ramfs overlay overlayfs aufs autofs", sourceless=True)
_are(b"nfs cifs tmpfs ramfs overlay zfs ceph 9p virtiofs", known=True)


def traits(fs_type: bytes) -> Traits:
    """What a type, as the mount table names it, is like."""
    return _TABLE.get(fs_type, _PLAIN)


def types(trait: str) -> frozenset[bytes]:
    """All types that have a trait."""
    return frozenset(name for name, each in _TABLE.items() if getattr(each, trait))


NFS_TYPES = frozenset((b"nfs", b"nfs4"))
CIFS_TYPES = frozenset((b"cifs", b"smb3"))


def is_fuse(mount: Mount) -> bool:
    """Is it served by a FUSE daemon?"""
    return mount.fs_type in (b"fuse", b"fuseblk") or mount.fs_type.startswith((b"fuse.", b"fuseblk."))
