"""``--namespace``: the word that names a process -> the place to look from.

Import budget: procroot, roots. Only runs with that option load it."""

from __future__ import annotations

from check_mounts import mounttable, text
from check_mounts.checks.checking import Check
from check_mounts.options.command_line import Values
from check_mounts.options.refusals import refuse
from check_mounts.roots import Root
from check_mounts.system import procroot, reading
from check_mounts.system.procroot import Files

_OPTION = "--namespace"


def root(word: str) -> Root:
    """The place that a word names. Raises UsageError if nothing can be seen from there."""
    process = f"/proc/{int(word)}" if word.isascii() and word.isdigit() and len(word) < 12 else _directory(word)
    why, start, procfs, same_network = reading.ask("looking at", process, procroot.look)
    if why:
        refuse(_OPTION, f"{text.clipped(text.printable_argument(process), 400)}: {why}")
    return Root(process, start, procfs, same_network)


def _directory(word: str) -> str:
    """The directory of a process that a word names. Raises UsageError."""
    path = "/" + "/".join(part for part in word.split("/") if part not in ("", "."))
    last = path.rpartition("/")[2]
    if not word.startswith("/") or not (last.isdigit() or last in ("self", "thread-self")):
        shown = text.clipped(text.printable_argument(word), 400)
        why = f"'{shown}' is neither the ID of a process nor its directory in a procfs, such as /host/proc/1"
        return refuse(_OPTION, why)
    return path


def settled(said: Values) -> Root:
    """The place that the options name. Raises UsageError for what does not go with it."""
    if said.mountinfo != mounttable.DEFAULT_PATH:
        refuse(_OPTION, "does not go with --mountinfo")
    for name, value in (("explain", said.explain), ("for", said.drill_length), ("namespaces", said.namespaces)):
        if value:
            refuse(f"--{name}", "does not go with --namespace")
    return root(said.namespace)


def adapted(check: Check, place: Root) -> Check:
    """A check that looks from that place."""
    grace = check.demands.boot_grace
    demands = check.demands._replace(boot_grace=lambda point: grace(point)._replace(procfs=place.procfs))
    return check._replace(root=place, mountinfo=place.mountinfo, demands=demands)


def files(place: Root) -> Files:
    """Opens the files of that place."""
    return Files(place.process, place.start)


def rooted(option: str, path: str) -> str:
    """The path of a file of that place. Raises UsageError: a relative path begins in a directory of
    ours."""
    return path if path.startswith("/") else refuse(option, "with --namespace, its path must be absolute")
