"""Options that the kernel shows otherwise than it takes them, and what fstab's lines come to for
util-linux and systemd."""

from __future__ import annotations

from pathlib import Path

import pytest

from check_mounts import mounttable
from check_mounts.declared import (
    compare,
    mountoptions,
    option_rules,
    options_of_disks,
    options_of_memory,
    options_of_servers,
)
from check_mounts.declared.fstab import read_fstab
from check_mounts.declared.spec import parse_spec
from check_mounts.model import Condition, ExpectedMount, Mount


def mount(fs_type: str, more: str = "rw", options: str = "rw,relatime", point: str = "/m", root: str = "/") -> Mount:
    words = (tuple(text.encode().split(b",")) for text in (options, more))
    return Mount(9, 1, (0, 9), root.encode(), point.encode(), next(words), (), fs_type.encode(), b"x", next(words))


def told(declared: str, there: Mount, *others: Mount, source: str = "") -> list[str]:
    options = mountoptions.split_options(declared.encode())
    entry = ExpectedMount(there.mount_point, source.encode() or None, None, options, "fstab")
    found, _ = compare.compared([entry], [there, *others], {9, *(other.mount_id for other in others)})[:2]
    return [part for one in found for part in one.detail.replace(" (fstab)", "").split("; ")]


SAME = [
    # fat_show_options
    ("vfat", "check=relaxed", "check=r"),
    ("vfat", "check=strict", "check=s"),
    ("vfat", "check=normal", "errors=remount-ro"),
    ("vfat", "umask=022", "fmask=0022,dmask=0022"),
    ("vfat", "umask=077,dmask=0022", "fmask=0077,dmask=0022"),
    ("vfat", "uid=0x3e8", "uid=1000"),
    ("vfat", "uid=0,gid=0", "fmask=0022"),
    ("vfat", "nocase", "shortname=win95"),
    ("vfat", "utf8=1", "utf8"),
    ("vfat", "utf8=false,nonumtail=no", "shortname=mixed"),
    ("vfat", "iocharset=utf8", "iocharset=iso8859-1"),
    ("msdos", "dots", "dotsOK=yes"),
    ("exfat", "umask=0022,uid=1000", "uid=1000,fmask=0022,dmask=0022"),
    ("ntfs3", "umask=007", "uid=0,gid=0,fmask=07,dmask=07"),
    # isofs_show_options
    ("iso9660", "mode=0400,dmode=0500", "check=r,map=n,fmode=400,dmode=500"),
    ("iso9660", "check=relaxed,map=off", "check=r,map=o"),
    ("iso9660", "block=1024", "blocksize=2048"),
    ("udf", "umask=022,uid=forget", "umask=22,uid=forget"),
    # v9fs_show_options
    ("9p", "cache=mmap", "cache=5"),
    ("9p", "cache=loose", "cache=0xf"),
    ("9p", "cache=fscache", "cache=8f"),
    ("9p", "cache=none", "access=client"),
    ("9p", "loose", "cache=loose"),
    ("9p", "cache=mmap", "mmap"),
    ("9p", "debug=10", "debug=a"),
    ("9p", "debug=0x10", "debug=0x10"),
    ("9p", "version=9p2000.L", "trans=virtio"),
    ("9p", "version=9p2000", "noextend"),
    # cifs_show_options
    ("cifs", "vers=3.02", "vers=3.0.2"),
    ("cifs", "vers=3", "vers=3.1.1"),
    ("cifs", "sec=ntlmssp", "sec=ntlmsspi"),
    ("cifs", "forcedirectio", "cache=none"),
    ("cifs", "strictcache", "cache=strict"),
    ("cifs", "unix", "nounix"),
    ("cifs", "serverino", "noserverino"),
    ("cifs", "nolock", "nobrl"),
    ("cifs", "file_mode=0755,uid=1000,actimeo=60", "uid=1000,file_mode=0755,actimeo=60"),
    # ceph_show_options
    ("ceph", "fs=data", "mds_namespace=data"),
    ("ceph", "congestion_kb=8", "write_congestion_kb=8"),
    ("ceph", "recover_session=no,wsync,acl", "name=admin,secret=<hidden>,acl"),
    # ext4: what differs from the defaults
    ("ext4", "commit=5,barrier=1,data=ordered,errors=continue", "rw"),
    ("ext4", "commit=0,inode_readahead_blks=32", "rw"),
    ("ext4", "barrier=0", "nobarrier"),
    ("ext4", "bsdgroups,noload", "grpid,norecovery"),
    ("ext4", "dax,stripe=16", "dax=always,stripe=32"),
    ("ext3", "errors=remount-ro", "rw"),
    # xfs_fs_show_options
    ("xfs", "quota", "usrquota"),
    ("xfs", "uquota,gquota,pqnoenforce", "usrquota,grpquota,pqnoenforce"),
    ("xfs", "allocsize=1m,logbsize=262144", "allocsize=1024k,logbsize=256k"),
    ("xfs", "discard,inode64,sunit=8", "inode64,noquota"),
    ("xfs", "bsdgroups", "grpid"),
    # btrfs_show_options
    ("btrfs", "compress", "compress=zlib:3"),
    ("btrfs", "compress=zstd", "compress=zstd:3"),
    ("btrfs", "compress=lzo,discard", "compress=lzo,discard"),
    ("btrfs", "compress=no,commit=30", "rw"),
    ("btrfs", "subvolid=0x100", "subvolid=256,subvol=/a"),
    ("btrfs", "space_cache,thread_pool=4", "space_cache=v2"),
    # f2fs_show_options
    ("f2fs", "discard,mode=lfs,norecovery", "nodiscard,mode=lfs,disable_roll_forward"),
    # overlay, tmpfs, ramfs, hugetlbfs, proc
    ("overlay", "index=on,metacopy=on", "index=off,metacopy=off"),
    ("tmpfs", "size=1000", "size=4k"),
    ("tmpfs", "size=1000", "size=64k"),
    ("tmpfs", "size=0x100000,nr_blocks=16", "size=64k"),
    ("tmpfs", "mode=1777,uid=0,huge=never,nr_inodes=1k", "nr_inodes=1024"),
    ("ramfs", "mode=0755", "rw"),
    ("hugetlbfs", "size=1G,pagesize=2048K", "pagesize=2M,size=1073741824"),
    ("hugetlbfs", "size=3M,mode=755", "pagesize=2M,size=2097152"),
    ("hugetlbfs", "size=50%", "pagesize=1024M,size=1073741824"),
    ("proc", "hidepid=2", "hidepid=invisible"),
    ("proc", "hidepid=invisible,gid=0", "hidepid=2"),
    ("proc", "hidepid=0", "rw"),
    ("devpts", "mode=0620,ptmxmode=0", "mode=620,ptmxmode=000"),
    # nfs_show_mount_options
    ("nfs4", "actimeo=3", "acregmax=3,acdirmin=3,acdirmax=3"),
    ("nfs4", "actimeo=30,noac", "acregmin=0,acregmax=0,acdirmin=0,acdirmax=0,noac"),
    ("exfat", "discard", "fmask=0022"),
    ("9p", "dfltuid=4294967294", "access=user"),
    ("nfs", "lookupcache=positive", "lookupcache=pos"),
    ("nfs", "lookupcache=all,acregmin=3", "vers=3,hard"),
    ("nfs", "nfsvers=4.2,udp", "vers=4.2,proto=udp6"),
    ("nfs4", "rsize=1048576", "rsize=65536"),
    # what the kernel rounds, masks or limits, and what it takes back
    ("vfat", "allow_utime=0777", "allow_utime=0022"),
    ("exfat", "allow_utime=022", "allow_utime=0022"),
    ("hugetlbfs", "mode=2775", "mode=775,pagesize=2M"),
    ("tmpfs", "mode=017777", "mode=7777"),
    ("hfs", "file_umask=0177,dir_umask=077", "uid=0,gid=0,file_umask=177,dir_umask=77"),
    ("adfs", "ownmask=0700,othmask=077", "ownmask=700,othmask=77"),
    ("vboxsf", "dmode=775,fmode=664", "dmode=0775,fmode=0664"),
    ("ceph", "norbytes,wsize=5000,rsize=65537,rasize=1", "wsize=8192,rsize=69632,rasize=4096"),
    ("9p", "access=client", "access=user,version=9p2000.u"),
    ("9p", "access=user,version=9p2000", "access=any,noextend"),
    ("xfs", "dax=always", "dax=never"),
    ("xfs", "dax,logbufs=0,logbsize=0", "dax=never,logbufs=8,logbsize=32k"),
    ("btrfs", "compress=zstd:19,commit=0", "compress=zstd:15"),
    ("btrfs", "compress-force=zlib:12", "compress-force=zlib:9"),
    ("btrfs", "compress=zstd:-99", "compress=zstd:-15"),
    ("btrfs", "compress=zlib:0", "compress=zlib:3"),
    ("f2fs", "alloc_mode=default,compress_algorithm=zstd", "alloc_mode=reuse,compress_algorithm=zstd:1"),
    ("f2fs", "compress_algorithm=zstd,nolazytime", "lazytime,compress_algorithm=zstd"),
    ("nfs4", "local_lock=all", "vers=4.2,local_lock=none"),
    ("nfs", "udp,timeo=1000", "vers=3,proto=udp,timeo=600"),
    ("nfs", "timeo=7000", "vers=3,proto=udp,timeo=6000,proto=tcp"),  # of two the last, as everywhere
    ("nfs", "rsize=0,wsize=0", "vers=3,rsize=1048576,wsize=1048576"),
    # others: numbers in any base, words in any case
    ("fuse.sshfs", "uid=1000,allow_other,umask=022", "user_id=0,group_id=0"),
    ("somefs", "level=0x10", "level=16"),
    # masked, taken in another base, taken back: as the parsers and show_options of Linux 5.10 to
    # 6.12 have it
    ("vfat", "utf8,uni_xlate", "uni_xlate"),
    ("vfat", "time_offset=0x3c", "time_offset=60"),
    ("vfat", "time_offset=-060", "time_offset=-48"),
    ("vfat", "tz=UTC", "tz=UTC"),
    ("vfat", "time_offset=0", "tz=UTC"),
    ("vfat", "allow_utime=0755", "fmask=0022"),
    ("exfat", "time_offset=60,sys_tz", "sys_tz"),
    ("ntfs3", "umask=022", "fmask=37777600022,dmask=37777600022"),
    ("ntfs3", "dmask=0027,fmask=0137", "fmask=37777600137,dmask=37777600027"),
    ("ntfs", "umask=027", "uid=0,gid=0,dmask=0027,fmask=0027"),
    ("ntfs", "umask=027", "uid=0,gid=0,umask=027,nls=utf8"),
    ("iso9660", "mode=444,dmode=555", "dmode=53,fmode=674"),
    ("iso9660", "mode=444", "fmode=444"),
    ("iso9660", "unhide", "showassoc"),
    ("udf", "umask=22,mode=644", "umask=26,mode=204"),
    ("udf", "umask=22,mode=01644", "umask=22,mode=644"),
    ("udf", "lastblock=1000", "lastblock=998"),
    ("udf", "umask=0", "iocharset=utf8"),
    ("udf", "shortad,longad", "iocharset=utf8"),
    ("cifs", "file_mode=644,dir_mode=755", "file_mode=01204,dir_mode=01363"),
    ("cifs", "file_mode=644,dirmode=0755", "file_mode=0644,dir_mode=0755"),
    ("cifs", "nosetuids", "setuids"),
    ("cifs", "setuids", "rw"),
    ("cifs", "perm,multiuser", "multiuser,noperm"),
    ("cifs", "nomultichannel", "multichannel,max_channels=4"),
    ("cifs", "reparse=default", "reparse=nfs"),
    ("cifs", "sec=ntlmv2", "sec=ntlmssp"),
    ("cifs", "modesid,ignorecase,seal", "seal,nocase,modefromsid"),
    ("ceph", "ms_mode=legacy,osdkeepalive=10", "name=admin,osdkeepalivetimeout=10"),
    ("nfs", "nolock,local_lock=flock", "nolock,local_lock=all"),
    ("nfs", "sec=krb5:none", "sec=null"),
    ("nfs4", "nofsc", "fsc"),
    ("nfs4", "xprtsec=none,write=lazy", "vers=4.2"),
    ("9p", "dfltuid=4294967294,dfltgid=0xfffffffe", "access=user"),
    ("xfs", "allocsize=96k", "allocsize=32k"),
    ("btrfs", "subvol=", "subvolid=256,subvol=/@"),
    ("btrfs", "norecovery", "rescue=nologreplay"),
    ("btrfs", "nodiscard", "rw"),
    ("ext4", "data=journal,dioread_nolock", "nodelalloc,data=journal,nodioread_nolock"),
    ("ext4", "auto_da_alloc=0,no_mbcache,resuid=0", "noauto_da_alloc,nombcache"),
    ("f2fs", "discard_unit=block", "discard_unit=section"),
    ("tmpfs", "uid=1000,gid=0", "uid=101000,gid=100000"),
    ("tmpfs", "usrquota_block_hardlimit=1G", "usrquota,usrquota_block_hardlimit=1073741824"),
    ("proc", "hidepid=2,gid=5", "gid=100005,hidepid=invisible"),
    ("devpts", "gid=5", "gid=100005,mode=620"),
    ("virtiofs", "dax", "dax=always"),
    # and not where it was taken back
    ("btrfs", "ssd_spread,nossd", "nossd"),
    ("btrfs", "nossd,ssd_spread", "ssd_spread"),
    ("btrfs", "fatal_errors=bug,metadata_ratio=0", "rw"),
    ("ext4", "minixdf,bsddf,noauto_da_alloc,auto_da_alloc=1,data_err=ignore", "rw"),
    ("xfs", "dax=inode", "inode64"),
    ("9p", "uname=nobody", "access=client"),
    ("ext4", "rootcontext=@target", "rootcontext=system_u:object_r:tmp_t:s0"),
    ("nfs", "context=system_u:object_r:svirt_sandbox_file_t:s0", "context=system_u:object_r:container_file_t:s0"),
]
OTHER = [
    ("vfat", "check=relaxed", "check=s", "check is s, expected relaxed"),
    ("vfat", "check=normal", "check=r", "check is r, expected normal"),
    ("vfat", "check=relaxed", "rw", "check is normal, expected relaxed"),
    ("vfat", "umask=022", "fmask=0077,dmask=0022", "fmask is 0077, expected umask=022"),
    ("vfat", "uid=1000", "fmask=0022", "uid is 0, expected 1000"),
    ("vfat", "flush", "rw", "flush is not in force, but expected"),
    ("vfat", "utf8=0", "utf8", "utf8 is yes, expected 0"),
    ("vfat", "codepage=850", "codepage=437", "codepage is 437, expected 850"),
    ("exfat", "gid=7", "fmask=0022", "gid is 0, expected 7"),
    ("iso9660", "mode=0400", "fmode=444", "fmode is 444, expected mode=0400"),
    ("iso9660", "map=off", "map=n", "map is n, expected off"),
    ("iso9660", "norock", "nojoliet", "norock is not in force, but expected"),
    ("9p", "cache=loose", "cache=5", "cache is 5, expected loose"),
    ("9p", "cache=mmap", "access=client", "cache is none, expected mmap"),
    ("9p", "debug=16", "debug=16", "debug is 16, expected 16"),
    ("9p", "access=user", "access=client", "access is client, expected user"),
    ("9p", "version=9p2000.L", "version=9p2000.u", "version is 9p2000.u, expected 9p2000.L"),
    ("cifs", "noserverino", "serverino", "serverino is in force, expected noserverino"),
    ("cifs", "nounix", "unix", "unix is in force, expected nounix"),
    ("cifs", "cache=loose", "cache=strict", "cache is strict, expected loose"),
    ("cifs", "hard", "soft", "soft is in force, expected hard"),
    ("cifs", "noperm", "rw", "noperm is not in force, but expected"),
    ("ceph", "fs=data", "mds_namespace=other", "mds_namespace is other, expected fs=data"),
    ("ceph", "dcache", "nodcache", "nodcache is in force, expected dcache"),
    ("ext4", "commit=30", "rw", "commit is 5, expected 30"),
    ("ext4", "barrier=1", "nobarrier", "nobarrier is in force, expected barrier=1"),
    ("ext4", "errors=panic", "errors=continue", "errors is continue, expected panic"),
    ("ext4", "delalloc", "nodelalloc", "nodelalloc is in force, expected delalloc"),
    ("xfs", "quota", "noquota", "noquota is in force, expected quota"),
    ("xfs", "noquota", "usrquota", "usrquota is in force, expected noquota"),
    ("xfs", "uquota", "uqnoenforce", "uqnoenforce is in force, expected uquota"),
    ("xfs", "inode32", "inode64,noquota", "inode64 is in force, expected inode32"),
    ("xfs", "wsync", "inode64", "wsync is not in force, but expected"),
    ("xfs", "logbsize=256k", "logbsize=32k", "logbsize is 32k, expected 256k"),
    ("btrfs", "compress=zstd:7", "compress=zstd:3", "compress is zstd:3, expected zstd:7"),
    ("btrfs", "compress=no", "compress=lzo", "compress is lzo, expected no"),
    ("btrfs", "commit=120", "rw", "commit is 30, expected 120"),
    ("btrfs", "nossd", "ssd", "ssd is in force, expected nossd"),
    ("btrfs", "discard=async", "discard", "discard is sync, expected async"),
    ("f2fs", "mode=lfs", "mode=adaptive", "mode is adaptive, expected lfs"),
    ("f2fs", "nodiscard", "discard", "discard is in force, expected nodiscard"),
    ("f2fs", "inline_data", "noinline_data", "noinline_data is in force, expected inline_data"),
    ("overlay", "index=off", "index=on", "index is on, expected off"),
    ("tmpfs", "size=1000", "size=8k", "size is 8k, expected 1000"),
    ("tmpfs", "nr_blocks=16", "size=32k", "size is 32k, expected nr_blocks=16"),
    ("tmpfs", "mode=0755", "size=4k", "mode is 1777, expected 0755"),
    ("tmpfs", "inode32", "inode64", "inode64 is in force, expected inode32"),
    ("hugetlbfs", "size=1G", "pagesize=2M,size=1071644672", "size is 1071644672, expected 1G"),
    ("hugetlbfs", "pagesize=1G", "pagesize=2M", "pagesize is 2M, expected 1G"),
    ("proc", "hidepid=2", "rw", "hidepid is off, expected 2"),
    ("proc", "hidepid=2", "hidepid=noaccess", "hidepid is noaccess, expected 2"),
    ("vfat", "allow_utime=0020", "allow_utime=0022", "allow_utime is 0022, expected 0020"),
    ("hugetlbfs", "mode=0770", "mode=775", "mode is 775, expected 0770"),
    ("hfs", "dir_umask=022", "dir_umask=77", "dir_umask is 77, expected 022"),
    ("ceph", "rbytes", "acl", "rbytes is not in force, but expected"),
    ("ceph", "norbytes", "rbytes", "rbytes is in force, expected norbytes"),
    ("ceph", "wsize=8192", "wsize=4096", "wsize is 4096, expected 8192"),
    ("9p", "access=any", "access=user,version=9p2000.u", "access is user, expected any"),
    ("xfs", "dax=never", "dax=always", "dax is always, expected never"),
    ("xfs", "logbufs=4", "logbufs=8", "logbufs is 8, expected 4"),
    ("btrfs", "compress=zstd:19", "compress=zstd:14", "compress is zstd:14, expected zstd:19"),
    ("f2fs", "alloc_mode=reuse", "alloc_mode=default", "alloc_mode is default, expected reuse"),
    ("f2fs", "compress_algorithm=zstd:3", "compress_algorithm=zstd:6", "compress_algorithm is zstd:6, expected zstd:3"),
    ("f2fs", "lazytime", "rw", "lazytime is not in force, but expected"),
    ("nfs", "local_lock=all", "vers=3,local_lock=none", "local_lock is none, expected all"),
    ("nfs", "tcp,timeo=1000", "vers=3,proto=tcp,timeo=600", "timeo is 600, expected 1000"),
    ("nfs4", "actimeo=30", "hard", "acregmin is 3, expected actimeo=30"),
    ("nfs4", "lookupcache=none", "hard", "lookupcache is all, expected none"),
    ("nfs", "cto", "nocto", "nocto is in force, expected cto"),
    ("vfat", "allow_utime=022", "fmask=0022", "allow_utime is 0, expected 022"),
    ("vfat", "tz=UTC", "time_offset=60", "time_offset is 60, expected tz=UTC"),
    ("vfat", "utf8", "shortname=mixed", "utf8 is no, expected utf8"),
    ("exfat", "time_offset=60", "fmask=0022", "time_offset is 0, expected 60"),
    ("ntfs3", "fmask=0022", "fmask=37777600077", "fmask is 37777600077, expected 0022"),
    ("ntfs3", "nohidden", "uid=0", "nohidden is not in force, but expected"),
    ("iso9660", "mode=0444", "fmode=674", "fmode is 674, expected mode=0444"),
    ("udf", "umask=022", "iocharset=utf8", "umask is 0, expected 022"),
    ("udf", "longad", "shortad", "shortad is in force, expected longad"),
    ("cifs", "file_mode=0644", "file_mode=0755", "file_mode is 0755, expected 0644"),
    ("cifs", "dirmode=0755", "dir_mode=0700", "dir_mode is 0700, expected dirmode=0755"),
    ("cifs", "seal", "sec=ntlmssp", "seal is not in force, but expected"),
    ("cifs", "reparse=wsl", "reparse=nfs", "reparse is nfs, expected wsl"),
    ("ceph", "ms_mode=secure", "name=admin", "ms_mode is legacy, expected secure"),
    ("nfs", "local_lock=flock", "local_lock=posix", "local_lock is posix, expected flock"),
    ("nfs", "sec=krb5:none", "sec=sys", "sec is sys, expected krb5:none"),
    ("nfs4", "xprtsec=mtls", "vers=4.2", "xprtsec is none, expected mtls"),
    ("nfs4", "write=eager", "vers=4.2", "write is lazy, expected eager"),
    ("9p", "dfltuid=1000", "access=client", "dfltuid is 4294967294, expected 1000"),
    ("xfs", "allocsize=64k", "allocsize=32k", "allocsize is 32k, expected 64k"),
    ("btrfs", "nodiscard", "discard=async", "discard is async, expected nodiscard"),
    ("ext4", "bsddf", "minixdf", "minixdf is in force, expected bsddf"),
    ("ext4", "resuid=1000", "rw", "resuid is 0, expected 1000"),
    ("tmpfs", "uid=1000", "uid=1001", "uid is 1001, expected 1000"),
    ("tmpfs", "uid=1000", "size=4k", "uid is 0, expected 1000"),
    ("proc", "subset=pid", "rw", "subset is none, expected pid"),
    # what is not shown is not in force
    ("vfat", "nfs", "fmask=0022", "nfs is off, expected nfs"),
    ("msdos", "nocase", "fmask=0022", "nocase is not in force, but expected"),
    ("9p", "uname=bob", "access=client", "uname is nobody, expected bob"),
    ("ext4", "data_err=abort", "rw", "data_err is ignore, expected abort"),
    ("ext4", "auto_da_alloc=0", "rw", "noauto_da_alloc is not in force, but expected"),
    ("ext4", "minixdf", "rw", "minixdf is not in force, but expected"),
    ("xfs", "allocsize=64k", "inode64", "allocsize is none, expected 64k"),
    ("xfs", "dax=never", "inode64", "dax is inode, expected never"),
    ("xfs", "noalign", "inode64", "noalign is not in force, but expected"),
    ("btrfs", "fatal_errors=panic", "rw", "fatal_errors is bug, expected panic"),
    ("btrfs", "metadata_ratio=4", "rw", "metadata_ratio is 0, expected 4"),
    ("btrfs", "nossd", "rw", "nossd is not in force, but expected"),
    ("f2fs", "norecovery", "mode=adaptive", "disable_roll_forward is not in force, but expected"),
    ("hugetlbfs", "size=4M", "pagesize=2M", "size is unlimited, expected 4M"),
    ("hugetlbfs", "min_size=2M", "pagesize=2M", "min_size is none, expected 2M"),
    ("hugetlbfs", "nr_inodes=1k", "pagesize=2M", "nr_inodes is unlimited, expected 1k"),
    (
        "nfs",
        "context=system_u:object_r:httpd_sys_content_t:s0",
        "context=system_u:object_r:nfs_t:s0",
        "context is system_u:object_r:nfs_t:s0, expected system_u:object_r:httpd_sys_content_t:s0",
    ),
]


