"""What to try when a mount hangs or is dead, and what each step does to the processes that use it.
Pure data, in the order in which an administrator should try it.

Import budget: remedies. Nothing here is ever executed.

What ``umount -f`` does depends on the type: do_umount (fs/namespace.c) calls its ``umount_begin``
before it looks whether the mount is busy.

- nfs_umount_begin (fs/nfs/super.c): rpc_killall_tasks gives each request of the superblock EIO.
- cifs_umount_begin (fs/smb/client/cifsfs.c): nothing while another mount uses the share; otherwise
  it only wakes what waits.
- fuse_umount_begin (fs/fuse/inode.c): fuse_abort_conn, not for virtiofs.
- ceph_umount_begin, ll_umount_begin (Lustre) abort; v9fs_umount_begin refuses only new requests.
- Others have none."""

from __future__ import annotations

from check_mounts.model import Condition
from check_mounts.report.remedies import ANY, DESCRIPTORS, Chapter, Kind, Remedy, Sign

_NFS, _SMB, _FUSE, _NETWORK, _DISK = (Kind.NFS,), (Kind.SMB,), (Kind.FUSE,), (Kind.NETWORK,), (Kind.DISK,)
_SERVED = (*_NFS, *_SMB, *_NETWORK)
_LEAVE = ANY - {Kind.TRIGGER, Kind.KERNEL}
_ABOVE = (Sign.ABOVE_FAILED,)
# Where a mount cannot be taken away.
_STAYS = (Sign.ABOVE_FAILED, Sign.ROOT)

_hung = Chapter(Condition.TIMED_OUT).row
_dead = Chapter(Condition.DEAD).row
_failed = Chapter(Condition.TIMED_OUT, Condition.DEAD).row

_READS = "Only reads."
_KERNEL_LOG = ("dmesg", "-T")
_EXPLAIN_ABOVE = ("check_mounts", "--explain", "{above}")
_ASK_THEM = "call those who run it, look at its power, its network and its service."
_GOES_ON = "A hard mount goes on by itself once the server answers: its processes continue, and nothing is lost."
_LOST = "what they wrote and the server has not got yet is lost."
_LOST_FUSE = "what they wrote and the daemon has not got yet is lost."
_BUSY = "It says that it is busy, and does nothing, while a process holds a file or directory there."

_CAUSES = (
    _failed(ANY, "Its path crosses a mount that has failed. Explain that one first:", _EXPLAIN_ABOVE, when=_ABOVE),
    _failed(
        (Kind.OVERLAY,), "It answers only if the filesystems of its layers do. Explain these first:",
        ("check_mounts", "--explain", "{layers}"), "An overlay goes on by itself once they answer.",
        when=(Sign.LAYERED,), each=True,
    ),
    _failed(
        (Kind.TRIGGER,), "Look at the automounter, which does not answer: its service, its log.", (),
        "Processes that wait for it go on once it answers. SIGKILL ends them.",
    ),
    _failed(
        (Kind.MEMORY, Kind.KERNEL), "It is in this host's memory and waits for nobody. Look into the kernel's log:",
        _KERNEL_LOG, _READS, unless=_ABOVE,
    ),
)  # fmt: skip

_SERVERS = (
    _failed(
        (*_SERVED, *_FUSE), f"Get {{server}} back: {_ASK_THEM}", (), _GOES_ON, when=(Sign.SERVER_SILENT,),
        unless=(Sign.SOFT, Sign.STALE, Sign.DISCONNECTED),
    ),
    _failed(
        _SERVED, f"Get {{server}} back: {_ASK_THEM}", (),
        "It is a soft mount: its processes get errors now, and may lose what they wrote. New calls succeed once the "
        "server answers.", when=(Sign.SERVER_SILENT, Sign.SOFT), unless=(Sign.STALE,),
    ),
    _failed(
        _SERVED, "{server} answers, so look for the fault on this host, in the kernel's log:", _KERNEL_LOG, _READS,
        when=(Sign.SERVER_ANSWERS,), unless=(Sign.STALE,),
    ),
    _failed(
        _SERVED, "Find out whether {server} answers: call those who run it, look at the network.", (), _GOES_ON,
        unless=(Sign.SERVER_SILENT, Sign.SERVER_ANSWERS, Sign.STALE, *_ABOVE),
    ),
    _dead(
        _SERVED, "Ask those who run {server} whether the export was removed, replaced or restored.", (),
        "Old file handles never work again: each process that holds one must close it or end. What it wrote and the "
        "server has not got yet is lost.", when=(Sign.STALE,),
    ),
)  # fmt: skip

