"""``--explain MOUNTPOINT``: the options of a check that is narrowed to one mount and what is on its
way, with all that declares it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from check_mounts import text
from check_mounts.declared import (
    compare,  # noqa: F401  an import that fails later must not lose the findings
    fstab,
    units,
)
from check_mounts.guard import defects
from check_mounts.model import ExpectedMount
from check_mounts.options.command_line import Values
from check_mounts.options.option_table import BY_NAME, DEFAULT_FSTAB
from check_mounts.options.refusals import refuse
from check_mounts.options.rules import Rulebook
from check_mounts.options.understood import Explain, Options
from check_mounts.options.working_directory import absolute
from check_mounts.typed import Any, NamedTuple


def settled(options: Options, said: Values, given: Collection[str], rulebook: Rulebook, name: bytes) -> Options:
    """The options, narrowed to the mount point ``name``. Raises UsageError."""
    _refuse(said, given)
    check = options.check
    notes: list[str] = [*check.notes, *map(str, check.wrong)]
    more = _more_declarations(said, {each.mount_point for each in check.demands.expected}, notes)
    check = check._replace(
        filters=check.filters._replace(mount_points=[name], **_ALL),
        demands=check.demands._replace(expected=(*check.demands.expected, *more.at_boot)),
        # Other lines of a file say nothing about this mount.
        wrong=(),
        notes=(),
        holders=True,
    )
    output = options.output._replace(json=False, perfdata=said.perfdata if "perfdata" in given else "none")

    def rules(point: bytes) -> tuple[Sequence[str], Sequence[str]]:
        found = rulebook.of(point)
        return found.given(), found.defaults()

    explain = Explain(name, rules, tuple(notes), more.by_hand)
    return options._replace(check=check, output=output, explain=explain)


class Declared(NamedTuple):
    """What files declare; ``by_hand``: with noauto."""

    at_boot: list[ExpectedMount]
    by_hand: list[ExpectedMount]


# On the command line, these do not go with --explain. In a file they are about all mounts, and do
# not count here.
_OF_MANY = ("json", "remote", "local", "path", "include-type", "include-source")
_ALL: Mapping[str, Any] = {
    "remote": False, "local": False, "include_paths": (), "include_types": (), "include_sources": (),
}  # fmt: skip


def _refuse(said: Values, given: Collection[str]) -> None:
    """Raises UsageError for what does not go with --explain."""
    if said.mount_points:
        refuse("--explain", "explains one mount, so no other MOUNTPOINT goes with it")
    for name in _OF_MANY:
        if BY_NAME[name].dest in given:
            refuse("--explain", f"does not go with --{name}")


def _more_declarations(said: Values, known: Collection[bytes], notes: list[str]) -> Declared:
    """What fstab and the units of systemd declare beside what options ask for; what cannot be read
    becomes a note."""
    found: list[ExpectedMount] = []
    by_hand: list[ExpectedMount] = []
    path = DEFAULT_FSTAB if said.fstab is None else absolute("--fstab", said.fstab)
    try:
        declared = fstab.read(path)
        by_hand += declared.by_hand
        if said.fstab is None:
            found += declared.at_boot
            notes += map(str, declared.complaints)
    except FileNotFoundError:
        pass  # a container has none
    except OSError as error:
        notes.append(f"{text.printable_argument(path)}: {text.error_of(error)}")
    try:
        if not said.systemd:
            entries, complaints = units.read_units()
            points = {each.mount_point for each in found}
            found += [each for each in entries if each.mount_point not in points]  # made from fstab
            notes += map(str, complaints)
    except Exception as error:  # the rest can be told
        defects.say(error)
        notes.append(f"the units of systemd were not read: {text.error_of(error)}")
    return Declared([each for each in found if each.mount_point not in known], by_hand)
