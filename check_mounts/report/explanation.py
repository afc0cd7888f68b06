"""All that is known of one mount -> the sections of the page of ``--explain``. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from check_mounts import filesystems, meaning, selection, text
from check_mounts.clocks import Boottime, boottime
from check_mounts.judging.judgements import Judgement
from check_mounts.model import Condition, ExpectedMount, Mount
from check_mounts.report import advice, details
from check_mounts.report.advice import Facts
from check_mounts.report.inventory import option_words
from check_mounts.report.page import Line, Section, fact
from check_mounts.report.relatives import Relatives
from check_mounts.report.remedies import Kind
from check_mounts.report.shellwords import quoted
from check_mounts.typed import NamedTuple, Optional

# More names than this are counted.
_NAMED = 8
# The column of a step's words, after its number.
_STEP = 6


class Subject(NamedTuple):
    """A mount point, and what the run has found out about it.

    ``mount`` is None if nothing is mounted there. ``left_out`` says why it was not probed, if it
    was not; ``above`` is the judgement of a mount on its path that has failed. ``relatives`` are
    the mounts that have something to do with it. ``declared`` are its declarations, ``rules``,
    ``defaults`` and ``notes`` lines about what is expected. ``waits_in`` is the kernel's function
    in which its probe waits; ``remarks`` say what else was found out. ``server`` and ``processes``
    are lines about these."""

    point: bytes
    mount: Optional[Mount]
    judgement: Optional[Judgement]
    relatives: Relatives
    left_out: str = ""
    above: Optional[Judgement] = None
    declared: Sequence[ExpectedMount] = ()
    rules: Sequence[str] = ()
    defaults: Sequence[str] = ()
    notes: Sequence[str] = ()
    waits_in: str = ""
    remarks: Sequence[str] = ()
    server: Sequence[str] = ()
    processes: Sequence[str] = ()


def sections(subject: Subject, facts: Facts) -> list[Section]:
    """The page, without its verdict."""
    return [
        Section("What it is", list(_what_it_is(subject))),
        Section("What is expected", list(_expected(subject))),
        Section("What it answered", list(_answered(subject))),
        *_if_any("What its server and the kernel say", [Line(words) for words in subject.server]),
        *_if_any("Who uses it", list(map(_use, subject.processes))),
        Section("What to try", list(_to_try(subject, facts))),
    ]


def _if_any(title: str, lines: Sequence[Line]) -> list[Section]:
    return [Section(title, lines)] if lines else []


def _use(words: str) -> Line:
    return Line(words.lstrip(" "), "", 4 if words.startswith(" ") else 2)


# -- what it is


def described(mount: Mount) -> str:
    """``/home (nfs4 filer1:/export/home)``."""
    source = filesystems.source_words(mount.source, mount.fs_type)
    return f"{text.printable(mount.mount_point)} ({text.printable(mount.fs_type)} {source})"


def _what_it_is(subject: Subject) -> Iterator[Line]:
    mount, relatives = subject.mount, subject.relatives
    yield fact("mount point", text.printable(subject.point))
    if mount is None:
        yield fact("mount", "nothing is mounted there")
        if relatives.holder is not None:
            yield fact("it lies on", described(relatives.holder))
        return
    yield fact("source", filesystems.source_words(mount.source, mount.fs_type))
    yield fact("type", f"{text.printable(mount.fs_type)}, {_KINDS[advice.kind_of(mount)]}")
    server = selection.server(mount)
    if server is not None:
        yield fact("server", text.printable(server))
    if mount.root != b"/":
        yield fact("shows", f"{text.printable(mount.root)} of that filesystem")
    yield fact("options", ",".join(map(text.printable, mount.options)))
    yield fact("superblock", ",".join(map(option_words, mount.super_options)))
    major, minor = mount.device
    connection = f", FUSE connection {advice.connection_of(mount)}" if filesystems.is_fuse(mount) else ""
    yield fact("IDs", f"mount {mount.mount_id}, device {major}:{minor}{connection}")
    yield from _neighbours(relatives)


_KINDS = {
    Kind.NFS: "a network filesystem",
    Kind.SMB: "a network filesystem",
    Kind.NETWORK: "a network filesystem",
    Kind.FUSE: "served by a FUSE daemon",
    Kind.OVERLAY: "made of directories of other filesystems",
    Kind.TRIGGER: "the trigger of an automounter",
    Kind.MEMORY: "in this host's memory",
    Kind.KERNEL: "made by the kernel",
    Kind.DISK: "a local filesystem",
}


def _neighbours(relatives: Relatives) -> Iterator[Line]:
    if relatives.holder is not None:
        yield fact("hangs from", described(relatives.holder))
    if relatives.cover is not None:
        yield fact("covered by", described(relatives.cover))
    yield from _listed("covers", relatives.beneath)
    yield from _listed("holds", relatives.below)
    yield from _listed("layers on", relatives.layers)
    yield from _listed("also at", relatives.alike)


def _listed(label: str, mounts: Sequence[Mount]) -> Iterator[Line]:
    for place, mount in enumerate(mounts[:_NAMED]):
        yield fact("" if place else label, described(mount))
    if len(mounts) > _NAMED:
        yield fact("", f"and {len(mounts) - _NAMED} more")


# -- what is expected


def _expected(subject: Subject) -> Iterator[Line]:
    for each in subject.declared:
        yield Line(_declaration(each))
    if not subject.declared:
        yield Line("no declaration: neither fstab nor a unit, nor a section or option of check_mounts")
    judgement = subject.judgement
    if judgement is not None and _deviates(judgement.condition):
        yield Line(f"it differs: {judgement.words}")
    yield from (Line(f"rule: {words}") for words in subject.rules)
    yield Line(f"by default: {', '.join(subject.defaults)}")
    yield from (Line(f"note: {words}") for words in subject.notes[:_NAMED])
    if len(subject.notes) > _NAMED:
        yield Line(f"note: and {len(subject.notes) - _NAMED} more notes")


def _deviates(condition: Condition) -> bool:
    row = meaning.of(condition)
    return row.from_table and row.counted


def _declaration(each: ExpectedMount) -> str:
    parts = [
        filesystems.source_words(each.source, each.fs_type) if each.source else "any source",
        f"type {text.printable(each.fs_type)}" if each.fs_type else "any type",
    ]
    if each.options:
        parts.append("options " + ",".join(text.printable(text.without_secrets(option)) for option in each.options))
    parts += ["may be absent"] * each.nofail + ["mounted at the first access"] * each.automount
    return f"{each.origin}: {', '.join(parts)}"


# -- what it answered


def _answered(subject: Subject) -> Iterator[Line]:
    judgement = subject.judgement
    if judgement is None or subject.mount is None:
        yield Line(f"not asked: {subject.left_out or 'nothing is mounted there'}")
        return
    finding = judgement.finding
    yield Line(judgement.words)
    yield from map(Line, details.steps_words(finding.outcome))
    usage = details.usage_words(finding)
    if usage:
        yield Line(usage)
    if finding.stuck_pid is not None:
        yield Line(f"{_waiting(finding.stuck_since)}, process {finding.stuck_pid}{_where(subject.waits_in)}")
    if finding.since is not None and finding.since != finding.stuck_since:
        yield Line(f"found to hang since {text.moment(finding.since)}")
    yield from map(Line, subject.remarks)


def _waiting(since: Optional[Boottime]) -> str:
    if since is None:
        return "its probe waits"
    return f"its probe waits since {text.moment(since)} ({boottime() - since:.0f} s)"


def _where(function: str) -> str:
    return f", in {text.printable_argument(function)}" if function else ""


# -- what to try


def _to_try(subject: Subject, facts: Facts) -> Iterator[Line]:
    if subject.judgement is None and subject.left_out:
        yield Line(f"nothing is known of it: {subject.left_out}")
        return
    found = advice.steps(facts)
    if not found:
        yield Line("nothing: it answers" if meaning.of(facts.condition).passable else "nothing is known that helps")
    for number, step in enumerate(found, 1):
        yield Line(step.do, f"{number}.", _STEP)
        yield from (Line(command, "", _STEP + 2, whole=True) for command in step.commands)
        if step.effect:
            yield Line(step.effect, "", _STEP)


def elsewhere(point: bytes, holder: Optional[Mount]) -> str:
    """The words for a path that is no mount point."""
    if holder is None:
        return f"{text.printable(point)} is not a mount point"
    return (
        f"{text.printable(point)} is not a mount point; it lies on {described(holder)}: "
        f"use --explain {quoted(holder.mount_point)}"
    )
