"""What a thread waits for, by the kernel functions of its stack. Pure.

The names are those of fs/, mm/ and net/ from Linux 5.4 to 6.18; a name that a kernel does not have
costs nothing.

Import budget: ``enum``, ``re``."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Sequence

from check_mounts.typed import NamedTuple, Optional


class Kind(enum.Enum):
    """What a thread was doing when it began to wait: an operation on an open descriptor; a look-up
    of a path; a page fault; something else in a filesystem, such as closing a file at its end."""

    DESCRIPTOR = enum.auto()
    LOOK_UP = enum.auto()
    FAULT = enum.auto()
    OTHER = enum.auto()


class Wait(NamedTuple):
    """``families`` are the kinds of filesystems whose functions are in the stack; empty if only
    functions are that all of them share. ``function`` is the innermost telling one. ``copies``: the
    operation has several descriptors (sendfile(2) and its like). ``is_asynchronous``: it is done
    for io_uring or aio, whose system calls do not name the file."""

    kind: Kind
    families: frozenset[str]
    function: str
    copies: bool = False
    is_asynchronous: bool = False


# A family -> the functions that only its filesystems have, and their types.
_FAMILIES: dict[str, tuple[str, tuple[bytes, ...]]] = {
    "nfs": (r"_*(nfs[34]?|nfs\d\d|rpc|xprt|xs|nlmclnt)_", (b"nfs", b"nfs4")),
    "cifs": (
        r"_*(cifs|smb[123]?|CIFS\w*|SMB2)_|wait_for_(response|free_credits|compound_request)|compound_send_recv",
        (b"cifs", b"smb3"),
    ),
    "9p": (r"_*(v9fs|p9)_", (b"9p",)),
    "fuse": (r"_*(fuse|virtio_fs)_|request_wait_answer", (b"fuse", b"fuseblk", b"virtiofs")),
    "ceph": (r"_*ceph_", (b"ceph",)),
    "afs": (r"_*(afs|yfs|rxrpc)_", (b"afs",)),
    "autofs": (r"autofs\w*_", (b"autofs",)),
    "gfs2": (r"_*(gfs2|gdlm|dlm|glock)_", (b"gfs2",)),
    "ocfs2": (r"_*(ocfs2|o2net|o2cb)_", (b"ocfs2",)),
    "lustre": (r"_*(ll|ptlrpc|cl|lov|osc|mdc|lmv|ldlm|vvp)_", (b"lustre",)),
    "orangefs": (r"orangefs_", (b"orangefs",)),
    "coda": (r"coda_", (b"coda",)),
    "vboxsf": (r"_*(vboxsf|vbg)_", (b"vboxsf",)),
    "ext4": (r"_*(ext4|jbd2)_", (b"ext2", b"ext3", b"ext4")),
    "xfs": (r"_*(xfs|xlog)_", (b"xfs",)),
    "btrfs": (r"_*btrfs_", (b"btrfs",)),
    "bcachefs": (r"_*bch2_", (b"bcachefs",)),
    "zfs": (r"_*(zpl|zfs|txg|dmu|zil|spa)_", (b"zfs",)),
    "f2fs": (r"_*f2fs_", (b"f2fs",)),
    "fat": (r"_*(fat|vfat|msdos)_", (b"vfat", b"msdos")),
    "iso9660": (r"isofs_", (b"iso9660",)),
    "ntfs": (r"_*(ntfs|ni|attr|run)_", (b"ntfs", b"ntfs3")),
    "overlay": (r"ovl_", (b"overlay",)),
    "squashfs": (r"squashfs_", (b"squashfs",)),
}
_OF_TYPE = {fs_type: family for family, (_, types) in _FAMILIES.items() for fs_type in types}
_LOOK_UP = (
    r"walk_component|link_path_walk|path_(lookup|open|parent|init|mount)at?|lookup_(fast|slow|open|one)|__lookup_\w+"
    r"|d_alloc_parallel|d_wait_lookup|open_last_lookups|do_filp_open|do_last|(do_)?filename_\w+|user_path\w*"
    r"|do_(unlink|mkdir|rmdir|rename|link|symlink|mknod)at\w*|vfs_statx\w*|complete_walk|follow_\w+|step_into"
    r"|vfs_(mkdir|rmdir|unlink|rename|link|symlink|create|mknod)|lock_rename|pick_link|try_to_unlazy\w*|do_open_execat"
)
_FAULT = (
    r"(do_|hugetlb_)?(__)?handle_mm_fault|filemap_fault|(__)?do_(page_|read_|cow_|shared_)?fault|exc_page_fault"
    r"|asm_exc_page_fault|do_user_addr_fault|do_mem_abort|do_translation_fault|do_pte_missing|handle_pte_fault"
    r"|faultin_page|__get_user_pages|segv|handle_page_fault|filemap_map_pages|do_page_mkwrite"
)
_COPIES = (
    r"do_sendfile|do_splice\w*|splice_\w+|(vfs_|__do_sys_)?copy_file_range|do_tee|vfs_(clone|dedupe)_file_range\w*"
)
_DESCRIPTOR = (
    r"ksys_(read|write|pread64|pwrite64|readahead|fallocate|sync_file_range|fadvise64_64|lseek)"
    r"|vfs_(read|write|readv|writev|iter_read|iter_write|fsync|fsync_range|fallocate|llseek|setlease|poll|ioctl)"
    r"|do_(iter_)?(readv?|writev?|readv_writev|preadv|pwritev|iter_read|iter_write|fsync)|new_sync_(read|write)"
    r"|iterate_dir|wrap_directory_iterator|do_(sys_)?ftruncate|sync_file_range|fcntl_\w+|do_vfs_ioctl|do_fcntl"
    r"|io_(read|write|fsync|issue_sqe|wq_submit_work|read_retry)|aio_(read|write|fsync_work)|vfs_fstat|do_lock_file_wait"
    rf"|flock_lock_\w+|{_COPIES}"
)
# Functions of filesystems in general, in which a thread waits on behalf of any of them.
_GENERAL = (
    r"_*(folio|page|wait_on_page|lock_page)_(wait|lock|bit)\w*|folio_wait_\w+|wait_on_page_\w+|_*lock_page\w*|filemap_\w+"
    r"|generic_(file|perform)_\w+|balance_dirty_pages\w*|iomap_\w+|inode_dio_wait|_*wait_on_(inode|buffer)"
    r"|iget\w*|ilookup\w*|find_inode\w*|_*wait_on_freeing_inode|sb_start_\w+|_*sb_start_write|vfs_\w+|ksys_\w+"
    r"|wb_wait_\w+|sync_inodes_\w+|write_inode_now|_*writeback_\w+|do_writepages|iterate_\w+|_*fput|filp_\w+"
    r"|dput|iput\w*|evict\w*|truncate_inode_pages\w*|invalidate_inode_pages2\w*|bprm_\w+|do_mmap|do_coredump"
    r"|locks_\w+|read_cache_\w+|do_read_cache_\w+|page_cache_\w+|netfs_\w+|fscache_\w+|cachefiles_\w+"
)
_ASYNCHRONOUS = r"io_(wq|worker|issue|submit|uring|read|write|fsync|statx|openat)\w*|aio_\w+|__do_sys_io_\w+"
# What says nothing: sleeping, locks, and the entry to the kernel.
_SILENT = (
    r"(__)?(io_|preempt_)?schedule\w*|__switch_to\w*|(__|out_of_line_)?(wait_on_bit|bit_wait)\w*"
    r"|(__|do_)?wait_for_(common|completion)\w*|wait_woken|(__)?mutex_lock\w*|_*(down|up)_(read|write)\w*|_*down"
    r"|rwsem_\w+|rwbase_\w+|percpu_\w+|__percpu_\w+|rt_mutex\w*"
)
_PATTERNS: dict[str, re.Pattern[str]] = {}


def _is(pattern: str, function: str) -> bool:
    compiled = _PATTERNS.get(pattern)
    if compiled is None:
        compiled = _PATTERNS[pattern] = re.compile(pattern)
    return compiled.fullmatch(function) is not None


def family_of(fs_type: bytes) -> str:
    """The family of a filesystem type, as the mount table names it."""
    if fs_type.startswith((b"fuse.", b"fuseblk.")):
        return "fuse"
    return _OF_TYPE.get(fs_type) or fs_type.decode("latin-1")


def _families_in(functions: Sequence[str], types: Iterable[str]) -> frozenset[str]:
    """The families that functions belong to. ``types``: families that may not be in the table,
    whose functions begin with their name."""
    patterns = {family: f"(?:{pattern}).*" for family, (pattern, _) in _FAMILIES.items()}
    patterns.update((name, f"_*{re.escape(name)}_.*") for name in types if name not in patterns)
    return frozenset(
        family for family, pattern in patterns.items() if any(_is(pattern, function) for function in functions)
    )


def understood(functions: Sequence[str], types: Iterable[str] = ()) -> Optional[Wait]:
    """What the functions of a stack say, the innermost first; None if the thread does not wait in a
    filesystem.

    One function alone (from /proc/PID/wchan) does not tell the kind, unless it is a look-up's."""
    families = _families_in(functions, types)
    kind = next((found for found in map(_kind, functions) if found is not None), None)
    if kind is None and not families and not any(_is(_GENERAL, each) for each in functions):
        return None
    telling = next((each for each in functions if not _is(_SILENT, each)), functions[0])
    copies = kind is Kind.DESCRIPTOR and any(_is(_COPIES, each) for each in functions)
    return Wait(kind or Kind.OTHER, families, telling, copies, any(_is(_ASYNCHRONOUS, each) for each in functions))


def _kind(function: str) -> Optional[Kind]:
    if _is(_FAULT, function):
        return Kind.FAULT
    if _is(_LOOK_UP, function):
        return Kind.LOOK_UP
    return Kind.DESCRIPTOR if _is(_DESCRIPTOR, function) else None
