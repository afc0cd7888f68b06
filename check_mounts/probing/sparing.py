"""The mounts of a pass that an automounter unmounts once nobody uses them: which of them are looked
up, and which are not, so that they can expire.

Each look-up through an autofs trigger sets its clock back, and an open descriptor keeps it busy, so
a mount that is checked again and again never expires. Such a mount is looked up

- when it is seen for the first time, and until it has answered;
- when others have used it since our last look, by the counters of NFS; and when a process holds it
  (so it can not expire anyway) or waits for it: what hangs moves no counter;
- when its server does not answer;
- now and then (see _SELDOM), in case nothing of this tells that it hangs.

Otherwise only its server is asked, and the mount is idle. Without a server, it answered at its last
look-up. Without a memory, only the server decides.

Import budget: what interviews and, where processes are asked, ``using.look`` need. Nothing here
touches a mount or waits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from check_mounts import selection, text
from check_mounts.clocks import Monotonic, after, boottime, monotonic
from check_mounts.model import Condition, Finding, Mount
from check_mounts.probing import idleness, interviews, replies, servers
from check_mounts.probing.asking import Settings
from check_mounts.probing.causes import Past
from check_mounts.probing.idleness import Counters, Entry, Key
from check_mounts.probing.replies import Reply, Verdict
from check_mounts.probing.servers import Server
from check_mounts.probing.stuck import Registry
from check_mounts.system import replacing  # noqa: F401  the registry needs it at the end of a pass
from check_mounts.typed import TYPE_CHECKING, NamedTuple, Optional

if TYPE_CHECKING:
    from check_mounts.using.look import UsersLook

# The name of what the registry remembers for the next pass.
_NAME = "automounts"
# A mount that is idle for longer than this, in seconds, is looked up once: and no sooner than twice
# the time after which it would have expired, had nobody used it.
_SELDOM, _TIMEOUTS = 3600.0, 2.0
# How long a server may take to answer before its mounts are looked up, in seconds, and as a part of
# the timeout of a probe, which begins only then.
_MOMENT, _PART = 1.0, 0.5
# Processes are looked at for a mount when this part of its timeout has gone by, but not before so
# many seconds; and after so many, whatever its timeout: who hangs in it must not wait for hours
# until we see it. The last is how long a look may take, in seconds.
_WALK_PART, _WALK_LEAST, _WALK_MOST, _WALK_LONGEST = 0.25, 2.0, 60.0, 2.0
# A probe of another run that has been away for so long, in seconds, may hang.
_AWAY = 1.0


class _Held(NamedTuple):
    """A mount that is looked up only if its server does not answer, or a process uses it."""

    mount: Mount
    entry: Optional[Entry]
    server: Optional[Server]
    asks_processes: bool


class _Memory:
    """What earlier passes know: kept by the registry or, if that can keep nothing, by this process,
    if it makes several passes. ``entries`` None: nothing is remembered."""

    def __init__(self, registry: Registry, past: Past) -> None:
        self._registry, self._past = registry, past
        self.entries = self._read()[0]

    def _read(self) -> tuple[Optional[dict[Key, Entry]], Optional[bytes]]:
        # A directory on a full or read-only filesystem would have what it can no longer change.
        data = None if self._registry.unremembered else self._registry.note(_NAME)
        return (self._past.automounts, None) if data is None else (idleness.decoded(data, boottime()), data)

    def update(self, changed: Mapping[Key, Entry], table: Sequence[Mount]) -> None:
        """Change entries. What another run has noted meanwhile stays. Raises OSError."""
        entries, before = self._read()
        if entries is None:
            return
        newer = {key: each for key, each in changed.items() if key not in entries or entries[key].noted <= each.noted}
        left = idleness.kept({**entries, **newer}, table, boottime())
        if before is None:
            self._past.automounts = left
        elif (data := idleness.encoded(left)) != before:
            self._registry.keep(_NAME, data)


class Sparing:
    """The mounts of a pass that are spared, and what becomes of them. ``latest``: when the pass
    ends."""

    def __init__(
        self,
        table: Sequence[Mount],
        timeouts: Mapping[int, float],
        mounts: Sequence[Mount],
        settings: Settings,
        memory: _Memory,
        latest: Monotonic,
    ) -> None:
        self._table, self._mounts, self._memory = table, mounts, memory
        self._now = boottime()
        self._counted = {} if memory.entries is None else idleness.counters(mounts, table)
        self._used: set[int] = set()
        self._held: dict[int, _Held] = {}
        self._arrived: list[_Held] = []
        self._longest = min(_WALK_LONGEST, settings.timeout * _PART)
        moment = min(_MOMENT, settings.timeout * _PART)
        self._until = after(moment)
        self._interviews = interviews.Interviews(moment, latest)
        self._look: Optional[UsersLook] = None
        self._walked: frozenset[int] = frozenset()
        for mount in mounts:
            held = self._judged(mount, timeouts[mount.mount_id], settings.diagnosis)
            if held is not None:
                self._held[mount.mount_id] = held
        self._begin()

    # -- which mounts are looked up

    def _judged(self, mount: Mount, timeout: float, asks: bool) -> Optional[_Held]:
        """None if the mount is looked up without more ado."""
        server, entries = servers.server_of(mount) if asks else None, self._memory.entries
        if entries is None:
            return None if server is None else _Held(mount, None, server, False)
        entry = entries.get(idleness.key_of(mount))
        if entry is None or not entry.answered or self._now - entry.looked >= max(_SELDOM, _TIMEOUTS * timeout):
            return None
        counters = self._counted.get(mount.mount_id)
        if counters is not None and (entry.counters is None or counters.is_more_than_probes(entry.counters)):
            self._used.add(mount.mount_id)
            return None
        return _Held(mount, entry, server, self._now - entry.walked >= _walks_after(timeout))

    def _begin(self) -> None:
        """Begin to ask servers and processes."""
        self._interviews.ask([each.server for each in self._held.values() if each.server is not None])
        asked = [each.mount for each in self._held.values() if each.asks_processes]
        if asked:
            from check_mounts.using import look  # most passes need not look at processes
            from check_mounts.using.model import Wanted

            self._walked = frozenset(mount.mount_id for mount in asked)
            able = [mount for mount in self._table if selection.can_hang_on_the_way(mount)]
            devices = frozenset(mount.device for mount in asked)
            others = tuple(mount for mount in able if mount.device not in devices)
            hung = frozenset(mount.device for mount in able)
            self._look = look.begin(Wanted(tuple(asked), hung, others, self._walked), self._longest)
        self._interviews.step()

    # -- while the pass runs

    def takes(self, mount: Mount, away: Callable[[Mount], float]) -> bool:
        """Whether the mount must not be looked up yet: :meth:`settled` returns it. ``away``: for
        how many seconds a probe of another run has been at its filesystem."""
        held = self._held.pop(mount.mount_id, None)
        if held is None or away(mount) >= _AWAY:
            return False
        self._arrived.append(held)
        return True

    @property
    def holds_any(self) -> bool:
        """Whether :meth:`settled` will return a mount."""
        return bool(self._arrived)

    def settled(self) -> list[tuple[Mount, Optional[str]]]:
        """The mounts about which it is known now whether they are looked up: None, or why they need
        not be, in words."""
        if not self._arrived:
            return []
        self._interviews.step()
        if self._look is not None:
            self._look.step()
            if self._look.done:
                self._end_look(self._look)
        arrived = self._arrived
        self._arrived = [held for held in arrived if self._is_open(held)]
        return [(held.mount, self._why_idle(held)) for held in arrived if not self._is_open(held)]

    def _is_open(self, held: _Held) -> bool:
        if held.asks_processes and self._look is not None:
            return True
        return held.server is not None and held.server not in self._interviews.replies and monotonic() < self._until

    def _end_look(self, look: UsersLook) -> None:
        from check_mounts.using import worker

        self._look = None
        users = look.users()
        look.close()
        self._used |= users.single
        waiting = {each.device for each in users.processes if each.how.hangs and not worker.is_ours(each.name)}
        is_any = any(not worker.is_ours(each.name) for each in users.probable)
        self._used |= {
            mount.mount_id
            for mount in self._mounts
            if mount.mount_id in self._walked
            and (mount.device in waiting or (is_any and selection.can_hang_on_the_way(mount)))
        }

    def _why_idle(self, held: _Held) -> Optional[str]:
        if held.mount.mount_id in self._used:
            return None
        since = "not looked up" if held.entry is None else f"not used since {text.moment(held.entry.used)}"
        if held.server is None:
            return f"{since}, so looked up once an hour"
        reply = self._interviews.replies.get(held.server)
        if reply is None or not _answers(reply):
            return None
        return f"{since}; {replies.words(held.server, reply, '')}"

    # -- the end

    def end(self, findings: Mapping[int, Finding]) -> None:
        """End all questions, and keep what the next pass must know. Raises OSError.

        Counters of mounts that were looked up are read again: our own probes have moved them."""
        self._interviews.close()
        if self._look is not None:
            self._end_look(self._look)
        if self._memory.entries is None:
            return
        found = {mount: findings[mount.mount_id] for mount in self._mounts if mount.mount_id in findings}
        asked = [mount for mount, finding in found.items() if finding.outcome is not None]
        again = idleness.counters(asked, self._table) if asked else {}
        changed = {mount: self._after_probe(mount, found[mount], again.get(mount.mount_id)) for mount in asked}
        changed.update(
            {mount: self._after_rest(mount) for mount, each in found.items() if each.condition is Condition.IDLE}
        )
        self._memory.update({idleness.key_of(mount): entry for mount, entry in changed.items()}, self._table)

    def _after_probe(self, mount: Mount, finding: Finding, counters: Optional[Counters]) -> Entry:
        before = self._entry(mount)
        used = before is None or mount.mount_id in self._used
        walked = before is None or mount.mount_id in self._walked
        return Entry(
            answered=finding.condition is Condition.OK,
            looked=self._now,
            used=self._now if before is None or used else before.used,
            walked=self._now if before is None or walked else before.walked,
            noted=boottime(),
            counters=counters,
        )

    def _after_rest(self, mount: Mount) -> Entry:
        before = self._entry(mount)
        assert before is not None
        walked = self._now if mount.mount_id in self._walked else before.walked
        return before._replace(counters=self._counted.get(mount.mount_id), walked=walked, noted=self._now)

    def _entry(self, mount: Mount) -> Optional[Entry]:
        return (self._memory.entries or {}).get(idleness.key_of(mount))


def _walks_after(timeout: float) -> float:
    return min(max(_WALK_LEAST, _WALK_PART * timeout), _WALK_MOST)


def _answers(reply: Reply) -> bool:
    """Whether a server does what its mounts need of it, as far as we can ask. One that wants to
    know who asks (AUTH_ERROR) has answered, too."""
    if reply.verdict is Verdict.RPC_ERROR:
        return reply.error == "AUTH_ERROR"
    return reply.verdict in (Verdict.RPC_ANSWERED, Verdict.CONNECTED)


def begin(
    table: Sequence[Mount],
    selected: Sequence[Mount],
    settings: Settings,
    registry: Registry,
    past: Past,
    latest: Monotonic,
) -> Optional[Sparing]:
    """Begin to ask for the mounts that are spared; None without any."""
    timeouts = idleness.spared(table, selected)
    mounts = [mount for mount in selected if mount.mount_id in timeouts]
    return Sparing(table, timeouts, mounts, settings, _Memory(registry, past), latest) if mounts else None