@pytest.mark.parametrize(("fs_type", "declared", "shown"), SAME)
def test_the_kernel_spells_it_otherwise(fs_type: str, declared: str, shown: str) -> None:
    assert told(declared, mount(fs_type, f"rw,{shown}")) == []


@pytest.mark.parametrize(("fs_type", "declared", "shown", "words"), OTHER)
def test_the_kernel_shows_the_contrary(fs_type: str, declared: str, shown: str, words: str) -> None:
    assert words in told(declared, mount(fs_type, f"rw,{shown}"))


def test_each_type_has_one_table() -> None:
    """Of two the registry would take one without a word."""
    families = (options_of_disks.KINDS, options_of_servers.KINDS, options_of_memory.KINDS)
    assert len(option_rules.KINDS) == sum(map(len, families))


def test_btrfs_has_the_options_of_the_subvolume_that_was_mounted_first() -> None:
    first = mount("btrfs", "rw,compress=lzo", point="/other")
    second = Mount(8, 1, (0, 9), b"/a", b"/b", first.options, (), b"btrfs", b"x", first.super_options)
    assert told("compress=zstd", first) != []
    assert told("compress=zstd,nossd,lazytime,sync", first, second) == []


def test_a_device_has_the_options_of_the_mount_that_was_first(tmp_path: Path) -> None:
    lines = ["/dev/sdb1 /a ext4 commit=30 0 0", "/dev/sdb1 /b ext4 errors=panic,sync 0 0", "/a/x /c none bind 0 0"]
    table = "".join(
        f"{number} 20 8:17 {root} {point} rw,relatime - ext4 /dev/sdb1 rw,commit=30\n"
        for number, (root, point) in enumerate((("/", "/a"), ("/", "/b"), ("/x", "/c")), 21)
    )
    assert of_fstab(tmp_path, "\n".join(lines), table) == []
    # A bind mount decides nothing, nor does one that nobody declared.
    assert of_fstab(tmp_path, lines[1], table) == [(Condition.CHANGED, "sync is not in force, but expected")]
    lines[0] = lines[0].replace("commit=30", "commit=5")
    assert of_fstab(tmp_path, "\n".join((lines[0], lines[2])), table) == [
        (Condition.CHANGED, "commit is 30, expected 5")
    ]


