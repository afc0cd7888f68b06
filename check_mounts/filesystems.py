"""What is known of each type of filesystem: one table. Pure; looks at nothing but the text of a
mount.

Import budget: ``text``, ``typing``; no pattern is compiled here, for this is imported in every
start. What a mount point holds is decided by its type in many places: whether it is probed at all,
whether it can hang on the network, how its source names its servers, what its numbers and
attributes may be trusted for. All of that stands here.

The network filesystems are the union of those that others know, each looked up: systemd
(fstype_is_network), gnulib (me_remote, is_remote_fs_type_name), OpenSCAP (fsdev.c), node_exporter,
telegraf, Checkmk, updatedb's PRUNEFS."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Optional

from check_mounts import text
from check_mounts.model import Mount

# From a source and its mount to the servers it names, the first one first.
Grammar = Callable[[bytes, Mount], list[bytes]]


def _nobody(_source: bytes, _mount: Mount) -> list[bytes]:
    """A source that names no server, whatever it looks like: a dataset, a tag, a bucket, a word
    that somebody chose."""
    return []


class Traits(NamedTuple):
    """What a type is like. Without arguments: a local filesystem that nothing special is known of.

    ``pseudo``: it shows the kernel's own state, with no storage behind it. ``network``: it depends
    on another machine. ``image``: it is made once and never written to. ``sourceless``: neither a
    device nor a server is behind it, its source is what somebody wrote. ``device``: its source is a
    block device. ``known``: the kernel has a type of this name, so no mount helper makes another of
    it. ``stops_writing``: after an error the kernel makes its superblock read-only. ``usage``: what
    statfs says of its space is about a storage of its own that can fill up. ``layered``: its files
    lie on another filesystem, whose numbers it reports. ``servers`` reads its source.

    What its answers prove: ``attributes``: access to a root directory is decided by its mode, and
    one without links was removed. The kernel does both for its own types, and a server of NFS for
    its exports; what a server of FUSE, 9P or SMB fills in means nothing. ``shutdown``: it says so
    in its options when it was shut down. ``own_statfs``: statfs may succeed without an answer of
    its server."""

    pseudo: bool = False
    network: bool = False
    image: bool = False
    sourceless: bool = False
    device: bool = False
    known: bool = False
    stops_writing: bool = False
    usage: bool = True
    layered: bool = False
    attributes: bool = False
    shutdown: bool = False
    own_statfs: bool = False
    servers: Grammar = _nobody


# How sources name servers
# ------------------------------------------------------------------------------------------------


def _user_less(source: bytes) -> bytes:
    """A source without the slashes, ``user:password@`` or ``user@`` before its first host."""
    bare = text.without_secrets(source).lstrip(b"/")
    _, masked, rest = bare.partition(text.MASK + b"@")
    if masked:
        return rest
    # The user of `user@host:path`; the path may hold another `@`.
    end = min((at for at in map(bare.find, (b":", b"/")) if at >= 0), default=len(bare))
    return bare[bare.rfind(b"@", 0, end) + 1 :]


def _hosts(listed: Iterable[bytes], *default_ports: bytes) -> list[bytes]:
    """Those of a list that can be hosts, without a port that goes without saying. A colon that is
    not before a port is in brackets."""
    return [host for each in listed if _is_host(host := _without_port(each.strip(), default_ports))]


def _without_port(host: bytes, ports: tuple[bytes, ...]) -> bytes:
    name, _, port = host.rpartition(b":")
    return name if name and port in ports else host


def _is_host(host: bytes) -> bool:
    name, colon, port = host.rpartition(b":") if not host.endswith(b"]") else (host, b"", b"")
    name = name if colon else host
    in_brackets = name.startswith(b"[") and name.endswith(b"]")
    return bool(name) and (not colon or port.isdigit()) and (in_brackets or not any(byte in b":/[]" for byte in name))


def _export(source: bytes, mount: Mount) -> list[bytes]:
    """``host:/path``, ``user@host:/path``, ``[v6]:/path``, ``host1,host2:/path``."""
    if source.startswith(b"nfs://"):
        return _url(source, mount)
    if source.startswith(b"//"):
        return _share(source, mount)
    hosts, separator, _ = _user_less(source).partition(b":/")
    # A port here is none: `mon1:6789:/` is not how this type writes it.
    return [host for host in _hosts(hosts.split(b",")) if _has_no_port(host)] if separator else []


def _has_no_port(host: bytes) -> bool:
    return b":" not in host or host.endswith(b"]")


def _nfs(source: bytes, mount: Mount) -> list[bytes]:
    return _through_tunnel(_export(source, mount), mount)


def _through_tunnel(hosts: list[bytes], mount: Mount) -> list[bytes]:
    """With the port that the mount shows where the host is this one: there each port is the end of
    a tunnel (stunnel of efs-utils, ssh -L), with another server behind it. A name for something
    else stays as it is."""
    port = mount.super_option(b"port") or b"0"
    if not port.isdigit() or len(port) > 5 or not int(port):
        return hosts
    return [host + b":" + port if _is_loopback(host) else host for host in hosts]


def _is_loopback(host: bytes) -> bool:
    return host.startswith(b"127.") or host in (b"localhost", b"localhost.localdomain", b"[::1]", b"ip6-localhost")


def _share(source: bytes, mount: Mount) -> list[bytes]:
    """``//host/share``, ``\\\\host\\share``, ``//user%password@host/share``."""
    share = source.replace(b"\\", b"/")
    if not share.startswith(b"//"):
        return _export(source, mount)
    return _through_tunnel(_hosts([_user_less(share).partition(b"/")[0]], b"445"), mount)


