"""Which hung mount a thread waits for, from its kernel stack and from what its process holds. Pure.

Import budget: stacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from check_mounts.typed import NamedTuple, Optional
from check_mounts.using import stacks
from check_mounts.using.model import Device, How
from check_mounts.using.stacks import Kind, Wait
from check_mounts.using.walk import Use

# The dirfd of a look-up in the working directory (AT_FDCWD), as a register shows it.
_HERE = (-100 & 0xFFFFFFFF, -100 & 0xFFFFFFFFFFFFFFFF)


class Held(NamedTuple):
    """What a process has: the device of each of its descriptors that is on a wanted mount, its
    working directory's device (None: not wanted), and how it uses which device. ``others``: those
    arguments of its system call that are descriptors on other mounts. ``visible``: the devices in
    the table of its mount namespace, beyond which no path of it leads; None if that is not
    known."""

    descriptors: Mapping[int, Device]
    directory: Optional[Device]
    uses: frozenset[tuple[How, Device]]
    others: frozenset[int] = frozenset()
    visible: Optional[frozenset[Device]] = None

    @property
    def all(self) -> frozenset[Device]:
        """The devices that it uses."""
        return frozenset(device for _, device in self.uses)


def held(found: Iterable[tuple[Use, Device]], visible: Optional[frozenset[Device]]) -> Held:
    """What a process has, from its uses of wanted mounts."""
    found = list(found)
    return Held(
        {use.descriptor: device for use, device in found if use.descriptor >= 0},
        next((device for use, device in found if use.how is How.STANDS), None),
        frozenset((use.how, device) for use, device in found),
        visible=visible,
    )


class Verdict(NamedTuple):
    """How a thread waits, and for which of these devices: for one, or for one of several."""

    how: How
    devices: frozenset[Device]


def judged(
    wait: Wait, held: Held, arguments: Optional[Sequence[int]], has_stack: bool, hung: Mapping[Device, str]
) -> Optional[Verdict]:
    """Whether a thread waits for one of the hung mounts; None if it does not.

    ``hung``: the device of each mount that hangs -> its family. ``arguments`` are those of the
    system call, as procfs.arguments gives them. ``has_stack``: the wait is understood from the
    whole stack, and not from one function."""
    suspects = frozenset(device for device, family in hung.items() if not wait.families or family in wait.families)
    if held.visible is not None:
        suspects &= held.visible | held.all
    if not suspects:
        return None
    if not has_stack:
        mine = suspects & held.all
        return Verdict(How.PROBABLY, mine or suspects) if mine or wait.families else None
    if wait.kind is Kind.DESCRIPTOR:
        return _at_descriptor(wait, held, arguments, suspects)
    near = suspects & _near(wait, held, arguments)
    return Verdict(How.PROBABLY, near or suspects)


def _at_descriptor(
    wait: Wait, held: Held, arguments: Optional[Sequence[int]], suspects: frozenset[Device]
) -> Optional[Verdict]:
    """The thread works on a descriptor. The system call names it; without that, the process must
    have descriptors on one of the mounts only."""
    if arguments is not None and not wait.is_asynchronous:
        numbers = named_by(wait, arguments)
        named = {held.descriptors[number] for number in numbers if number in held.descriptors} & suspects
        if named:
            return Verdict(How.WAITS if len(named) == 1 else How.PROBABLY, frozenset(named))
        if not held.others.isdisjoint(numbers):
            return None
        # Another thread has closed the descriptor meanwhile; or msync(2), which has an address.
        return Verdict(How.PROBABLY, suspects & frozenset(held.descriptors.values()) or suspects)
    open_on = suspects & frozenset(held.descriptors.values())
    if len(open_on) == 1 and not wait.is_asynchronous:
        return Verdict(How.WAITS, open_on)
    if open_on or wait.families:
        return Verdict(How.PROBABLY, open_on or suspects)
    return None


def named_by(wait: Wait, arguments: Sequence[int]) -> list[int]:
    """The arguments of a system call that are, or may be, the descriptors it works on."""
    places = () if wait.is_asynchronous else (1, 2, 3) if wait.copies else (1,)
    return [arguments[place] for place in places]


def _near(wait: Wait, held: Held, arguments: Optional[Sequence[int]]) -> frozenset[Device]:
    """The devices that a wait without a descriptor is most likely for: that of the directory in
    which a look-up begins, if it begins in one; else those of which the process has something."""
    if wait.kind is Kind.LOOK_UP and arguments is not None:
        first = arguments[1]
        if first in held.descriptors:
            return frozenset((held.descriptors[first],))
        if first in _HERE and held.directory is not None:
            return frozenset((held.directory,))
    return held.all


def families(hung: Mapping[Device, bytes]) -> dict[Device, str]:
    """The family of each device, from its type as the mount table names it."""
    return {device: stacks.family_of(fs_type) for device, fs_type in hung.items()}
