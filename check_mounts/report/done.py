"""What programs did on a network mount, as perfdata, JSON, and a line for people. Pure.

Loaded only where a daemon knows something of the kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from check_mounts import text
from check_mounts.judging.policy import Policy
from check_mounts.judging.units import in_numbers
from check_mounts.traffic import Measure, Operation, Traffic, by_kind, time_words, total
from check_mounts.typed import Any, Optional


def numbers(traffic: Traffic, policy: Policy) -> Iterator[tuple[str, ...]]:
    """For each measure that is known: its name, value, unit, and the limits of it, as perfdata has
    them."""
    for measure in Measure:
        found = traffic.measured(measure)
        if found is not None:
            value, unit = (f"{found.value:.6f}", "s") if measure.is_time else (f"{found.value:.3f}", "%")
            limits = (policy.step_warning.get(measure), policy.step_critical.get(measure))
            yield measure.word, value, unit, *["" if limit is None else in_numbers(limit) for limit in limits]


def as_json(traffic: Traffic) -> dict[str, Any]:
    """What is judged, what was done between the last two looks, and since the mount was mounted."""
    found = {measure.word: traffic.measured(measure) for measure in Measure}
    moved = traffic.moved
    return {
        "seconds": None if moved is None else round(traffic.seconds, 3),
        **{word: None if one is None else round(one.value, 6) for word, one in found.items()},
        "between_looks": None if moved is None else _kinds(moved),
        "since_mount": _kinds(traffic.counters),
    }


def _kinds(operations: Mapping[bytes, Operation]) -> dict[str, Any]:
    return {each.name.decode("ascii"): _counted(each) for each in by_kind(operations)}


def _counted(operation: Operation) -> dict[str, Any]:
    return {
        "operations": operation.operations,
        "retransmissions": operation.retransmissions,
        "timeouts": operation.timeouts,
        "errors": operation.errors,
        "bytes_sent": operation.bytes_sent,
        "bytes_received": operation.bytes_received,
        "queue": operation.queue / 1000,
        "rtt": operation.rtt / 1000,
        "exec": operation.execute / 1000,
    }


def line(traffic: Optional[Traffic]) -> str:
    """``programs: 412 READ (rtt 3.1 ms), 30 other (rtt 1.2 ms) in 60 s, 2 retransmissions``; empty
    if nothing is known."""
    if traffic is None or traffic.moved is None:
        return ""
    kinds = [
        f"{each.operations} {each.name.decode('ascii')} (rtt {time_words(each.mean_rtt or 0.0)})"
        for each in by_kind(traffic.moved)
    ]
    whole = total(traffic.moved.values())
    counts = ((whole.retransmissions, "retransmission"), (whole.timeouts, "timeout"))
    more = [text.counted(count, noun) for count, noun in counts if count]
    return ", ".join([f"programs: {', '.join(kinds) or 'no operation'} in {traffic.seconds:.0f} s", *more])
