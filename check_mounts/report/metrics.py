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
from prometheus_client.utils import floatToGoString

from check_mounts import __version__, filesystems, text
from check_mounts.judging.judgements import Judgement, answered, bad_lines, drills, notable
from check_mounts.judging.policy import Judged
from check_mounts.judging.usage import numbers
from check_mounts.model import Condition, Finding, Mount
from check_mounts.report import inventory, rpc_metrics, summary
from check_mounts.typed import NOTHING, TYPE_CHECKING, NamedTuple, Optional

if TYPE_CHECKING:
    from check_mounts.traffic import Traffic

# The format has no limit for label values, but a source that an ordinary user has chosen must not
# fill a time series database.
_LABEL_WIDTH = 256


class Passes(NamedTuple):
    """The daemon's passes over all mounts.

    ``made`` is their number since the daemon's start. ``started`` is when the newest began, in
    seconds since the epoch; ``duration`` and ``interval`` are in seconds. ``stuck`` counts the
    processes that hung filesystems hold. ``last_success`` is when each mount point last answered,
    in seconds since the epoch. ``submissions`` holds (name, deliveries, failures) of each
    destination of passive results. ``reloaded`` is when the configuration was last read without an
    error, in seconds since the epoch. ``troubles`` counts those of each part of the daemon."""

    made: int
    started: float
    duration: float
    interval: float
    stuck: int
    last_success: Mapping[bytes, float]
    submissions: Sequence[tuple[str, int, int]] = ()
    reloaded: float = 0.0
    troubles: Mapping[str, int] = NOTHING


class _Shown(NamedTuple):
    """The labels of a mount as the library writes them: without its condition, with it, and with
    all that the mount table says of the mount."""

    plain: str
    in_condition: str
    in_full: str


class _Known(NamedTuple):
    """The labels of a mount in a condition. They are good as long as the four stay as they
    are."""

    mount: Optional[Mount]
    mount_point: bytes
    condition: Condition
    is_drill: bool
    labels: tuple[str, str, str]
    shown: _Shown


# By mount ID. A process that renders again and again keeps them.
Memory = dict[int, _Known]


def render(judged: Judged, passes: Passes, memory: Optional[Memory] = None) -> bytes:
    """The whole file. Each series occurs once: node_exporter would silently drop one of two.

    ``memory`` is that of the last file; it becomes that of this one."""
    mounts = _of_mounts(judged.judgements, passes.last_success, {} if memory is None else memory)
    return _text([*_of_run(judged, passes), _of_drills(judged), _of_ghosts(judged)]) + b"".join(mounts)


def check() -> None:
    """Use the library once. Raises an exception of any kind if it does not do what is needed."""
    counter = CounterMetricFamily("check_mounts_runs", "Passes.", value=1)
    family = _family("up")
    family.add_metric(["a", "b", "c"], 1)
    shown = (next(_written(family), ""), _number(1.0), b"check_mounts_runs_total 1" in _text([counter]))
    if shown != ('{device="a",fstype="b",mountpoint="c"}', "1.0", True):
        raise ImportError(f"it writes {shown}")


def _text(families: Sequence[Metric]) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Collector(families))
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

    build = GaugeMetricFamily("check_mounts_build_info", "1 for the version that runs.", labels=["version"])
    build.add_metric([__version__], 1)
    yield build
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
    yield from _of_daemon(passes)
    yield gauge("bad_lines", "Lines of fstab and of the mount table that make no sense.", bad_lines(judged.judgements))


# The part of the daemon that has metrics of its own: whether the configuration is good.
CONFIGURATION = "configuration"


def _of_daemon(passes: Passes) -> Iterator[Metric]:
    name = "check_mounts_config_last_reload"
    good = float(not passes.troubles.get(CONFIGURATION, 0))
    yield GaugeMetricFamily(f"{name}_successful", "Whether the last reading of the configuration succeeded.", good)
    words = "When the configuration was last read without an error."
    yield GaugeMetricFamily(f"{name}_success_timestamp_seconds", words, passes.reloaded)
    family = GaugeMetricFamily("check_mounts_trouble", "Troubles with a part of the daemon itself.", labels=["part"])
    for part, number in passes.troubles.items():
        if part != CONFIGURATION:
            family.add_metric([part], number)
    yield family