# What follows these is a bucket or a path.
_NO_HOST = (b"s3", b"s3a", b"gs", b"gcs", b"oss", b"cos", b"obs", b"b2", b"az", b"swift", b"file", b"local")
_PORTS = {
    b"http": b"80",
    b"https": b"443",
    b"dav": b"80",
    b"davs": b"443",
    b"ftp": b"21",
    b"sftp": b"22",
    b"ssh": b"22",
}


def _url(source: bytes, _mount: Mount) -> list[bytes]:
    """``scheme://user:password@host:port/path``, also after a word such as ``curlftpfs#``; without
    a scheme ``host/path``."""
    scheme, is_url, rest = source.partition(b"://")
    scheme = scheme.rpartition(b"#")[2].rpartition(b"=")[2].lower()
    if not is_url:
        scheme, rest = b"", source.rpartition(b"#")[2]
    if scheme in _NO_HOST or rest.startswith(b"/"):
        return []
    authority = text.without_secrets(scheme + b"://" + rest).partition(b"://")[2]
    for end in (b"/", b"?", b"#"):
        authority = authority.partition(end)[0]
    host = authority.rpartition(b"@")[2].rstrip(b":")
    # Without a scheme a word alone is more likely a name than a host.
    return _hosts([host], _PORTS.get(scheme, b"")) if is_url or b"." in host or b":" in host else []


def _nids(source: bytes, _mount: Mount) -> list[bytes]:
    """Lustre: ``nid[,nid...][:nid...]:/fsname``; a NID is ``address@network``, the commas are
    between the NIDs of one server."""
    servers, separator, _ = source.partition(b":/")
    found: list[bytes] = []
    begun: list[bytes] = []
    for word in servers.replace(b",", b":").split(b":") if separator else []:
        begun.append(word)
        # An IPv6 address is split at its colons: what is not the end of one goes on.
        if b"@" in word or not _is_part_of_v6(word):
            found.append(b":".join(begun))
            begun.clear()
    return [nid for nid in [*found, *begun] if nid and b"/" not in nid]


def _is_part_of_v6(word: bytes) -> bool:
    return len(word) <= 4 and not word.strip(b"0123456789abcdefABCDEF")


def _ceph(source: bytes, mount: Mount) -> list[bytes]:
    """``mon1:6789,mon2:6789:/path``, or ``user@fsid.fsname=/path`` with ``mon_addr=A:PORT/B:PORT``
    (mount.ceph(8))."""
    monitors = mount.super_option(b"mon_addr")
    if monitors is not None:
        return _hosts(monitors.split(b"/"), b"6789", b"3300")
    head, separator, _ = source.partition(b":/")
    return _hosts(head.split(b","), b"6789", b"3300") if separator else []