def test_the_device_that_gpfs_names_is_no_flag() -> None:
    assert told("nodev,dev=gpfs1", mount("gpfs", "rw,dev=gpfs1", "rw,nodev,relatime")) == []
    assert told("dev=gpfs2", mount("gpfs", "rw,dev=gpfs1")) == ["dev is gpfs1, expected gpfs2"]


def test_fat_makes_itself_read_only_for_nfs() -> None:
    there = mount("vfat", "ro,nfs=nostale_ro", "ro,relatime")
    assert told("nfs=nostale_ro", there) == []
    assert told("nfs=nostale_ro,rw", there) == ["mounted ro, expected rw"]


# fstab as util-linux reads it
# ------------------------------------------------------------------------------------------------


def bound(options: str, more: str = "rw") -> Mount:
    return mount("ext4", more, options, root="/a")


@pytest.mark.parametrize(
    ("declared", "shown", "words"),
    [
        # strictatime before noatime before relatime, in whatever order they stand
        ("noatime,relatime", "noatime", []),
        ("noatime,nodiratime,relatime", "noatime,nodiratime", []),
        ("noatime,relatime", "relatime", ["noatime is not in force, but expected"]),
        ("strictatime,noatime", "nodev", []),
        ("noatime,strictatime", "noatime", ["noatime is in force, expected strictatime"]),
        ("strictatime,relatime", "relatime", ["relatime is in force, expected strictatime"]),
        ("noatime,atime", "relatime", []),
        ("noatime,atime", "noatime", ["noatime is in force, expected atime"]),
        ("noatime,norelatime", "noatime", []),
        ("strictatime,nostrictatime", "relatime", []),
        ("nostrictatime", "nodev", ["strictatime is in force, expected nostrictatime"]),
        ("relatime", "nodev", ["relatime is not in force, but expected"]),
        ("nodiratime,diratime", "nodiratime,relatime", ["nodiratime is in force, expected diratime"]),
        # mount(8): `defaults` takes nothing back, `user` what was said before it
        ("noexec,defaults", "noexec,relatime", []),
        ("noexec,defaults", "relatime", ["noexec is not in force, but expected"]),
        ("exec,user", "nosuid,nodev,noexec,relatime", []),
        ("user,exec", "noexec,relatime", ["noexec is in force, expected exec"]),
        ("nosuid,user", "relatime", ["nosuid is not in force, but expected"]),
        ("exec,group", "noexec,relatime", ["noexec is in force, expected exec"]),
        ("suid,owner", "nosuid,relatime", []),
        ("nosymfollow", "relatime", ["nosymfollow is not in force, but expected"]),
        # util-linux 2.39: what a flag applies to
        ("noexec=recursive,nosuid=vfs", "noexec,nosuid,relatime", []),
        ("noexec=recursive", "relatime", ["noexec is not in force, but expected"]),
        ("nosuid=vfs", "relatime", ["nosuid is not in force, but expected"]),
        ("noatime=recursive,relatime", "relatime", ["noatime is not in force, but expected"]),
        ("nodev=recursive,dev", "nodev,relatime", ["nodev is in force, expected dev"]),
    ],
)
def test_flags_of_the_mount(declared: str, shown: str, words: list[str]) -> None:
    assert told(declared, mount("ext4", "rw", f"rw,{shown}")) == words


