"""The options that an administrator chose, and that the kernel shows again after each boot.

Import budget: nothing."""

from __future__ import annotations

from collections.abc import Mapping

FLAGS = frozenset(b"nosuid nodev noexec nosymfollow noatime nodiratime sync dirsync".split())
# The options of a superblock that somebody chose, by type. All others depend on the kernel, the
# size of the memory or the disk, the server, or the boot.
_DISKS = b"errors usrquota grpquota prjquota nobarrier noacl nouser_xattr"
_FAT = b"uid gid fmask dmask umask"
KEPT: Mapping[bytes, frozenset[bytes]] = {
    name: frozenset(options.split())
    for names, options in (
        (b"nfs nfs4", b"hard soft softerr sec noac nocto nolock"),
        (b"cifs smb3", b"hard soft seal uid gid file_mode dir_mode noperm"),
        (b"ext2 ext3 ext4", _DISKS),
        (b"xfs", b"usrquota grpquota prjquota"),
        (b"btrfs", b"subvol compress compress-force"),
        (b"f2fs", _DISKS),
        (b"tmpfs", b"mode uid gid"),
        (b"vfat exfat ntfs3", _FAT),
    )
    for name in names.split()
}
