"""Judged -> a table for people: one row for each mount, by file server, the worst first. The only
user of rich, which is loaded before anything is asked.

rich lays out and paints. It gets no markup, no emoji codes and no environment: names may hold
anything, and so may the environment."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table as Layout
from rich.text import Text

from check_mounts import filesystems, meaning, selection, text
from check_mounts.clocks import boottime
from check_mounts.judging.judgements import Judgement
from check_mounts.judging.policy import Judged
from check_mounts.model import Condition, State
from check_mounts.typed import NamedTuple, Optional

_STYLES = {State.OK: "green", State.WARNING: "yellow", State.CRITICAL: "red", State.UNKNOWN: "magenta"}
_GAP = 2
# The bar has a logarithmic scale: from 0.1 ms, which is nothing, to 10 s.
_BAR, _SHORTEST, _DECADES = 8, -4.0, 5.0
_EIGHTHS = " \u258f\u258e\u258d\u258c\u258b\u258a\u2589\u2588"
_LOCAL, _FILES, _GHOSTS = "local", "files", "unmounted lazily"


class Screen(NamedTuple):
    """Where the table is shown. ``lines``: how many there are; 0 where a reader can scroll.
    ``encoding``: that of the characters that can be drawn."""

    columns: int
    lines: int
    encoding: str
    colours: bool


class _Row(NamedTuple):
    state: State
    condition: str
    mount: str
    source: str = ""
    type: str = ""
    latency: Optional[float] = None
    since: str = ""
    why: str = ""


class _Column(NamedTuple):
    """``least``: the fewest columns in which it is of use. ``rank``: columns of the highest rank go
    first where there is too little room. A column that ``grows`` gets what is left."""

    name: str
    title: str
    least: int
    rank: int
    grows: bool = False


_COLUMNS = (
    _Column("condition", "CONDITION", 10, 0),
    _Column("mount", "MOUNT", 14, 0, grows=True),
    _Column("source", "SOURCE", 16, 3, grows=True),
    _Column("type", "TYPE", 12, 4),
    _Column("bar", "", _BAR, 5),
    _Column("latency", "LATENCY", 7, 1),
    _Column("since", "SINCE", 10, 2),
    _Column("why", "WHY", 24, 0, grows=True),
)
# The same where all other columns have been left out.
_NARROW = {"mount": 12, "why": 13}


def made(judged: Judged, screen: Screen, verbosity: int) -> str:
    """The table. The mounts of a server that are ok share a row if there are too many rows for the
    screen, unless ``verbosity`` asks for each."""
    groups = _groups(judged, verbosity)
    height = sum(len(rows) + 1 for _, rows in groups) + 4  # the verdict, and the headings
    if screen.lines and height > screen.lines and not verbosity:
        groups = [(title, _shortened(rows)) for title, rows in groups]
    return _laid_out(groups, screen)


def check() -> None:
    """Lay out a table with everything that one may have, so that nothing is loaded later. Raises
    what a library that does not fit raises."""
    row = _Row(State.OK, "ok", "/\u4e16\u0301\U0001f600", "a:/b", "nfs4", 0.5, "00:00:00", "a b " * 40)
    for encoding in ("utf-8", "ascii"):
        for width in (40, 120):
            _laid_out([("a", [row])], Screen(width, 0, encoding, True))


# -- what is shown


def _groups(judged: Judged, verbosity: int) -> list[tuple[str, list[_Row]]]:
    """The rows of each server, with a title. The worst server comes first; the judgements are in
    that order already."""
    found: dict[str, list[_Row]] = {}
    today = text.moment(boottime()).partition(" ")[0]
    for judgement in judged.judgements:
        hidden = judgement.state is State.OK and not meaning.of(judgement.condition).counted
        if not hidden or verbosity > 1:
            found.setdefault(_server(judgement), []).append(_row(judgement, today, verbosity))
    return [(_title(server, rows), rows) for server, rows in found.items()]


def _server(judgement: Judgement) -> str:
    mount = judgement.finding.mount
    if not judgement.finding.is_mount:
        return _FILES
    if judgement.condition is Condition.GHOST:
        return _GHOSTS
    server = None if mount is None else selection.server(mount)
    return _LOCAL if server is None else text.printable(server)


def _title(server: str, rows: Sequence[_Row]) -> str:
    bad = sum(row.state is not State.OK for row in rows)
    noun = {_FILES: "line", _GHOSTS: "ghost"}.get(server, "mount")
    return (
        f"{server}: {bad} of {text.counted(len(rows), noun)} failed"
        if bad
        else (f"{server}: {text.counted(len(rows), noun)} ok")
    )


def _row(judgement: Judgement, today: str, verbosity: int) -> _Row:
    finding, mount = judgement.finding, judgement.finding.mount
    why = judgement.words.removeprefix(judgement.condition.words).lstrip(": ")
    remarks = finding.remarks if verbosity else ()
    return _Row(
        state=judgement.state,
        condition=judgement.condition.words,
        mount=text.printable(finding.mount_point),
        source="" if mount is None else filesystems.source_words(mount.source, mount.fs_type),
        type="" if mount is None else text.printable(mount.fs_type),
        latency=finding.latency,
        since=_since(finding.since or finding.stuck_since, today),
        why="; ".join(["" if judgement.condition is Condition.OK else why, *remarks]).removeprefix("; "),
    )


def _since(when: Optional[float], today: str) -> str:
    """The time of day, or the day if that is another one."""
    if when is None:
        return ""
    day, _, time = text.moment(when).partition(" ")
    return time if day == today else day


def _shortened(rows: Sequence[_Row]) -> list[_Row]:
    """The rows of a server with one for all its mounts that are ok."""
    healthy = [row for row in rows if row.state is State.OK and row.condition == meaning.of(Condition.OK).words]
    if len(healthy) < 2:
        return list(rows)
    slowest = max(healthy, key=lambda row: row.latency or 0.0)
    one = slowest._replace(
        mount=text.counted(len(healthy), "mount"), source="", type="", why=f"the slowest is {slowest.mount}"
    )
    return [*(row for row in rows if row not in healthy), one]


# -- how it is shown


def _laid_out(groups: Iterable[tuple[str, Sequence[_Row]]], screen: Screen) -> str:
    groups = [(_drawn(title, screen), [_drawn_row(row, screen) for row in rows]) for title, rows in groups]
    file = io.StringIO()
    console = Console(
        file=file, width=screen.columns, height=1000, force_terminal=screen.colours, no_color=not screen.colours,
        color_system="standard" if screen.colours else None, legacy_windows=False, markup=False, highlight=False,
        emoji=False, soft_wrap=False, _environ={"TERM": "xterm"},
    )  # fmt: skip
    widths = _widths([row for _, rows in groups for row in rows], screen)
    for place, (title, rows) in enumerate(groups):
        if place == 0:
            console.print(_layout([], widths, screen, header=True))
        console.print(Text(title, style="bold", overflow="fold"))
        console.print(_layout(rows, widths, screen))
    return "".join(line.rstrip(" ") + "\n" for line in file.getvalue().splitlines() if line.strip())


def _drawn(words: str, screen: Screen) -> str:
    """Words as the screen will show them, so that they take the columns that we count."""
    return text.encoded(words, screen.encoding).decode(screen.encoding, "replace")


def _drawn_row(row: _Row, screen: Screen) -> _Row:
    mount, source, kind, why = (_drawn(words, screen) for words in (row.mount, row.source, row.type, row.why))
    return row._replace(mount=mount, source=source, type=kind, why=why)


def _cell(row: _Row, name: str, screen: Screen) -> str:
    if name == "bar":
        return _bar(row.latency, screen)
    if name == "latency":
        return "" if row.latency is None else _seconds(row.latency)
    return str(getattr(row, name))


def _seconds(seconds: float) -> str:
    if seconds >= 0.9995:
        return f"{seconds:.1f} s"
    milliseconds = seconds * 1000
    return f"{milliseconds:.{0 if milliseconds >= 9.95 else 1 if milliseconds >= 0.095 else 2}f} ms"


def _bar(seconds: Optional[float], screen: Screen) -> str:
    if seconds is None:
        return ""
    share = (math.log10(max(seconds, 1e-9)) - _SHORTEST) / _DECADES
    eighths = min(max(round(share * _BAR * 8), 1), _BAR * 8)
    if not screen.encoding.lower().startswith("utf"):
        return "#" * math.ceil(eighths / 8)
    return _EIGHTHS[8] * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _widths(rows: Sequence[_Row], screen: Screen) -> dict[str, int]:
    """The columns that are shown, with their widths. Where there is too little room, those without
    which a reader can do are left out."""
    natural = {
        column.name: max([Text(_cell(row, column.name, screen)).cell_len for row in rows], default=0)
        for column in _COLUMNS
    }
    natural = {name: max(width, len(_title_of(name))) for name, width in natural.items() if width}
    shown = [column for column in _COLUMNS if column.name in natural]
    while True:
        least = {each.name: min(natural[each.name], each.least) for each in shown}
        left = screen.columns - sum(least.values()) - _GAP * (len(shown) - 1)
        worst = max(shown, key=lambda each: each.rank, default=None)
        if left >= 0 or worst is None or worst.rank == 0:
            break
        shown.remove(worst)
    for name, width in _NARROW.items() if left < 0 else ():
        if name in least:
            left += least[name] - min(width, least[name])
            least[name] = min(width, least[name])
    return _grown(least, natural, left)


def _grown(widths: dict[str, int], natural: dict[str, int], left: int) -> dict[str, int]:
    """Widths with what room is left: for names first, for what may be folded last."""
    for column in _COLUMNS:
        if column.grows and column.name in widths:
            more = max(0, min(left, natural[column.name] - widths[column.name]))
            widths[column.name] += more
            left -= more
    return widths


def _title_of(name: str) -> str:
    return next(column.title for column in _COLUMNS if column.name == name)


def _layout(rows: Sequence[_Row], widths: dict[str, int], screen: Screen, header: bool = False) -> Layout:
    layout = Layout(box=None, show_header=header, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    for name, width in widths.items():
        justify = "right" if name == "latency" else "left"
        layout.add_column(Text(_title_of(name)), width=width, overflow="fold", justify=justify)  # type: ignore[arg-type]
    for row in rows:
        style = _STYLES[row.state]
        layout.add_row(
            *(
                Text(_cell(row, name, screen), style=style if name in ("condition", "bar") else "", overflow="fold")
                for name in widths
            )
        )
    return layout
