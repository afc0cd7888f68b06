"""What is known of the types of filesystems, by sources as people have them."""

from __future__ import annotations

import pytest

from check_mounts import filesystems, mounttable
from check_mounts.model import Mount


def mount(fs_type: str, source: str, options: str = "rw") -> Mount:
    """A mount as a line of the table gives it."""
    escaped = source.replace("\\", "\\134").replace(" ", "\\040")
    return mounttable.parse_line(f"1 0 0:1 / /m rw - {fs_type} {escaped} {options}".encode())


@pytest.mark.parametrize(
    ("fs_type", "source", "servers"),
    [
        ("nfs4", "filer1:/export/home", "filer1"),
        ("nfs", "[fe80::1]:/x", "[fe80::1]"),
        ("nfs", "192.168.1.2:/srv/nfs1", "192.168.1.2"),
        ("nfs", "filer:///vol/x", "filer"),
        ("nfs", "filer1,filer2:/replicated", "filer1 filer2"),
        ("nfs", "nfs://filer.example.org/x", "filer.example.org"),
        ("nfs", "mon1:6789,mon2:6789:/", ""),
        ("nfs", "C:\\x", ""),
        ("nfs4", "filer:/vol/bob@example.org", "filer"),
        ("cifs", "//srv/share", "srv"),
        ("cifs", "//user@srv/share/sub", "srv"),
        ("cifs", "//user%pass@srv/share", "srv"),
        ("cifs", "\\\\SRV2\\share", "SRV2"),
        ("smb3", "//dfs.example.org/root/link", "dfs.example.org"),
        ("cifs", "//[fe80::1]/share", "[fe80::1]"),
        ("lustre", "10.1.0.1@o2ib:/a", "10.1.0.1@o2ib"),
        ("lustre", "10.1.0.1@o2ib:10.1.0.2@o2ib:/fs", "10.1.0.1@o2ib 10.1.0.2@o2ib"),
        ("lustre", "10.1.0.1@tcp,10.1.0.1@o2ib:10.1.0.2@tcp,x@o2ib:/fs/home", "10.1.0.1@tcp 10.1.0.1@o2ib 10.1.0.2@tcp x@o2ib"),
        ("lustre", "mgs1:mgs2:/scratch", "mgs1 mgs2"),
        ("lustre", "fd00::1@tcp:fd00::2@tcp:/fs", "fd00::1@tcp fd00::2@tcp"),
        ("lustre_lite", "mds@tcp0:/lustre", "mds@tcp0"),
        ("lustre", "fs-0123456789abcdef0.fsx.eu-west-1.amazonaws.com@tcp:/fsx", "fs-0123456789abcdef0.fsx.eu-west-1.amazonaws.com@tcp"),
        ("ceph", "mon1:6789,mon2:6789,mon3:/volumes/x", "mon1 mon2 mon3"),
        ("ceph", "10.0.0.1:6790:/", "10.0.0.1:6790"),
        ("ceph", "[fd00::1]:6789,[fd00::2]:3300:/", "[fd00::1] [fd00::2]"),
        ("ceph", "admin@b3acfc0d-575f-41d3-9c91-0e7ed3dbb3fa.cephfs=/", ""),
        ("fuse.ceph-fuse", "ceph-fuse", ""),
        ("fuse.glusterfs", "gluster1:/vol0", "gluster1"),
        ("fuse.glusterfs", "gluster1,gluster2:vol0", "gluster1 gluster2"),
        ("fuse.glusterfs", "/etc/glusterfs/vol0.vol", ""),
        ("fuse.sshfs", "me@host:/home", "host"),
        ("fuse.sshfs", "host:", "host"),
        ("fuse.sshfs", "me@host:backup/a@b", "host"),
        ("fuse.sshfs", "me@[2001:db8::1]:/x", "[2001:db8::1]"),
        ("fuse", "sshfs#me@host:/x", "host"),
        ("fuse", "https://cloud.example.org:8443/remote.php/dav", "cloud.example.org:8443"),
        ("fuse", "https://cloud.example.org/remote.php/dav", "cloud.example.org"),
        ("fuse.davfs2", "http://user:p/w@dav.example.org:80/x", "dav.example.org"),
        ("fuse", "curlftpfs#ftp://bob:pw@ftp.example.org/", "ftp.example.org"),
        ("fuse.curlftpfs", "bob:pw@ftp.example.org/pub", "ftp.example.org"),
        ("fuse.webdavfs", "https://[2001:db8::1]:8443/x", "[2001:db8::1]:8443"),
        ("fuse.s3fs", "my-bucket:/prefix", ""),
        ("fuse.s3fs", "s3fs", ""),
        ("fuse.rclone", "gdrive:/backup", ""),
        ("fuse.juicefs", "JuiceFS:vol", ""),
        ("fuse", "s3://bucket/prefix", ""),
        ("fuse", "mfs#mfsmaster:9421", "mfsmaster"),
        ("fuse.moosefs", "10.0.0.9:9521", "10.0.0.9:9521"),
        ("fuse.seaweedfs", "filer:8888:/buckets", "filer"),
        ("fuse", "quobyte@10.0.28.3:7866|10.0.66.3:7866|10.0.67.2:7866/", "10.0.28.3 10.0.66.3 10.0.67.2"),
        ("fuse.quobyte", "quobyte@sds.example.org/volume", "sds.example.org"),
        ("panfs", "panfs://panmanager03.example.org/gws", "panmanager03.example.org"),
        ("wekafs", "backend1,backend2/fs01", "backend1 backend2"),
        ("wekafs", "default", ""),
        ("orangefs", "tcp://io1:3334/orangefs", "io1:3334"),
        ("ncpfs", "SERVER/USER", "SERVER"),
        ("beegfs", "beegfs_nodev", ""),
        ("gpfs", "gpfs0", ""),
        ("cvfs", "snfs1", ""),
        ("afs", "#example.org:root.cell.", ""),
        ("vboxsf", "shared", ""),
        ("vmhgfs", ".host:/shared", ""),
        ("virtiofs", "host:/tag", ""),
        ("gfs2", "/dev/mapper/vg-shared", ""),
        # A colon and a slash do not make a server.
        ("overlay", "overlayfs:/overlay", ""),
        ("tmpfs", "host:/export", ""),
        ("zfs", "pool:x/y", ""),
        ("btrfs", "word:/x", ""),
        ("ext4", "//x/y", ""),
        ("fuse.mergerfs", "disk1:/disk2", ""),
        ("fuse.gvfsd-fuse", "a:/b", ""),
        ("autofs", "auto.master:/x", ""),
        # Of what is not known, what everybody would take for a server.
        ("futurefs", "host:/x", "host"),
        ("fuse.future", "//host/x", "host"),
        ("fuse.future", "proto://user@host:99/x", "host:99"),
        ("futurefs", "none", ""),
    ],
)  # fmt: skip
def test_servers(fs_type: str, source: str, servers: str) -> None:
    assert filesystems.servers(mount(fs_type, source)) == [name.encode() for name in servers.split()]