def _volume(source: bytes, _mount: Mount) -> list[bytes]:
    """GlusterFS: ``host:/volume``, ``host1,host2:volume``; a path is that of a file that describes
    the volume."""
    if source.startswith(b"/"):
        return []
    head = source.partition(b":/")[0] if b":/" in source else source.rpartition(b":")[0]
    return _hosts(head.split(b","), b"24007")


def _with_port(source: bytes, _mount: Mount) -> list[bytes]:
    """``host:port``, ``mfs#host:port``, ``host:port:/path``: MooseFS, LizardFS, SeaweedFS."""
    if source.startswith(b"/"):
        return []
    head = source.rpartition(b"#")[2].partition(b":/")[0].partition(b"/")[0]
    return _hosts(head.split(b","), b"9421", b"8888") if b":" in head or b":/" in source else []


def _login(source: bytes, _mount: Mount) -> list[bytes]:
    """sshfs: ``user@host:path``, with or without a slash; ``[v6]:path``."""
    rest = _user_less(source.rpartition(b"sshfs#")[2])
    host, separator, _ = rest.partition(b"]:") if rest.startswith(b"[") else rest.partition(b":")
    return _hosts([host + separator[:-1]]) if separator else []


def _registries(source: bytes, _mount: Mount) -> list[bytes]:
    """Quobyte: ``quobyte@registry1:7866|registry2:7866/volume``."""
    return _hosts(source.partition(b"@")[2].partition(b"/")[0].replace(b"|", b",").split(b","), b"7866")


def _before_slash(source: bytes, _mount: Mount) -> list[bytes]:
    """WekaFS ``backend1,backend2/filesystem``, NCP ``server/user``; a filesystem's name alone says
    nothing."""
    head, slash, _ = source.partition(b"/")
    return _hosts(head.split(b","), b"14000") if slash else []


def _plan9(source: bytes, mount: Mount) -> list[bytes]:
    """9p: over TCP the source is the server's address; over virtio, Xen or a descriptor it is a
    tag."""
    return _through_tunnel(_hosts([source]), mount) if mount.super_option(b"trans") in (b"tcp", b"rdma") else []


def _guess(source: bytes, mount: Mount) -> list[bytes]:
    """Of a type that nothing is known of: what everybody would take for a server."""
    if b"://" in source:
        return _url(source, mount)
    return _share(source, mount) if source.startswith((b"//", b"\\\\")) or not source.startswith(b"/") else []


# The table
# ------------------------------------------------------------------------------------------------

_TABLE: dict[bytes, Traits] = {}


def _are(names: bytes, like: Traits, prefixes: tuple[bytes, ...] = (b"",)) -> None:
    for prefix in prefixes:
        _TABLE.update(dict.fromkeys([prefix + name for name in names.split()], like))


def _also(names: bytes, usage: bool = True, layered: bool = False) -> None:
    """What else is known of some types' space."""
    for name in names.split():
        _TABLE[name] = _TABLE.get(name, Traits())._replace(usage=usage, layered=layered)


