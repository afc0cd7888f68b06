"""Misspelt options and types in declarations: words that resemble a known one. Pure."""

from __future__ import annotations

import functools
from collections.abc import Collection

from check_mounts import filesystems
from check_mounts.declared.mountoptions import CONTROL_WORDS, FLAG_WORDS, is_control
from check_mounts.declared.option_kinds import COMMON, SUPER_FLAGS, Kind, words_of
from check_mounts.declared.option_rules import KINDS, kind_of
from check_mounts.filesystems import traits
from check_mounts.text import printable
from check_mounts.typed import Optional

# Words that people write -> the option or key that they mean.
_MEANT = {
    **dict.fromkeys((b"fstype", b"fs_type", b"fs-type", b"vfstype", b"filesystem", b"fs", b"types"), b"type"),
    **dict.fromkeys((b"src", b"device", b"devname", b"spec", b"what", b"from", b"sources"), b"source"),
    **dict.fromkeys((b"readonly", b"read-only", b"read_only"), b"ro"),
    **dict.fromkeys((b"readwrite", b"read-write", b"read_write"), b"rw"),
}

_OURS = frozenset((b"source", b"type"))

# Words that people write before options, or before the mount point; there are no such keys.
_NO_KEYS = {
    **dict.fromkeys((b"options", b"option", b"opts", b"opt", b"o"), "write options without a key, separated by commas"),
    **dict.fromkeys(
        (b"mountpoint", b"mount_point", b"mount-point", b"target", b"where"), "write the mount point without a key"
    ),
}

# Options that no table has: of FUSE daemons, of mount helpers and of filesystems, as people write
# them.
_OTHER_WORDS = words_of(
    """allow_other allow_root default_permissions auto_unmount nonempty direct_io kernel_cache
    auto_cache noauto_cache use_ino readdir_ino big_writes sync_read async_read hard_remove
    large_read entry_timeout attr_timeout negative_timeout ac_attr_timeout reconnect idmap
    compression permissions norecover recover windows_names hide_hid_files ignore_case
    show_sys_files locale delay_mtime streams_interface inherit dir_cache ver flock localflock
    localflocks checksum nochecksum uname userxattr notail resize mtime nomtime no_heap
    ignorecase sec seal sign cache vers proto port trans hard soft softerr lock nolock intr
    nointr bg fg ac noac cto nocto acl noacl user_xattr nouser_xattr barrier nobarrier discard
    nodiscard delalloc nodelalloc data errors quota usrquota grpquota prjquota noquota usrjquota
    grpjquota jqfmt rdirplus nordirplus resvport noresvport sharecache nosharecache local_lock
    fsc nofsc mand nomand iversion noiversion offset sizelimit compress ssd nossd autodefrag
    noautodefrag datacow nodatacow datasum nodatasum space_cache nospace_cache shortname tz
    iocharset nls zfsutil xino index metacopy redirect_dir nfs_export hidepid subset noswap huge
    max dax treelog notreelog serverino noserverino perm noperm brl nobrl mfsymlinks
    nomfsymlinks nounix unix linux nolinux posix noposix sfu nosfu mapchars nomapchars mapposix
    nomapposix setuids nosetuids dynperm nodynperm forceuid noforceuid forcegid noforcegid
    multiuser cruid cifsacl nocifsacl idsfromsid modefromsid nodfs nocase persistenthandles
    nopersistenthandles resilienthandles noresilienthandles multichannel nomultichannel sparse
    nosparse nohandlecache nosharesock nodelete noautotune noblocksend snapshot rdma witness
    auto_da_alloc noauto_da_alloc block_validity noblock_validity journal_checksum
    nojournal_checksum journal_async_commit i_version noinit_itable debug_want_extra_isize
    mblk_io_submit nomblk_io_submit bsddf minixdf debug nouid32 nogrpid attr2 noattr2 noalign
    noikeep ikeep nolargeio flush_merge noflush_merge inline_data noinline_data inline_dentry
    noinline_dentry inline_xattr noinline_xattr extent_cache noextent_cache gc_merge nogc_merge
    heap noheap fastboot atgc background_gc norecovery nouuid wsync subvol subvolid enospc_debug
    noenospc_debug rescan_uuid_tree clear_cache check_int inode_cache usrquota_block_hardlimit
    grpquota_block_hardlimit usrquota_inode_hardlimit grpquota_inode_hardlimit casefold"""
)


