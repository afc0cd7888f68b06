"""Questions about a mount that the table of filesystem types answers from the mount's text alone.
Pure.

Import budget: ``text``, ``typetable``; no pattern is compiled here, because every start imports
this module."""

from __future__ import annotations

from collections.abc import Collection

from check_mounts import text, typetable
from check_mounts.model import Mount
from check_mounts.typed import Optional
from check_mounts.typetable import FAMILIES, TABLE, Protocol, Traits

# The types that a FUSE daemon serves, without a subtype.
FUSE = (b"fuse", b"fuseblk")
# A number of seconds with more digits than this is no timeout.
_LONGEST_NUMBER = 12


def traits(fs_type: bytes) -> Traits:
    """The traits of a type, as the mount table names it."""
    found = TABLE.get(fs_type)
    if found is None:
        # An AppImage holds a squashfs; its daemon is named after the AppImage, and so is the type.
        return (
            TABLE[b"fuse.squashfuse"] if fs_type.startswith(b"fuse.") and _is_app_image(fs_type) else typetable.UNKNOWN
        )
    return found


def of(mount: Mount) -> Traits:
    """The traits of a mount: by its type or, where that is a bare ``fuse``, by its source."""
    return _behind_fuse(mount) if mount.fs_type == b"fuse" else traits(mount.fs_type)


def _behind_fuse(mount: Mount) -> Traits:
    """The traits of a mount whose type is a bare ``fuse``, by its source.

    Daemons without libfuse show that type, and so does libfuse where the kernel has no subtypes.
    Then the source is ``NAME#SOURCE`` or the program's own name.

    A source that is neither known to be local nor a path counts as that of a network filesystem:
    goofys shows nothing but the name of a bucket (kahing/goofys#675), cvmfs2 nothing but that of a
    repository (cvmfs/cvmfs#2755)."""
    source = mount.source
    program = source.partition(b"#")[0]
    for name in (program, program.partition(b"@")[0], program.partition(b":")[0]):
        known = TABLE.get(b"fuse." + name)
        if known is not None:
            return known
    if source.startswith((b"/", b"\\")) and not source.startswith((b"//", b"\\\\")):
        return typetable.PLAIN
    return typetable.PLAIN if source in (b"", b"none", b"fuse") or _is_app_image(source) else typetable.UNKNOWN_NETWORK


def _is_app_image(name: bytes) -> bool:
    return name.lower().endswith(b".appimage")


def types(trait: str) -> frozenset[bytes]:
    """All types that have a trait."""
    return frozenset(name for name, each in TABLE.items() if getattr(each, trait))


def protocol(mount: Mount) -> Optional[Protocol]:
    """The protocol of a mount's type; None if no code depends on it."""
    return traits(mount.fs_type).protocol


def is_trigger(mount: Mount) -> bool:
    """Whether looking a path up in the mount mounts something else: an autofs trigger."""
    return traits(mount.fs_type).trigger


def any_expires(mounts: Collection[Mount]) -> bool:
    """Whether any of them is a trigger with a timeout; see :func:`expires_after`."""
    triggers = {fs_type for fs_type in {mount.fs_type for mount in mounts} if traits(fs_type).trigger}
    return any(mount.fs_type in triggers and expires_after(mount) > 0 for mount in mounts)


def expires_after(mount: Mount) -> float:
    """The seconds without a look-up after which an autofs trigger has what is mounted on it
    unmounted; 0 for all else, and where our look-ups do not count.

    Each look-up through a trigger sets its clock back (autofs_mount_wait in fs/autofs/root.c), but
    not where it was mounted with ``strictexpire``. With ``timeout=0``, nothing expires."""
    if not is_trigger(mount) or b"strictexpire" in mount.super_options:
        return 0.0
    value = mount.super_option(b"timeout") or b""
    return float(value) if value.isdigit() and len(value) <= _LONGEST_NUMBER else 0.0


def is_fuse(mount: Mount) -> bool:
    """Whether a FUSE daemon serves the mount."""
    return is_fuse_type(mount.fs_type)


def is_fuse_type(fs_type: bytes) -> bool:
    """Whether a FUSE daemon serves mounts of this type."""
    return fs_type in FUSE or fs_type.startswith((b"fuse.", b"fuseblk."))


def is_on_disk(mount: Mount) -> bool:
    """Whether a FUSE daemon serves the mount from a block device, on which the kernel insists."""
    return mount.fs_type.startswith(b"fuseblk")


def fills_up(mount: Mount) -> bool:
    """Whether it makes sense to judge the usage of a mount.

    It does not if nobody can write to the mount, which is as full as it was made, or if its numbers
    mean nothing."""
    known = of(mount)
    if mount.fs_type == b"udf":  # a stick, or a disc as it was burned
        return b"ro" not in mount.super_options
    if lacks_upper(mount) or is_snapshot(mount):
        return False
    # Somebody mounted it ro: if the kernel stops a filesystem after an error, the mount still says
    # rw. A local daemon that mounts itself ro shows an image, whatever its name.
    local = known.device or (is_fuse(mount) and not is_network(mount))
    made_ro = local and b"ro" in mount.options and b"ro" in mount.super_options
    return known.usage and not made_ro


