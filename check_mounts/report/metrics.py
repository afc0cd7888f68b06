"""Judged -> metrics for node_exporter's textfile collector. The only module that imports
prometheus_client.

Import budget: prometheus_client. The daemon loads it before its first pass, if metrics are wanted.

Names and units follow https://prometheus.io/docs/practices/naming/. The labels of a mount are those
of node_exporter's filesystem collector (``device``, ``fstype``, ``mountpoint``), so that both can
be joined. Label values are escaped as in mountinfo: the format allows any UTF-8, but not every
byte, and one bad byte makes node_exporter reject the whole file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from check_mounts import filesystems, text
from check_mounts.judging.judgements import Judgement, answered, bad_lines
from check_mounts.judging.policy import Judged
from check_mounts.report import summary
from check_mounts.typed import NamedTuple

# The format has no limit for label values, but a source that an ordinary user has chosen must not
# fill a time series database.
_LABEL_WIDTH = 256


class Passes(NamedTuple):
    """The daemon's passes over all mounts.

    ``made`` is their number since the daemon's start. ``started`` is when the newest began, in
    seconds since the epoch; ``duration`` and ``interval`` are in seconds. ``stuck`` counts the
    processes that hung filesystems hold. ``last_success`` is when each mount point last answered,
    in seconds since the epoch. ``submissions`` holds (name, deliveries, failures) of each
    destination of passive results."""

    made: int
    started: float
    duration: float
    interval: float
    stuck: int
    last_success: Mapping[bytes, float]
    submissions: Sequence[tuple[str, int, int]] = ()


def render(judged: Judged, passes: Passes) -> bytes:
    """The whole file. Each series occurs once: node_exporter would silently drop one of two."""
    registry = CollectorRegistry()
    registry.register(_Collector([*_of_run(judged, passes), *_of_mounts(judged.judgements, passes.last_success)]))
    return generate_latest(registry)


class _Collector:
    """A collector of families that exist already."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families

    def describe(self) -> Iterable[Metric]:
        """The families. Without this method the registry would collect once more to find the
        names."""
        return self._families


def _of_run(judged: Judged, passes: Passes) -> Iterator[Metric]:
    def gauge(name: str, words: str, value: float) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"check_mounts_{name}", words, value=value)

    yield gauge("state", "The verdict: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.", judged.state.value)
    yield gauge("run_duration_seconds", "How long the newest pass over all mounts took.", passes.duration)
    yield gauge(
        "run_interval_seconds", "From the start of one pass over all mounts to the start of the next.", passes.interval
    )
    yield gauge("last_run_timestamp_seconds", "When the newest pass over all mounts began.", passes.started)
    yield gauge("stuck_probes", "Processes that hung filesystems hold.", passes.stuck)
    yield CounterMetricFamily(
        "check_mounts_runs", "Passes over all mounts since the daemon was started.", value=passes.made
    )
    sent = CounterMetricFamily(
        "check_mounts_submissions", "Passive results that a destination has accepted.", labels=["destination"]
    )
    failed = CounterMetricFamily(
        "check_mounts_submission_failures",
        "Attempts to submit that failed; each is repeated with newer results.",
        labels=["destination"],
    )
    for name, deliveries, failures in passes.submissions:
        destination = [_label(text.printable(name.encode("utf-8", "surrogateescape")))]
        sent.add_metric(destination, deliveries)
        failed.add_metric(destination, failures)
    yield from (sent, failed)
    mounts = GaugeMetricFamily("check_mounts_mounts", "Mounts in each condition.", labels=["condition"])
    for name, number in summary.counts(judged.judgements):
        if name != "mounts":  # "mounts" is the sum of the others without the shadowed ones
            mounts.add_metric([name], number)
    yield mounts
    yield gauge("bad_lines", "Lines of fstab and of the mount table that make no sense.", bad_lines(judged.judgements))


def _of_mounts(judgements: Sequence[Judgement], last_success: Mapping[bytes, float]) -> list[Metric]:
    names = ["device", "fstype", "mountpoint"]
    up = GaugeMetricFamily(
        "check_mounts_mount_up", "Whether a probe of the mount came back, and not with a failure.", labels=names
    )
    condition = GaugeMetricFamily(
        "check_mounts_mount_condition", "1 for the condition that the mount is in.", labels=[*names, "condition"]
    )
    state = GaugeMetricFamily("check_mounts_mount_state", "0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.", labels=names)
    latency = GaugeMetricFamily(
        "check_mounts_mount_probe_duration_seconds",
        "How long the probe of the mount took, or has waited so far.",
        labels=names,
    )
    success = GaugeMetricFamily(
        "check_mounts_mount_last_success_timestamp_seconds",
        "When the mount last answered, since the daemon was started.",
        labels=names,
    )
    for labels, judgement in _worst_of_each(judgements).items():
        finding = judgement.finding
        up.add_metric(labels, float(answered(judgement)))
        condition.add_metric([*labels, judgement.condition.identifier], 1)
        state.add_metric(labels, judgement.state.value)
        if finding.latency is not None:
            latency.add_metric(labels, finding.latency)
        if finding.mount_point in last_success:
            success.add_metric(labels, last_success[finding.mount_point])
    return [up, condition, state, latency, success]


def _worst_of_each(judgements: Sequence[Judgement]) -> dict[tuple[str, str, str], Judgement]:
    """The judgements by their labels; the worst if several have the same labels."""
    found: dict[tuple[str, str, str], Judgement] = {}
    for judgement in judgements:
        finding = judgement.finding
        if not judgement.is_counted:
            continue
        mount = finding.mount
        source, fs_type = (
            ("", b"") if mount is None else (filesystems.source_words(mount.source, mount.fs_type), mount.fs_type)
        )
        labels = (_label(source), _label(text.printable(fs_type)), _label(text.printable(finding.mount_point)))
        found.setdefault(labels, judgement)
    return found


def _label(name: str) -> str:
    """A label value of limited length. Two mounts may have the same name once it is clipped, and
    then one of them is lost. But only a user who wants that has such names."""
    return text.clipped(name, _LABEL_WIDTH)