@pytest.mark.parametrize(
    ("fs_type", "source", "options", "server"),
    [
        ("nfs4", "127.0.0.1:/", "rw,port=20049,addr=127.0.0.1", "127.0.0.1:20049"),
        ("nfs4", "127.0.0.1:/", "rw,port=2049,addr=127.0.0.1", "127.0.0.1:2049"),
        ("nfs4", "[::1]:/", "rw,port=20050,addr=::1", "[::1]:20050"),
        ("nfs4", "localhost:/x", "rw,port=3049,addr=127.0.0.1", "localhost:3049"),
        ("nfs", "filer:/x", "rw,port=2049,addr=10.0.0.1", "filer"),
        ("nfs", "filer:/x", "rw,port=0,addr=10.0.0.1", "filer"),
        ("nfs", "filer:/x", "rw,port=12049,addr=10.0.0.1", "filer:12049"),
        ("nfs", "filer:/x", "rw,port=no,addr=10.0.0.1", "filer"),
        ("cifs", "//127.0.0.1/share", "rw,addr=127.0.0.1,port=8445", "127.0.0.1:8445"),
        ("9p", "10.0.0.1", "rw,trans=tcp", "10.0.0.1"),
        ("9p", "127.0.0.1", "rw,trans=tcp,port=5640", "127.0.0.1:5640"),
        ("9p", "hostshare", "rw,trans=virtio", None),
        ("9p", "drvfsa", "rw,aname=drvfs;path=D:;uid=1000,trans=fd,rfd=8,wfd=8", None),
        ("ceph", "admin@b3acfc0d.cephfs=/x", "rw,name=admin,mon_addr=10.0.0.1:3300/10.0.0.2:3300", "10.0.0.1"),
    ],
)  # fmt: skip
def test_servers_by_options(fs_type: str, source: str, options: str, server: str) -> None:
    assert filesystems.servers(mount(fs_type, source, options))[:1] == ([] if server is None else [server.encode()])