def lacks_upper(mount: Mount) -> bool:
    """Whether the mount is an overlay without an upper layer, which nobody can write to."""
    return traits(mount.fs_type).upper and mount.super_option(b"upperdir") is None


def is_snapshot(mount: Mount) -> bool:
    """Whether the mount shows a snapshot of a dataset (``POOL/DATASET@SNAPSHOT``)."""
    return traits(mount.fs_type).pool and b"@" in mount.source


def servers(mount: Mount) -> list[bytes]:
    """The file servers that the source names, in its order.

    Examples: ``filer1``, ``[fe80::1]``, ``10.1.0.1@o2ib``, ``127.0.0.1:20049``.

    The grammar of the type alone decides; nothing is looked up.
    """
    return of(mount).servers(mount.source, mount)


def is_network(mount: Mount) -> bool:
    """Whether the mount depends on another machine.

    Its type decides or, if the type is unknown, a source that names a host."""
    if of(mount).network or servers(mount):
        return True
    return mount.fs_type == b"vxfs" and b"cluster" in mount.super_options  # Veritas' cluster filesystem


def may_be_network(fs_type: bytes) -> bool:
    """Whether a mount of this type may be a network filesystem; its source or options decide."""
    known = TABLE.get(fs_type)
    return known is None or known.network or fs_type == b"vxfs"


def is_served(mount: Mount) -> bool:
    """Whether a server or a FUSE daemon answers for the mount.

    Then an answer from the kernel's cache proves nothing."""
    return is_fuse(mount) or traits(mount.fs_type).network


def decides_by_mode(mount: Mount) -> bool:
    """Whether the mode of the root directory decides who may enter it.

    With FUSE it does so only with ``default_permissions`` (fuse_permission)."""
    return b"default_permissions" in mount.super_options if is_fuse(mount) else traits(mount.fs_type).attributes


def counts_links(mount: Mount) -> bool:
    """Whether a link count of 0 means that the root directory was removed."""
    known = traits(mount.fs_type)
    return known.attributes and not known.image and not is_fuse(mount)


def source_words(source: bytes, fs_type: Optional[bytes] = None) -> str:
    """A source, fit for any output: printable, and without passwords and keys."""
    return text.printable(text.without_secrets(source, logins=fs_type is None or traits(fs_type).logins))


# Declared types, and mounted ones
# ------------------------------------------------------------------------------------------------


def _are_alike(one: bytes, other: bytes) -> bool:
    return one == other or any(one in family and other in family for family in FAMILIES)


def is_of_type(mount: Mount, declared: bytes) -> bool:
    """Whether a mount is, or may be, of this one declared type.

    A type that the kernel does not have is the name of a mount helper, which may mount any type:
    ``drvfs`` becomes 9p or virtiofs, ``efs`` becomes nfs4, ``davfs`` becomes fuse."""
    if _are_alike(mount.fs_type, declared):
        return True
    if traits(mount.fs_type).ext4_driver and traits(declared).ext4_driver and mount.mount_point == b"/":
        return True  # the kernel or initramfs tries them in its own order, before fstab is read
    if is_fuse(mount):
        return not _is_other_than_fuse(declared, mount.fs_type)
    return not _is_known(declared) and not declared.startswith((b"fuse.", b"sshfs")) and declared != b"fuse"


def names_type(declared: bytes) -> bool:
    """Whether the table has this type or mount helper."""
    families = any(declared in family for family in FAMILIES)
    return (
        families or declared in typetable.OTHER_NAMES or any(name in TABLE for name in (declared, b"fuse." + declared))
    )


def is_compared(mount: Mount, declared: bytes) -> bool:
    """Whether this declared type is a known one, so that :func:`is_of_type` can compare it."""
    return _are_alike(mount.fs_type, declared) or names_type(declared)


def all_types() -> frozenset[bytes]:
    """The names of all known types and mount helpers, without those that begin with ``fuse.``."""
    return frozenset(name for name in TABLE if not name.startswith(b"fuse."))


def _is_known(declared: bytes) -> bool:
    others = [name for family in typetable.KERNELS_FAMILIES if declared in family for name in family]
    return any(traits(each).known for each in (declared, *others))


def _is_other_than_fuse(declared: bytes, mounted: bytes) -> bool:
    """Whether a FUSE mount is certainly not of the declared type.

    Helpers and daemons choose their subtypes freely."""
    if _is_known(declared):
        return True
    ours, theirs = declared.partition(b".")[2], mounted.partition(b".")[2]
    known = declared.startswith(b"fuse.") and all(traits(each).network for each in (declared, mounted))
    return known and not ours.startswith(theirs) and not theirs.startswith(ours)


def keeps_source(declared: Optional[bytes], mount: Mount) -> bool:
    """Whether a mount of the declared type shows its source as it was declared.

    A mount helper may change it: ``D:`` of drvfs becomes ``drvfsa``, ``fs-1234:/`` of efs becomes
    ``127.0.0.1:/``, a bucket becomes the program's name."""
    return any(_keeps_source(each, mount) for each in (declared or b"auto").split(b","))


def _keeps_source(declared: bytes, mount: Mount) -> bool:
    if declared in (b"auto", b"none", b"fuse") or declared.startswith(b"fuse."):
        return True
    return _is_known(declared) or _are_alike(declared, mount.fs_type) or traits(declared).faithful
