"""``--explain`` in a run: a page about one mount for an administrator at 3 a.m. All that makes it
is loaded before anything is asked; a part that fails or comes too late is one line.

Nothing here touches the mount. What the mount itself answers comes from the check, which is
narrowed to this mount and to those on its way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from check_mounts import filesystems, hanging, meaning, text
from check_mounts.checks import checking
from check_mounts.guard import defects
from check_mounts.judging.judgements import Judgement
from check_mounts.judging.policy import Judged
from check_mounts.model import Condition, ExpectedMount, Mount, State
from check_mounts.options.understood import Explain, Options
from check_mounts.probing import examination, kernelstack, mountstats, replies, servers
from check_mounts.probing.replies import Verdict
from check_mounts.report import explanation, facts, page, relatives
from check_mounts.report.explanation import Subject
from check_mounts.report.page import Section
from check_mounts.report.remedies import Sign
from check_mounts.selection import why_left_out
from check_mounts.system import reading
from check_mounts.system.printing import stdout_encoding
from check_mounts.typed import Optional
from check_mounts.typetable import Protocol

# How long the server of the mount may take for an answer, and the look for processes, in seconds;
# with less than the last one, neither begins. So much of the deadline is kept for printing.
_PATIENCE, _LOOK, _LEAST, _KEPT = 1.0, 10.0, 0.1, 0.2
_LATE = "not asked: no time was left"
_ELSEWHERE = "not asked: the mount table is a copy"

_SILENT = frozenset(
    {Verdict.REFUSED, Verdict.UNREACHABLE, Verdict.SILENT, Verdict.RPC_SILENT, Verdict.CLOSED, Verdict.GARBAGE}
)
_ANSWERS = frozenset({Verdict.RPC_ANSWERED, Verdict.RPC_ERROR})


class _Mode:
    """What the page needs from the beginning of the run: the mount table, and where names lead.
    ``until``: when the page must be ready (CLOCK_MONOTONIC)."""

    mounts: Sequence[Mount] = ()
    until = 0.0
    lead: Callable[[bytes], bytes] = staticmethod(lambda name: name)


_mode = _Mode()


def prepare(options: Options, mounts: Sequence[Mount]) -> Options:
    """The options of a run that learns where names lead."""
    check = options.check
    _mode.mounts, _mode.until = mounts, time.monotonic() + options.settings.deadline
    follow = check.follow

    def learn(lead: Callable[[bytes], bytes]) -> None:
        _mode.lead = lead
        follow(lead)

    return options._replace(check=check._replace(follow=learn))


def report(
    judged: Judged,
    options: Options,
    explain: Explain,
    text_of: Callable[[Judged, Options], tuple[bytes, State]],
) -> tuple[bytes, State]:
    """The output and its state. ``text_of`` makes the verdict."""
    point = _mode.lead(explain.name)
    declared = _declared(point, options) or [each for each in explain.by_hand if each.mount_point == point]
    mount = relatives.mounted_at(point, _mode.mounts)
    if mount is None and not declared:
        words = explanation.elsewhere(point, relatives.holder(point, _mode.mounts))
        return text.encoded(f"MOUNTS UNKNOWN - {words}\n", stdout_encoding()), State.UNKNOWN
    output, state = text_of(judged, options._replace(output=options.output._replace(verbosity=0)))
    reading.step("explaining the mount")
    if judged.survey.interrupted is not None:
        _mode.until = 0.0
    lines: list[str] = []
    try:
        lines += page.laid_out(_sections(judged, options, explain, point, mount, declared))
    except Exception as error:  # a defect of ours
        defects.say(error)
        lines.append(f"note: not explained: {text.error_of(error)}")
    return output + text.encoded("".join(f"{line}\n" for line in lines), stdout_encoding()), state


def _declared(point: bytes, options: Options) -> list[ExpectedMount]:
    """All declarations of a mount point."""
    demands = options.demands
    found = [
        each for each in demands.expected if point in (each.mount_point, _mode.lead(each.name or each.mount_point))
    ]
    own = demands.declared(point)
    return [*found, *([own] if own is not None and own not in found else [])]


def _sections(
    judged: Judged,
    options: Options,
    explain: Explain,
    point: bytes,
    mount: Optional[Mount],
    declared: Sequence[ExpectedMount],
) -> list[Section]:
    judgement = _of(judged.judgements, point, mount)
    mount = mount if judgement is None or judgement.finding.mount is None else judgement.finding.mount
    waits_in = _waits_in(judgement)
    remarks = [] if judgement is None else _remarks(judgement, waits_in)
    rules, defaults = explain.rules(point)
    subject = Subject(
        point=point,
        mount=mount,
        judgement=judgement,
        relatives=relatives.relatives(point, mount, _mode.mounts),
        left_out=next((why_left_out(out) for out in judged.survey.left_out if out.mount == mount), ""),
        above=_above(judged, judgement, mount),
        declared=declared,
        rules=rules,
        defaults=defaults,
        notes=explain.notes,
        waits_in=waits_in,
        remarks=remarks,
    )
    if mount is not None and servers.server_of(mount) is not None:  # they are about it
        subject = subject._replace(remarks=())
    signs = [Sign.INODES] if facts.has_no_inodes(subject) else []
    units: list[bytes] = []
    subject = subject._replace(
        server=list(asked(lambda: _of_server(subject, remarks, options, signs))),
        processes=list(asked(lambda: _of_processes(subject, judged, options, units))),
    )
    return explanation.sections(subject, facts.facts_of(subject, _mode.mounts, signs, units))


def _of(judgements: Iterable[Judgement], point: bytes, mount: Optional[Mount]) -> Optional[Judgement]:
    """The judgement of the mount; without a mount, that of the mount point."""
    if mount is not None:
        found = [each for each in judgements if each.finding.mount and each.finding.mount.identity == mount.identity]
        if found:
            return found[0]
    there = (each for each in judgements if each.finding.mount_point == point and each.finding.mount is None)
    return next(there, None)


def _above(judged: Judged, judgement: Optional[Judgement], mount: Optional[Mount]) -> Optional[Judgement]:
    """The judgement of the mount on the way that is the cause, if there is one."""
    if mount is None or judgement is None or not meaning.of(judgement.finding.condition).spreads:
        return None
    failed = {
        each.finding.mount.mount_id: each
        for each in judged.judgements
        if each.finding.mount is not None and each.finding.condition in meaning.FAILED
    }
    by_id = {each.mount_id: each for each in _mode.mounts}
    above = [failed[each.mount_id] for each in relatives.ancestors(mount, by_id) if each.mount_id in failed]
    return above[-1] if above else None


def _waits_in(judgement: Optional[Judgement]) -> str:
    """The function of the kernel in which the mount's probe waits."""
    pid = None if judgement is None else judgement.finding.stuck_pid
    return "" if pid is None else kernelstack.read_kernel_stack(pid) or ""