# systemd, gnulib, OpenSCAP, updatedb and others between them.
NETWORK = """
    9p acfs afs auristorfs beegfs ceph cifs coda cvfs davfs fhgfs gfs gfs2 glusterfs gpfs ibrix lustre ncp ncpfs nfs nfs3 nfs4
    ocfs2 orangefs panfs pvfs2 smb3 smbfs snfs sshfs vboxsf virtiofs wekafs fuse.blobfuse2 fuse.ceph fuse.ceph-fuse fuse.cvmfs2
    fuse.gcsfuse fuse.geesefs fuse.glusterfs fuse.goofys fuse.juicefs fuse.lizardfs fuse.mfs fuse.moosefs fuse.mount-s3
    fuse.mountpoint-s3 fuse.objectivefs fuse.ossfs fuse.rclone fuse.rozofs fuse.s3fs fuse.seaweedfs fuse.sshfs fuse.xtreemfs
    fuse.vmhgfs-fuse fuse.eosxd
"""


@pytest.mark.parametrize("fs_type", NETWORK.split())
def test_network(fs_type: str) -> None:
    assert filesystems.is_network(mount(fs_type, "x"))


@pytest.mark.parametrize(
    "source",
    [
        "blobfuse2", "blobfuse", "mountpoint-s3", "cvmfs2", "eosxd", "goofys", "s3fs", "my-bucket", "my-bucket:prefix", "gcsfuse",
        "rclone", "atlas.cern.ch", "https://dav.example.org/x", "mfs#mfsmaster:9421", "quobyte@10.0.0.1/", "s3fs#bucket",
        "//host/share",
    ],
)  # fmt: skip
def test_a_bare_fuse_is_known_by_its_source(source: str) -> None:
    assert filesystems.is_network(mount("fuse", source))


@pytest.mark.parametrize(
    ("fs_type", "source"),
    [
        ("fuse", "fuse-overlayfs"), ("fuse", "/dev/fuse"), ("fuse", "lxcfs"), ("fuse", "mergerfs"), ("fuse", "/mnt/a:/mnt/b"),
        ("fuse", "mhddfs#/a,/b"), ("fuse", "bindfs#/a"), ("fuse", "Tool.AppImage"), ("fuse", "sysboxfs"), ("fuse", "none"),
        ("fuseblk", "/dev/sdb1"), ("fuse.lxcfs", "lxcfs"), ("fuse.portal", "portal"), ("fuse.gvfsd-fuse", "gvfsd-fuse"),
        ("fuse.encfs", "encfs"), ("fuse.unknown", "x"), ("overlay", "overlayfs:/overlay"), ("vxfs", "/dev/vx/dsk/dg/vol"),
        ("tmpfs", "host:/export"), ("ext4", "/dev/nbd0"), ("autofs", "-hosts"), ("proc", "a:/b"), ("futurefs", "x"),
    ],
)  # fmt: skip
def test_local(fs_type: str, source: str) -> None:
    assert not filesystems.is_network(mount(fs_type, source))


def test_veritas_cluster_filesystem() -> None:
    assert filesystems.is_network(mount("vxfs", "/dev/vx/dsk/dg/vol", "rw,cluster"))


@pytest.mark.parametrize(
    "fs_type", ["squashfs", "iso9660", "fuse.snapfuse", "fuse.squashfuse", "fuse.Krita.AppImage", "proc", "fuse.lxcfs"]
)
def test_usage_that_means_nothing(fs_type: str) -> None:
    assert not filesystems.traits(fs_type.encode()).usage


@pytest.mark.parametrize("fs_type", ["ext4", "tmpfs", "nfs4", "ceph", "fuse.sshfs", "fuseblk", "overlay", "futurefs"])
def test_usage_that_counts(fs_type: str) -> None:
    assert filesystems.traits(fs_type.encode()).usage


@pytest.mark.parametrize("byte", [b"", b"a", b":", b"@", b"//", b"[", b"#", b"://", b":/", b"?", b"%"])
def test_no_source_breaks_it(byte: bytes) -> None:
    for fs_type in [*filesystems.types("network"), b"fuse", b"futurefs"]:
        for source in (byte, byte * 5000, b"a" + byte + b"b", byte + b":/", b"a@" + byte):
            each = Mount(1, 0, (0, 1), b"/", b"/m", (), (), fs_type, source, (b"trans=tcp", b"port=1"))
            assert all(name and b"/" not in name for name in filesystems.servers(each))
            filesystems.source_words(source, fs_type)