def check_spelling(option: bytes, fs_type: Optional[bytes]) -> None:
    """Raises ValueError, with the reason in words, for an option that is misspelt.

    ``fs_type`` is the declared type; None if the declaration allows any. An option that resembles
    no known option passes: filesystems have many options."""
    key = option.partition(b"=")[0]
    if option != option.strip():
        raise ValueError(f"'{printable(key)}' has a blank before or after it")
    if not key:
        raise ValueError("an option has no name")
    if key.lower() in _NO_KEYS:
        raise ValueError(f"'{printable(key)}' is not known; {_NO_KEYS[key.lower()]}")
    if key in _OURS:
        raise ValueError(f"'{printable(key)}=' is not a mount option; it has a key of its own")
    general, known = _known()
    opposite = key[2:] if key.startswith(b"no") else b"no" + key
    if is_control(option) or ((key in known or opposite in known) and not _is_meant_otherwise(key, fs_type)):
        return
    near = _meant(key.lower(), fs_type, general, known)
    if near is not None:
        raise ValueError(f"'{printable(key)}' is not known; did you mean '{printable(near)}'?")


@functools.lru_cache(maxsize=1)
def _known() -> tuple[frozenset[bytes], frozenset[bytes]]:
    """The options of any filesystem, and all known options."""
    general = frozenset(FLAG_WORDS | CONTROL_WORDS | SUPER_FLAGS.keys())
    return general, frozenset(general | COMMON.keys() | _OTHER_WORDS | _names_in(KINDS.values()))


def _is_meant_otherwise(key: bytes, fs_type: Optional[bytes]) -> bool:
    """Is this word an option of another filesystem only, so that here it means one of our keys?

    ``fs`` is an option of ceph, ``device`` one of btrfs."""
    if key not in _MEANT or fs_type is None:
        return False
    return key not in kind_of(fs_type).values and key + b"=" not in kind_of(fs_type).respelt


def _meant(
    word: bytes, fs_type: Optional[bytes], general: Collection[bytes], known: Collection[bytes]
) -> Optional[bytes]:
    """The known option that this word resembles; None if it resembles no option."""
    own = _names_in((kind_of(fs_type),)) if fs_type in KINDS and fs_type is not None else set[bytes]()
    # FUSE daemons and other modules have options of their own. Some resemble known options, short
    # ones above all.
    foreign = fs_type is not None and fs_type not in KINDS and not traits(fs_type).known
    others = frozenset[bytes]() if foreign else {each for each in known if len(each) > 5}
    return _MEANT.get(word) or next(
        filter(None, (_nearest(word, words) for words in (_OURS, general, own, others))), None
    )


def _names_in(kinds: Collection[Kind]) -> set[bytes]:
    """The names of all options, without their values, that these types take or show."""
    spelt = [words for each in kinds for words in (each.values, each.respelt, each.shown, each.uncertain, *each.groups)]
    return {word.partition(b"=")[0] for words in spelt for word in words}


def check_type(declared: bytes) -> None:
    """Raises ValueError, with the reason in words, for a declared type that is misspelt.

    An unknown type that resembles no known type may be that of a mount helper."""
    for each in declared.split(b","):
        if not filesystems.names_type(each) and each not in (b"auto", b"none"):
            near = _nearest(each.lower(), filesystems.all_types())
            if near is not None:
                raise ValueError(f"the type '{printable(each)}' is not known; did you mean '{printable(near)}'?")


def _nearest(word: bytes, words: Collection[bytes]) -> Optional[bytes]:
    """The first of these words that ``word`` may be a misspelling of.

    Short words do not count: they resemble too many others."""
    if word in words:
        return word
    return next((each for each in sorted(words) if len(each) > 3 and _is_near(word, each)), None)


def _is_near(one: bytes, other: bytes) -> bool:
    """Do two words differ by one letter, or by two neighbours that are swapped?

    The one letter may be added, missing or wrong."""
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    one, other = one[same:], other[same:]
    exchanged = one[:2] == other[1::-1] and one[2:] == other[2:]
    return one[1:] == other[1:] or one[1:] == other or one == other[1:] or exchanged