_DAEMONS = (
    _hung(
        _FUSE, "Its daemon may wait for a server: look whether that answers.", (),
        "Once the daemon gets its answer, all processes go on by themselves.", when=(Sign.SERVES_NETWORK,),
        unless=(Sign.SERVER_SILENT, *_ABOVE),
    ),
    _hung(
        _FUSE, "Find its daemon; the descriptors of all FUSE daemons are these:",
        ("find", DESCRIPTORS, "-lname", "/dev/fuse"),
        "Only reads, and follows no link. ps, fuser and lsof may themselves wait for a process that hangs.",
        unless=_ABOVE,
    ),
    _hung(
        _FUSE, "Restart that daemon, as it was started.", (),
        "When it ends, the processes that wait get ECONNABORTED, and all later calls ENOTCONN. What the daemon has "
        "not stored yet is lost.", unless=_ABOVE,
    ),
    _dead(
        _FUSE, "Find out why its daemon has ended: its log, its unit, the kernel's log (out of memory?):", _KERNEL_LOG,
        _READS, when=(Sign.DISCONNECTED,),
    ),
)  # fmt: skip

_DISKS = (
    _failed(_DISK, "Look into the kernel's log for errors of its device:", _KERNEL_LOG, _READS, unless=_ABOVE),
    _hung(
        _DISK, "It may be frozen, for a snapshot or a backup. Thaw it:", ("fsfreeze", "-u", "{point}"),
        "The processes that wait to write go on. A snapshot that is being made becomes worthless. If it is not "
        "frozen, this says 'Invalid argument' and does nothing.", unless=_ABOVE,
    ),
    _hung(
        _DISK, "Or device mapper has suspended its device: 'State: SUSPENDED'; dmsetup resume NAME ends that.",
        ("dmsetup", "info"), "Only reads. Once it is resumed, the processes that wait go on.", when=(Sign.DEVICE,),
        unless=_ABOVE,
    ),
    _hung(
        _DISK, "Get its device to answer or to fail: cables, controller, multipath, iSCSI, the hypervisor.", (),
        "Nothing else ends a process that waits for a disk: neither SIGKILL nor umount -f does.", unless=_ABOVE,
    ),
)  # fmt: skip

_PROCESSES = (
    _hung(
        (*_NFS, *_SMB), "Restart the services that wait, if they can do without it:",
        ("systemctl", "restart", "{units}"),
        "SIGKILL ends most processes that wait for it. One that waits while another looks up the same name stays.",
        when=(Sign.RESTARTED,), unless=_ABOVE, each=True,
    ),
    _hung(
        (*_FUSE, *_NETWORK, *_DISK), "Restart the services that wait, once it answers again or is aborted:",
        ("systemctl", "restart", "{units}"), "Not before: SIGKILL does not end the processes that wait for it.",
        when=(Sign.RESTARTED,), unless=_ABOVE, each=True,
    ),
    _dead(
        _LEAVE, "Stop the services that hold it, so that it can be unmounted:", ("systemctl", "stop", "{units}"),
        "Their processes end.", when=(Sign.RESTARTED,), unless=_ABOVE, each=True,
    ),
)  # fmt: skip

_ABORT = "If they cannot wait, abort all that waits:"
_FORCE = ("umount", "-f", "{point}")
_EIO = (
    f"Each process that waits gets EIO (or errno 512); {_LOST} That holds even if it then says that it is busy. A "
    "process that asks once more waits once more."
)

