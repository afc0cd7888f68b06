"""The table of filesystem types: each type and its traits. Pure data.

Import budget: ``enum``, ``grammars``; no pattern is compiled here, because every start
imports this module. Every fact about a type stands here and nowhere else: whether it is probed at
all, whether it can hang on the network, how its source names its servers, what its numbers and
attributes may be trusted for. Ask :mod:`check_mounts.filesystems` about a mount.

The network types are the union of the lists of other programs; each type was looked up: systemd
(fstype_is_network), gnulib (me_remote, is_remote_fs_type_name), OpenSCAP (fsdev.c), node_exporter,
telegraf, Checkmk, updatedb's PRUNEFS."""

from __future__ import annotations

import enum

from check_mounts import grammars
from check_mounts.grammars import Grammar
from check_mounts.typed import Any, NamedTuple, Optional


class Protocol(enum.Enum):
    """The protocol between a client and its server.

    Code that depends on the protocol asks for it, not for the type's name: one protocol may have
    several types."""

    NFS = enum.auto()
    SMB = enum.auto()
    P9 = enum.auto()
    CEPH = enum.auto()
    LUSTRE = enum.auto()
    SSH = enum.auto()
    GLUSTER = enum.auto()


class Traits(NamedTuple):
    """The traits of a type. Without arguments: a local filesystem without peculiarities.

    Its nature:
    ``pseudo``: it shows the kernel's own state, with no storage behind it. ``network``: it depends
    on another machine. ``protocol``: how it speaks with that machine, if any code depends on it.
    ``image``: it is made once and never written to. ``in_memory``: its files are in memory, so it
    never waits. ``trigger``: looking a path up in it mounts something else. ``magic_links``: where
    its links lead depends on the process that asks, and many are no paths at all (proc_pid_fd(5)).
    ``known``: the kernel has a type of this name, so no mount helper turns it into another one.
    ``ext4_driver``: the kernel's ext4 mounts it, whatever its name.

    Its source:
    ``servers`` finds the servers in it. ``sourceless``: it has neither a device nor a server, its
    source is any word that somebody wrote. ``device``: its source is a block device.
    ``several_devices``: a filesystem may be on several devices, and shows any of them.
    ``subvolumes``: all of its subvolumes share a superblock, and all of its devices one link below
    /dev/disk/by-uuid. ``pool``: its source is ``POOL/DATASET@SNAPSHOT``, and the pool's space is
    its own. ``named``: its source is a name that stays as it was declared. ``faithful``: its mount
    helper hands on the source as it was declared, though the daemon's filesystem has another type.
    ``logins``: an ``@`` in its source ends the name of a user.

    Its space and its writing:
    ``usage``: the space that statfs reports is its own, and can fill up. ``layered``: its files lie
    on another filesystem, whose numbers it reports. ``upper``: only an upper layer can be written
    to, which its options name. ``stops_writing``: after an error the kernel makes its superblock
    read-only. ``super_flags``: the options ``sync``, ``lazytime`` and the like are those that the
    kernel shows of its superblock.

    What its answers prove:
    ``attributes``: the mode of a root directory decides who may enter it, and a link count of 0
    means that it was removed. The kernel guarantees both for its own types, and an NFS server for
    its exports; the values that a server of FUSE, 9P or SMB fills in mean nothing. ``shutdown``:
    its options show when it was shut down. ``own_statfs``: statfs may succeed without an answer of
    its server."""

    pseudo: bool = False
    network: bool = False
    protocol: Optional[Protocol] = None
    image: bool = False
    in_memory: bool = False
    trigger: bool = False
    magic_links: bool = False
    known: bool = False
    ext4_driver: bool = False
    servers: Grammar = grammars.no_server
    sourceless: bool = False
    device: bool = False
    several_devices: bool = False
    subvolumes: bool = False
    pool: bool = False
    named: bool = False
    faithful: bool = False
    logins: bool = True
    usage: bool = True
    layered: bool = False
    upper: bool = False
    stops_writing: bool = False
    super_flags: bool = False
    attributes: bool = False
    shutdown: bool = False
    own_statfs: bool = False


