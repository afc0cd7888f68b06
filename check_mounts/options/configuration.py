"""The content of a configuration: options for the whole run, and rules for single mounts.

Import budget: only modules that every run needs anyway."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from check_mounts import selection
from check_mounts.judging.policy import Part, Policy
from check_mounts.judging.thresholds import Capacity, Range
from check_mounts.model import Condition, Declarer, ExpectedMount, State
from check_mounts.options.option import Option
from check_mounts.options.refusals import Origin
from check_mounts.typed import NOTHING, TYPE_CHECKING, Any, NamedTuple, Optional, Union

if TYPE_CHECKING:
    from check_mounts import passive
    from check_mounts.report.each import Chosen


class Said(NamedTuple):
    """An option that a line of a file gives; ``value`` has the form of :meth:`Option.given`."""

    option: Option
    value: Any
    origin: Origin


LimitKey = Union[str, tuple[str, Part]]


class Overrides(NamedTuple):
    """The rules that sections give for one mount; a field that no section gives is None.

    ``timeout`` and ``boot_grace`` are in seconds. ``severity`` and ``limits`` hold only the given
    values; ``limits`` may have ``warning`` and ``critical`` (ranges of seconds), ``usage_warning``
    and the like, ``unusual``, and ``("warning", PART)`` for a step or a measure. ``identity`` is
    ``owner``, ``self`` or a user, not looked up. ``expect``, ``source``, ``fs_type`` and
    ``options`` declare what should be mounted there; :meth:`Configuration.declared` uses them.
    ``canary`` has the given ones of ``canary``, ``contains`` and ``not_empty``."""

    timeout: Optional[float] = None
    boot_grace: Optional[float] = None
    severity: Mapping[Condition, State] = NOTHING
    limits: Mapping[LimitKey, Union[Range, Capacity, float]] = NOTHING
    expect_ro: Optional[bool] = None
    write: Optional[bool] = None
    canary: Mapping[str, Any] = NOTHING
    identity: Optional[str] = None
    ignore_option: Optional[tuple[selection.Glob, ...]] = None
    ignore: Optional[bool] = None
    per_mount: Optional[Sequence[Chosen]] = None
    expect: Optional[bool] = None
    source: Optional[bytes] = None
    fs_type: Optional[bytes] = None
    options: Optional[tuple[bytes, ...]] = None

    @property
    def declares(self) -> bool:
        """Whether the rules declare a mount."""
        return bool(self.expect) or not (self.source is None and self.fs_type is None and self.options is None)

    def policy(self, general: Policy) -> Policy:
        """The policy ``general``, with the severities and limits given here in their place."""
        limits: dict[str, Any] = {}
        for key, limit in self.limits.items():
            if isinstance(key, str):
                limits[key] = limit
            else:
                field = f"step_{key[0]}"
                limits[field] = {**limits.get(field, getattr(general, field)), key[1]: limit}
        return general._replace(severity={**general.severity, **self.severity}, **limits)


_NOTHING = Overrides()
_DECLARING = frozenset(("expect", "source", "type", "options"))
LIMITS = frozenset(
    ("warning", "critical", "usage_warning", "usage_critical", "inodes_warning", "inodes_critical", "unusual")
)


def _merged(below: Overrides, above: Overrides) -> Overrides:
    """Both together; ``above`` wins, key by key, and for severities condition by condition."""
    changes: dict[str, Any] = {name: value for name, value in above._asdict().items() if value is not None}
    changes["severity"] = {**below.severity, **above.severity}
    changes["limits"] = {**below.limits, **above.limits}
    changes["canary"] = {**below.canary, **above.canary}
    return below._replace(**changes)


class MountSection(NamedTuple):
    """One section ``[mount "GLOB"]``.

    ``path`` is the mount point if the pattern can match only one, else None.

    ``origin`` is its first line, ``origins`` has the first line of each of its keys.
    """

    glob: bytes
    pattern: selection.PathGlob
    path: Optional[bytes]
    overrides: Overrides
    origin: Origin
    origins: Mapping[str, Origin]

    def matches(self, mount_point: bytes) -> bool:
        """Whether the section is about this mount point, as the kernel spells it."""
        return mount_point == self.path or self.pattern.match(mount_point)


class _Index:
    """Finds the sections that match a mount point.

    A file that ``--write-config`` made may have a section for each of thousands of mounts; trying
    all of them for each mount would take minutes."""

    def __init__(self, sections: Sequence[MountSection]) -> None:
        self._patterns: list[tuple[int, MountSection]] = []
        self._by_name: dict[bytes, list[tuple[int, MountSection]]] = {}
        for each in enumerate(sections):
            section = each[1]
            if section.path is None:
                self._patterns.append(each)
                continue
            for name in {section.path, *section.pattern.names}:
                self._by_name.setdefault(name, []).append(each)

    def matching(self, mount_point: bytes) -> list[MountSection]:
        """Those that match, in the file's order."""
        candidates = self._patterns
        if named := self._by_name.get(mount_point):
            candidates = sorted([*candidates, *named], key=lambda each: each[0])
        return [section for _, section in candidates if section.matches(mount_point)]


