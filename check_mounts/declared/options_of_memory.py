"""How filesystems in memory, and overlays, show their options: a table for each. Pure."""

from __future__ import annotations

from check_mounts.declared.option_kinds import (
    FROM_ROOT,
    ID,
    MAPPED,
    MODE,
    NEVER,
    PAGES,
    Kind,
    Rule,
    ShownValues,
    fits_whole_pages,
    last,
    respellings,
    rule,
    words_of,
)
from check_mounts.declared.option_values import limit_of, masked, octal_of, one_of, size_of, word_of
from check_mounts.typed import Optional


def _directories(value: bytes) -> Optional[bytes]:
    """The directories of an overlay; None if they hold escapes, which differ between kernels."""
    return None if b"\\" in value else value.rstrip(b"/")


_FEATURE = Rule(word_of, word_of, fits=lambda ours, theirs, _: ours != b"off" or theirs in (b"off", b"null"))

# ovl_show_options in fs/overlayfs/params.c. Where the upper filesystem lacks a feature, the kernel
# falls back to `off`.
_OVERLAY = Kind(
    values={
        **dict.fromkeys((b"lowerdir", b"upperdir", b"workdir"), rule(_directories)),
        **dict.fromkeys((b"index", b"nfs_export", b"metacopy", b"xino", b"uuid", b"verity"), _FEATURE),
        b"redirect_dir": NEVER,  # the other features and the configuration of the kernel decide
    },
)

_PAGED = b"pages:"


def _tmpfs_size(value: bytes) -> Optional[object]:
    """A size in bytes; for ``nr_blocks``, which counts pages, one for each possible page size."""
    if not value.startswith(_PAGED):
        return size_of(value)
    pages = size_of(value[len(_PAGED) :])
    return None if pages is None else tuple(pages * page for page in PAGES)


def _fits_pages(ours: object, theirs: object, shown: ShownValues) -> bool:
    """tmpfs rounds its size up to whole pages."""
    return theirs in ours if isinstance(ours, tuple) else fits_whole_pages(ours, theirs, shown)


# shmem_show_options in mm/shmem.c
_TMPFS = Kind(
    values={
        b"size": Rule(_tmpfs_size, size_of, fits=_fits_pages),
        b"nr_inodes": rule(size_of),
        b"mode": rule(masked(0o7777), b"1777"),
        **dict.fromkeys((b"uid", b"gid"), MAPPED),
        **dict.fromkeys((b"usrquota_block_hardlimit", b"usrquota_inode_hardlimit"), rule(size_of)),
        **dict.fromkeys((b"grpquota_block_hardlimit", b"grpquota_inode_hardlimit"), rule(size_of)),
        b"huge": rule(word_of, b"never"),
        b"mpol": NEVER,
    },
    respelt=respellings("nr_blocks= size=pages:{}"),
    shown=words_of("noswap"),
    groups=(words_of("inode32 inode64"),),
)

# ramfs_show_options in fs/ramfs/inode.c; ramfs accepts and ignores any other option
_RAMFS = Kind(values={b"mode": rule(octal_of, b"755")})


def _fits_huge_pages(ours: object, theirs: object, shown: ShownValues) -> bool:
    """hugetlbfs drops the rest that does not fill a huge page.

    See hugetlbfs_size_to_hpages() in fs/hugetlbfs/inode.c."""
    assert isinstance(ours, int) and isinstance(theirs, int)
    page = size_of(last(shown, b"pagesize")) or 2 << 20
    return theirs <= ours < theirs + page


# hugetlbfs_show_options in fs/hugetlbfs/inode.c
_HUGETLBFS = Kind(
    values={
        b"size": Rule(size_of, limit_of, b"unlimited", _fits_huge_pages),
        b"min_size": Rule(size_of, limit_of, b"none", _fits_huge_pages),
        b"nr_inodes": Rule(size_of, limit_of, b"unlimited"),
        b"pagesize": rule(size_of),
        b"mode": rule(masked(0o1777), b"755"),
        **dict.fromkeys((b"uid", b"gid"), FROM_ROOT),
    }
)

_HIDEPID = (
    dict.fromkeys(("_0", "off"), "off")
    | dict.fromkeys(("_1", "noaccess"), "1")
    | dict.fromkeys(("_2", "invisible"), "2")
)

# proc_show_options in fs/proc/root.c: it shows numbers before Linux 5.8, words since then
_PROC = Kind(
    values={
        b"hidepid": rule(one_of(**_HIDEPID, _4="4", ptraceable="4"), b"off"),
        b"gid": MAPPED,
        b"subset": rule(word_of, b"none"),
    }
)

# devpts_show_options in fs/devpts/inode.c
_DEVPTS = Kind(
    values={
        **dict.fromkeys((b"mode", b"ptmxmode"), MODE),
        **dict.fromkeys((b"uid", b"gid"), MAPPED._replace(default=None)),
        b"max": ID,
    }
)

KINDS: dict[bytes, Kind] = {
    b"overlay": _OVERLAY,
    b"tmpfs": _TMPFS,
    b"ramfs": _RAMFS,
    b"hugetlbfs": _HUGETLBFS,
    b"proc": _PROC,
    b"devpts": _DEVPTS,
}