_are(
    b"""binder binfmt_misc bpf cgroup cgroup2 configfs cpuset debugfs devpts devtmpfs efivarfs fusectl functionfs gadgetfs
    hugetlbfs ipathfs mqueue nfsd nsfs openpromfs oprofilefs pidfs proc pstore resctrl rootfs rpc_pipefs securityfs selinuxfs
    smackfs spufs sysfs tracefs usbdevfs usbfs xenfs""",
    Traits(pseudo=True, sourceless=True, known=True, usage=False, attributes=True),
)  # fmt: skip
# tmpfs, ramfs and overlay hold files, so they are no pseudo-filesystems. Any name can be their
# source, also `overlayfs:/overlay`.
_are(b"tmpfs ramfs overlay", Traits(sourceless=True, known=True, attributes=True))
_are(b"overlayfs aufs shiftfs", Traits(sourceless=True, attributes=True))
_are(b"autofs", Traits(sourceless=True, usage=False))
_are(
    b"""btrfs vfat msdos exfat ntfs ntfs3 f2fs jfs reiserfs nilfs2 hfs hfsplus minix bcachefs""",
    Traits(device=True, known=True, attributes=True),
)
# `shutdown`: ext4_show_options (it drives ext2 and ext3, too), xfs_fs_show_options.
_are(b"ext2 ext3 ext4 xfs", Traits(device=True, known=True, attributes=True, shutdown=True))
# The number of links is what the maker of the image wrote.
_are(
    b"iso9660 udf squashfs erofs cramfs romfs",
    Traits(device=True, known=True, image=True, usage=False, attributes=True),
)
_are(b"zfs", Traits(known=True, attributes=True))
# Local types whose source may hold a colon and a slash all the same.
_are(b"vxfs apfs reiser4 ubifs jffs2 yaffs2 sdcardfs esdfs ecryptfs", Traits(attributes=True))
_are(b"fuseblk hostfs bind none", Traits())

# On shared disks: their locks are on the network. The source is a device.
_are(b"gfs gfs2 ocfs ocfs2 scoutfs", Traits(network=True, device=True, known=True, attributes=True))
_are(b"nfs", Traits(network=True, known=True, attributes=True, servers=_nfs))
_are(b"nfs3 nfs4", Traits(network=True, attributes=True, servers=_nfs))
# cifs_statfs hid errors before Linux 5.11; 9P but for 9P2000.L, and Coda without its daemon, have
# numbers of their own.
_are(b"cifs", Traits(network=True, known=True, own_statfs=True, servers=_share))
_are(b"smb smb2 smb3 smbfs", Traits(network=True, own_statfs=True, servers=_share))
_are(b"ceph", Traits(network=True, known=True, servers=_ceph))
_are(b"9p", Traits(network=True, known=True, own_statfs=True, servers=_plan9))
_are(b"virtiofs", Traits(network=True, known=True))
_are(b"lustre lustre_lite", Traits(network=True, servers=_nids))
_are(b"wekafs ncp ncpfs", Traits(network=True, servers=_before_slash))
_are(b"pvfs2 orangefs panfs", Traits(network=True, servers=_url))
# Their sources are names that say nothing of a server: beegfs_nodev, a device's, a cell's,
# `.host:/`.
_are(
    b"""acfs auristorfs beegfs beegfs_nodev cpfs cvfs dvs ecfs fhgfs gpfs ibrix ifs mmfs novfs prl_fs psfs snfs stnfs vboxsf vmhgfs""",
    Traits(network=True),
)  # fmt: skip
_are(b"afs coda", Traits(network=True, own_statfs=True))