TABLE: dict[bytes, Traits] = {}


def _enter(names: bytes, like: Traits, prefixes: tuple[bytes, ...] = (b"",)) -> None:
    """Enter types that have the same traits."""
    for prefix in prefixes:
        TABLE.update(dict.fromkeys([prefix + name for name in names.split()], like))


def _add(names: bytes, **more: Any) -> None:
    """Add traits to some types."""
    for name in names.split():
        TABLE[name] = TABLE.get(name, Traits())._replace(**more)


# Types of the kernel
# ------------------------------------------------------------------------------------------------

_enter(
    b"""binder binfmt_misc bpf cgroup cgroup2 configfs cpuset debugfs devpts devtmpfs efivarfs fusectl
    functionfs gadgetfs hugetlbfs ipathfs mqueue nfsd nsfs openpromfs oprofilefs pidfs proc pstore resctrl
    rootfs rpc_pipefs securityfs selinuxfs smackfs spufs sysfs tracefs usbdevfs usbfs xenfs""",
    Traits(pseudo=True, sourceless=True, known=True, usage=False, attributes=True),
)
_add(b"proc", magic_links=True)
# tmpfs, ramfs and overlay hold files, so they are no pseudo-filesystems. Any name can be their
# source, also `overlayfs:/overlay`.
_enter(b"tmpfs ramfs", Traits(sourceless=True, known=True, in_memory=True, attributes=True))
_enter(b"overlay", Traits(sourceless=True, known=True, upper=True, attributes=True))
_enter(b"overlayfs", Traits(sourceless=True, upper=True, attributes=True))
_enter(b"aufs shiftfs", Traits(sourceless=True, attributes=True))
_enter(b"autofs", Traits(sourceless=True, trigger=True, usage=False))
_enter(
    b"btrfs vfat msdos exfat ntfs ntfs3 f2fs jfs reiserfs nilfs2 hfs hfsplus minix bcachefs",
    Traits(device=True, known=True, attributes=True),
)
_add(b"btrfs bcachefs", several_devices=True)
_add(b"btrfs", subvolumes=True)
# `shutdown`: ext4_show_options, xfs_fs_show_options.
_enter(b"ext2 ext3 ext4", Traits(device=True, known=True, ext4_driver=True, attributes=True, shutdown=True))
_enter(b"xfs", Traits(device=True, known=True, attributes=True, shutdown=True))
# Their link counts are those that the maker of the image wrote.
_enter(
    b"iso9660 udf squashfs erofs cramfs romfs",
    Traits(device=True, known=True, image=True, usage=False, attributes=True),
)
_enter(b"zfs", Traits(known=True, pool=True, named=True, attributes=True))
# Local types, though their source may hold a colon and a slash.
_enter(b"vxfs apfs reiser4 ubifs jffs2 yaffs2 sdcardfs esdfs ecryptfs", Traits(attributes=True))
_enter(b"fuseblk hostfs bind none", Traits())

