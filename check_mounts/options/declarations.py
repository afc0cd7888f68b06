"""The mounts that the files of a host declare: fstab, and the units of systemd.

Import budget: what every run needs; the readers of the files only where they are wanted."""

from __future__ import annotations

import os
from collections.abc import Sequence

from check_mounts import text
from check_mounts.model import BadLine, ExpectedMount
from check_mounts.options.command_line import Values
from check_mounts.options.refusals import refuse
from check_mounts.options.working_directory import absolute
from check_mounts.typed import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from check_mounts.roots import Root
    from check_mounts.tablelines import Opener


def read(
    said: Values, more: Sequence[ExpectedMount], root: Optional[Root]
) -> tuple[list[ExpectedMount], list[BadLine], list[str]]:
    """Read the declared mounts, bad lines of fstab, and notes on units. ``more``: what is declared
    elsewhere. ``root``: the place whose files they are, None for our own. Raises UsageError."""
    declared: list[ExpectedMount] = []
    wrong: list[BadLine] = []
    notes: list[str] = []
    opener = opener_of(root)
    if said.fstab is not None:
        declared, wrong = _read_fstab(said.fstab, root, opener)
    if said.systemd:
        from check_mounts.declared import units

        entries, complaints = units.read_units(opener=opener)
        known = {each.mount_point for each in declared}  # units that systemd made from fstab repeat it
        declared += [each for each in entries if each.mount_point not in known]
        notes += map(str, complaints)
    return [*declared, *more], wrong, notes


def opener_of(root: Optional[Root]) -> Opener:
    """Opens the files of a place; None: those of this process."""
    if root is None:
        return os.open
    from check_mounts.options import namespace

    return namespace.files(root)


def _read_fstab(path: str, root: Optional[Root], opener: Opener) -> tuple[list[ExpectedMount], list[BadLine]]:
    """Read the mounts that an fstab declares, and its bad lines. Raises UsageError."""
    from check_mounts.declared import fstab

    if root is not None:
        from check_mounts.options import namespace

        namespace.rooted("--fstab", path)
    try:
        return fstab.read_fstab(absolute("--fstab", path), opener)
    except OSError as error:
        return refuse("--fstab", f"{text.printable_argument(path)}: {error.strerror}")