# Those behind FUSE, by the subtype that they show; declarations say `fuse.NAME` and, with a mount
# helper, `NAME`.
_FUSE = (b"", b"fuse.")
_are(b"sshfs", Traits(network=True, servers=_login), _FUSE)
_are(b"glusterfs", Traits(network=True, servers=_volume), _FUSE)
_are(b"mfs moosefs lizardfs saunafs seaweedfs weed", Traits(network=True, servers=_with_port), _FUSE)
_are(
    b"curlftpfs dav davfs davfs2 davs ftpfs httpfs hdfs webdavfs wdfs xrootdfs xtreemfs",
    Traits(network=True, servers=_url),
    _FUSE,
)
_are(b"quobyte", Traits(network=True, servers=_registries), _FUSE)
_are(b"efs nfs fuse-nfs", Traits(network=True, servers=_export), (b"fuse.",))
_are(b"efs", Traits(network=True, servers=_export))
_are(b"ceph ceph-fuse cephfs", Traits(network=True, servers=_ceph), (b"fuse.",))
_are(b"cephfs", Traits(network=True, servers=_ceph))
# Of these the source is a bucket, a repository, a remote's name as somebody configured it, or the
# program.
_are(
    b"""3fs acd_cli afpfs afuse alluxio alluxio-fuse blobfuse blobfuse2 chubaofs cloudfuse cosfs cubefs cunofs curvefs cvmfs cvmfs2 daos
    dbxfs dfuse dingofs drvfs eos eosx eosxd fuse_dfs fusesmb gcsfuse gdfuse geesefs gfarm2fs goofys google-drive-ocamlfuse
    grpcfuse hf3fs hubicfuse ipfs irods irodsfs JuiceFS juicefs keybase keybase-redirector mapr mapr_fuse mega mount-s3
    mountpoint-s3 objectivefs obsfs oneclient onedrive onedriver ossfs ossfs2 osxfs pcloud pCloud.fs prl_fsd rclone rclonefs
    riofs rozofs s3backer s3fs s3ql smbnetfs svfs tahoe tigrisfs tosfs vmhgfs-fuse yas3fs""",
    Traits(network=True), _FUSE,
)  # fmt: skip
# What is on this machine, though it may hang as any daemon can. Subtypes as above, or sources of a
# bare `fuse`.
_are(
    b"""apfs-fuse bindfs borgfs ciopfs cryfs dislocker dwarfs encfs ext4 fuse-overlayfs fuse2fs fuseext2 fuse-ext2 gocryptfs
    ifuse jmtpfs kio-fuse lkl ltfs mergerfs mhddfs mp3fs ntfs ntfs-3g lowntfs-3g exfat exfat-fuse osspd overlayfs pmxcfs
    simple-mtpfs sysbox-fs sysboxfs unionfs unionfs-fuse veracrypt vmware-vmblock vmblock xmp zfs-fuse""",
    Traits(), (b"fuse.",),
)  # fmt: skip
# Nor do their numbers mean anything: images are always full, the others report no space or that of
# something else.
_are(
    b"""archivemount fuse-archive fuse-zip fuseiso gvfs-fuse-daemon gvfsd-fuse lxcfs mount-zip portal rar2fs ratarmount
    revokefs-fuse snapfuse squashfuse squashfuse_ll""",
    Traits(usage=False), (b"fuse.",),
)  # fmt: skip

# cvmfs reports its cache, which is meant to be full, and the clients of WebDAV what they have made
# up (statvfs in davfs2's kernel interface).
_also(
    b"cvmfs cvmfs2 dav davfs davfs2 davs webdavfs wdfs fuse.cvmfs fuse.cvmfs2 fuse.davfs2 fuse.davfs fuse.webdavfs fuse.wdfs",
    usage=False,
)
_also(
    b"""overlay overlayfs aufs shiftfs unionfs ecryptfs fuse.bindfs fuse.ciopfs fuse.cryfs fuse.encfs fuse.fuse-overlayfs fuse.gocryptfs
    fuse.mergerfs fuse.mhddfs fuse.overlayfs fuse.unionfs fuse.unionfs-fuse""",
    layered=True,
)  # fmt: skip

_PLAIN = Traits()
_UNKNOWN = Traits(servers=_guess)
_UNKNOWN_NETWORK = Traits(network=True, servers=_guess)


def traits(fs_type: bytes) -> Traits:
    """What a type, as the mount table names it, is like."""
    found = _TABLE.get(fs_type)
    if found is None:
        # An AppImage is a squashfs that a daemon named after it shows.
        return _TABLE[b"fuse.squashfuse"] if fs_type.startswith(b"fuse.") and _is_app_image(fs_type) else _UNKNOWN
    return found


def of(mount: Mount) -> Traits:
    """What a mount is like: by its type or, where that is a bare ``fuse``, by what its source
    says."""
    return _behind_fuse(mount) if mount.fs_type == b"fuse" else traits(mount.fs_type)


def lacks_upper(mount: Mount) -> bool:
    """Is it an overlay without an upper layer, which nobody can write to?"""
    return mount.fs_type in (b"overlay", b"overlayfs") and mount.super_option(b"upperdir") is None


