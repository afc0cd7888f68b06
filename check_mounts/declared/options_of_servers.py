"""How filesystems of servers, hosts and daemons show their options: a table for each. Pure."""

from __future__ import annotations

from check_mounts.declared.option_kinds import (
    ANY_BASE,
    ID,
    NEVER,
    PLAIN,
    Kind,
    Rule,
    ShownValues,
    fits_whole_pages,
    last,
    respellings,
    rule,
    words_of,
)
from check_mounts.declared.option_values import decimal_of, hexadecimal_of, number_of, one_of, same, word_of
from check_mounts.typed import Optional


def _fits_version(ours: object, theirs: object, shown: ShownValues) -> bool:
    """``3`` stands for any 3.x; the kernel may show ``4.0`` as ``4``."""
    assert isinstance(ours, bytes) and isinstance(theirs, bytes)
    if theirs == b"4" and b"minorversion" in shown:  # Linux before 3.4
        theirs += b"." + last(shown, b"minorversion")
    return ours in (b"default", theirs) or theirs.startswith(ours + b".") or ours == theirs + b".0"


def _version(value: bytes) -> bytes:
    """A version in the spelling of the kernel."""
    return {b"3.02": b"3.0.2", b"3.11": b"3.1.1"}.get(value, value)


def _fits_timeout(ours: object, theirs: object, shown: ShownValues) -> bool:
    """NFS lowers a timeout to NFS_MAX_TCP_TIMEOUT or NFS_MAX_UDP_TIMEOUT.

    They are in fs/nfs/internal.h; here they are in tenths of a second."""
    assert isinstance(ours, int) and isinstance(theirs, int)
    most = 600 if last(shown, b"proto").startswith(b"udp") else 6000
    return theirs == ours or theirs == most < ours


def _fits_attribute_time(ours: object, theirs: object, shown: ShownValues) -> bool:
    """With ``noac``, NFS sets all attribute times to 0 (nfs_init_server in fs/nfs/client.c)."""
    return theirs in (ours, 0)


def _fits_security(ours: object, theirs: object, shown: ShownValues) -> bool:
    """NFS uses one flavour of the declared list."""
    assert isinstance(ours, bytes)
    return theirs in [b"null" if each == b"none" else each for each in ours.split(b":")]


def _fits_local_lock(ours: object, theirs: object, shown: ShownValues) -> bool:
    """NFS 4 accepts the option and ignores it; ``nolock`` makes all locks local.

    See nfs_fs_context_validate in fs/nfs/fs_context.c."""
    return theirs in (ours, b"all") or last(shown, b"vers").startswith(b"4")


_NFS_ATTRIBUTE_TIMES = {b"acregmin": b"3", b"acregmax": b"60", b"acdirmin": b"30", b"acdirmax": b"60"}

# nfs_show_mount_options in fs/nfs/super.c
_NFS = Kind(
    values={
        b"vers": Rule(_version, _version, fits=_fits_version),
        b"proto": rule(lambda value: value.rstrip(b"6")),
        b"sec": Rule(same, same, fits=_fits_security),
        b"timeo": Rule(number_of, number_of, fits=_fits_timeout),
        **{
            key: Rule(number_of, number_of, default, _fits_attribute_time)
            for key, default in _NFS_ATTRIBUTE_TIMES.items()
        },
        b"lookupcache": rule(one_of(all="all", positive="pos", pos="pos", none="none"), b"all"),
        b"local_lock": Rule(word_of, word_of, fits=_fits_local_lock),
        b"namlen": NEVER,
        b"minorversion": NEVER,
        b"write": rule(word_of, b"lazy"),
        b"xprtsec": rule(one_of(none="none", tls="tls", mtls="mtls"), b"none"),
    },
    respelt=respellings(
        """nfsvers= vers={}
        v2 vers=2; v3 vers=3; v4 vers=4; v4.0 vers=4.0; v4.1 vers=4.1; v4.2 vers=4.2
        tcp proto=tcp; udp proto=udp; rdma proto=rdma
        actimeo= acregmin={} acregmax={} acdirmin={} acdirmax={}"""
    ),
    shown=words_of("nocto noac noresvport"),
    groups=(words_of("hard soft softerr"),),
    uncertain=words_of("fsc nofsc migration nomigration posix"),  # another mount may decide (nfs_compare_mount_options)
)


def _cifs_security(value: bytes) -> Optional[bytes]:
    """The family of a security mode.

    The kernel appends an `i` if packets are signed, which the server may demand; since SMB 2, all
    kinds of NTLM are the same (smb2_select_sectype)."""
    return next((family for family in (b"krb5", b"ntlm") if value.startswith(family)), None)


_CIFS_UNCERTAIN = words_of(
    # negotiated, or a property of a connection that other mounts share
    """unix posixpaths serverino persistenthandles resilienthandles acl cifsacl multichannel mapposix
    forceuid forcegid nopersistenthandles nomultichannel
    perm setuids nosetuids"""  # multiuser implies noperm; nosetuids sets setuids (smb3_fs_context_parse_param)
)

