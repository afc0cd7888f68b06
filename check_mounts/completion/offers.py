"""What a shell can complete, made from the table of options alone: an option that is added there is
completed without a change here."""

from __future__ import annotations

from collections.abc import Callable

from check_mounts.model import Condition, State
from check_mounts.options import values
from check_mounts.options.extra_opts import PATHS
from check_mounts.options.option import Option
from check_mounts.options.option_table import DEFAULT_CONFIG, OPTIONS
from check_mounts.outcome import Step
from check_mounts.passive.destinations import KINDS
from check_mounts.system import logs
from check_mounts.traffic import Measure
from check_mounts.typed import Any, NamedTuple

# What completes a value: the scripts have a function of this name for each.
WORDS, POINTS, MOUNTS, TYPES, SOURCES, USERS = "words", "points", "mounts", "types", "sources", "users"
FILES, DIRECTORIES, SEVERITIES, STEPS = "files", "directories", "severities", "steps"
DESTINATIONS, SECTIONS, NOTHING = "destinations", "sections", "nothing"

# First by the name of the option, then by its parser, then by what its value is called.
_BY_NAME = {
    "include-type": TYPES, "exclude-type": TYPES, "include-source": SOURCES, "exclude-source": SOURCES,
    "submit": DESTINATIONS, "extra-opts": SECTIONS, "syslog-facility": WORDS,
    "explain": POINTS,
}  # fmt: skip
_BY_PARSER: dict[Any, str] = {
    values.path_globs: MOUNTS, values.expected_mount: POINTS, values.severities: SEVERITIES, values.limit: STEPS,
    values.user: USERS,
}  # fmt: skip
_BY_METAVAR = {"FILE": FILES, "FILE.prom": FILES, "PATH": FILES, "DIR": DIRECTORIES}

# Lists that the scripts hold.
CONDITIONS = tuple(condition.value for condition in Condition)
STATES = tuple(state.name.lower() for state in State)
STEP_NAMES = (*(step.word for step in Step), *(measure.word for measure in Measure))
SCHEMES = tuple(f"{kind.word}:" for kind in KINDS)
INI_FILES = PATHS
CONFIG = DEFAULT_CONFIG
# The scripts list directories on these filesystems only: no server is behind them.
LOCAL_TYPES = (
    "bcachefs btrfs erofs exfat ext2 ext3 ext4 f2fs iso9660 jfs ntfs3 overlay ramfs rootfs squashfs tmpfs vfat xfs zfs"
)


class Offer(NamedTuple):
    """One option. ``needs``: one of these must be on the line; ``excludes``: none of these may.
    ``optional``: its value may be left out, and follows an equals sign."""

    long: str
    short: str
    help: str
    value: str
    kind: str
    words: tuple[str, ...]
    repeatable: bool
    optional: bool
    needs: tuple[str, ...]
    excludes: tuple[str, ...]


def offers() -> list[Offer]:
    """All options, in the order of the table."""
    return [_offer(option) for option in OPTIONS]


def _offer(option: Option) -> Offer:
    kind = _kind(option) if option.takes_value else ""
    words = option.choices or (tuple(logs.FACILITIES) if option.name == "syslog-facility" else ())
    excludes = {f"--{name}" for name in option.not_with}
    excludes.update(other.long for other in OPTIONS if option.name in other.not_with)
    return Offer(
        option.long, option.short, option.help, option.metavar, kind, words if kind == WORDS else (),
        option.repeatable, option.left_out is not None, tuple(f"--{name}" for name in option.only_with),
        tuple(sorted(excludes)),
    )  # fmt: skip


def _kind(option: Option) -> str:
    if option.choices:
        return WORDS
    known = _BY_NAME.get(option.name) or _BY_PARSER.get(option.parse)
    return known or _BY_METAVAR.get(option.metavar, NOTHING)


def filled(template: str, quoted: Callable[[str], str] = str, **parts: str) -> str:
    """A script with each ``@NAME@`` replaced by a part, or by one of the lists above. ``quoted``
    protects a word that the shell could take for more."""
    lists = {
        "LOCAL": LOCAL_TYPES, "CONFIG": CONFIG, "INI": " ".join(INI_FILES), "STATES": " ".join(STATES),
        "CONDITIONS": " ".join(CONDITIONS), "STEPS": " ".join(STEP_NAMES), "SCHEMES": " ".join(map(quoted, SCHEMES)),
    }  # fmt: skip
    for name, part in {**parts, **lists}.items():
        template = template.replace(f"@{name}@", part)
    return template