def fills_up(mount: Mount) -> bool:
    """Whether what statfs says of its space is worth judging: not for what nobody can write to,
    which is as full as it was made, nor where the numbers mean nothing."""
    known = of(mount)
    if mount.fs_type == b"udf":  # a stick, or a disc as it was burned
        return b"ro" not in mount.super_options
    if lacks_upper(mount):
        return False  # nothing but images and directories below each other
    if mount.fs_type == b"zfs" and b"@" in mount.source:
        return False  # a snapshot
    # Mounted so by somebody; what the kernel has stopped after an error is still rw as a mount. A
    # daemon of this machine that mounts itself so shows an image, whatever it is called.
    local = known.device or (is_fuse(mount) and not is_network(mount))
    made_ro = local and b"ro" in mount.options and b"ro" in mount.super_options
    return known.usage and not made_ro


def _behind_fuse(mount: Mount) -> Traits:
    """Daemons that do without libfuse, and libfuse where the kernel has no subtypes, show ``fuse``;
    then ``NAME#SOURCE`` or the program's own name is the source.

    One that is neither known to be local nor a path is taken for a client of something: a bucket's
    name is all that is seen of goofys (kahing/goofys#675), a repository's of cvmfs2
    (cvmfs/cvmfs#2755)."""
    source = mount.source
    program = source.partition(b"#")[0]
    for name in (program, program.partition(b"@")[0], program.partition(b":")[0]):
        known = _TABLE.get(b"fuse." + name)
        if known is not None:
            return known
    if source.startswith((b"/", b"\\")) and not source.startswith((b"//", b"\\\\")):
        return _PLAIN
    return _PLAIN if source in (b"", b"none", b"fuse") or _is_app_image(source) else _UNKNOWN_NETWORK


def _is_app_image(name: bytes) -> bool:
    return name.lower().endswith(b".appimage")


def types(trait: str) -> frozenset[bytes]:
    """All types that have a trait."""
    return frozenset(name for name, each in _TABLE.items() if getattr(each, trait))


# Those whose error handlers set SB_RDONLY, by default or by errors=remount-ro.
for _name in (
    b"ext2 ext3 ext4 vfat msdos exfat btrfs f2fs jfs nilfs2 reiserfs ocfs2 ufs affs hpfs ubifs zonefs bcachefs".split()
):
    _TABLE[_name] = _TABLE.get(_name, Traits())._replace(stops_writing=True)


NFS_TYPES = frozenset((b"nfs", b"nfs4"))
CIFS_TYPES = frozenset((b"cifs", b"smb3"))


def is_fuse(mount: Mount) -> bool:
    """Is it served by a FUSE daemon?"""
    return mount.fs_type in (b"fuse", b"fuseblk") or mount.fs_type.startswith((b"fuse.", b"fuseblk."))


def servers(mount: Mount) -> list[bytes]:
    """The file servers that the source names, the first one first: ``filer1``, ``[fe80::1]``,
    ``10.1.0.1@o2ib``, ``127.0.0.1:20049``.

    Decided by the grammar of the type alone; nothing is looked up.
    """
    return of(mount).servers(mount.source, mount)


def is_network(mount: Mount) -> bool:
    """Does it depend on another machine: by its type or, of a type that nothing is known of, by a
    source that names a host?"""
    if of(mount).network or servers(mount):
        return True
    return mount.fs_type == b"vxfs" and b"cluster" in mount.super_options  # Veritas' cluster filesystem


# What declarations say, and what is mounted then
# --------------------------------------------------------------------------------