@pytest.mark.parametrize(
    ("declared", "shown", "more", "words"),
    [
        ("ro=vfs", "ro", "rw", []),
        ("ro=recursive", "ro", "rw", []),
        ("ro=vfs", "rw", "rw", ["mounted rw, expected ro"]),
        ("ro=recursive", "rw", "rw", ["mounted rw, expected ro"]),
        ("ro=fs", "rw", "ro", []),
        ("ro=fs", "rw", "rw", ["the filesystem is rw, expected ro"]),
        ("ro=fs", "ro", "rw", ["the filesystem is rw, expected ro"]),
        ("ro=vfs,ro=fs", "ro", "ro", []),
        ("rw=fs", "ro", "rw", []),
        ("rw=fs", "rw", "ro", ["mounted ro, expected rw"]),
        ("rw=vfs", "ro", "rw", ["mounted ro, expected rw"]),
        ("ro=vfs,rw", "ro", "rw", ["mounted ro, expected rw"]),
        ("rw,ro=vfs", "ro", "rw", []),
        ("ro,defaults", "ro", "ro", []),
        ("ro,rw", "ro", "ro", ["mounted ro, expected rw"]),
    ],
)
def test_what_ro_applies_to(declared: str, shown: str, more: str, words: list[str]) -> None:
    assert told(declared, mount("ext4", more, f"{shown},relatime")) == words