# On shared disks: their locks are on the network, but their source is a device.
_enter(b"gfs gfs2 ocfs ocfs2 scoutfs", Traits(network=True, device=True, known=True, attributes=True))
_NFS = Traits(network=True, attributes=True, servers=grammars.nfs)
_enter(b"nfs", _NFS._replace(protocol=Protocol.NFS, known=True))
_enter(b"nfs4", _NFS._replace(protocol=Protocol.NFS))
_enter(b"nfs3", _NFS)  # only declarations use this name
# cifs_statfs hid errors before Linux 5.11; 9P other than 9P2000.L, and Coda without its daemon,
# answer with numbers of their own.
_SMB = Traits(network=True, own_statfs=True, servers=grammars.share)
_enter(b"cifs", _SMB._replace(protocol=Protocol.SMB, known=True))
_enter(b"smb3", _SMB._replace(protocol=Protocol.SMB))
_enter(b"smb smb2 smbfs", _SMB)
_enter(b"ceph", Traits(network=True, protocol=Protocol.CEPH, known=True, servers=grammars.ceph))
_enter(b"9p", Traits(network=True, protocol=Protocol.P9, known=True, own_statfs=True, servers=grammars.plan9))
_enter(b"virtiofs", Traits(network=True, known=True))
_add(b"9p virtiofs", named=True)
_enter(b"lustre lustre_lite", Traits(network=True, protocol=Protocol.LUSTRE, servers=grammars.nids))
_enter(b"wekafs ncp ncpfs", Traits(network=True, servers=grammars.before_slash))
_enter(b"pvfs2 orangefs panfs", Traits(network=True, servers=grammars.url))
# Their sources are names that say nothing of a server: beegfs_nodev, a device's, a cell's,
# `.host:/`.
_enter(
    b"""acfs auristorfs beegfs beegfs_nodev cpfs cvfs dvs ecfs fhgfs gpfs ibrix ifs mmfs novfs prl_fs psfs
    snfs stnfs vboxsf vmhgfs""",
    Traits(network=True),
)
_enter(b"afs coda", Traits(network=True, own_statfs=True))

# Daemons of FUSE
# ------------------------------------------------------------------------------------------------

# By the subtype that they show; declarations say `fuse.NAME` and, with a mount helper, `NAME`.
_FUSE = (b"", b"fuse.")
_enter(b"sshfs", Traits(network=True, protocol=Protocol.SSH, servers=grammars.login), _FUSE)
_enter(b"glusterfs", Traits(network=True, protocol=Protocol.GLUSTER, servers=grammars.volume), _FUSE)
_enter(b"mfs moosefs lizardfs saunafs seaweedfs weed", Traits(network=True, servers=grammars.with_port), _FUSE)
_enter(
    b"curlftpfs dav davfs davfs2 davs ftpfs httpfs hdfs webdavfs wdfs xrootdfs xtreemfs",
    Traits(network=True, servers=grammars.url),
    _FUSE,
)
_enter(b"quobyte", Traits(network=True, servers=grammars.registries), _FUSE)
_enter(b"efs nfs fuse-nfs", Traits(network=True, servers=grammars.export), (b"fuse.",))
_enter(b"efs", Traits(network=True, servers=grammars.export))
_enter(b"ceph ceph-fuse cephfs", Traits(network=True, servers=grammars.ceph), (b"fuse.",))
_enter(b"cephfs", Traits(network=True, servers=grammars.ceph))
# Their source is a bucket, a repository, a remote's name as somebody configured it, or the program.
_enter(
    b"""3fs acd_cli afpfs afuse alluxio alluxio-fuse blobfuse blobfuse2 chubaofs cloudfuse cosfs cubefs cunofs
    curvefs cvmfs cvmfs2 daos dbxfs dfuse dingofs drvfs eos eosx eosxd fuse_dfs fusesmb gcsfuse gdfuse geesefs
    gfarm2fs goofys google-drive-ocamlfuse grpcfuse hf3fs hubicfuse ipfs irods irodsfs JuiceFS juicefs keybase
    keybase-redirector mapr mapr_fuse mega mount-s3 mountpoint-s3 objectivefs obsfs oneclient onedrive
    onedriver ossfs ossfs2 osxfs pcloud pCloud.fs prl_fsd rclone rclonefs riofs rozofs s3backer s3fs s3ql
    smbnetfs svfs tahoe tigrisfs tosfs vmhgfs-fuse yas3fs""",
    Traits(network=True),
    _FUSE,
)
# These serve files of this machine, though they may hang as any daemon can. Subtypes as above, or
# sources of a bare `fuse`.
_enter(
    b"""apfs-fuse bindfs borgfs ciopfs cryfs dislocker dwarfs encfs ext4 fuse-overlayfs fuse2fs fuseext2
    fuse-ext2 gocryptfs ifuse jmtpfs kio-fuse lkl ltfs mergerfs mhddfs mp3fs ntfs ntfs-3g lowntfs-3g exfat
    exfat-fuse osspd overlayfs pmxcfs simple-mtpfs sysbox-fs sysboxfs unionfs unionfs-fuse veracrypt
    vmware-vmblock vmblock xmp zfs-fuse""",
    Traits(),
    (b"fuse.",),
)
# The numbers of these mean nothing, either: images are always full, the others report no space, or
# the space of something else.
_enter(
    b"""archivemount fuse-archive fuse-zip fuseiso gvfs-fuse-daemon gvfsd-fuse lxcfs mount-zip portal rar2fs
    ratarmount revokefs-fuse snapfuse squashfuse squashfuse_ll""",
    Traits(usage=False),
    (b"fuse.",),
)

