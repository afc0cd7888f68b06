"""What to try for a mount that has answered but is not well, is missing, or was not asked, and what
each step does to the processes that use it. Pure data, in the order in which to try it.

Import budget: remedies. Nothing here is ever executed."""

from __future__ import annotations

from check_mounts.model import Condition
from check_mounts.report.remedies import ANY, DESCRIPTORS, Chapter, Kind, Remedy, Sign

_DISK, _NFS = (Kind.DISK,), (Kind.NFS,)
_READS = "Only reads."
_ROOT = (Sign.ROOT,)

_missing = Chapter(Condition.MISSING).row
_MISSING = (
    _missing(
        ANY, "The host has just started, and it may still come. Wait, or look at what is being started:",
        ("systemctl", "list-jobs"), _READS, when=(Sign.EARLY,),
    ),
    _missing(
        ANY, "Its automounter mounts it at the first access. Have check_mounts try that:",
        ("check_mounts", "--explain", "{point}", "--autofs", "probe"),
        "If the automounter does not answer, a worker waits for it, which can be killed.", when=(Sign.AUTOMOUNTED,),
    ),
    _missing(
        ANY, "Look why it is not mounted, if systemd should have mounted it:",
        ("systemctl", "status", "{unit}"), _READS, when=(Sign.DECLARED, Sign.NAMED_UNIT),
    ),
    _missing(
        ANY, "Mount it, with systemd:", ("systemctl", "start", "{unit}"),
        "What was written to its directory meanwhile lies beneath the mount then, unseen. Processes that have that "
        "directory open keep writing there: restart them.", when=(Sign.DECLARED, Sign.NAMED_UNIT),
    ),
    _missing(
        ANY, "Or without:", ("mount", "{point}"), "", when=(Sign.DECLARED, Sign.NAMED_UNIT),
    ),
    _missing(
        ANY, "Mount it:", ("mount", "{point}"),
        "What was written to its directory meanwhile lies beneath the mount then, unseen.", when=(Sign.DECLARED,),
        unless=(Sign.NAMED_UNIT,),
    ),
    _missing(
        ANY, "Mount it as it was mounted before; neither fstab nor a unit declares it.", (),
        "What was written to its directory meanwhile lies beneath the mount then, unseen.", unless=(Sign.DECLARED,),
    ),
)  # fmt: skip

_read_only = Chapter(Condition.READ_ONLY).row
_READ_ONLY = (
    _read_only(
        ANY, "The kernel stops writing after an error. Look into its log for the error:", ("dmesg", "-T"), _READS,
        when=(Sign.STOPPED,),
    ),
    _read_only(
        _DISK, "Save what matters before you repair it: it can still be read.", (), "", when=(Sign.STOPPED,),
    ),
    _read_only(
        ANY, "Stop the services that hold it, so that it can be unmounted:", ("systemctl", "stop", "{units}"),
        "Their processes end.", when=(Sign.STOPPED, Sign.RESTARTED), unless=_ROOT, each=True,
    ),
    _read_only(
        ANY, "Unmount what hangs from it:", ("umount", "{below}"),
        "It says that it is busy, and does nothing, while a process holds a file or directory there.",
        when=(Sign.STOPPED, Sign.STACKED), unless=_ROOT, each=True,
    ),
    _read_only(
        ANY, "Unmount it:", ("umount", "{point}"),
        "It says that it is busy, and does nothing, while a process holds a file or directory there.",
        when=(Sign.STOPPED,), unless=_ROOT,
    ),
    _read_only(
        _DISK, "Check the unmounted filesystem; repair it only after that:", ("fsck", "-n", "{source}"),
        "Only reads. Never repair what is still mounted anywhere.", when=(Sign.STOPPED, Sign.DEVICE), unless=_ROOT,
    ),
    _read_only(
        ANY, "Then mount it again:", ("mount", "{point}"), "", when=(Sign.STOPPED, Sign.DECLARED), unless=_ROOT,
    ),
    _read_only(
        ANY, "It is the root directory: restart the host, which checks it before it mounts it:",
        ("systemctl", "reboot"), "All processes end.", when=(Sign.STOPPED, Sign.ROOT),
    ),
    _read_only(
        ANY, "Somebody mounted it read-only. If nothing speaks against it, allow writing:",
        ("mount", "-o", "remount,rw", "{point}"),
        "Processes can write at once. If the superblock has an error, the kernel refuses.", unless=(Sign.STOPPED,),
    ),
)  # fmt: skip

_denied = Chapter(Condition.DENIED).row
_DENIED = (
    _denied(
        ANY, "The mode of its root directory lets nobody in. If that is not meant so, its owner can change it:",
        ("chmod", "u+rwx", "{point}"), "Its owner can use it again; processes need no restart.", when=(Sign.BY_MODE,),
    ),
    _denied(
        ANY, "Its user has no valid key or ticket: look at Kerberos, as that user (klist), and at the keyring.", (),
        "Processes of that user get the error until there is a new ticket (kinit).", when=(Sign.NO_KEY,),
    ),
    _denied(
        _NFS, "Look at the export on {server}: root_squash, sec=, who owns the directory.", (),
        "Processes of other users may work as usual.", unless=(Sign.BY_MODE, Sign.NO_KEY),
    ),
    _denied(
        ANY, "It answers, so no process hangs. If the user who was refused need not get in, check it as another one: "
        "--as USER, or 'as = USER' in its [mount] section of /etc/check_mounts.conf.", (), "",
    ),
)  # fmt: skip