def _of_drills(judged: Judged) -> Metric:
    """One series for each mount that a drill is about, even where the truth is shown."""
    words = "1 for each mount in a drill: what --pretend says, and what is true."
    family = GaugeMetricFamily("check_mounts_drill", words, labels=[*_NAMES, *_MORE["drill"]])
    for judgement in drills(judged.judgements):
        if judgement.drill is not None:
            pretended, truth = judgement.drill.condition, judgement.drill.truth
            family.add_metric([*_labels_of(judgement.finding), pretended.identifier, truth.condition.identifier], 1)
    return family


def _of_ghosts(judged: Judged) -> Metric:
    """One series for each ghost."""
    words = "Processes that hold a filesystem that was unmounted lazily."
    family = GaugeMetricFamily("check_mounts_ghost_holders", words, labels=["ghost"])
    told: set[str] = set()
    for judgement in notable(judged.judgements):
        name = _label(text.printable(judgement.finding.mount_point))
        if judgement.finding.ghost is not None and name not in told:
            told.add(name)
            family.add_metric([name], len(judgement.finding.ghost.holders))
    return family


_NAMES = ["device", "fstype", "mountpoint"]
_MORE = {"condition": ["condition"], "info": ["fileserver", "version", "options"], "drill": ["condition", "really"]}
_FAMILIES = {
    "up": "Whether a probe of the mount came back, and not with a failure.",
    "condition": "1 for the condition that the mount is in.",
    "state": "0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.",
    "probe_duration_seconds": "How long the probe of the mount took, or has waited so far.",
    "last_success_timestamp_seconds": "When the mount last answered, since the daemon was started.",
    "unusual_seconds": "How long an operation takes that takes longer than usual, as long as one does.",
    "usual_seconds": "How long that operation usually takes.",
    "size_bytes": "Size of the filesystem.",
    "free_bytes": "Space that is free for root.",
    "avail_bytes": "Space that is free for everybody else.",
    "files": "Inodes of the filesystem.",
    "files_free": "Inodes that are free.",
    "readonly": "Whether the mount or its filesystem is read-only.",
    "info": "1 for what the mount table says of the mount.",
}


def _family(name: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"check_mounts_mount_{name}", _FAMILIES[name], labels=[*_NAMES, *_MORE.get(name, ())])


def _of_mounts(judgements: Sequence[Judgement], last_success: Mapping[bytes, float], memory: Memory) -> Iterator[bytes]:
    """The families of single mounts. The library writes labels, which it escapes, only of mounts
    that are new or have changed: it would need as long for a thousand mounts as all the rest of a
    pass."""
    lines: dict[str, list[str]] = {name: [] for name in _FAMILIES}
    used: list[tuple[str, Traffic]] = []
    for known, judgement in _with_labels(_worst_of_each(judgements, memory), memory):
        finding = judgement.finding
        for name, value in _samples(judgement, last_success.get(finding.mount_point)):
            lines[name].append(f"check_mounts_mount_{name}{known.shown.plain} {value}\n")
        lines["condition"].append(f"check_mounts_mount_condition{known.shown.in_condition} 1.0\n")
        if finding.mount is not None:
            lines["info"].append(f"check_mounts_mount_info{known.shown.in_full} 1.0\n")
        if finding.traffic is not None:
            used.append((known.shown.plain, finding.traffic))
    for name, samples in lines.items():
        yield _text([_family(name)])
        yield "".join(samples).encode("utf-8")
    if used:
        series = rpc_metrics.lines(used)
        for name, words, more in rpc_metrics.families():
            yield _text([CounterMetricFamily(name, words, labels=[*_NAMES, *more])])
            yield "".join(series[name]).encode("utf-8")