_ABORTING = (
    _hung(_NFS, _ABORT, _FORCE, _EIO, unless=(Sign.SHARED, *_STAYS)),
    _hung(
        _NFS, _ABORT, _FORCE, f"{_EIO} Those who use it through {{others}} get the same.", when=(Sign.SHARED,),
        unless=_STAYS,
    ),
    _hung(
        _SMB, _ABORT, _FORCE,
        f"Processes that wait may get EIO; {_LOST} Some go on waiting, and nothing happens at all while another mount "
        "uses the same share.", unless=_STAYS,
    ),
    _hung(
        _NETWORK, _ABORT, _FORCE,
        f"Ceph and Lustre give the processes that wait EIO; {_LOST} With 9p, virtiofs and most others, they go on "
        "waiting.", unless=_STAYS,
    ),
    _hung(
        _FUSE, "Make the connections of FUSE visible:",
        ("mount", "-t", "fusectl", "fusectl", "/sys/fs/fuse/connections"), "Nothing happens to any process.",
        when=(Sign.NO_FUSECTL,), unless=_STAYS,
    ),
    _hung(
        _FUSE, "If they cannot wait, abort its connection:",
        ("echo", "1", ">", "/sys/fs/fuse/connections/{connection}/abort"),
        f"Each process that waits gets ECONNABORTED, also one that SIGKILL does not end; {_LOST_FUSE} All later calls "
        "fail with ENOTCONN until it is mounted again.", unless=_STAYS,
    ),
    _hung(
        _FUSE, "Or abort it and unmount it at once:", _FORCE,
        "Aborts the connection in the same way. If a process holds a file there, the mount stays, dead.", unless=_STAYS,
    ),
)  # fmt: skip

_LEAVING = (
    _dead(_LEAVE, "Unmount what hangs from it:", ("umount", "{below}"), _BUSY, (Sign.STACKED,), _STAYS, each=True),
    _dead(_LEAVE, "Unmount it:", ("umount", "{point}"), _BUSY, unless=_STAYS),
    _failed(
        _LEAVE, "If nothing else helps, detach it:", ("umount", "-l", "{point}"),
        "Processes that wait go on waiting, and those that hold files keep them. New accesses get the empty directory "
        "beneath it: what is written there goes to another filesystem.", unless=_STAYS,
    ),
    _dead(
        _DISK, "Check the unmounted filesystem; repair it only after that:", ("fsck", "-n", "{source}"),
        "Only reads. xfs wants xfs_repair -n. Never repair what is still mounted anywhere.",
        when=(Sign.DEVICE,), unless=_STAYS,
    ),
)  # fmt: skip

_OLD = "Processes that still hold the old mount keep it, with its errors: restart them."
_RETURNING = (
    _failed(
        ANY, "It is the root directory. If nothing else helps, restart the host:", ("systemctl", "reboot", "--force"),
        "All processes end. What they have not written yet is lost.", when=(Sign.ROOT,),
    ),
    _failed(
        ANY, "Then mount it again, with systemd:", ("systemctl", "start", "{unit}"), _OLD,
        when=(Sign.DECLARED, Sign.NAMED_UNIT), unless=_STAYS,
    ),
    _failed(
        ANY, "Or without:", ("mount", "{point}"), "", when=(Sign.DECLARED, Sign.NAMED_UNIT), unless=_STAYS,
    ),
    _failed(
        ANY, "Then mount it again:", ("mount", "{point}"), _OLD, when=(Sign.DECLARED,),
        unless=(Sign.NAMED_UNIT, *_STAYS),
    ),
    _failed(ANY, "Then mount it again, as it was mounted.", (), _OLD, unless=(Sign.DECLARED, *_STAYS)),
)  # fmt: skip

FAILED: tuple[Remedy, ...] = (
    *_CAUSES, *_SERVERS, *_DAEMONS, *_DISKS, *_PROCESSES, *_ABORTING, *_LEAVING, *_RETURNING,
)  # fmt: skip