# cifs_show_options in fs/smb/client/cifsfs.c
_CIFS = Kind(
    values={
        b"vers": Rule(_version, _version, fits=_fits_version),
        b"sec": rule(_cifs_security),
        **dict.fromkeys((b"file_mode", b"dir_mode"), ANY_BASE),
        **dict.fromkeys((b"reparse", b"symlink"), rule(lambda value: None if value == b"default" else value)),
        b"actimeo": ID,
        **dict.fromkeys(
            (b"acregmax", b"acdirmax", b"echo_interval", b"closetimeo", b"handletimeout", b"snapshot", b"rasize"), ID
        ),
        **dict.fromkeys(
            (b"max_channels", b"max_credits", b"port", b"srcaddr", b"cruid", b"backupuid", b"backupgid"), NEVER
        ),
    },
    respelt=respellings(
        """strictcache cache=strict; directio cache=none; forcedirectio cache=none
        nolinux nounix; noposix nounix; linux unix; posix unix
        dirmode= dir_mode={}; min_enc_offload= esize={}
        ignorecase nocase; modesid modefromsid; setuidfromacl idsfromsid; nolock nobrl
        forcemandatorylock forcemand; ignore_signature signloosely"""
    ),
    shown=words_of("noperm nobrl seal"),
    groups=(words_of("hard soft"),),
    uncertain=_CIFS_UNCERTAIN,
)

# ceph_show_options in fs/ceph/super.c, ceph_print_client_options in net/ceph/ceph_common.c
_CEPH = Kind(
    values={
        **dict.fromkeys((b"rsize", b"wsize", b"rasize"), Rule(number_of, number_of, fits=fits_whole_pages)),
        **dict.fromkeys((b"write_congestion_kb", b"caps_max", b"readdir_max_entries"), ID),
        **dict.fromkeys(
            (b"readdir_max_bytes", b"caps_wanted_delay_min", b"caps_wanted_delay_max", b"mount_timeout"), ID
        ),
        b"recover_session": rule(word_of, b"no"),
        b"ms_mode": rule(word_of, b"legacy"),
        b"mds_namespace": rule(same),
        b"crush_location": NEVER,
        b"fsid": NEVER,
    },
    respelt=respellings(
        "fs= mds_namespace={}; congestion_kb= write_congestion_kb={}; osdkeepalive= osdkeepalivetimeout={}"
    ),
    shown=words_of("noshare nocrc nodcache noasyncreaddir dirstat rbytes ino32 nopoolperm noquotadf"),
)

_P9_CACHE = {b"none": 0, b"readahead": 1, b"mmap": 5, b"loose": 15, b"fscache": 0x8F}


def _p9_cache(value: bytes) -> Optional[int]:
    return _P9_CACHE.get(value.lower(), number_of(value))


def _p9_cache_shown(value: bytes) -> Optional[int]:
    """The bits of a cache mode.

    Linux shows them in hexadecimal since 6.4, with or without 0x, and as a word before."""
    return _P9_CACHE.get(value.lower(), hexadecimal_of(value))


def _p9_access(value: bytes) -> Optional[object]:
    return value if value in (b"user", b"any", b"client") else decimal_of(value)


def _fits_access(ours: object, theirs: object, shown: ShownValues) -> bool:
    """9p falls back to the next best mode that its protocol offers (v9fs_session_init).

    See fs/9p/v9fs.c."""
    weaker = {b"9p2000.u": (b"user",), b"9p2000": (b"user", b"any")}.get(last(shown, b"version").lower(), ())
    return theirs == ours or (ours in (b"client", b"user") and theirs in weaker)


# v9fs_show_options in fs/9p/v9fs.c, p9_show_client_options in net/9p/client.c
_P9 = Kind(
    values={
        b"cache": Rule(_p9_cache, _p9_cache_shown, b"none"),
        b"debug": Rule(number_of, hexadecimal_of, b"0"),
        **dict.fromkeys((b"dfltuid", b"dfltgid"), rule(number_of, b"4294967294")),
        **dict.fromkeys((b"afid", b"port", b"rq", b"sq", b"rfdno", b"wfdno"), ID),
        b"access": Rule(_p9_access, _p9_access, fits=_fits_access),
        b"aname": NEVER,  # helpers compose it
        b"cachetag": NEVER,
        b"uname": rule(same, b"nobody"),
        b"version": rule(word_of, b"9p2000.l"),
    },
    respelt=respellings("loose cache=loose; mmap cache=mmap; fscache cache=fscache; noextend version=9p2000"),
    shown=words_of("nodevmap"),
)

# fuse_show_options in fs/fuse/inode.c; all other options belong to the daemon
FUSE = Kind(values={b"blksize": ID, **dict.fromkeys((b"uid", b"gid", b"umask", b"mode"), NEVER)})

# fuse_show_options in fs/fuse/inode.c, without the options of daemons
_VIRTIOFS = Kind(values={b"dax": PLAIN}, respelt=respellings("dax dax=always"))

KINDS: dict[bytes, Kind] = {
    b"9p": _P9,
    b"ceph": _CEPH,
    **dict.fromkeys((b"cifs", b"smb3"), _CIFS),
    **dict.fromkeys((b"nfs", b"nfs4"), _NFS),
    b"virtiofs": _VIRTIOFS,
}
