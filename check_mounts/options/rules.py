"""The rules for one mount, resolved once from options and sections, with the origin of each
part."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from check_mounts import filesystems, selection, text
from check_mounts.judging.policy import Policy
from check_mounts.model import BootGrace, ExpectedMount, Mount
from check_mounts.options.configuration import Configuration, MountSection, Overrides, Said
from check_mounts.options.option_table import MOUNT_KEYS, OPTIONS
from check_mounts.probing import asking
from check_mounts.probing.requests import Canary
from check_mounts.selection import Glob, PathGlob
from check_mounts.system.privilege import Identity
from check_mounts.typed import NOTHING, TYPE_CHECKING, Any, NamedTuple, Optional

if TYPE_CHECKING:
    from check_mounts.report.each import Chosen

DEFAULT = "default"
COMMAND_LINE = "command line"


def places(from_files: Sequence[Said], given: Collection[str]) -> Mapping[str, str]:
    """Each option of the whole run -> the place that gives it, in words.

    There are several places if the values add up. ``given`` are the options of the command line."""
    found: dict[str, str] = {}
    in_turn = [
        *((line.option, str(line.origin)) for line in from_files),
        *((option, COMMAND_LINE) for option in OPTIONS if option.dest in given),
    ]
    for option, place in in_turn:
        before = found.get(option.name) if option.repeatable else None
        found[option.name] = f"{before}, {place}" if before else place
    return found


class Rules(NamedTuple):
    """The rules for one mount.

    ``timeout`` is in seconds, ``boot_grace`` says how long after boot the mount may be missing.
    ``user`` says as whom the worker looks into the mount: ``owner``, ``self``, or the user who has
    this ``identity``. ``write``: also probe writing, if the mount is writable at all.
    ``expect_ro``: whether the mount should be read-only; None if nothing says so.
    ``declared`` is the mount that should be there if anything is mounted; ``expect``: something
    must be mounted. ``said`` is what the sections say that match the mount point, None if none
    does; ``by_path``: one names it as a path.
    ``origins`` has the place that gave each key, or the places: ``/etc/check_mounts.conf line 7``,
    ``command line``, ``default``."""

    mount_point: bytes
    ignore: bool
    timeout: float
    boot_grace: BootGrace
    user: str
    identity: Optional[Identity]
    write: bool
    policy: Policy
    expect_ro: Optional[bool]
    ignored_options: tuple[Glob, ...]
    expect: bool
    declared: Optional[ExpectedMount]
    said: Optional[Overrides]
    by_path: bool
    origins: Mapping[str, str]

    @property
    def per_mount(self) -> Optional[Sequence[Chosen]]:
        """The mounts that have a result of their own, if this one is among them; None if no section
        says so."""
        return None if self.said is None else self.said.per_mount

    def __str__(self) -> str:
        """One line for each key, as in a section of the configuration, with its origin."""
        return "\n".join([f'[mount "{text.printable(self.mount_point)}"]', *self._lines(self._said())])

    def defaults(self) -> Sequence[str]:
        """What holds by default: ``timeout = 5``."""
        return [f"{key} = {value}" for key, value in self._said() if key not in self.origins]

    def given(self) -> Sequence[str]:
        """The same lines, without the title and the defaults."""
        return self._lines([(key, value) for key, value in self._said() if key in self.origins])

    def _lines(self, said: Sequence[tuple[str, str]]) -> list[str]:
        return [f"{key} = {value} ({self.origins.get(key, DEFAULT)})" for key, value in said]

    def _said(self) -> Sequence[tuple[str, str]]:
        policy, canary = self.policy, NOTHING if self.said is None else self.said.canary
        severity = ", ".join(f"{condition.value}={state.name.lower()}" for condition, state in policy.severity.items())
        capacities = {
            f"{what}-{bound}": getattr(policy, f"{what}_{bound}")
            for what in ("usage", "inodes")
            for bound in ("warning", "critical")
        }
        said = {
            "ignore": _yes(self.ignore),
            "per-mount": "" if self.per_mount is None else ", ".join(each.words for each in self.per_mount) or "no",
            "timeout": f"{self.timeout:g}",
            "boot-grace": f"{self.boot_grace.seconds:g}" if "boot-grace" in self.origins else "",
            "as": text.printable_argument(self.user),
            "write": _yes(self.write),
            "canary": text.printable(canary.get("canary", b"")),
            "contains": text.excerpt(canary["contains"]) if "contains" in canary else "",
            "not-empty": "yes" if canary.get("not_empty") else "",
            "severity": severity,
            **{bound: ", ".join(_limits(policy, bound)) for bound in ("warning", "critical")},
            **{key: limit.range.spec for key, limit in capacities.items() if limit is not None},
            "unusual": f"{policy.unusual:g}" if policy.unusual else "no" if "unusual" in self.origins else "",
            "expect": "yes" if self.expect else "",
            "expect-ro": "" if self.expect_ro is None else _yes(self.expect_ro),
            **_declared_words(self.declared),
        }
        said["ignore-option"] = text.counted(len(self.ignored_options), "pattern") if self.ignored_options else ""
        return [(key, value) for key, value in said.items() if value]


def _limits(policy: Policy, bound: str) -> Iterator[str]:
    """``2``, ``read=0.5``, ``rtt=50ms``: each needs a line of its own in a section."""
    whole = policy.warning if bound == "warning" else policy.critical
    if whole is not None:
        yield whole.spec
    for part, limit in (policy.step_warning if bound == "warning" else policy.step_critical).items():
        yield f"{part.word}={limit.spec}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _declared_words(declared: Optional[ExpectedMount]) -> Mapping[str, str]:
    if declared is None:
        return {}
    parts = {
        "source": filesystems.source_words(declared.source or b"", declared.fs_type),
        "type": text.printable(text.without_secrets(declared.fs_type or b"")),
        # One by one: the key of an option says whether its value is a secret.
        "options": ",".join(text.printable(text.without_secrets(option)) for option in declared.options),
    }
    return {key: value for key, value in parts.items() if value}


class General(NamedTuple):
    """The rules for mounts that no section matches.

    ``expect_ro`` are patterns of mount points, ``canaries`` has one and a file each, ``origins``
    has the places that gave the options."""

    timeout: float
    user: str
    write: bool
    canaries: Sequence[tuple[PathGlob, bytes]]
    boot_grace: float
    policy: Policy
    expect_ro: Sequence[PathGlob]
    ignored_options: Sequence[Glob]
    origins: Mapping[str, str]


class Rulebook:
    """Resolves the rules for each mount. ``identities`` has all users that the options name."""

    def __init__(
        self, general: General, configuration: Configuration, identities: Mapping[str, Optional[Identity]]
    ) -> None:
        self.general, self.identities, self._configuration = general, identities, configuration
        # Most mounts match no section: making all of their rules anew would cost each run.
        self._usual = Rules(
            mount_point=b"",
            ignore=False,
            timeout=general.timeout,
            boot_grace=BootGrace(general.boot_grace, for_any=False),
            user=general.user,
            identity=identities.get(general.user),
            write=general.write,
            policy=general.policy,
            expect_ro=None,
            ignored_options=tuple(general.ignored_options),
            expect=False,
            declared=None,
            said=None,
            by_path=False,
            origins=general.origins,
        )
        self._known: dict[bytes, Rules] = {}

    def of(self, mount_point: bytes) -> Rules:
        """The rules for a mount point, as the kernel spells it. Looks nothing up."""
        if mount_point not in self._known:
            self._known[mount_point] = self._resolved(mount_point)
        return self._known[mount_point]

    def follow(self, lead: Callable[[bytes], bytes]) -> None:
        """Tell the patterns where the paths lead that they begin with."""
        self._configuration.follow(lead)
        self._known.clear()

    def _resolved(self, mount_point: bytes) -> Rules:
        expect_ro = True if any(glob.match(mount_point) for glob in self.general.expect_ro) else None
        usual = self._usual._replace(mount_point=mount_point, expect_ro=expect_ro)
        sections = self._configuration.matching(mount_point)
        return self._by_sections(usual, sections) if sections else usual

    def _by_sections(self, usual: Rules, sections: Sequence[MountSection]) -> Rules:
        """The rules, with those of the sections that match in their place."""
        said = self._configuration.for_mount(usual.mount_point)
        user = usual.user if said.identity is None else said.identity
        writes = usual.write if said.write is None else said.write
        origins = self._origins(sections)
        if writes and said.expect_ro:
            origins = {**origins, "write": origins["expect-ro"]}
        return usual._replace(
            ignore=bool(said.ignore),
            timeout=usual.timeout if said.timeout is None else said.timeout,
            boot_grace=usual.boot_grace if said.boot_grace is None else BootGrace(said.boot_grace, for_any=True),
            user=user,
            identity=self.identities.get(user),
            write=writes and not said.expect_ro,
            policy=said.policy(usual.policy),
            expect_ro=usual.expect_ro if said.expect_ro is None else said.expect_ro,
            ignored_options=(*usual.ignored_options, *(said.ignore_option or ())),
            expect=bool(said.expect),
            declared=self._configuration.declared(usual.mount_point),
            said=said._replace(canary={**self._canary(usual.mount_point), **said.canary}),
            by_path=any(section.path is not None for section in sections),
            origins=origins,
        )

    def _origins(self, sections: Sequence[MountSection]) -> Mapping[str, str]:
        general = self.general.origins
        found = dict(general)
        for section in sections:
            for key in MOUNT_KEYS.keys() & section.origins.keys():
                # Severities are joined, condition by condition; patterns of options are added to
                # those of the whole run.
                joined = {"severity": found, "ignore-option": general}.get(key, {})
                if any(isinstance(each, tuple) and each[0] == key for each in section.overrides.limits):
                    joined = found  # a limit for a part stands beside that for the whole
                found[key] = ", ".join([*([joined[key]] if key in joined else []), str(section.origins[key])])
        return found

    def told(self, mount_point: bytes) -> Sequence[str]:
        """The rules for a mount point in words, without defaults; empty if no section matches
        it."""
        rules = self.of(mount_point)
        return rules.given() if rules.said is not None else ()

    # -- the questions of a check

    def writes(self, mount: Mount) -> bool:
        """Whether a file should be written to a mount that answered."""
        # Most runs have no sections and write nothing: nothing must be resolved for each mount.
        rules = self.of(mount.mount_point) if self._configuration.sections else self._usual
        return rules.write and selection.writable(mount)

    def canary(self, mount: Mount) -> Optional[Canary]:
        """What must be found in a mount that answered; None if nothing."""
        rules = self.of(mount.mount_point)
        said = self._canary(mount.mount_point) if rules.said is None else rules.said.canary
        canary = Canary(said.get("canary", b""), said.get("contains", b""), said.get("not_empty", False))
        return canary if canary.file or canary.not_empty else None

    def _canary(self, mount_point: bytes) -> Mapping[str, Any]:
        """What the option says, as ``canary`` of Overrides."""
        files = [file for glob, file in self.general.canaries if glob.match(mount_point)]
        return {"canary": files[-1]} if files else NOTHING

    def override(self, mount: Mount) -> asking.Override:
        """How to probe a mount."""
        rules = self.of(mount.mount_point)
        return asking.Override(rules.timeout, rules.user == "owner", rules.identity)

    def is_ignored(self, mount_point: bytes) -> bool:
        """Whether a mount is left alone."""
        return self.of(mount_point).ignore

    def is_declared(self, mount: Mount) -> bool:
        """Whether a section declares what should be mounted at the mount point of a mount.

        A pattern does not declare the kernel's own filesystems: ``[mount "*"]`` with ``options =
        nodev`` is not about /dev. A section with a path declares any mount there."""
        rules = self.of(mount.mount_point)
        return rules.declared is not None and (rules.by_path or not filesystems.traits(mount.fs_type).pseudo)

    def declared(self, mount_point: bytes) -> Optional[ExpectedMount]:
        """What should be mounted there, if anything is."""
        return self.of(mount_point).declared

    def ignored_options(self, mount_point: bytes) -> Sequence[Glob]:
        """The declared options that are not compared."""
        return self.of(mount_point).ignored_options

    def boot_grace(self, mount_point: bytes) -> BootGrace:
        """How long after boot the mount may still be missing."""
        return self.of(mount_point).boot_grace

    def expect_ro(self, mount_point: bytes) -> Optional[bool]:
        """Whether a mount should be read-only."""
        return self.of(mount_point).expect_ro

    def expect_ro_in(self, mount_point: bytes) -> str:
        """The place that says whether a mount should be read-only, in words."""
        place = self.of(mount_point).origins.get("expect-ro", COMMAND_LINE)
        return "--expect-ro" if place == COMMAND_LINE else place

    def per_mount(self, mount_point: bytes) -> Optional[Sequence[Chosen]]:
        """The mounts that have a result of their own, if this one is among them; None if no section
        says so."""
        return self.of(mount_point).per_mount

    def policy(self, mount_point: bytes) -> Policy:
        """The severities and thresholds of a mount."""
        return self.of(mount_point).policy


def follow(globs: Sequence[selection.PathGlob], rulebook: Rulebook, lead: Callable[[bytes], bytes]) -> None:
    """Tell patterns and rules where paths lead."""
    for glob in globs:
        if glob.leading:
            glob.follow(lead(glob.leading))
    rulebook.follow(lead)