def _remarks(judgement: Judgement, waits_in: str) -> list[str]:
    """What else was found out, without what the page says anyway."""
    return [words for words in judgement.finding.remarks if words != kernelstack.stack_words(waits_in)]


def asked(lines: Callable[[], Iterator[str]]) -> Iterator[str]:
    """The lines of a part; if it fails, one line that says so."""
    try:
        yield from lines()
    except Exception as error:
        defects.say(error)
        yield f"not known: {text.error_of(error)}"


def _of_server(subject: Subject, found: Sequence[str], options: Options, signs: list[Sign]) -> Iterator[str]:
    """What the server says, and the counters of its connections, which may be among what the check
    has ``found`` out. Adds what follows to ``signs``."""
    mount = subject.mount
    if mount is None:
        return
    server = servers.server_of(mount)
    if server is not None and options.settings.diagnosis:
        yield _answer_of(server, signs)
    yield from () if server is None else found
    if not found and filesystems.protocol(mount) is Protocol.NFS:
        transport = mountstats.read_mountstats().get(mount.mount_point)
        if transport is not None:
            yield mountstats.transport_words(transport)


def _left(most: float) -> Optional[float]:
    """How long a part of the page may take, in seconds; None if there is no time for it."""
    seconds = min(most, _mode.until - time.monotonic() - _KEPT)
    return seconds if seconds >= _LEAST else None


def _answer_of(server: servers.Server, signs: list[Sign]) -> str:
    seconds = _left(_PATIENCE)
    if seconds is None:
        return _LATE
    reading.step("asking the server of the mount")
    reply = examination.examine([server], seconds)[server]
    signs += [Sign.SERVER_SILENT] if reply.verdict in _SILENT else []
    signs += [Sign.SERVER_ANSWERS] if reply.verdict in _ANSWERS else []
    return replies.words(server, reply, "") + _in(reply)


def _in(reply: replies.Reply) -> str:
    return "" if reply.connect_seconds is None or reply.seconds is None else f", in {reply.seconds * 1000:.1f} ms"


def _of_processes(subject: Subject, judged: Judged, options: Options, units: list[bytes]) -> Iterator[str]:
    """Who uses the mount. Adds the services that could be restarted to ``units``."""
    if subject.mount is None:
        return
    if not options.check.mountinfo.startswith("/proc/"):  # of another host, perhaps
        yield _ELSEWHERE
        return
    findings = [each.finding for each in judged.judgements]
    stuck = checking.remembered(options.check, _mode.mounts)
    hung = {each.mount.device for each in findings if each.mount and each.condition in meaning.FAILED}
    hung |= {each.device for each in stuck if not each.writing} & {each.device for each in _mode.mounts}
    ours = hanging.pids_of(findings) | {each.pid for each in stuck}
    seconds = _left(_LOOK)
    if seconds is None:
        yield _LATE
        return
    reading.step("looking for the processes that use the mount")
    use = hanging.use_of(subject.mount, _mode.mounts, frozenset(hung), ours, seconds)
    waits = subject.judgement is not None and subject.judgement.condition is Condition.TIMED_OUT
    units += use.waiting if waits else dict.fromkeys((*use.waiting, *use.holding))
    yield from use.lines