@pytest.mark.parametrize(
    ("declared", "source", "shown", "words"),
    [
        ("bind,ro=vfs", "rw,relatime", "ro,relatime", []),
        ("bind,ro", "rw,relatime", "rw,relatime", ["mounted rw, expected ro"]),
        ("bind,noexec", "rw,relatime", "rw,relatime", ["noexec is not in force, but expected"]),
        # util-linux before 2.39 leaves the flags of the source alone unless one is to be set
        ("bind,exec", "rw,noexec,relatime", "rw,noexec,relatime", []),
        ("bind,exec", "rw,relatime", "rw,noexec,relatime", ["noexec is in force, expected exec"]),
        ("bind,nodev,exec", "rw,noexec,relatime", "rw,nodev,noexec,relatime", ["noexec is in force, expected exec"]),
        ("bind,strictatime", "rw,relatime", "rw,relatime", []),
        ("bind,nodev,atime", "rw,noatime", "rw,nodev,noatime", []),
        ("bind,relatime", "rw,noatime", "rw,noatime", ["noatime is in force, expected relatime"]),
        ("bind,rw", "ro,relatime", "ro,relatime", []),
        ("bind,rw,nodev", "ro,relatime", "ro,nodev,relatime", ["mounted ro, expected rw"]),
        ("bind,rw", "rw,relatime", "ro,relatime", ["mounted ro, expected rw"]),
        ("bind,commit=7,sync", "rw,relatime", "rw,relatime", []),
    ],
)
def test_bind_mounts(declared: str, source: str, shown: str, words: list[str]) -> None:
    holder = Mount(8, 1, (0, 9), b"/", b"/s", tuple(source.encode().split(b",")), (), b"ext4", b"x", (b"rw",))
    assert told(declared, bound(shown), holder, source="/s/a") == words


