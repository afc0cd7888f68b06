"""What is known of the types of filesystems, by sources as people have them."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check_mounts import filesystems, mounttable, text, typetable
from check_mounts.model import Mount
from tests.conftest import ROOT, Fuse, Mounts, Plugin, until
from tests.daemon import Daemon
from tests.daemon import daemon as daemon


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
        ("lustre", "10.1.0.1@tcp,10.1.0.1@o2ib:10.1.0.2@tcp,x@o2ib:/fs/home",
         "10.1.0.1@tcp 10.1.0.1@o2ib 10.1.0.2@tcp x@o2ib"),
        ("lustre", "mgs1:mgs2:/scratch", "mgs1 mgs2"),
        ("lustre", "fd00::1@tcp:fd00::2@tcp:/fs", "fd00::1@tcp fd00::2@tcp"),
        ("lustre_lite", "mds@tcp0:/lustre", "mds@tcp0"),
        ("lustre", "fs-0123456789abcdef0.fsx.eu-west-1.amazonaws.com@tcp:/fsx",
         "fs-0123456789abcdef0.fsx.eu-west-1.amazonaws.com@tcp"),
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
        ("nfs4", "filer1:/x", "rw,port=3049,addr=127.0.0.1", "filer1"),
        ("nfs", "filer:/x", "rw,port=2049,addr=10.0.0.1", "filer"),
        ("nfs", "filer:/x", "rw,port=0,addr=10.0.0.1", "filer"),
        ("nfs", "filer:/x", "rw,port=12049,addr=10.0.0.1", "filer"),
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
    9p acfs afs auristorfs beegfs ceph cifs coda cvfs davfs fhgfs gfs gfs2 glusterfs gpfs ibrix lustre ncp ncpfs nfs
    nfs3 nfs4
    ocfs2 orangefs panfs pvfs2 smb3 smbfs snfs sshfs vboxsf virtiofs wekafs fuse.blobfuse2 fuse.ceph fuse.ceph-fuse
    fuse.cvmfs2
    fuse.gcsfuse fuse.geesefs fuse.glusterfs fuse.goofys fuse.juicefs fuse.lizardfs fuse.mfs fuse.moosefs fuse.mount-s3
    fuse.mountpoint-s3 fuse.objectivefs fuse.ossfs fuse.rclone fuse.rozofs fuse.s3fs fuse.seaweedfs fuse.sshfs
    fuse.xtreemfs
    fuse.vmhgfs-fuse fuse.eosxd
"""


@pytest.mark.parametrize("fs_type", NETWORK.split())
def test_network(fs_type: str) -> None:
    assert filesystems.is_network(mount(fs_type, "x"))


@pytest.mark.parametrize(
    "source",
    [
        "blobfuse2", "blobfuse", "mountpoint-s3", "cvmfs2", "eosxd", "goofys", "s3fs", "my-bucket", "my-bucket:prefix",
        "gcsfuse",
        "rclone", "atlas.cern.ch", "https://dav.example.org/x", "mfs#mfsmaster:9421", "quobyte@10.0.0.1/",
        "s3fs#bucket",
        "//host/share",
    ],
)  # fmt: skip
def test_a_bare_fuse_is_known_by_its_source(source: str) -> None:
    assert filesystems.is_network(mount("fuse", source))


