"""How filesystems on disks, USB sticks and optical discs show their options: a table for each.
Pure."""

from __future__ import annotations

import re

from check_mounts.declared.option_kinds import (
    ANY_BASE,
    FROM_ROOT,
    ID,
    NEVER,
    PLAIN,
    WRITABLE,
    Kind,
    Rule,
    ShownValues,
    respellings,
    rule,
    words_of,
)
from check_mounts.declared.option_values import (
    decimal_of,
    limit_of,
    minutes_of,
    number_of,
    one_of,
    size_of,
    word_of,
    yes_or_no,
)
from check_mounts.typed import Optional

# fat_show_options in fs/fat/inode.c
_FAT = Kind(
    values={
        b"check": rule(one_of(relaxed="r", r="r", normal="n", n="n", strict="s", s="s"), b"normal"),
        **dict.fromkeys((b"uid", b"gid"), FROM_ROOT),
        b"allow_utime": WRITABLE,
        b"codepage": ID,
        b"time_offset": rule(minutes_of),
        **dict.fromkeys((b"utf8", b"uni_xlate", b"nonumtail"), rule(yes_or_no, b"no")),
        b"nfs": rule(one_of(stale_rw="rw", nostale_ro="ro", off="off"), b"off"),
        b"dotsOK": rule(yes_or_no, b"no"),
    },
    respelt=respellings(
        """umask= fmask={} dmask={}
        nocase shortname=win95
        dots dotsOK=yes; nodots dotsOK=no
        utf8 utf8=yes; uni_xlate uni_xlate=yes; nonumtail nonumtail=yes
        nfs nfs=stale_rw
        tz=UTC time_offset=0"""
    ),
    shown=words_of("flush quiet usefree rodir sys_immutable showexec dos1xfloppy discard"),
    instead={b"utf8": words_of("uni_xlate")},
)

_MSDOS = _FAT._replace(respelt={**_FAT.respelt, b"nocase": (b"nocase",)}, shown=_FAT.shown | {b"nocase"})

# exfat_show_options in fs/exfat/super.c
_EXFAT = Kind(
    values={
        **dict.fromkeys((b"uid", b"gid"), FROM_ROOT),
        b"allow_utime": WRITABLE,
        b"time_offset": rule(minutes_of, b"0"),
    },
    respelt=respellings("umask= fmask={} dmask={}"),
    shown=words_of("keep_last_dots sys_tz zero_size_dir"),
    uncertain=words_of("discard"),  # dropped where the device does not support it
    instead={b"time_offset": words_of("sys_tz")},
)

# ntfs_show_options in fs/ntfs3/super.c
_NTFS3 = Kind(
    respelt=respellings("umask= fmask={} dmask={}"),
    shown=words_of("sys_immutable hide_dot_files windows_names prealloc force sparse nohidden showmeta nocase"),
)

# isofs_show_options in fs/isofs/inode.c: it shows the option `mode` as `fmode`, and only the first
# letter of a word
_ISOFS = Kind(
    values={
        b"check": rule(one_of(relaxed="r", r="r", strict="s", s="s")),
        b"map": rule(one_of(off="o", o="o", normal="n", n="n", acorn="a", a="a")),
        **dict.fromkeys((b"fmode", b"dmode"), ANY_BASE),
        **dict.fromkeys((b"session", b"sbsector"), ID),
        **dict.fromkeys((b"block", b"blocksize"), NEVER),  # the blocks of the device may be larger
    },
    respelt=respellings("mode= fmode={}; unhide showassoc"),
    shown=words_of("norock cruft hide nocompress overriderockperm showassoc"),
)

# udf_show_options in fs/udf/super.c
_UDF = Kind(
    values={
        **dict.fromkeys((b"uid", b"gid"), rule(lambda value: value if value == b"forget" else decimal_of(value))),
        **dict.fromkeys((b"mode", b"dmode"), ANY_BASE),
        b"umask": ANY_BASE._replace(default=b"0"),
        b"lastblock": NEVER,  # the kernel searches around it
    },
    shown=words_of("nostrict unhide undelete noadinicb shortad"),
    groups=(words_of("shortad longad"),),
)