# Names of one and the same: what is declared as the one may be shown as the other.
_FAMILIES = tuple(
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
_EXT = frozenset((b"ext2", b"ext3", b"ext4"))


def _are_alike(one: bytes, other: bytes) -> bool:
    return one == other or any(one in family and other in family for family in _FAMILIES)


def is_of_type(mount: Mount, declared: bytes) -> bool:
    """Is a mount of this one declared type, or may it be? A type that is no name of the kernel's is
    that of a mount helper, which mounts what it likes: ``drvfs`` becomes 9p or virtiofs, ``efs``
    nfs4, ``davfs`` fuse."""
    if _are_alike(mount.fs_type, declared):
        return True
    if {mount.fs_type, declared} <= _EXT and mount.mount_point == b"/":
        return True  # the kernel or initramfs tries them in its own order, before fstab is read
    if is_fuse(mount):
        return not _is_other_than_fuse(declared, mount.fs_type)
    return not _is_known(declared) and not declared.startswith((b"fuse.", b"sshfs")) and declared != b"fuse"


# More that Linux has, or had.
_OTHER_TYPES = frozenset(
    b"adfs affs befs bfs exofs freevxfs hpfs jffs logfs omfs qnx4 qnx6 sysv ufs v7 xenix zonefs".split()
)


def names_type(declared: bytes) -> bool:
    """Is this a type, or a mount helper, that somebody knows of?"""
    families = any(declared in family for family in _FAMILIES)
    return families or declared in _OTHER_TYPES or any(name in _TABLE for name in (declared, b"fuse." + declared))


def is_compared(mount: Mount, declared: bytes) -> bool:
    """Says :func:`is_of_type` more of this declared type than that it may be a mount helper that
    nobody knows of?"""
    return _are_alike(mount.fs_type, declared) or names_type(declared)


def all_types() -> frozenset[bytes]:
    """The names of all types and mount helpers that are known, but for those behind FUSE."""
    return frozenset(name for name in _TABLE if not name.startswith(b"fuse."))


def _is_known(declared: bytes) -> bool:
    return any(
        traits(each).known
        for each in (declared, *(name for family in _FAMILIES[:3] if declared in family for name in family))
    )


def _is_other_than_fuse(declared: bytes, mounted: bytes) -> bool:
    """Is a FUSE mount certainly not of the declared type? Helpers and daemons choose their subtypes
    freely."""
    if _is_known(declared):
        return True
    ours, theirs = declared.partition(b".")[2], mounted.partition(b".")[2]
    known = declared.startswith(b"fuse.") and all(traits(each).network for each in (declared, mounted))
    return known and not ours.startswith(theirs) and not theirs.startswith(ours)


# Mount helpers that hand on the source as it was declared, though their daemons' filesystems have
# other types.
_FAITHFUL = (b"sshfs", b"glusterfs", b"fuse")


def keeps_source(declared: Optional[bytes], mount: Mount) -> bool:
    """Is the source that is shown the one that was declared, or has a mount helper made another of
    it? (``D:`` of drvfs becomes ``drvfsa``, ``fs-1234:/`` of efs ``127.0.0.1:/``, a bucket the
    program's name.)"""
    types_declared = (declared or b"auto").split(b",")
    return any(
        each in (b"auto", b"none")
        or _is_known(each)
        or _are_alike(each, mount.fs_type)
        or each in _FAITHFUL
        or each.startswith(b"fuse.")
        for each in types_declared
    )


# What is printed of them
# ------------------------------------------------------------------------------------------------

# Types whose `@` is no end of a user: NIDs, snapshots, a Ceph user's cluster, a registry, a
# directory of a remote.
_NO_LOGIN = (b"lustre", b"lustre_lite", b"zfs", b"ceph", b"quobyte", b"fuse.quobyte", b"rclone", b"fuse.rclone")


def source_words(source: bytes, fs_type: Optional[bytes] = None) -> str:
    """A source fit for any output: printable, and without the passwords and keys that some people
    have to write into it."""
    return text.printable(text.without_secrets(source, logins=fs_type not in _NO_LOGIN))


def is_served(mount: Mount) -> bool:
    """Is somebody else asked: a server, or a FUSE daemon? Then what the kernel answers from its
    cache says nothing."""
    return is_fuse(mount) or traits(mount.fs_type).network


def decides_by_mode(mount: Mount) -> bool:
    """Is access to its root directory decided by the mode that it shows? FUSE does so for
    ``default_permissions`` (fuse_permission)."""
    return b"default_permissions" in mount.super_options if is_fuse(mount) else traits(mount.fs_type).attributes


def counts_links(mount: Mount) -> bool:
    """Does a root directory without links mean that it was removed?"""
    known = traits(mount.fs_type)
    return known.attributes and not known.image and not is_fuse(mount)