_changed = Chapter(Condition.CHANGED).row
_CHANGED = (
    _changed(
        ANY, "If the declaration is right, mount it with its options:", ("mount", "-o", "{remount}", "{point}"),
        "Processes keep their files and go on. Some options cannot change that way: then unmount it, and mount it "
        "again.", when=(Sign.ONLY_OPTIONS,),
    ),
    _changed(
        ANY, "If the declaration is right, stop what uses the mount, then unmount it:", ("umount", "{point}"),
        "It says that it is busy, and does nothing, while a process holds a file or directory there.",
        unless=(Sign.ONLY_OPTIONS,),
    ),
    _changed(
        ANY, "Then mount what is declared:", ("mount", "{point}"), "", when=(Sign.DECLARED,),
        unless=(Sign.ONLY_OPTIONS,),
    ),
    _changed(ANY, "If the mount is right, correct its declaration; 'What is expected' says where it stands."),
)  # fmt: skip

_full = Chapter(Condition.FULL).row
_FULL = (
    _full(
        ANY, "Find the directories with the most files:",
        ("du", "--inodes", "-x", "-d", "2", "{point}"), "Only reads, but much: it slows a busy filesystem.",
        when=(Sign.INODES,),
    ),
    _full(
        ANY, "Find out whose quota is used up, on the server if it has one:", ("quota", "-v"), _READS,
        when=(Sign.QUOTA,),
    ),
    _full(
        ANY, "Find the largest directories:", ("du", "-x", "-h", "-d", "2", "{point}"),
        "Only reads, but much: it slows a busy filesystem.", unless=(Sign.INODES, Sign.QUOTA),
    ),
    _full(
        ANY, "Files that were removed keep their space while a process has them open: these are such files of all "
        "filesystems.", ("find", DESCRIPTORS, "-lname", "* (deleted)"),
        "Only reads, and follows no link. The space is free once these processes close them or end.",
        unless=(Sign.INODES, Sign.QUOTA),
    ),
    _full(
        ANY, "Remove what nobody needs, move it away, or make the filesystem larger.", (),
        "Processes that write get ENOSPC or EDQUOT until there is room; then they can go on.",
    ),
)  # fmt: skip

_slow = Chapter(Condition.SLOW).row
_SLOW = (
    _slow(_NFS, "See where the time goes: 'avg RTT' is that of the network and the server, 'avg exe' has the queue of "
          "this host, too.", ("nfsiostat", "2", "5", "{point}"), "It may wait as long as the mount does."),
    _slow(_DISK, "See how busy its device is:", ("iostat", "-x", "2", "5"), _READS),
    _slow(ANY, "It answers, so processes go on, but late. Look who reads and writes most, here and on its server."),
)  # fmt: skip

_failing = Chapter(Condition.FAILING).row
_FAILING = (
    _failing(
        ANY, "The kernel has counted new errors. Look into its log for them:", ("dmesg", "-T"),
        "Only reads. Processes go on; some may have got wrong data, or EIO.",
    ),
    _failing(_DISK, "Make sure that there is a fresh backup, before anything else."),
    _failing(
        _DISK, "Look at the health of the disk, and have it replaced if it fails:", ("smartctl", "-a", "{source}"),
        _READS, when=(Sign.DEVICE,),
    ),
    _failing(
        _DISK, "On Btrfs, have all data read and repaired from its copies:", ("btrfs", "scrub", "start", "{point}"),
        "Processes go on, more slowly.", when=(Sign.SCRUBBED,),
    ),
    _failing(
        _DISK, "Check the filesystem when nothing uses it, unmounted; repair it only after that:",
        ("fsck", "-n", "{source}"), "Only reads. Never repair what is still mounted anywhere.", when=(Sign.DEVICE,),
        unless=(Sign.SCRUBBED,),
    ),
)  # fmt: skip

_beside = (
    Chapter(Condition.BLOCKED).row(
        ANY, "It was not asked, because a mount on its path has failed. Explain that one:",
        ("check_mounts", "--explain", "{above}"), "Once that one answers, its processes go on.",
        when=(Sign.ABOVE_FAILED,),
    ),
    Chapter(Condition.BLOCKED).row(
        ANY, "It was not asked, because its path crosses a mount that is left alone. If that can be trusted, ask both:",
        ("check_mounts", "--explain", "{point}", "--user-mounts", "--config", "/dev/null"), "",
        unless=(Sign.ABOVE_FAILED,),
    ),
    Chapter(Condition.SHADOWED).row(
        ANY, "Another mount covers it. If the cover is a mistake, unmount the cover:", ("umount", "{cover}"),
        "It says that it is busy, and does nothing, while a process holds a file there. Then paths lead to this mount "
        "again; processes that have opened it before have used it all the time.", when=(Sign.COVERED,),
    ),
    Chapter(Condition.IDLE).row(
        ANY, "Nothing need be done: nobody uses it, and its automounter may unmount it. To look it up all the same:",
        ("check_mounts", "--explain", "{point}", "--automounted", "probe"),
        "Begins the time anew after which it is unmounted.",
    ),
    Chapter(Condition.UNPROBED).row(
        ANY, "Ask it once more, with more time, as root:",
        ("check_mounts", "--explain", "{point}", "--timeout", "20", "--deadline", "30"),
        "Starts no second probe where one is stuck already.",
    ),
)  # fmt: skip

OTHER: tuple[Remedy, ...] = (*_MISSING, *_READ_ONLY, *_DENIED, *_CHANGED, *_FULL, *_SLOW, *_FAILING, *_beside)