# _ext4_show_options in fs/ext4/super.c: it shows only options that differ from the defaults, some
# of which are in the superblock (tune2fs -o)
_EXT4 = Kind(
    values={
        b"commit": rule(lambda value: number_of(value) or 5, b"5"),
        **dict.fromkeys((b"resuid", b"resgid"), FROM_ROOT),
        b"sb": ID,
        b"min_batch_time": rule(number_of, b"0"),
        b"max_batch_time": rule(number_of, b"15000"),
        b"inode_readahead_blks": rule(number_of, b"32"),
        b"max_dir_size_kb": rule(number_of, b"0"),
        b"stripe": NEVER,  # the kernel drops a value that does not fit
        b"journal_ioprio": NEVER,
        b"journal_dev": NEVER,
        b"journal_path": NEVER,
        b"errors": PLAIN,
        b"data": PLAIN,
        b"data_err": rule(word_of, b"ignore"),
        b"dax": rule(word_of, b"inode"),
    },
    respelt=respellings(
        """bsdgroups grpid; sysvgroups nogrpid
        noload norecovery
        barrier=0 nobarrier; barrier=1 barrier
        init_itable init_itable=10
        dioread_lock nodioread_nolock; no_mbcache nombcache
        auto_da_alloc=0 noauto_da_alloc; auto_da_alloc=1 auto_da_alloc
        dax dax=always"""
    ),
    shown=words_of("norecovery minixdf noauto_da_alloc nombcache"),
    groups=(words_of("bsddf minixdf"),),
    uncertain=words_of("dioread_nolock"),  # cleared with data=journal
)


def _fits_dax(ours: object, theirs: object, shown: ShownValues) -> bool:
    """XFS turns DAX off if the device does not support it (xfs_fs_fill_super).

    See fs/xfs/xfs_super.c."""
    return theirs == ours or (ours, theirs) == (b"always", b"never")


def _allocation(value: bytes) -> Optional[int]:
    """The lowest bit of a size: XFS uses only that (xfs_fs_parse_param in fs/xfs/xfs_super.c)."""
    size = size_of(value)
    return None if not size else size & -size


# xfs_fs_show_options in fs/xfs/xfs_super.c
_XFS = Kind(
    values={
        b"allocsize": Rule(_allocation, limit_of, b"none"),
        b"logbsize": rule(lambda value: size_of(value) or None),
        b"logbufs": rule(lambda value: number_of(value) or None),  # 0: the kernel chooses
        b"dax": Rule(word_of, word_of, b"inode", _fits_dax),
        # The superblock's own geometry wins; a device has many names.
        **dict.fromkeys((b"sunit", b"swidth", b"logdev", b"rtdev", b"biosize", b"inode_readahead"), NEVER),
    },
    respelt=respellings(
        """quota usrquota; uquota usrquota; qnoenforce uqnoenforce
        gquota grpquota; pquota prjquota
        bsdgroups grpid; sysvgroups nogrpid
        dax dax=always"""
    ),
    shown=words_of("wsync swalloc noalign nouuid norecovery grpid largeio filestreams"),
    groups=(
        words_of("usrquota uqnoenforce noquota"),
        words_of("grpquota gqnoenforce noquota"),
        words_of("prjquota pqnoenforce noquota"),
        words_of("inode32 inode64"),
    ),
    uncertain=words_of("discard"),  # dropped where the device does not support it
)


def _subvolume(value: bytes) -> Optional[bytes]:
    """The path of a subvolume; None for an empty ``subvol=``, which asks for no subvolume.

    See btrfs_parse_param in fs/btrfs/super.c."""
    return (re.sub(rb"/+", b"/", b"/" + value).rstrip(b"/") or b"/") if value else None


def _compression(value: bytes) -> Optional[bytes]:
    """Algorithm and level.

    btrfs shows a default level, but no level for LZO, and lowers a level that is too high to the
    highest."""
    name, _, level = value.lower().partition(b":")
    if name in (b"no", b"none"):
        return b""
    most = {b"zlib": 9, b"zstd": 15}.get(name)
    if most is None:
        return name
    number = decimal_of(level or b"0")
    return None if number is None else b"%s:%d" % (name, max(-most, min(number, most)) or 3)