class SubmitSection(NamedTuple):
    """All sections ``[submit "DESTINATION"]`` of one destination, merged.

    ``origin`` is the first line of the last one, ``origins`` has the lines of the keys."""

    destination: str
    settings: passive.Settings
    origin: Origin
    origins: Mapping[str, Origin]


class Configuration:
    """The parsed content of a file. Without arguments: there is no file."""

    __slots__ = ("_index", "_known", "destinations", "options", "sections")

    def __init__(
        self,
        options: tuple[Said, ...] = (),
        sections: tuple[MountSection, ...] = (),
        destinations: tuple[SubmitSection, ...] = (),
    ) -> None:
        self.options, self.sections, self.destinations = options, sections, destinations
        self._known: dict[bytes, Overrides] = {}  # a cache
        self._index: Optional[_Index] = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Configuration) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)

    @property
    def _content(self) -> tuple[object, ...]:
        return self.options, self.sections, self.destinations

    @property
    def has_canaries(self) -> bool:
        """Whether a section says what a filesystem must hold."""
        return any(section.overrides.canary for section in self.sections)

    def for_mount(self, mount_point: bytes) -> Overrides:
        """The rules of all sections that match; later ones win. Looks nothing up."""
        if mount_point not in self._known:
            result = _NOTHING
            for section in self.matching(mount_point):
                result = _merged(result, section.overrides)
            self._known[mount_point] = result
        return self._known[mount_point]

    def matching(self, mount_point: bytes) -> list[MountSection]:
        """The sections that match, in the file's order. Looks nothing up."""
        if self._index is None:
            self._index = _Index(self.sections)
        return self._index.matching(mount_point)

    def leading(self) -> list[bytes]:
        """The paths that the patterns begin with."""
        return [section.pattern.leading for section in self.sections if section.pattern.leading]

    def follow(self, lead: Callable[[bytes], bytes]) -> None:
        """Tell the patterns where the paths lead that they begin with."""
        for section in self.sections:
            if section.pattern.leading:
                section.pattern.follow(lead(section.pattern.leading))
        self._known.clear()
        self._index = None

    def declared(self, mount_point: bytes) -> Optional[ExpectedMount]:
        """What should be mounted there, if anything is; None if no section declares it.

        An empty mount point is a failure only if :meth:`expected` has it."""
        said = self.for_mount(mount_point)
        if not said.declares:
            return None
        places: dict[str, str] = {}  # of each key, the last section that gives it
        for section in self.matching(mount_point):
            for key in section.origins.keys() & _DECLARING:
                places.pop(key, None)
                places[key] = str(section.origin)
        origin = ", ".join(dict.fromkeys(places.values()))
        return ExpectedMount(
            mount_point, said.source, said.fs_type, said.options or (), origin, by=Declarer.CONFIGURATION
        )

    def expected(self) -> list[ExpectedMount]:
        """The mounts that must be there (``expect = yes``), in the file's order; no ignored
        ones."""
        names = {section.path: section.pattern.leading for section in self.sections[::-1] if section.path is not None}
        paths = dict.fromkeys(section.path for section in self.sections if section.path is not None)
        wanted = [path for path in paths if self.for_mount(path).expect and not self.for_mount(path).ignore]
        found = [(names[path], self.declared(path)) for path in wanted]
        return [each._replace(name=name if b".." in name else b"") for name, each in found if each is not None]

    def identities(self) -> dict[str, Origin]:
        """The users to look up, each with the line that names it first, for error messages.

        ``owner`` and ``self`` need no look-up."""
        found: dict[str, Origin] = {}
        for section in self.sections:
            user = section.overrides.identity
            if user not in (None, "owner", "self"):
                found.setdefault(user, section.origins["as"])
        return found
