"""The pictures of docs/pictures: what the program prints on a real terminal (tmux), as SVG.

    python -m tests.pictures           draw them anew, if more than times has changed
    python -m tests.pictures --check   exit code 1 if they show another program than this one

Root only. The file servers are made up: FUSE filesystems that call themselves so, of which some are
slow, dead or hang. In the command lines of the pictures, the options that leave out the mounts of
this host are missing, and the prompt is another one. All else is as it was."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import xml.sax.saxutils as xml
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.conftest import PYTHON, ROOT, Fuse, Mounts, Plugin
from tests.terminal import Terminal

PLACE = ROOT / "docs/pictures"
_PROMPT = "root@web1:~# "
_INSIDE = "IN_A_NAMESPACE"

# -- a terminal as SVG

_WIDTH, _HEIGHT, _MARGIN = 8.4, 19, 14
_COLOURS = {31: "#f4747c", 32: "#7ec27e", 33: "#e0b458", 35: "#d08ad8"}
_INK, _FAINT, _GROUND = "#d8dee9", "#7b8494", "#1e222a"
_FONT = "'DejaVu Sans Mono','Liberation Mono',Menlo,Consolas,monospace"


class _Style(NamedTuple):
    colour: int = 39
    bold: bool = False
    faint: bool = False

    def after(self, codes: str) -> _Style:
        """The style after an escape sequence with these codes."""
        style = self
        for code in (int(word or "0") for word in codes.split(";")):
            if code in (0, 22):
                style = _Style() if code == 0 else style._replace(bold=False, faint=False)
            elif code in (1, 2):
                style = style._replace(bold=True) if code == 1 else style._replace(faint=True)
            elif 30 <= code <= 39:
                style = style._replace(colour=code)
        return style

    @property
    def words(self) -> str:
        """The attributes of SVG."""
        colour = _FAINT if self.faint else _COLOURS.get(self.colour, _INK)
        return f'fill="{colour}"' + (' font-weight="bold"' if self.bold else "")


def _runs(lines: list[str]) -> Iterator[tuple[int, int, str, _Style]]:
    """(line, column, words, style) of each part that has one style, which may go on over lines."""
    style = _Style()
    for place, line in enumerate(lines):
        column = 0
        for number, part in enumerate(line.split("\x1b[")):
            codes, _, words = part.partition("m") if number else ("", "", part)
            style = style.after(codes) if number else style
            if words:
                yield place, column, words, style
                column += len(words)


def _svg(lines: list[str], columns: int, title: str) -> str:
    width, height = columns * _WIDTH + 2 * _MARGIN, len(lines) * _HEIGHT + 2 * _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
        f'height="{height}" font-family="{_FONT}" font-size="14" xml:space="preserve">',
        f"<title>{xml.escape(title)}</title>",
        f'<rect width="100%" height="100%" rx="8" fill="{_GROUND}"/>',
    ]
    for place, column, words, style in _runs(lines):
        if words.strip():
            x, y, length = _MARGIN + column * _WIDTH, _MARGIN + place * _HEIGHT + 14, len(words) * _WIDTH
            at = f'x="{x:.1f}" y="{y}" textLength="{length:.1f}"'
            parts.append(f"<text {at} {style.words}>{xml.escape(words)}</text>")
    return "\n".join([*parts, "</svg>", ""])


def said(svg: str) -> str:
    """What a picture says and how, without what differs from run to run: times, and their bars."""
    words = re.sub(r"\d\d:\d\d:\d\d|\d{4}-\d\d-\d\d|\d+(\.\d+)? m?s\b|=\d+\.\d+s|pid \d+", "N", svg)
    words = re.sub(r"[\u2588-\u258f]+ *", "B", words)
    words = re.sub(r' (x|textLength)="[\d.]+"', "", words)
    return re.sub(r" +", " ", words)


# -- what is on the pictures


@contextlib.contextmanager
def _servers(base: Path) -> Iterator[None]:
    """Three file servers: one hangs, one is dead, one is slow; all below /srv."""
    mounts = Mounts(Path("/srv"))
    mounts.mount_at(Path("/srv"), "tmpfs")
    mounts.tmpfs("scratch", source="scratch")
    fuse = Fuse(mounts)
    try:
        for name, source, delay in (
            ("home", "filer1:/export/home", 0.0),
            ("projects", "filer1:/export/projects", 0.0),
            ("mail", "filer2:/export/mail", 0.0004),
            ("www", "filer2:/export/www", 0.03),
            ("archive", "filer3:/export/archive", 0.3),
        ):
            fuse.mount(name, source=source, type="fuse.sshfs")
            fuse.command("delay", name, str(delay))
        fuse.command("hang", "home")
        fuse.command("hang", "projects")
        fuse.command("error", "mail", "5")
        yield
        for name in ("home", "projects"):
            fuse.command("answer", name)
    finally:
        fuse.close()
        mounts.close()


def _screen(place: Path, columns: int, lines: int) -> Terminal:
    place.mkdir()
    plugin = Plugin(Path("/srv"), place / "state")
    screen = Terminal(place, columns, lines, "C.UTF-8", plugin.environment)
    screen.shorten("check_mounts", [PYTHON, "-m", "check_mounts", "-p", "/srv/*", "--state-dir", str(place / "state")])
    screen.run("PATH=$PWD:$PATH; clear")
    screen.until(lambda seen: seen.startswith("<2:0>"))
    return screen


def _seen(screen: Terminal) -> list[str]:
    lines = [re.sub(r"^<\d+:\d+>", _PROMPT.rstrip(), line) for line in screen.lines(colours=True)]
    return [line for line in lines if re.sub(r"\x1b\[[0-9;]*m", "", line).strip() != _PROMPT.strip()]


def _drawn(base: Path) -> dict[str, str]:
    """The pictures by their names."""
    made = {}
    with _servers(base):
        for name, columns, command, waits in (
            ("table", 112, "check_mounts --table --perfdata none", False),
            ("verdict", 112, "check_mounts -v --perfdata none", False),
            ("progress", 72, "check_mounts", True),
        ):
            screen = _screen(base / name, columns, 24)
            try:
                screen.run(command)
                if waits:
                    # Not for words: if these have changed, the comparison shows that.
                    screen.until(re.compile(r"[23]\.\d s$", re.M).search)
                else:
                    screen.until_done()
                made[name] = _svg(_seen(screen), columns, f"{command}, on a terminal")
                if waits:
                    screen.until_done()
            finally:
                screen.close()
    return made


def main() -> int:
    """Draw or check the pictures."""
    if _INSIDE not in os.environ:  # PID 1 has the same mounts, so the program has no note about that
        command = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
        command += [sys.executable, "-m", "tests.pictures", *sys.argv[1:]]
        return subprocess.run(command, env={**os.environ, _INSIDE: "1"}, cwd=ROOT, check=False).returncode
    with tempfile.TemporaryDirectory() as place:
        made = _drawn(Path(place))
    code = 0
    for name, svg in made.items():
        path = PLACE / f"{name}.svg"
        if path.exists() and said(path.read_text()) == said(svg):
            continue
        if "--check" in sys.argv:
            print(f"{path.relative_to(ROOT)} shows another output; make screenshots draws it anew")
            code = 1
        else:
            path.write_text(svg)
            print(f"{path.relative_to(ROOT)} is new")
    return code


if __name__ == "__main__":
    sys.exit(main())