def _samples(judgement: Judgement, last_success: Optional[float]) -> Iterator[tuple[str, object]]:
    """The values of a mount, by their family, for those that have no labels of their own."""
    finding = judgement.finding
    yield "up", "1.0" if answered(judgement) else "0.0"
    yield "state", float(judgement.state.value)
    if finding.latency is not None:
        yield "probe_duration_seconds", _number(finding.latency)
    if last_success is not None:
        yield "last_success_timestamp_seconds", _number(last_success)
    if finding.mount is not None:
        yield "readonly", "1.0" if finding.mount.is_read_only else "0.0"
    if finding.unusual is not None:
        yield "unusual_seconds", _number(finding.unusual.seconds)
        yield "usual_seconds", _number(finding.unusual.usual)
    usage = numbers(finding)
    if usage is not None and usage.size is not None:
        yield "size_bytes", usage.size
        yield "free_bytes", usage.free
        yield "avail_bytes", usage.available
    if usage is not None and usage.inodes is not None:
        yield "files", usage.inodes
        yield "files_free", usage.inodes_free


def _number(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def _labels_of(finding: Finding) -> tuple[str, str, str]:
    mount = finding.mount
    source, fs_type = (
        ("", b"") if mount is None else (filesystems.source_words(mount.source, mount.fs_type), mount.fs_type)
    )
    return _label(source), _label(text.printable(fs_type)), _label(text.printable(finding.mount_point))


def _remembered(judgement: Judgement, memory: Memory) -> Optional[_Known]:
    mount = judgement.finding.mount
    known = None if mount is None else memory.get(mount.mount_id)
    if known is None or known.mount is not mount or known.mount_point != judgement.finding.mount_point:
        return None
    return known


def _worst_of_each(judgements: Sequence[Judgement], memory: Memory) -> dict[tuple[str, str, str], Judgement]:
    """The judgements by their labels; the worst if several have the same labels."""
    found: dict[tuple[str, str, str], Judgement] = {}
    for judgement in judgements:
        if judgement.is_counted:
            known = _remembered(judgement, memory)
            found.setdefault(_labels_of(judgement.finding) if known is None else known.labels, judgement)
    return found


def _with_labels(found: Mapping[tuple[str, str, str], Judgement], memory: Memory) -> Iterator[tuple[_Known, Judgement]]:
    """The judgements with their labels as the library writes them."""
    before = dict(memory)
    memory.clear()
    new = [labels for labels, each in found.items() if not _is_known(each, before)]
    shown = dict(zip(new, _shown([(labels, found[labels]) for labels in new])))
    for labels, judgement in found.items():
        mount = judgement.finding.mount
        if labels not in shown and mount is not None:
            known = before[mount.mount_id]
        else:
            point, condition = judgement.finding.mount_point, judgement.condition
            known = _Known(mount, point, condition, judgement.is_drill, labels, shown[labels])
        if mount is not None:
            memory[mount.mount_id] = known
        yield known, judgement


def _is_known(judgement: Judgement, memory: Memory) -> bool:
    known = _remembered(judgement, memory)
    return known is not None and (known.condition, known.is_drill) == (judgement.condition, judgement.is_drill)


def _shown(wanted: Sequence[tuple[tuple[str, str, str], Judgement]]) -> Iterator[_Shown]:
    """Labels as the library writes them."""
    plain, in_condition, in_full = _family("up"), _family("condition"), _family("info")
    # A label that all series had would make new ones of those that are stored already.
    in_drill = GaugeMetricFamily(in_condition.name, "", labels=[*_NAMES, *_MORE["condition"], "drill"])
    for labels, judgement in wanted:
        mount = judgement.finding.mount
        plain.add_metric(labels, 0)
        in_that = [*labels, judgement.condition.identifier]
        in_condition.add_metric(in_that, 0)
        in_drill.add_metric([*in_that, "yes"], 0)
        about = ("", "", "") if mount is None else inventory.of(mount)
        in_full.add_metric([*labels, *map(_label, about)], 0)
    conditions = [
        with_drill if judgement.is_drill else without
        for (_, judgement), without, with_drill in zip(wanted, _written(in_condition), _written(in_drill))
    ]
    return map(_Shown, _written(plain), conditions, _written(in_full))


def _written(family: GaugeMetricFamily) -> Iterator[str]:
    for line in _text([family]).decode("utf-8").split("\n"):
        if line.startswith(family.name):
            yield line[len(family.name) : line.rindex(" ")]


def _label(name: str) -> str:
    """A label value of limited length. Two mounts may have the same name once it is clipped, and
    then one of them is lost. But only a user who wants that has such names."""
    return text.clipped(name, _LABEL_WIDTH)