@pytest.mark.parametrize(
    ("fs_type", "source"),
    [
        ("fuse", "fuse-overlayfs"), ("fuse", "/dev/fuse"), ("fuse", "lxcfs"), ("fuse", "mergerfs"), ("fuse",
         "/mnt/a:/mnt/b"),
        ("fuse", "mhddfs#/a,/b"), ("fuse", "bindfs#/a"), ("fuse", "Tool.AppImage"), ("fuse", "sysboxfs"), ("fuse",
         "none"),
        ("fuseblk", "/dev/sdb1"), ("fuse.lxcfs", "lxcfs"), ("fuse.portal", "portal"), ("fuse.gvfsd-fuse", "gvfsd-fuse"),
        ("fuse.encfs", "encfs"), ("fuse.unknown", "x"), ("overlay", "overlayfs:/overlay"), ("vxfs",
         "/dev/vx/dsk/dg/vol"),
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


@pytest.mark.parametrize(
    ("source", "printed"),
    [
        ("ftp://bob:pw@host/", "ftp://bob:***@host/"),
        ("curlftpfs#ftp://bob:pw@host/", "curlftpfs#ftp://bob:***@host/"),
        ("ftp://bob:p@w@host/x", "ftp://bob:***@host/x"),
        ("ftp://bob:p/w@host/x", "ftp://bob:***@host/x"),
        ("ftp://bob:@host/x", "ftp://bob:***@host/x"),
        ("ftp://bob:p@ss:w/rd@host/x", "ftp://bob:***@host/x"),
        ("https://bob:pw@cloud.example.org/dav/files/bob@corp.example.org/",
         "https://bob:***@cloud.example.org/dav/files/bob@corp.example.org/"),
        ("https://cloud.example.org/dav/files/bob@corp.example.org/",
         "https://cloud.example.org/dav/files/bob@corp.example.org/"),
        ("bob:p@ss:w/rd@host:/x", "bob:***@host:/x"),
        ("bob:p/w@ftp.example.org/x", "bob:***@ftp.example.org/x"),
        ("bob:pw@ftp.example.org/x@y/z", "bob:***@ftp.example.org/x@y/z"),
        ("//bob%p/w@srv/share", "//bob%***@srv/share"),
        ("//bob%pw@srv/home/bob@corp/x", "//bob%***@srv/home/bob@corp/x"),
        ("//srv/home/bob@corp/x", "//srv/home/bob@corp/x"),
        ("https://user:token@host/", "https://user:***@host/"),
        ("https://token@host/", "https://***@host/"),
        ("sftp://user@host/", "sftp://user@host/"),
        ("redis://:pw@host:6379/1", "redis://:***@host:6379/1"),
        ("http://a:b@h/x,http://c:d@h/y", "http://a:***@h/x,http://c:***@h/y"),
        ("//user%pw@host/share", "//user%***@host/share"),
        ("//user:pw@host/share", "//user:***@host/share"),
        ("//DOM;user:pw@host/share", "//DOM;user:***@host/share"),
        ("\\\\user%pw@host\\share", "\\134\\134user%***@host\\134share"),
        ("user:pw@host:/x", "user:***@host:/x"),
        ("user:pw@host:/x@y", "user:***@host:/x@y"),
        ("bob@corp:pw@host:/x", "bob@corp:***@host:/x"),
        ("bob:pw@[fe80::1]:/x", "bob:***@[fe80::1]:/x"),
        ("sshfs#bob:pw@host:", "sshfs#bob:***@host:"),
        ("bob:pw@ftp.example.org", "bob:***@ftp.example.org"),
        ("https://acc.blob.example.net/c?sv=1&sig=abc%3D&se=2", "https://acc.blob.example.net/c?sv=1&sig=***&se=2"),
        ("s3://b?access_key=AK&secret_key=SK&region=x", "s3://b?access_key=***&secret_key=***&region=x"),
        ("https://s3/b?X-Amz-Signature=0f&X-Amz-Credential=AK/x&X-Amz-Date=1",
         "https://s3/b?X-Amz-Signature=***&X-Amz-Credential=***&X-Amz-Date=1"),
        ("https://h/x?token=abc#end", "https://h/x?token=***#end"),
        (":webdav,pass=xx,user=bob:dir", ":webdav,pass=***,user=bob:dir"),
        (":webdav,pass='x,y',user=bob:dir", ":webdav,pass=***,user=bob:dir"),
        (":webdav,pass='x'',y',user=bob:dir", ":webdav,pass=***,user=bob:dir"),
        (':sftp,host=h,pass="x,y:z",user=bob:dir', ":sftp,host=h,pass=***,user=bob:dir"),
        (":webdav,pass='x,y", ":webdav,pass=***"),
        ("https://h/x?auth=abc&a=b", "https://h/x?auth=***&a=b"),
        ("https://h/x?jwt=abc", "https://h/x?jwt=***"),
        ("https://h/x#access_token=abc&a=b", "https://h/x#access_token=***&a=b"),
        ("mysql://bob:pw@(db.example.org:3306)/juicefs", "mysql://bob:***@(db.example.org:3306)/juicefs"),
        ("redis://:pw@master,10.0.0.1,10.0.0.2:26379/2", "redis://:***@master,10.0.0.1,10.0.0.2:26379/2"),
        # These hold none.
        ("user@host:/x", "user@host:/x"),
        ("//user@host/share", "//user@host/share"),
        ("filer:/vol/bob@example.org", "filer:/vol/bob@example.org"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("http://[::1]:80/a:b@c", "http://[::1]:80/a:b@c"),
        ("/a:/b@c", "/a:/b@c"),
        ("[fe80::1]:/x@y:/z", "[fe80::1]:/x@y:/z"),
        ("mon1:6789,mon2:6789:/x", "mon1:6789,mon2:6789:/x"),
        ("LABEL=a:b", "LABEL=a:b"),
        ("UUID=0f-0f", "UUID=0f-0f"),
        ("quobyte@10.0.0.1:7866/x", "quobyte@10.0.0.1:7866/x"),
    ],
)  # fmt: skip
def test_secrets_in_a_source_are_masked(source: str, printed: str) -> None:
    assert filesystems.source_words(source.encode()) == printed
    once = text.without_secrets(source.encode())
    assert text.without_secrets(once) == once


@pytest.mark.parametrize(
    ("fs_type", "source"),
    [
        ("lustre", "10.1.0.1@o2ib:10.1.0.2@o2ib:/fs"),
        ("zfs", "tank:x/data@daily"),
        ("ceph", "admin@b3acfc0d.fs=/x"),
        ("lustre", "a:b@tcp:/fs"),
        ("fuse.rclone", "gdrive:Backups/bob@example.org"),
    ],
)
def test_an_at_sign_is_not_always_the_end_of_a_login(fs_type: str, source: str) -> None:
    assert filesystems.source_words(source.encode(), fs_type.encode()) == source


@pytest.mark.parametrize(
    ("option", "printed"),
    [
        ("password=a,b;c&d", "password=***"), ("pass=x", "pass=***"), ("passwd=x", "passwd=***"), ("secret=AQ==",
         "secret=***"),
        ("credentials=/root/.c", "credentials=***"), ("sig=0f", "sig=***"), ("access_key=AK", "access_key=***"),
        ("token=x", "token=***"),
        ("username=bob%pw", "username=bob%***"), ("username=bob", "username=bob"), ("PASSWORD2=x", "PASSWORD2=***"),
        ("url=https://u:p@h/", "url=https://u:***@h/"), ("keyfile=/etc/k", "keyfile=/etc/k"), ("nopass", "nopass"),
        ("vers=3", "vers=3"),
        ("aname=drvfs;path=D:;uid=1000", "aname=drvfs;path=D:;uid=1000"), ("sec=krb5p", "sec=krb5p"),
        ("lowerdir=/a:/b", "lowerdir=/a:/b"),
    ],
)  # fmt: skip
def test_secrets_in_an_option_are_masked(option: str, printed: str) -> None:
    assert text.without_secrets(option.encode()).decode() == printed


@given(st.binary(max_size=40).filter(lambda word: b"\0" not in word and not set(word) & set(b"@:/?#&,;=%\\")))
def test_no_password_is_printed(password: bytes) -> None:
    password = b"Pw" + password + b"wP"
    for source in (
        b"ftp://bob:%b@h/",
        b"x#ftp://b:%b@h",
        b"//b%%%b@h/s",
        b"b:%b@h:/x",
        b"https://h/?sig=%b",
        b"pass=%b",
        b"https://%b@h/",
    ):
        assert password not in text.without_secrets(source % password)


@pytest.mark.parametrize(
    "piece", [b"://", b"a:b@", b"@", b"?pass=", b"&", b"pw", b"a@h:", b"=", b"key1", b"user=a", b"%@"]
)
def test_masking_takes_linear_time(piece: bytes) -> None:
    def seconds(count: int) -> float:
        began = time.process_time()
        text.without_secrets(piece * count)
        return time.process_time() - began

    assert min(seconds(200_000) for _ in range(3)) < 100 * max(min(seconds(20_000) for _ in range(3)), 0.002)


SECRET = "curlftpfs#ftp://bob:geheim@ftp.example.org/"
MASKED = "curlftpfs#ftp://bob:***@ftp.example.org/"


@pytest.mark.root
@pytest.mark.parametrize("fs_type", ["fuse", "fuse.curlftpfs"])
def test_no_password_of_a_source_leaves_the_host(
    mounts: Mounts, fuse: Fuse, plugin: Plugin, tmp_path: Path, fs_type: str
) -> None:
    hung, mine = (
        fuse.mount("hung", source=SECRET, type=fs_type),
        fuse.mount("mine", source=SECRET, type=fs_type, user_id=1000),
    )
    mounts.tmpfs("other", source="user:geheim@host:/x")
    fuse.command("hang", "hung")
    table = tmp_path / "fstab"
    table.write_text(
        f"ftp://bob:geheim@host/ {hung} nfs password=geheim 0 0\n{hung} ftp://bob:geheim@h/ nfs x 0 0\n/dev/x "
        f"{mounts.base}/a ext4 a b\n"
    )
    for more in (["-vvv"], ["--json"], ["--perfdata", "mounts"], ["--perfdata", "steps", "-v"]):
        result = plugin(
            "-t",
            "0.3",
            f"--fstab={table}",
            "--expect",
            f"{hung},source=//bob%geheim@srv/x,type=cifs,secret=geheim",
            *more,
        )
        assert result.code == 2
        assert "geheim" not in (result.stdout + result.stderr).decode()
        assert MASKED in result.stdout.decode()
    assert f"left out: {mine} ({fs_type} {MASKED})" in plugin("-t", "0.3", "-vvv").stdout.decode()


@pytest.mark.root
def test_filters_match_the_source_as_it_is(mounts: Mounts, plugin: Plugin) -> None:
    mounts.tmpfs("a", source="bob:geheim@host:/x")
    mounts.tmpfs("b", source="other")
    assert plugin("--exclude-source", "*geheim*").count("ok") == 1
    assert plugin("--include-source", "bob:geheim@host:/x").count("ok") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["ftp://bob:geheim@host/"],
        ["--expect", "ftp://bob:geheim@host/,type=x"],
        ["--include-source", "ftp://bob:geheim@host/["],
        ["--timeout", "password=geheim"],
        ["--severity", "ftp://bob:geheim@host/"],
        ["--config", "https://bob:geheim@host/x"],
    ],
)
def test_no_error_message_holds_a_password(plugin: Plugin, arguments: list[str]) -> None:
    result = plugin(*arguments)
    assert result.code == 3
    assert "geheim" not in (result.stdout + result.stderr).decode()


@pytest.mark.root
def test_the_daemon_masks_as_well(mounts: Mounts, fuse: Fuse, daemon: Daemon) -> None:
    fuse.mount("hung", source=SECRET)
    fuse.command("hang", "hung")
    metrics = daemon.base / "m.prom"
    daemon.start("--metrics", str(metrics))
    found = daemon.until(lambda result: result.code == 2)
    until(metrics.exists)
    assert MASKED in found.stdout.decode()
    assert MASKED in metrics.read_text()
    for said in (found.stdout.decode(), daemon.log, metrics.read_text()):
        assert "geheim" not in said


@pytest.mark.parametrize(
    ("fs_type", "source"),
    [
        ("efs", "fs-0123:/"), ("drvfs", "D:"), ("glusterfs", "gl:/vol"), ("davfs", "https://x/"), ("s3fs", "bucket"),
        ("rclone", "gdrive:"),
        ("cvmfs", "repo.example.org"), ("cephfs", ":/"), ("fuse", "sshfs#me@host:/x"), ("fuse", "blobfuse2"), ("auto",
         "filer:/x"),
        ("moosefs", "mfsmaster:"), ("juicefs", "redis://:pw@h:6379/1"),
    ],
)  # fmt: skip
def test_what_is_declared_as_network(fs_type: str, source: str) -> None:
    """With --remote, what is declared counts by its own type and source."""
    assert filesystems.is_network(mount(fs_type, source))


@pytest.mark.root
def test_an_overlay_called_like_an_export_is_local(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    (tmp_path / "lower" / "sub").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    mounts.mount("root", "overlay", "overlayfs:/overlay", f"lowerdir={tmp_path}/lower:{tmp_path}/other")
    mounts.mount("tmp", "tmpfs", "filer1:/export")
    assert "no mount was selected" in plugin("--remote").verdict
    below = mounts.tmpfs("root/sub")
    result = plugin("-X", "overlay", "-vv")
    assert (result.code, result.count("ok"), result.count("blocked")) == (0, 2, 0)
    assert result.line(below).startswith("OK: ")


@pytest.mark.root
def test_clients_that_show_as_a_bare_fuse_are_remote(mounts: Mounts, fuse: Fuse, plugin: Plugin) -> None:
    sources = [
        "blobfuse2",
        "mountpoint-s3",
        "cvmfs2",
        "eosxd",
        "my-bucket",
        "https://bob:geheim@cloud.example.org/dav",
        "mfs#mfsmaster:9421",
    ]
    for number, source in enumerate(sources):
        fuse.mount(f"f{number}", source=source, type="fuse")
    fuse.mount("local", source="fuse-overlayfs", type="fuse")
    fuse.mount("lxcfs", source="lxcfs", type="fuse.lxcfs")
    assert plugin("--remote").count("ok") == len(sources)


@pytest.mark.root
def test_a_local_fuse_filesystem_can_hang_all_the_same(fuse: Fuse, mounts: Mounts, plugin: Plugin) -> None:
    above = fuse.mount("lxcfs", source="lxcfs", type="fuse.lxcfs")
    below = above / "sub"
    mounts.mount_at(below, "tmpfs")
    fuse.command("hang", "lxcfs")
    result = plugin("-t", "0.3", "-v")
    assert (result.code, result.count("timed_out"), result.count("blocked")) == (2, 1, 1)
    assert f"blocked: below {above}" in result.line(below)


@pytest.mark.parametrize(
    ("fs_type", "source"),
    [
        ("nfs4", "filer1:/home"), ("nfs", "[fe80::1]:/home"), ("fuse.sshfs", "u@filer3:/s"), ("cifs", "//filer2/srv"),
        ("lustre", "10.1.0.1@o2ib:10.1.0.2@o2ib:/fs"), ("lustre", "mgs@tcp1,x@o2ib:/fs"), ("fuse",
         "https://cloud.example.org:8443/dav"),
        ("fuse", "curlftpfs#ftp://bob:***@ftp.example.org/"), ("ext4", "/dev/sda1"), ("cifs", "//bob%***@srv/share"),
    ],
)  # fmt: skip
def test_the_alerts_name_the_same_server(fs_type: str, source: str) -> None:
    """Prometheus knows no table of types: the rules read the source by a pattern."""
    pattern = re.search(r'"device",\s*`(.*)`', (ROOT / "prometheus/check_mounts.rules.yml").read_text())
    assert pattern is not None
    match = re.fullmatch(pattern[1], source)
    found = [] if match is None else ["".join(group or "" for group in match.groups()).encode()]
    assert found == filesystems.servers(mount(fs_type, source))[:1]


# What stands elsewhere although the table has it: a step of the parser of one protocol, a
# peculiarity of one daemon. `none` and `bind` mean something else nearly everywhere.
ELSEWHERE = {
    "grammars": {b"dav", b"davs"},  # schemes
    "filesystems": {b"fuse", b"fuseblk", b"fuse.squashfuse", b"sshfs", b"udf", b"vxfs"},
    "patterns": {b"fuse"},  # whose subtypes may have any name
    "mounted": {b"fuse.lxcfs"},  # by which a container is known
    # Sources that stand for the root filesystem.
    "sources": {b"rootfs", b"overlay", b"overlayfs", b"aufs", b"tmpfs"},
    "servers": {b"nfs4"},  # its version, where the options do not say
    "owners": {b"nfs4"},  # only its protocol has names of owners, for which there may be no number
    "storage": {b"btrfs"},  # names one of its devices
    "counters": {b"btrfs"},  # its directory in /sys/fs
    "advice": {b"btrfs", b"nfs3"},  # has a command of its own for scrubbing; is a name for nfs
    "ghosts": {b"nfs", b"nfs4"},  # whose servers and volumes the kernel lists
    "tables": {b"cifs", b"smb3", b"nsfs"},  # whose connections the kernel lists; the files of namespaces
    "relatives": {b"overlay", b"overlayfs", b"aufs"},  # whose options name other directories
}
# Tables of their own: type -> how it shows its options; functions of the kernel -> types that have
# them.
_TABLES = ("options_of_disks", "options_of_memory", "options_of_servers", "options_to_keep", "stacks")


def _types_in(path: Path) -> Iterator[bytes]:
    """Byte strings in the code of a module that are names of types."""
    aliases = [name for family in typetable.FAMILIES for name in family]
    names = {*typetable.TABLE, *typetable.OTHER_NAMES, *aliases} - {b"none", b"bind"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
            yield from {node.value} & names
            yield from set(several) & names if len(several := node.value.split()) > 1 else ()


@pytest.mark.parametrize("module", sorted((ROOT / "check_mounts").rglob("*.py")), ids=lambda path: path.stem)
def test_what_is_known_of_a_type_stands_in_the_table(module: Path) -> None:
    if module.stem not in ("typetable", *_TABLES):
        assert set(_types_in(module)) <= ELSEWHERE.get(module.stem, set())