# More traits
# ------------------------------------------------------------------------------------------------

# cvmfs reports its cache, which should be full. The clients of WebDAV report made-up numbers
# (statvfs in davfs2's kernel interface).
_add(
    b"""cvmfs cvmfs2 dav davfs davfs2 davs webdavfs wdfs fuse.cvmfs fuse.cvmfs2 fuse.davfs2 fuse.davfs
    fuse.webdavfs fuse.wdfs""",
    usage=False,
)
_add(
    b"""overlay overlayfs aufs shiftfs unionfs ecryptfs fuse.bindfs fuse.ciopfs fuse.cryfs fuse.encfs
    fuse.fuse-overlayfs fuse.gocryptfs fuse.mergerfs fuse.mhddfs fuse.overlayfs fuse.unionfs
    fuse.unionfs-fuse""",
    layered=True,
)
# Their error handlers set SB_RDONLY, by default or by errors=remount-ro.
_add(
    b"""ext2 ext3 ext4 vfat msdos exfat btrfs f2fs jfs nilfs2 reiserfs ocfs2 ufs affs hpfs ubifs zonefs
    bcachefs""",
    stops_writing=True,
)
# Network filesystems and FUSE treat these flags in their own ways.
_add(
    b"ext2 ext3 ext4 xfs btrfs f2fs vfat msdos exfat tmpfs ramfs squashfs erofs overlay",
    super_flags=True,
)
# An `@` in their source belongs to a NID, a snapshot, a Ceph user's cluster, a registry, or a
# directory of a remote.
_add(b"lustre lustre_lite zfs ceph quobyte fuse.quobyte rclone fuse.rclone", logins=False)
_add(b"sshfs glusterfs", faithful=True)

# Names of one filesystem: a mount that was declared under one name may be shown under another.
FAMILIES = tuple(
    frozenset(names.split())
    for names in (
        b"nfs nfs3 nfs4",
        b"cifs smb3 smbfs",
        b"overlay overlayfs",
        b"ntfs ntfs3 ntfs-3g lowntfs-3g fuseblk fuse.ntfs-3g fuse.ntfs fuse",
        b"exfat exfat-fuse fuseblk fuse.exfat fuse.exfat-fuse",
        b"fuse.mfs fuse.moosefs fuse.lizardfs fuse.saunafs",
        b"fuse.weed fuse.seaweedfs",
        b"fuse.juicefs fuse.JuiceFS",
        b"fuse.mount-s3 fuse.mountpoint-s3",
        b"fuse.eos fuse.eosx fuse.eosxd",
        b"fuse.dav fuse.davfs fuse.davfs2 fuse.davs fuse.webdavfs",
        b"fuse.pcloud fuse.pCloud.fs",
    )
)
# The families in which all names belong to the kernel if one of them does.
KERNELS_FAMILIES = FAMILIES[:3]
# Linux has or had these, too; nothing else is known of them.
OTHER_NAMES = frozenset(
    b"adfs affs befs bfs exofs freevxfs hpfs jffs logfs omfs qnx4 qnx6 sysv ufs v7 xenix zonefs".split()
)

PLAIN = Traits()
UNKNOWN = Traits(servers=grammars.guess)
UNKNOWN_NETWORK = Traits(network=True, servers=grammars.guess)