def test_a_directory_that_is_bound_on_itself() -> None:
    root = Mount(1, 0, (0, 9), b"/", b"/", (b"rw", b"relatime"), (), b"ext4", b"x", (b"rw",))
    assert told("bind", mount("ext4", root="/m"), root, source="/m") == []
    assert told("bind,ro", mount("ext4", options="ro,relatime", root="/m"), root, source="/m") == []
    assert told("bind", mount("ext4", options="ro,relatime", root="/m"), root, source="/m") == [
        "mounted ro, expected rw"
    ]
    assert told("bind", mount("ext4", root="/other"), root, source="/m") == [
        "it shows /other, expected /m (bound from /m)"
    ]
    # Twice: beneath lies the first one.
    first = Mount(8, 1, (0, 9), b"/m", b"/m", (b"rw", b"relatime"), (), b"ext4", b"x", (b"rw",))
    again = Mount(9, 8, (0, 9), b"/m", b"/m", (b"rw", b"relatime"), (), b"ext4", b"x", (b"rw",))
    assert told("bind", again, root, first, source="/m") == []


@pytest.mark.parametrize(
    ("fs_type", "above", "there", "wrong"),
    [
        ("nfs4", "h:/", "h:/vol1", "other:/vol1"),
        ("nfs4", "h:/a", "h:/a/b", "h:/c"),
        ("cifs", "//s/dfs", "//s/dfs/sub", "//s/other"),
        ("zfs", "tank/a", "tank/a@daily", "tank/b@daily"),
    ],
)
def test_a_bind_of_what_was_mounted_by_itself_and_has_expired(fs_type: str, above: str, there: str, wrong: str) -> None:
    def of(number: int, device: int, point: bytes, source: str) -> Mount:
        return Mount(
            number, 1, (0, device), b"/", point, (b"rw", b"relatime"), (), fs_type.encode(), source.encode(), (b"rw",)
        )

    holder = of(8, 50, b"/n", above)
    assert told("bind", of(9, 51, b"/m", there), holder, source="/n/vol1") == []
    assert len(told("bind", of(9, 51, b"/m", wrong), holder, source="/n/vol1")) == 1


