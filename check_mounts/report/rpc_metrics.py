"""What programs did on NFS mounts, as metrics: counters, of which Prometheus makes rates. They
begin again at 0 with a new mount, which a rate takes for a restart.

Few kinds of operations are told apart: with a label for each kind, a host with a hundred mounts
would have ten thousand series."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from check_mounts.traffic import KINDS, OTHER, Operation, Traffic, by_kind, total
from check_mounts.typed import Optional

_PREFIX = "check_mounts_mount_rpc"
# For each of KINDS, and all others together.
_OF_KINDS = {
    "operations": "Operations that have ended.",
    "rtt_seconds": "Time from the last transmission of the requests to the replies.",
    "execution_seconds": "Time of the whole operations, with waiting and retries.",
}
# For all operations together.
_OF_ALL = {
    "queue_seconds": "Time until the requests were sent.",
    "retransmissions": "Requests that were sent again.",
    "timeouts": "How often a request had used up its retries.",
    "errors": "Operations that failed.",
    "sent_bytes": "Bytes of requests.",
    "received_bytes": "Bytes of replies.",
}
_KINDS = [kind.decode("ascii") for kind in (*KINDS, OTHER)]
_NONE = Operation(OTHER, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def families() -> Iterator[tuple[str, str, Sequence[str]]]:
    """For each family its name, its help, and its labels besides those of a mount."""
    for name, words in _OF_KINDS.items():
        yield f"{_PREFIX}_{name}", words, ["operation"]
    for name, words in _OF_ALL.items():
        yield f"{_PREFIX}_{name}", words, []


def lines(mounts: Iterable[tuple[str, Traffic]]) -> Mapping[str, list[str]]:
    """The series of each family, by its name. ``mounts``: the labels of each mount as the library
    writes them."""
    found: dict[str, list[str]] = {f"{_PREFIX}_{name}": [] for name in (*_OF_KINDS, *_OF_ALL)}
    for labels, traffic in mounts:
        kinds = {each.name.decode("ascii"): each for each in by_kind(traffic.counters)}
        for kind in _KINDS:
            shown = f'{labels[:-1]},operation="{kind}"}}'
            for name, value in zip(_OF_KINDS, _times(kinds.get(kind, _NONE))):
                found[f"{_PREFIX}_{name}"].append(f"{_PREFIX}_{name}_total{shown} {value}\n")
        for name, number in zip(_OF_ALL, _whole(total(kinds.values()))):
            if number is not None:
                found[f"{_PREFIX}_{name}"].append(f"{_PREFIX}_{name}_total{labels} {number}\n")
    return found


def _times(operation: Operation) -> tuple[float, ...]:
    return float(operation.operations), operation.rtt / 1000, operation.execute / 1000


def _whole(whole: Operation) -> tuple[Optional[float], ...]:
    return (
        whole.queue / 1000,
        float(whole.retransmissions),
        float(whole.timeouts),
        None if whole.errors is None else float(whole.errors),
        float(whole.bytes_sent),
        float(whole.bytes_received),
    )
