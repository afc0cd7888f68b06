"""How each filesystem shows the options that it was given: one table. Pure.

The kernel takes an option in one notation and shows it in another: ``check=relaxed`` as
``check=r``, ``umask=022`` as two values, ``size=1G`` in KiB; it rounds, and leaves out what is a
default. The table has what the ``show_options`` and the option parsers of Linux 5.10 to 6.12 do. A
difference is told only where it is certain: what a server negotiates, a device may lack, or another
mount of the same superblock decides is not."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Optional

from check_mounts import filesystems
from check_mounts.filesystems import traits
from check_mounts.model import Mount
from check_mounts.mountoptions import CONTROL_WORDS, FLAG_WORDS, Comparison, is_control, is_flag, last_of, split_options
from check_mounts.text import printable, value_words

Meaning = Callable[[bytes], Optional[object]]

_PAGES = (1 << 12, 1 << 14, 1 << 16)  # bytes; which of them the kernel has, a table does not say
_SIZE = re.compile(rb"(0[xX][0-9a-fA-F]+|[0-9]+)([kmgtpe]?)b?\Z", re.IGNORECASE)
_MAX_DIGITS = 20


# What a value means
# ------------------------------------------------------------------------------------------------


def _in_base(base: int) -> Callable[[bytes], Optional[int]]:
    def number(value: bytes) -> Optional[int]:
        try:
            return int(value.decode("ascii"), base) if len(value) <= _MAX_DIGITS else None
        except ValueError:
            return None

    return number


_hexadecimal = _in_base(16)
_octal = _in_base(8)
_decimal = _in_base(10)


def _number(value: bytes) -> Optional[int]:
    """As simple_strtoul() of the kernel without a base: ``0x10``, ``010`` and ``16``."""
    if re.match(rb"0[0-7]+\Z", value):
        return _octal(value)
    return _hexadecimal(value) if value[:2].lower() == b"0x" else _decimal(value)


def _size(value: bytes) -> Optional[int]:
    """``1G``, ``1048576k``, ``0x1000`` (memparse() in lib/cmdline.c) -> bytes; None for what is no
    size, such as ``50%``."""
    match = _SIZE.match(value)
    number = None if match is None else _number(match[1])
    if match is None or number is None:
        return None
    return number << (10 * b" kmgtpe".index(match[2].lower() or b" "))


def _masked(mask: int) -> Callable[[bytes], Optional[int]]:
    """A mode, of which the kernel keeps only these bits."""

    def mode(value: bytes) -> Optional[int]:
        number = _octal(value)
        return None if number is None else number & mask

    return mode


_permissions = _masked(0o7777)


def _minutes(value: bytes) -> Optional[int]:
    """A difference to UTC; the kernel takes its number in any base."""
    number = _number(value.lstrip(b"+-"))
    return -number if number is not None and value.startswith(b"-") else number


def _same(value: bytes) -> bytes:
    return value


def _word(value: bytes) -> bytes:
    return value.lower()


def _never(value: bytes) -> None:
    """Nothing is certain of it."""


def _one_of(**words: str) -> Meaning:
    """A value by one of several words: ``_one_of(relaxed="r", r="r")``. Others mean nothing that is
    certain."""
    known = {word.strip("_").encode(): meaning for word, meaning in words.items()}
    return lambda value: known.get(value.lower())


def _yes_or_no(value: bytes) -> Optional[bool]:
    return {
        b"1": True,
        b"yes": True,
        b"true": True,
        b"on": True,
        b"0": False,
        b"no": False,
        b"false": False,
        b"off": False,
    }.get(value.lower())


class Rule(NamedTuple):
    """How the value of an option compares.

    ``declared`` and ``shown`` turn what was declared and what the kernel shows into what is
    compared; None: not certain. ``default`` is what holds where the kernel shows nothing of it
    (None: unknown). ``fits`` decides in the place of equality."""

    declared: Meaning
    shown: Meaning
    default: Optional[bytes] = None
    fits: Callable[[object, object, Mapping[bytes, list[bytes]]], bool] = lambda ours, theirs, _: ours == theirs


def _rule(meaning: Meaning, default: Optional[bytes] = None) -> Rule:
    return Rule(meaning, meaning, default)


_PAGED = b"pages:"


def _tmpfs_size(value: bytes) -> Optional[object]:
    """A size in bytes; ``nr_blocks`` counts pages: of each size that a page may have."""
    if not value.startswith(_PAGED):
        return _size(value)
    pages = _size(value[len(_PAGED) :])
    return None if pages is None else tuple(pages * page for page in _PAGES)


def _fits_pages(ours: object, theirs: object, shown: Mapping[bytes, list[bytes]]) -> bool:
    """tmpfs rounds its size up to whole pages."""
    return theirs in ours if isinstance(ours, tuple) else _fits_whole_pages(ours, theirs, shown)


def _fits_whole_pages(ours: object, theirs: object, shown: Mapping[bytes, list[bytes]]) -> bool:
    """Ceph rounds up to whole pages, too (ceph_parse_mount_param in fs/ceph/super.c)."""
    assert isinstance(ours, int)
    return theirs == ours or theirs in [-(-ours // page) * page for page in _PAGES]


def _fits_mapped(ours: object, theirs: object, shown: Mapping[bytes, list[bytes]]) -> bool:
    """A container with a user namespace declares its own numbers, of which the kernel shows what
    they are on the host."""
    assert isinstance(ours, int) and isinstance(theirs, int)
    return ours == theirs or ours < 1 << 16 <= theirs


def _fits_huge_pages(ours: object, theirs: object, shown: Mapping[bytes, list[bytes]]) -> bool:
    """hugetlbfs_size_to_hpages() in fs/hugetlbfs/inode.c drops what does not fill a huge page."""
    assert isinstance(ours, int) and isinstance(theirs, int)
    page = _size(shown.get(b"pagesize", [b"2M"])[0]) or 1 << 21
    return theirs <= ours < theirs + page


def _fits_blocks(ours: object, theirs: object, shown: Mapping[bytes, list[bytes]]) -> bool:
    """A server makes the sizes of requests smaller, never larger; 0 leaves it the choice."""
    assert isinstance(ours, int) and isinstance(theirs, int)
    return ours == 0 or theirs <= max(ours, 4096)


def _fits_timeout(ours: object, theirs: object, shown: Mapping[bytes, list[bytes]]) -> bool:
    """NFS_MAX_TCP_TIMEOUT and NFS_MAX_UDP_TIMEOUT in fs/nfs/internal.h, in tenths of a second."""
    assert isinstance(ours, int) and isinstance(theirs, int)
    most = 600 if shown.get(b"proto", [b""])[0].startswith(b"udp") else 6000
    return theirs == ours or theirs == most < ours


def _fits_attribute_time(ours: object, theirs: object, shown: Mapping[bytes, list[bytes]]) -> bool:
    """NFS: with ``noac`` all are 0 (nfs_init_server in fs/nfs/client.c)."""
    return theirs in (ours, 0)


def _fits_security(ours: object, theirs: object, shown: Mapping[bytes, list[bytes]]) -> bool:
    """NFS: one of a list."""
    assert isinstance(ours, bytes)
    return theirs in [b"null" if each == b"none" else each for each in ours.split(b":")]


def _fits_local_lock(ours: object, theirs: object, shown: Mapping[bytes, list[bytes]]) -> bool:
    """NFS: version 4 takes it and ignores it (nfs_fs_context_validate in fs/nfs/fs_context.c);
    ``nolock`` makes all locks local."""
    return theirs in (ours, b"all") or shown.get(b"vers", [b""])[0].startswith(b"4")


def _fits_access(ours: object, theirs: object, shown: Mapping[bytes, list[bytes]]) -> bool:
    """9p: what the protocol does not offer becomes the next best (v9fs_session_init in
    fs/9p/v9fs.c)."""
    weaker = {b"9p2000.u": (b"user",), b"9p2000": (b"user", b"any")}.get(shown.get(b"version", [b""])[0].lower(), ())
    return theirs == ours or (ours in (b"client", b"user") and theirs in weaker)


def _fits_dax(ours: object, theirs: object, shown: Mapping[bytes, list[bytes]]) -> bool:
    """XFS turns it off where the device does not offer it (xfs_fs_fill_super in
    fs/xfs/xfs_super.c)."""
    return theirs == ours or (ours, theirs) == (b"always", b"never")


def _fits_allocation(ours: object, theirs: object, shown: Mapping[bytes, list[bytes]]) -> bool:
    """f2fs: a small volume reuses segments in any case (f2fs_tuning_parameters in
    fs/f2fs/super.c)."""
    return theirs in (ours, b"reuse")


def _cifs_security(value: bytes) -> Optional[bytes]:
    """An `i` is appended where packets are signed, which the server may ask for; since SMB 2 all
    NTLM is one (smb2_select_sectype)."""
    return next((family for family in (b"krb5", b"ntlm") if value.startswith(family)), None)


def _fits_version(ours: object, theirs: object, shown: Mapping[bytes, list[bytes]]) -> bool:
    """``3`` is any 3.x; ``4.0`` may be shown as ``4``."""
    assert isinstance(ours, bytes) and isinstance(theirs, bytes)
    if theirs == b"4" and b"minorversion" in shown:  # Linux before 3.4
        theirs += b"." + shown[b"minorversion"][0]
    return ours in (b"default", theirs) or theirs.startswith(ours + b".") or ours == theirs + b".0"


def _version(value: bytes) -> bytes:
    return {b"3.02": b"3.0.2", b"3.11": b"3.1.1"}.get(value, value)


# What policies have renamed, with the old name as an alias: the kernel shows the new one.
_RENAMED_TYPES = frozenset(
    (b"svirt_sandbox_file_t", b"svirt_lxc_file_t", b"httpd_sys_script_ro_t", b"httpd_sys_script_rw_t")
)


def _label(value: bytes) -> Optional[list[bytes]]:
    """An SELinux context: the kernel rewrites the categories of the level; user, role and type
    stay.

    ``rootcontext=@target`` takes that of the mount point (mount(8)).
    """
    parts = value.strip(b'"').split(b":")[:3]
    return None if len(parts) < 3 or parts[2] in _RENAMED_TYPES else parts


def _subvolume(value: bytes) -> Optional[bytes]:
    """``subvol=`` without a name asks for none (btrfs_parse_param in fs/btrfs/super.c)."""
    return (re.sub(rb"/+", b"/", b"/" + value).rstrip(b"/") or b"/") if value else None


def _limit(value: bytes) -> Optional[int]:
    """A size, or what holds where the kernel shows none."""
    return -1 if value in (b"unlimited", b"none") else _size(value)


def _allocation(value: bytes) -> Optional[int]:
    """XFS takes the lowest bit of it (xfs_fs_parse_param in fs/xfs/xfs_super.c)."""
    size = _size(value)
    return None if not size else size & -size


def _any_base(value: bytes) -> Optional[object]:
    """A mode that some kernels take as octal only with a zero before it: 444 is 0674, whatever it
    was meant to be.

    So do iso9660 and cifs (isofs_param_spec in fs/isofs/inode.c, smb3_fs_parameters), and udf since
    it has udf_param_spec."""
    return frozenset({_octal(value), _number(value)} - {None}) or None


def _fits_any_base(ours: object, theirs: object, shown: Mapping[bytes, list[bytes]]) -> bool:
    """iso9660 and udf drop what is no permission."""
    assert isinstance(ours, frozenset) and isinstance(theirs, int)
    return theirs in ours or theirs in {each & 0o777 for each in ours}


def _directories(value: bytes) -> Optional[bytes]:
    """overlay: how colons and commas are escaped has changed with the kernel."""
    return None if b"\\" in value else value.rstrip(b"/")


def _compression(value: bytes) -> Optional[bytes]:
    """btrfs: a default level is shown, a level of LZO is not, and what is more than the highest
    level becomes that."""
    name, _, level = value.lower().partition(b":")
    if name in (b"no", b"none"):
        return b""
    most = {b"zlib": 9, b"zstd": 15}.get(name)
    if most is None:
        return name
    number = _decimal(level or b"0")
    return None if number is None else b"%s:%d" % (name, max(-most, min(number, most)) or 3)


def _f2fs_compression(value: bytes) -> Optional[bytes]:
    """The default level of Zstandard is shown since Linux 5.14."""
    return {b"zstd": b"zstd:1"}.get(value.lower(), value.lower())


# What every type shares
# ------------------------------------------------------------------------------------------------

_ID = _rule(_number)
_MODE = _rule(_permissions)  # ntfs3 of Linux 6.1 shows a mask with all bits above it: fmask=37777600022
_ANY_BASE = Rule(_any_base, _permissions, fits=_fits_any_base)
_WRITABLE = _rule(_masked(0o022), b"0")  # fat and exfat keep the bits of who may write, and show them if there are any
_MAPPED = Rule(_number, _number, b"0", _fits_mapped)
_FROM_ROOT = _rule(_number, b"0")  # shown unless it is root's; who mounts at boot is root
_PLAIN, _NEVER = _rule(_word), _rule(_never)
_BLOCKS = Rule(_number, _number, fits=_fits_blocks)
_LABEL = _rule(_label)

# Negotiated, made by helpers, secret, shared with another mount's superblock or connection: shown
# otherwise than declared.
_NEVER_COMPARED = frozenset(
    b"""addr clientaddr mountaddr mountport mountvers mountproto nconnect max_connect retry actimeo comment loop offset sizelimit
    encryption username user domain workgroup dom pass password password2 credentials cred ip unc prefixpath name secret secretfile
    key keyfile servern netbiosname fsname subtype max_read user_id group_id rootmode fd iocharset nls errors_count helper uhelper
    msize mon_addr lowerdir+ datadir+ minorversion size_percent""".split()
)
_MODES = b"mode umask dmask fmask dmode fmode file_mode dir_mode file_umask dir_umask ownmask othmask ptmxmode".split()
_COMMON: dict[bytes, Rule] = {
    **dict.fromkeys(_NEVER_COMPARED, _NEVER),
    **dict.fromkeys((b"uid", b"gid"), _ID),
    **dict.fromkeys(_MODES, _MODE),
    **dict.fromkeys((b"rsize", b"wsize", b"bsize"), _BLOCKS),
    **dict.fromkeys((b"context", b"fscontext", b"defcontext", b"rootcontext"), _LABEL),
    **dict.fromkeys(
        (b"size", b"nr_blocks", b"nr_inodes", b"allocsize", b"logbsize", b"pagesize", b"min_size"), _rule(_size)
    ),
}


class Kind(NamedTuple):
    """How one type of filesystem shows its options.

    ``values``: the options with a value. ``respelt``: an option, or ``KEY=`` for any value, -> the
    options that stand for it among those shown; ``{}`` is the value. ``shown``: flags that the
    kernel shows whenever they are in force. ``groups``: flags of which one holds, so that the
    kernel showing another contradicts. ``uncertain``: flags that the kernel may not obey.
    ``instead``: a value -> what may hold in its place, so that its default is not certain where it
    is not shown."""

    values: Mapping[bytes, Rule] = {}
    respelt: Mapping[bytes, Sequence[bytes]] = {}
    shown: frozenset[bytes] = frozenset()
    groups: Sequence[frozenset[bytes]] = ()
    uncertain: frozenset[bytes] = frozenset()
    instead: Mapping[bytes, frozenset[bytes]] = {}


def _words(text: str) -> frozenset[bytes]:
    return frozenset(text.encode().split())


def _respelt(lines: str) -> dict[bytes, tuple[bytes, ...]]:
    """``GIVEN SHOWN...`` on each line, or several of them separated by ``;``."""
    words = (line.encode().split() for line in re.split("[\n;]", lines))
    return {line[0]: tuple(line[1:]) for line in words if line}


# The table
# ------------------------------------------------------------------------------------------------

# fat_show_options in fs/fat/inode.c
_FAT = Kind(
    values={
        b"check": _rule(_one_of(relaxed="r", r="r", normal="n", n="n", strict="s", s="s"), b"normal"),
        **dict.fromkeys((b"uid", b"gid"), _FROM_ROOT),
        b"allow_utime": _WRITABLE,
        b"codepage": _ID,
        b"time_offset": _rule(_minutes),
        **dict.fromkeys((b"utf8", b"uni_xlate", b"nonumtail"), _rule(_yes_or_no, b"no")),
        b"nfs": _rule(_one_of(stale_rw="rw", nostale_ro="ro", off="off"), b"off"),
        b"dotsOK": _rule(_yes_or_no, b"no"),
    },
    respelt=_respelt(
        """umask= fmask={} dmask={}
        nocase shortname=win95
        dots dotsOK=yes; nodots dotsOK=no
        utf8 utf8=yes; uni_xlate uni_xlate=yes; nonumtail nonumtail=yes
        nfs nfs=stale_rw
        tz=UTC time_offset=0"""
    ),
    shown=_words("flush quiet usefree rodir sys_immutable showexec dos1xfloppy discard"),
    instead={b"utf8": _words("uni_xlate")},
)
_MSDOS = _FAT._replace(respelt={**_FAT.respelt, b"nocase": (b"nocase",)}, shown=_FAT.shown | {b"nocase"})

# exfat_show_options in fs/exfat/super.c
_EXFAT = Kind(
    values={
        **dict.fromkeys((b"uid", b"gid"), _FROM_ROOT),
        b"allow_utime": _WRITABLE,
        b"time_offset": _rule(_minutes, b"0"),
    },
    respelt=_respelt("umask= fmask={} dmask={}"),
    shown=_words("keep_last_dots sys_tz zero_size_dir"),
    uncertain=_words("discard"),  # dropped where the device does not take it
    instead={b"time_offset": _words("sys_tz")},
)

# ntfs_show_options in fs/ntfs3/super.c
_NTFS3 = Kind(
    respelt=_respelt("umask= fmask={} dmask={}"),
    shown=_words("sys_immutable hide_dot_files windows_names prealloc force sparse nohidden showmeta nocase"),
)

# isofs_show_options in fs/isofs/inode.c: an option `mode` is shown as `fmode`, words as their first
# letters
_ISOFS = Kind(
    values={
        b"check": _rule(_one_of(relaxed="r", r="r", strict="s", s="s")),
        b"map": _rule(_one_of(off="o", o="o", normal="n", n="n", acorn="a", a="a")),
        **dict.fromkeys((b"fmode", b"dmode"), _ANY_BASE),
        **dict.fromkeys((b"session", b"sbsector"), _ID),
        **dict.fromkeys((b"block", b"blocksize"), _NEVER),  # the device may have larger ones
    },
    respelt=_respelt("mode= fmode={}; unhide showassoc"),
    shown=_words("norock cruft hide nocompress overriderockperm showassoc"),
)

# udf_show_options in fs/udf/super.c
_UDF = Kind(
    values={
        **dict.fromkeys((b"uid", b"gid"), _rule(lambda value: value if value == b"forget" else _decimal(value))),
        **dict.fromkeys((b"mode", b"dmode"), _ANY_BASE),
        b"umask": _ANY_BASE._replace(default=b"0"),
        b"lastblock": _NEVER,  # the kernel looks for it around there
    },
    shown=_words("nostrict unhide undelete noadinicb shortad"),
    groups=(_words("shortad longad"),),
)

_P9_CACHE = {b"none": 0, b"readahead": 1, b"mmap": 5, b"loose": 15, b"fscache": 0x8F}


def _p9_cache(value: bytes) -> Optional[int]:
    return _P9_CACHE.get(value.lower(), _number(value))


def _p9_cache_shown(value: bytes) -> Optional[int]:
    """Since 6.4 in bits, which the kernel shows hexadecimally, with or without 0x; before in
    words."""
    return _P9_CACHE.get(value.lower(), _hexadecimal(value))


def _p9_access(value: bytes) -> Optional[object]:
    return value if value in (b"user", b"any", b"client") else _decimal(value)


# v9fs_show_options in fs/9p/v9fs.c, p9_show_client_options in net/9p/client.c
_P9 = Kind(
    values={
        b"cache": Rule(_p9_cache, _p9_cache_shown, b"none"),
        b"debug": Rule(_number, _hexadecimal, b"0"),
        **dict.fromkeys((b"dfltuid", b"dfltgid"), _rule(_number, b"4294967294")),
        **dict.fromkeys((b"afid", b"port", b"rq", b"sq", b"rfdno", b"wfdno"), _ID),
        b"access": Rule(_p9_access, _p9_access, fits=_fits_access),
        b"aname": _NEVER,  # what a helper puts together
        b"cachetag": _NEVER,
        b"uname": _rule(_same, b"nobody"),
        b"version": _rule(_word, b"9p2000.l"),
    },
    respelt=_respelt("loose cache=loose; mmap cache=mmap; fscache cache=fscache; noextend version=9p2000"),
    shown=_words("nodevmap"),
)

_CIFS_UNCERTAIN = _words(
    # negotiated, or of a connection that other mounts share
    """unix posixpaths serverino persistenthandles resilienthandles acl cifsacl multichannel mapposix forceuid forcegid
    nopersistenthandles nomultichannel
    perm setuids nosetuids"""  # multiuser implies noperm; nosetuids sets setuids (smb3_fs_context_parse_param)
)
# cifs_show_options in fs/smb/client/cifsfs.c
_CIFS = Kind(
    values={
        b"vers": Rule(_version, _version, fits=_fits_version),
        b"sec": _rule(_cifs_security),
        **dict.fromkeys((b"file_mode", b"dir_mode"), _ANY_BASE),
        **dict.fromkeys((b"reparse", b"symlink"), _rule(lambda value: None if value == b"default" else value)),
        b"actimeo": _ID,
        **dict.fromkeys(
            (b"acregmax", b"acdirmax", b"echo_interval", b"closetimeo", b"handletimeout", b"snapshot", b"rasize"), _ID
        ),
        **dict.fromkeys(
            (b"max_channels", b"max_credits", b"port", b"srcaddr", b"cruid", b"backupuid", b"backupgid"), _NEVER
        ),
    },
    respelt=_respelt(
        """strictcache cache=strict; directio cache=none; forcedirectio cache=none
        nolinux nounix; noposix nounix; linux unix; posix unix
        dirmode= dir_mode={}; min_enc_offload= esize={}
        ignorecase nocase; modesid modefromsid; setuidfromacl idsfromsid; forcemandatorylock forcemand; ignore_signature signloosely
        nolock nobrl"""
    ),
    shown=_words("noperm nobrl seal"),
    groups=(_words("hard soft"),),
    uncertain=_CIFS_UNCERTAIN,
)

# ceph_show_options in fs/ceph/super.c, ceph_print_client_options in net/ceph/ceph_common.c
_CEPH = Kind(
    values={
        **dict.fromkeys((b"rsize", b"wsize", b"rasize"), Rule(_number, _number, fits=_fits_whole_pages)),
        **dict.fromkeys((b"write_congestion_kb", b"caps_max", b"readdir_max_entries"), _ID),
        **dict.fromkeys(
            (b"readdir_max_bytes", b"caps_wanted_delay_min", b"caps_wanted_delay_max", b"mount_timeout"), _ID
        ),
        b"recover_session": _rule(_word, b"no"),
        b"ms_mode": _rule(_word, b"legacy"),
        b"mds_namespace": _rule(_same),
        b"crush_location": _NEVER,
        b"fsid": _NEVER,
    },
    respelt=_respelt(
        "fs= mds_namespace={}; congestion_kb= write_congestion_kb={}; osdkeepalive= osdkeepalivetimeout={}"
    ),
    shown=_words("noshare nocrc nodcache noasyncreaddir dirstat rbytes ino32 nopoolperm noquotadf"),
)

# fuse_show_options in fs/fuse/inode.c; all other options belong to the daemon
_FUSE = Kind(values={b"blksize": _ID, **dict.fromkeys((b"uid", b"gid", b"umask", b"mode"), _NEVER)})

# _ext4_show_options in fs/ext4/super.c: what differs from the defaults, some of which are in the
# superblock (tune2fs -o)
_EXT4 = Kind(
    values={
        b"commit": _rule(lambda value: _number(value) or 5, b"5"),
        **dict.fromkeys((b"resuid", b"resgid"), _FROM_ROOT),
        b"sb": _ID,
        b"min_batch_time": _rule(_number, b"0"),
        b"max_batch_time": _rule(_number, b"15000"),
        b"inode_readahead_blks": _rule(_number, b"32"),
        b"max_dir_size_kb": _rule(_number, b"0"),
        b"stripe": _NEVER,  # the kernel drops what does not fit
        b"journal_ioprio": _NEVER,
        b"journal_dev": _NEVER,
        b"journal_path": _NEVER,
        b"errors": _PLAIN,
        b"data": _PLAIN,
        b"data_err": _rule(_word, b"ignore"),
        b"dax": _rule(_word, b"inode"),
    },
    respelt=_respelt(
        """bsdgroups grpid; sysvgroups nogrpid
        noload norecovery
        barrier=0 nobarrier; barrier=1 barrier
        init_itable init_itable=10
        dioread_lock nodioread_nolock; no_mbcache nombcache
        auto_da_alloc=0 noauto_da_alloc; auto_da_alloc=1 auto_da_alloc
        dax dax=always"""
    ),
    shown=_words("norecovery minixdf noauto_da_alloc nombcache"),
    groups=(_words("bsddf minixdf"),),
    uncertain=_words("dioread_nolock"),  # taken back with data=journal
)

# xfs_fs_show_options in fs/xfs/xfs_super.c
_XFS = Kind(
    values={
        b"allocsize": Rule(_allocation, _limit, b"none"),
        b"logbsize": _rule(lambda value: _size(value) or None),
        b"logbufs": _rule(lambda value: _number(value) or None),  # 0: the kernel chooses
        b"dax": Rule(_word, _word, b"inode", _fits_dax),
        # The superblock's own geometry wins; a device has many names.
        **dict.fromkeys((b"sunit", b"swidth", b"logdev", b"rtdev", b"biosize", b"inode_readahead"), _NEVER),
    },
    respelt=_respelt(
        """quota usrquota; uquota usrquota; qnoenforce uqnoenforce
        gquota grpquota; pquota prjquota
        bsdgroups grpid; sysvgroups nogrpid
        dax dax=always"""
    ),
    shown=_words("wsync swalloc noalign nouuid norecovery grpid largeio filestreams"),
    groups=(
        _words("usrquota uqnoenforce noquota"),
        _words("grpquota gqnoenforce noquota"),
        _words("prjquota pqnoenforce noquota"),
        _words("inode32 inode64"),
    ),
    uncertain=_words("discard"),  # dropped where the device does not take it
)

# btrfs_show_options in fs/btrfs/super.c
_BTRFS = Kind(
    values={
        **dict.fromkeys((b"compress", b"compress-force"), _rule(_compression, b"none")),
        b"commit": _rule(lambda value: _number(value) or 30, b"30"),
        b"subvol": _rule(_subvolume),
        b"subvolid": _rule(lambda value: _number(value) or 5),
        b"max_inline": _NEVER,  # limited to what a sector holds
        b"space_cache": _NEVER,  # what is on the disk decides
        b"thread_pool": _ID,
        b"discard": _rule(_one_of(sync="sync", _async="async", no="no")),
        b"fatal_errors": _rule(_word, b"bug"),
        b"device": _NEVER,
        b"rescue": _NEVER,
        b"metadata_ratio": _rule(_number, b"0"),
    },
    respelt=_respelt(
        """compress compress=zlib; compress-force compress-force=zlib
        nologreplay rescue=nologreplay; norecovery rescue=nologreplay; usebackuproot rescue=usebackuproot; recovery rescue=usebackuproot
        discard discard=sync; nodiscard discard=no
        space_cache space_cache=v1"""
    ),
    shown=_words(
        "degraded nobarrier notreelog flushoncommit noacl autodefrag user_subvol_rm_allowed skip_balance nossd ssd_spread"
    ),
    groups=(_words("ssd_spread nossd"),),
    # The later one of compress and nodatacow holds.
    instead={
        b"compress": _words("compress-force nodatacow nodatasum"),
        b"compress-force": _words("compress nodatacow nodatasum"),
    },
)

# f2fs_show_options in fs/f2fs/super.c: nearly all are shown always
_F2FS = Kind(
    values={
        **dict.fromkeys((b"mode", b"background_gc", b"fsync_mode", b"compress_mode", b"memory", b"errors"), _PLAIN),
        b"discard_unit": _NEVER,  # a section on zoned devices
        b"alloc_mode": Rule(_word, _word, fits=_fits_allocation),
        b"compress_algorithm": _rule(_f2fs_compression),
        **dict.fromkeys((b"active_logs", b"inline_xattr_size", b"compress_log_size"), _ID),
        **dict.fromkeys((b"reserve_root", b"checkpoint", b"compress_extension", b"nocompress_extension"), _NEVER),
        b"whint_mode": _NEVER,
    },
    respelt=_respelt("norecovery disable_roll_forward"),
    shown=_words("nobarrier data_flush disable_roll_forward disable_ext_identify"),
    # Without lazytime it is mounted as with it: default_options sets that flag after mount(8) has.
    uncertain=_words("discard heap nolazytime"),
)

# ovl_show_options in fs/overlayfs/params.c. Where the upper filesystem lacks something, the kernel
# falls back to `off`.
_OVERLAY = Kind(
    values={
        **dict.fromkeys((b"lowerdir", b"upperdir", b"workdir"), _rule(_directories)),
        **dict.fromkeys((b"index", b"nfs_export", b"metacopy", b"xino", b"uuid", b"verity"), Rule(_word, _word,
            fits=lambda ours, theirs, _: ours != b"off" or theirs in (b"off", b"null"))),
        b"redirect_dir": _NEVER,  # what else is on or off, and how the kernel was built, decides
    },
)  # fmt: skip

# shmem_show_options in mm/shmem.c
_TMPFS = Kind(
    values={
        b"size": Rule(_tmpfs_size, _size, fits=_fits_pages),
        b"nr_inodes": _rule(_size),
        b"mode": _rule(_masked(0o7777), b"1777"),
        **dict.fromkeys((b"uid", b"gid"), _MAPPED),
        **dict.fromkeys((b"usrquota_block_hardlimit", b"usrquota_inode_hardlimit"), _rule(_size)),
        **dict.fromkeys((b"grpquota_block_hardlimit", b"grpquota_inode_hardlimit"), _rule(_size)),
        b"huge": _rule(_word, b"never"),
        b"mpol": _NEVER,
    },
    respelt=_respelt("nr_blocks= size=pages:{}"),
    shown=_words("noswap"),
    groups=(_words("inode32 inode64"),),
)
# ramfs_show_options in fs/ramfs/inode.c; it takes any other option and ignores it
_RAMFS = Kind(values={b"mode": _rule(_octal, b"755")})

# hugetlbfs_show_options in fs/hugetlbfs/inode.c
_HUGETLBFS = Kind(
    values={
        b"size": Rule(_size, _limit, b"unlimited", _fits_huge_pages),
        b"min_size": Rule(_size, _limit, b"none", _fits_huge_pages),
        b"nr_inodes": Rule(_size, _limit, b"unlimited"),
        b"pagesize": _rule(_size),
        b"mode": _rule(_masked(0o1777), b"755"),
        **dict.fromkeys((b"uid", b"gid"), _FROM_ROOT),
    }
)

_HIDEPID = (
    dict.fromkeys(("_0", "off"), "off")
    | dict.fromkeys(("_1", "noaccess"), "1")
    | dict.fromkeys(("_2", "invisible"), "2")
)
# proc_show_options in fs/proc/root.c: numbers before 5.8, then words
_PROC = Kind(
    values={
        b"hidepid": _rule(_one_of(**_HIDEPID, _4="4", ptraceable="4"), b"off"),
        b"gid": _MAPPED,
        b"subset": _rule(_word, b"none"),
    }
)

_NFS_ATTRIBUTE_TIMES = {b"acregmin": b"3", b"acregmax": b"60", b"acdirmin": b"30", b"acdirmax": b"60"}
# nfs_show_mount_options in fs/nfs/super.c
_NFS = Kind(
    values={
        b"vers": Rule(_version, _version, fits=_fits_version),
        b"proto": _rule(lambda value: value.rstrip(b"6")),
        b"sec": Rule(_same, _same, fits=_fits_security),
        b"timeo": Rule(_number, _number, fits=_fits_timeout),
        **{key: Rule(_number, _number, default, _fits_attribute_time) for key, default in _NFS_ATTRIBUTE_TIMES.items()},
        b"lookupcache": _rule(_one_of(all="all", positive="pos", pos="pos", none="none"), b"all"),
        b"local_lock": Rule(_word, _word, fits=_fits_local_lock),
        b"namlen": _NEVER,
        b"minorversion": _NEVER,
        b"write": _rule(_word, b"lazy"),
        b"xprtsec": _rule(_one_of(none="none", tls="tls", mtls="mtls"), b"none"),
    },
    respelt=_respelt(
        """nfsvers= vers={}
        v2 vers=2; v3 vers=3; v4 vers=4; v4.0 vers=4.0; v4.1 vers=4.1; v4.2 vers=4.2
        tcp proto=tcp; udp proto=udp; rdma proto=rdma
        actimeo= acregmin={} acregmax={} acdirmin={} acdirmax={}"""
    ),
    shown=_words("nocto noac noresvport"),
    groups=(_words("hard soft softerr"),),
    uncertain=_words("fsc nofsc migration nomigration posix"),  # of another mount, too (nfs_compare_mount_options)
)

# erofs_show_options in fs/erofs/super.c
_EROFS = Kind(values={b"device": _NEVER, b"cache_strategy": _PLAIN})

# devpts_show_options in fs/devpts/inode.c
_DEVPTS = Kind(
    values={
        **dict.fromkeys((b"mode", b"ptmxmode"), _MODE),
        **dict.fromkeys((b"uid", b"gid"), _MAPPED._replace(default=None)),
        b"max": _ID,
    }
)

# fuse_show_options in fs/fuse/inode.c, without what it shows of servers
_VIRTIOFS = Kind(values={b"dax": _PLAIN}, respelt=_respelt("dax dax=always"))

_KINDS: dict[bytes, Kind] = {
    b"vfat": _FAT, b"msdos": _MSDOS, b"exfat": _EXFAT, b"ntfs3": _NTFS3, b"ntfs": _NTFS3, b"iso9660": _ISOFS, b"udf": _UDF, b"9p": _P9,
    **dict.fromkeys((b"cifs", b"smb3"), _CIFS), b"ceph": _CEPH, **dict.fromkeys((b"nfs", b"nfs4"), _NFS),
    **dict.fromkeys((b"ext2", b"ext3", b"ext4"), _EXT4), b"xfs": _XFS, b"btrfs": _BTRFS, b"f2fs": _F2FS,
    b"overlay": _OVERLAY, b"tmpfs": _TMPFS, b"ramfs": _RAMFS, b"hugetlbfs": _HUGETLBFS, b"proc": _PROC, b"devpts": _DEVPTS,
    b"virtiofs": _VIRTIOFS, b"erofs": _EROFS,
}  # fmt: skip
_OTHER = Kind()


def kind(fs_type: bytes) -> Kind:
    """How a type shows its options; of one that is not in the table only what all share is
    known."""
    if filesystems.is_fuse_type(fs_type):
        return _FUSE
    return _KINDS.get(fs_type, _OTHER)


# What show_sb_opts in fs/proc_namespace.c shows of each superblock. Network filesystems and FUSE
# treat these flags in their own ways.
_SUPER_FLAGS = {
    b"sync": b"sync",
    b"async": b"sync",
    b"lazytime": b"lazytime",
    b"nolazytime": b"lazytime",
    b"dirsync": b"dirsync",
    b"mand": b"mand",
    b"nomand": b"mand",
}


# Comparison
# ------------------------------------------------------------------------------------------------


class _Spelt(NamedTuple):
    """Options as the kernel spells them: flags and values, each with the option that it comes from;
    later ones win."""

    flags: dict[bytes, bytes]
    values: dict[bytes, tuple[bytes, bytes]]


def _respelt_as(option: bytes, rules: Kind) -> list[bytes]:
    key, equals, value = option.partition(b"=")
    others = rules.respelt.get(option) or (rules.respelt.get(key + b"=") if equals else None)
    return [option] if others is None else [other.replace(b"{}", value) for other in others]


def _spelt(options: Sequence[bytes], rules: Kind) -> _Spelt:
    found = _Spelt({}, {})
    for option in options:
        for other in _respelt_as(option, rules):
            key, equals, value = other.partition(b"=")
            if equals:
                found.values.pop(key, None)
                found.values[key] = (value.strip(b'"'), option)
            else:
                found.flags.pop(other, None)
                found.flags[other] = option
    minor, version = found.values.get(b"minorversion"), found.values.get(b"vers")
    if minor and version and version[0] == b"4":
        found.values[b"vers"] = (b"4." + minor[0], version[1])
    return found


class _Shown(NamedTuple):
    flags: frozenset[bytes]
    values: dict[bytes, list[bytes]]


def _shown(mount: Mount, rules: Kind) -> _Shown:
    """What the kernel shows, of the mount and of its superblock together, in the kernel's newest
    spelling."""
    # A quoted SELinux context holds commas; the table was split at them.
    options = [*mount.options, *split_options(b",".join(mount.super_options))]
    flags, values = set(), dict[bytes, list[bytes]]()
    for option in (other for each in options for other in _respelt_as(each, rules)):
        key, equals, value = option.partition(b"=")
        if equals:
            values.setdefault(key, []).append(value.strip(b'"'))
        else:
            flags.add(option)
    return _Shown(frozenset(flags), values)


def compared(options: Sequence[bytes], mount: Mount, alone: bool) -> Comparison:
    """The options of a filesystem held against what the kernel shows of it.

    ``alone``: no other mount that was declared can have the same superblock, whose options are
    those of the first that was mounted."""
    rules = kind(mount.fs_type)
    ours = [option for option in options if not is_flag(option) and not is_control(option)]
    spelt, shown = _spelt(ours, rules), _shown(mount, rules)
    told: dict[str, None] = {}
    settled: set[bytes] = set()
    if not alone:
        spelt = _Spelt({}, {key: value for key, value in spelt.values.items() if key in (b"subvol", b"subvolid")})
    super_flags = _super_flags(ours, mount, shown, rules) if alone else ()
    for finding in (*super_flags, *_flags(spelt, shown, rules), *_values(spelt, shown, rules)):
        settled.add(finding.option)
        if finding.words:
            told[finding.words] = None
    return Comparison(list(told), [option for option in dict.fromkeys(ours) if option not in settled])


class _Finding(NamedTuple):
    """An option that could be compared, and how it differs; empty words where it does not."""

    option: bytes
    words: str = ""


def _super_flags(options: Sequence[bytes], mount: Mount, shown: _Shown, rules: Kind) -> Iterator[_Finding]:
    if not traits(mount.fs_type).super_flags:
        return
    for option in options:
        flag = _SUPER_FLAGS.get(option)
        if flag is None or option in rules.uncertain:
            continue
        rivals = [each for each, its in _SUPER_FLAGS.items() if its == flag]
        wanted, in_force = option == flag, flag in shown.flags
        if wanted == in_force or last_of(options, rivals) != option:
            yield _Finding(option)
        elif wanted:
            yield _Finding(option, f"{flag.decode()} is not in force, but expected")
        else:
            yield _Finding(option, f"{flag.decode()} is in force, expected {option.decode()}")


def _flags(spelt: _Spelt, shown: _Shown, rules: Kind) -> Iterator[_Finding]:
    for flag, option in spelt.flags.items():
        if flag in _SUPER_FLAGS:
            continue
        rivals = _rivals(flag, rules)
        contrary = sorted(rivals & shown.flags)
        if flag in shown.flags or last_of(list(spelt.flags), {flag, *rivals}) != flag:
            yield _Finding(option)  # another one was declared after it, or it is there
        elif contrary and flag not in rules.uncertain:
            yield _Finding(option, f"{printable(contrary[0])} is in force, expected {printable(option)}")
        elif flag in rules.shown:
            yield _Finding(option, f"{printable(flag)} is not in force, but expected")


def _rivals(flag: bytes, rules: Kind) -> set[bytes]:
    """The flags that contradict a flag."""
    opposite = flag[2:] if flag.startswith(b"no") else b"no" + flag
    return {opposite}.union(*(group for group in rules.groups if flag in group)) - {flag}


def _values(spelt: _Spelt, shown: _Shown, rules: Kind) -> Iterator[_Finding]:
    for key, (value, option) in spelt.values.items():
        rule = rules.values.get(key) or _COMMON.get(key, _ANY)
        ours = rule.declared(value)
        if ours is None:
            continue
        theirs = shown.values.get(key) or _unshown(key, rule, spelt, shown, rules)
        meanings = [rule.shown(each) for each in theirs]
        if not meanings or None in meanings:
            continue
        fits = any(rule.fits(ours, meaning, shown.values) for meaning in meanings)
        declared = value if option.startswith(key + b"=") else option
        words = f"{printable(key)} is {value_words(key, theirs[0])}, expected {value_words(key, declared)}"
        yield _Finding(option, "" if fits else words)


def _unshown(key: bytes, rule: Rule, spelt: _Spelt, shown: _Shown, rules: Kind) -> list[bytes]:
    """What holds where the kernel shows nothing of a key, if that is known."""
    later = list(spelt.values)[list(spelt.values).index(key) :]
    replaced = rules.instead.get(key, frozenset()) & {*later, *spelt.flags, *shown.values, *shown.flags}
    return [] if rule.default is None or replaced else [rule.default]


def _anything(value: bytes) -> object:
    number = _number(value)
    return value.lower().rstrip(b"/") if number is None else number


def _may_be(ours: object, theirs: object, shown: Mapping[bytes, list[bytes]]) -> bool:
    """Of an option that is not in the table: two numbers or two words that differ do differ."""
    if isinstance(ours, bytes) and isinstance(theirs, bytes):
        return ours == theirs or theirs.startswith(ours + b":")
    return ours == theirs or type(ours) is not type(theirs)


_ANY = Rule(_anything, _anything, fits=_may_be)


# Spelling
# ------------------------------------------------------------------------------------------------

# What an option without a table may be: of FUSE daemons, of mount helpers, of filesystems, as
# people write them.
_OTHER_WORDS = _words(
    """allow_other allow_root default_permissions auto_unmount nonempty direct_io kernel_cache auto_cache noauto_cache use_ino readdir_ino
    big_writes sync_read async_read hard_remove large_read entry_timeout attr_timeout negative_timeout ac_attr_timeout reconnect idmap
    compression permissions norecover recover windows_names hide_hid_files ignore_case show_sys_files locale delay_mtime streams_interface
    inherit dir_cache ver flock localflock localflocks checksum nochecksum
    uname userxattr notail resize mtime nomtime no_heap ignorecase
    sec seal sign cache vers proto port trans hard soft softerr lock nolock intr nointr bg fg ac noac cto nocto acl noacl
    user_xattr nouser_xattr barrier nobarrier discard nodiscard delalloc nodelalloc data errors quota usrquota grpquota prjquota noquota
    usrjquota grpjquota jqfmt rdirplus nordirplus resvport noresvport sharecache nosharecache local_lock fsc nofsc mand nomand iversion
    noiversion offset sizelimit compress ssd nossd autodefrag noautodefrag datacow nodatacow datasum nodatasum space_cache nospace_cache
    shortname tz iocharset nls zfsutil xino index metacopy redirect_dir nfs_export hidepid subset noswap huge max dax treelog notreelog
    serverino noserverino perm noperm brl nobrl mfsymlinks nomfsymlinks nounix unix linux nolinux posix noposix sfu nosfu mapchars
    nomapchars mapposix nomapposix setuids nosetuids dynperm nodynperm forceuid noforceuid forcegid noforcegid multiuser cruid
    cifsacl nocifsacl idsfromsid modefromsid nodfs nocase persistenthandles nopersistenthandles resilienthandles noresilienthandles
    multichannel nomultichannel sparse nosparse nohandlecache nosharesock nodelete noautotune noblocksend snapshot rdma witness
    auto_da_alloc noauto_da_alloc block_validity noblock_validity journal_checksum nojournal_checksum journal_async_commit i_version
    noinit_itable debug_want_extra_isize mblk_io_submit nomblk_io_submit bsddf minixdf debug nouid32 nogrpid attr2 noattr2
    noalign noikeep ikeep nolargeio flush_merge noflush_merge inline_data noinline_data inline_dentry noinline_dentry inline_xattr
    noinline_xattr extent_cache noextent_cache gc_merge nogc_merge heap noheap fastboot atgc background_gc norecovery nouuid wsync
    subvol subvolid enospc_debug noenospc_debug rescan_uuid_tree clear_cache check_int inode_cache usrquota_block_hardlimit
    grpquota_block_hardlimit usrquota_inode_hardlimit grpquota_inode_hardlimit casefold"""
)
# What people write for ours.
_MEANT = {
    **dict.fromkeys((b"fstype", b"fs_type", b"fs-type", b"vfstype", b"filesystem", b"fs", b"types"), b"type"),
    **dict.fromkeys((b"src", b"device", b"devname", b"spec", b"what", b"from", b"sources"), b"source"),
    **dict.fromkeys((b"readonly", b"read-only", b"read_only"), b"ro"),
    **dict.fromkeys((b"readwrite", b"read-write", b"read_write"), b"rw"),
}
_OURS = frozenset((b"source", b"type"))
# What people write before options, or before the mount point, which have no key here.
_NO_KEYS = {
    **dict.fromkeys((b"options", b"option", b"opts", b"opt", b"o"), "options stand by themselves, separated by commas"),
    **dict.fromkeys(
        (b"mountpoint", b"mount_point", b"mount-point", b"target", b"where"), "the mount point stands by itself"
    ),
}


def _of_table(kinds: Collection[Kind]) -> set[bytes]:
    """The names of all options, without their values, that these types take or show."""
    spelt = [words for each in kinds for words in (each.values, each.respelt, each.shown, each.uncertain, *each.groups)]
    return {word.partition(b"=")[0] for words in spelt for word in words}


def check_spelling(option: bytes, fs_type: Optional[bytes]) -> None:
    """Raises ValueError, in words, for an option of a declaration that is a slip for one that is
    known.

    ``fs_type`` is the declared type, None where any will do. What is near to nothing is taken:
    filesystems have many options."""
    key = option.partition(b"=")[0]
    if option != option.strip():
        raise ValueError(f"'{printable(key)}' has a blank before or after it")
    if not key:
        raise ValueError("an option has no name")
    if key.lower() in _NO_KEYS:
        raise ValueError(f"'{printable(key)}' is not known; {_NO_KEYS[key.lower()]}")
    if key in _OURS:
        raise ValueError(f"'{printable(key)}=' is not an option, but says something of its own")
    general = FLAG_WORDS | CONTROL_WORDS | _SUPER_FLAGS.keys()
    known = general | _COMMON.keys() | _OTHER_WORDS | _of_table(_KINDS.values())
    # `fs` of ceph and `device` of btrfs are something else elsewhere.
    elsewhere = (
        key in _MEANT
        and fs_type is not None
        and key not in kind(fs_type).values
        and key + b"=" not in kind(fs_type).respelt
    )
    opposite = key[2:] if key.startswith(b"no") else b"no" + key
    if is_control(option) or ((key in known or opposite in known) and not elsewhere):
        return
    own = _of_table((kind(fs_type),)) if fs_type in _KINDS else set[bytes]()
    # Daemons of FUSE and other modules have options of their own, some of them near to those that
    # are known; the more so short ones.
    foreign = fs_type is not None and fs_type not in _KINDS and not traits(fs_type).known
    others = frozenset[bytes]() if foreign else {word for word in known if len(word) > 5}
    word = key.lower()
    near = (
        _MEANT.get(word)
        or _nearest(word, _OURS)
        or _nearest(word, general)
        or _nearest(word, own)
        or _nearest(word, others)
    )
    if near is not None:
        raise ValueError(f"'{printable(key)}' is not known; did you mean '{printable(near)}'?")


def check_type(declared: bytes) -> None:
    """Raises ValueError, in words, for a declared type that is a slip for one that is known. Others
    may be those of mount helpers."""
    for each in declared.split(b","):
        if not filesystems.names_type(each) and each not in (b"auto", b"none"):
            near = _nearest(each.lower(), filesystems.all_types())
            if near is not None:
                raise ValueError(f"the type '{printable(each)}' is not known; did you mean '{printable(near)}'?")


def _nearest(word: bytes, words: Collection[bytes]) -> Optional[bytes]:
    """The first of these words that a slip may have made ``word`` of. Short ones have too many
    neighbours."""
    if word in words:
        return word
    return next((each for each in sorted(words) if len(each) > 3 and _is_near(word, each)), None)


def _is_near(one: bytes, other: bytes) -> bool:
    """Is one letter more, less or another, or are two neighbours exchanged?"""
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    one, other = one[same:], other[same:]
    exchanged = one[:2] == other[1::-1] and one[2:] == other[2:]
    return one[1:] == other[1:] or one[1:] == other or one == other[1:] or exchanged