# fstab as systemd reads it
# ------------------------------------------------------------------------------------------------


def of_fstab(
    tmp_path: Path, line: str, table: str = "21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
) -> list[tuple[Condition, str]]:
    fstab = tmp_path / "fstab"
    fstab.write_text(line + "\n")
    entries, complaints = read_fstab(str(fstab))
    assert complaints == []
    mounts, _ = mounttable.parse(table.encode())
    found, _ = compare.compared(entries, mounts, mounttable.visible(mounts))[:2]
    return [(one.condition, one.detail.partition(" (/")[0]) for one in found]


MISSING = [(Condition.MISSING, "not mounted")]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("h:/a /a nfs noauto,comment=systemd.automount 0 0", MISSING),
        ("h:/a /a nfs noauto,x-systemd.automount 0 0", MISSING),
        ("h:/a /a nfs comment=systemd.automount 0 0", MISSING),
        ("h:/a /a nfs noauto,nofail,x-systemd.automount 0 0", []),
        ("h:/a /a nfs noauto 0 0", []),
        ("h:/a /a nfs noauto,auto 0 0", MISSING),
        ("h:/a /a nfs auto,noauto 0 0", []),
        ("h:/a /a nfs nofail,fail 0 0", MISSING),
        ("h:/a /a nfs fail,nofail 0 0", []),
        ("h:/a /a nfs nofail 0 0", []),
        ("h:/a /a nfs x-systemd.wanted-by=a.service 0 0", []),
        ("h:/a /a nfs x-systemd.required-by=a.service,x-systemd.automount 0 0", MISSING),
        ("h:/a /a nfs x-systemd.wanted-by=a.service,nofail,x-systemd.automount 0 0", []),
        ("h:/a /a nfs _netdev,x-systemd.growfs,X-mount.mkdir,x-initrd.mount 0 0", MISSING),
        ("h:/a none swap sw 0 0", []),
        ("/dev/sda2 swap swap defaults 0 0", []),
        ("/dev/sda1 / ext4 rw,noauto 0 1", []),
        ("/dev/sda1 / ext4 noauto,noexec 0 1", [(Condition.CHANGED, "noexec is not in force, but expected")]),
        ("/dev/sda1 / ext4 nofail,nosuid 0 1", [(Condition.CHANGED, "nosuid is not in force, but expected")]),
        ("/dev/sda1 // ext4 noauto,nodev 0 1", [(Condition.CHANGED, "nodev is not in force, but expected")]),
        ("/dev/sda1 / ext4 atime 0 1", []),
    ],
)
def test_which_lines_are_expected(tmp_path: Path, line: str, wanted: list[tuple[Condition, str]]) -> None:
    assert of_fstab(tmp_path, line) == wanted


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("cgroup /sys/fs/cgroup cgroup defaults 0 0", "cgroup2 cgroup2 rw"),
        ("udev /dev tmpfs rw 0 0", "devtmpfs devtmpfs rw"),
        ("/dev/sda9 /dev/shm ext4 defaults 0 0", "tmpfs tmpfs rw"),
    ],
)
def test_what_is_mounted_before_fstab_is_read(tmp_path: Path, line: str, shown: str) -> None:
    table = f"21 1 8:1 / / rw - ext4 /dev/sda1 rw\n22 21 0:9 / {line.split()[1]} rw,relatime - {shown}\n"
    assert of_fstab(tmp_path, line, table) == []
    words = line.replace("rw 0", "nodev 0").replace("defaults", "nodev")
    assert of_fstab(tmp_path, words, table) == [(Condition.CHANGED, "nodev is not in force, but expected")]
    spec = f"{line.split()[1]},type={line.split()[2]}"
    mounts, _ = mounttable.parse(table.encode())
    assert compare.compared([parse_spec(spec.encode())], mounts, {21, 22})[0]


def test_root_that_is_read_only_in_spite_of_noauto(tmp_path: Path) -> None:
    table = "21 1 8:1 / / ro,relatime - ext4 /dev/sda1 ro\n"
    assert of_fstab(tmp_path, "/dev/sda1 / ext4 rw,noauto 0 1", table) == [
        (Condition.READ_ONLY, "mounted ro, expected rw")
    ]


def test_what_the_initramfs_has_mounted_keeps_its_access_times(tmp_path: Path) -> None:
    """systemd-remount-fs remounts it, and a remount without any atime flag keeps those that are."""
    table = "21 1 8:1 / / rw,noatime - ext4 /dev/sda1 rw\n"
    assert of_fstab(tmp_path, "/dev/sda1 / ext4 atime 0 1", table) == []
    assert of_fstab(tmp_path, "/dev/sda1 / ext4 relatime 0 1", table) == [
        (Condition.CHANGED, "noatime is in force, expected relatime")
    ]