# btrfs_show_options in fs/btrfs/super.c
_BTRFS = Kind(
    values={
        **dict.fromkeys((b"compress", b"compress-force"), rule(_compression, b"none")),
        b"commit": rule(lambda value: number_of(value) or 30, b"30"),
        b"subvol": rule(_subvolume),
        b"subvolid": rule(lambda value: number_of(value) or 5),
        b"max_inline": NEVER,  # limited to the size of a sector
        b"space_cache": NEVER,  # the disk decides
        b"thread_pool": ID,
        b"discard": rule(one_of(sync="sync", _async="async", no="no")),
        b"fatal_errors": rule(word_of, b"bug"),
        b"device": NEVER,
        b"rescue": NEVER,
        b"metadata_ratio": rule(number_of, b"0"),
    },
    respelt=respellings(
        """compress compress=zlib; compress-force compress-force=zlib
        nologreplay rescue=nologreplay; norecovery rescue=nologreplay
        usebackuproot rescue=usebackuproot; recovery rescue=usebackuproot
        discard discard=sync; nodiscard discard=no
        space_cache space_cache=v1"""
    ),
    shown=words_of(
        """degraded nobarrier notreelog flushoncommit noacl autodefrag user_subvol_rm_allowed skip_balance
        nossd ssd_spread"""
    ),
    groups=(words_of("ssd_spread nossd"),),
    # Whichever of compress and nodatacow comes later is in force.
    instead={
        b"compress": words_of("compress-force nodatacow nodatasum"),
        b"compress-force": words_of("compress nodatacow nodatasum"),
    },
)


def _fits_allocation(ours: object, theirs: object, shown: ShownValues) -> bool:
    """A small f2fs always reuses segments (f2fs_tuning_parameters in fs/f2fs/super.c)."""
    return theirs in (ours, b"reuse")


def _f2fs_compression(value: bytes) -> Optional[bytes]:
    """An algorithm; Linux shows the default level of Zstandard since 5.14."""
    return {b"zstd": b"zstd:1"}.get(value.lower(), value.lower())


# f2fs_show_options in fs/f2fs/super.c: it always shows nearly all options
_F2FS = Kind(
    values={
        **dict.fromkeys((b"mode", b"background_gc", b"fsync_mode", b"compress_mode", b"memory", b"errors"), PLAIN),
        b"discard_unit": NEVER,  # a section on zoned devices
        b"alloc_mode": Rule(word_of, word_of, fits=_fits_allocation),
        b"compress_algorithm": rule(_f2fs_compression),
        **dict.fromkeys((b"active_logs", b"inline_xattr_size", b"compress_log_size"), ID),
        **dict.fromkeys((b"reserve_root", b"checkpoint", b"compress_extension", b"nocompress_extension"), NEVER),
        b"whint_mode": NEVER,
    },
    respelt=respellings("norecovery disable_roll_forward"),
    shown=words_of("nobarrier data_flush disable_roll_forward disable_ext_identify"),
    # f2fs is always mounted with lazytime: default_options sets the flag after mount(8) has.
    uncertain=words_of("discard heap nolazytime"),
)

# erofs_show_options in fs/erofs/super.c
_EROFS = Kind(values={b"device": NEVER, b"cache_strategy": PLAIN})

KINDS: dict[bytes, Kind] = {
    b"vfat": _FAT,
    b"msdos": _MSDOS,
    b"exfat": _EXFAT,
    b"ntfs3": _NTFS3,
    b"ntfs": _NTFS3,
    b"iso9660": _ISOFS,
    b"udf": _UDF,
    **dict.fromkeys((b"ext2", b"ext3", b"ext4"), _EXT4),
    b"xfs": _XFS,
    b"btrfs": _BTRFS,
    b"f2fs": _F2FS,
    b"erofs": _EROFS,
}
