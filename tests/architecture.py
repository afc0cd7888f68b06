"""The package as a picture: who imports whom, and which names a room gives away.

``python -m tests.architecture`` writes the tables of docs/architecture.md anew. They are made from
the code alone, so a change of the house shows in the diff of that file."""

from __future__ import annotations

import ast
import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "check_mounts"
DOCUMENT = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- made by python -m tests.architecture: {} -->", "<!-- end of {} -->"

# From above to below: a room may import from those that follow it, never from those before it.
# A module that is in no room stands here under its own name.
ORDER = (
    "__main__",
    "run",
    "check_config",
    "write_config",
    "drill_order",
    "describing",
    "completion",
    "users",
    "waiting",
    "people",
    "tabling",
    "recalling",
    "explaining",
    "hanging",
    "daemon",
    "options",
    "passive",
    "checks",
    "cachedjson",
    "report",
    "judging",
    "incidents",
    "declared",
    "spaces",
    "naming",
    "probing",
    "using",
    "guard",
    "readonly",
    "selection",
    "systemds",
    "unitnames",
    "backings",
    "filesystems",
    "typetable",
    "grammars",
    "meaning",
    "mounttable",
    "tablelines",
    "roots",
    "model",
    "outcome",
    "slowness",
    "ghost",
    "traffic",
    "cache",
    "unreadable",
    "system",
    "text",
    "nearest",
    "clocks",
    "typed",
    "__init__",
)


def modules() -> list[str]:
    """All modules by their dotted names without ``check_mounts.``; a package is called like its
    directory."""
    names = (".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py"))
    return sorted(name.removesuffix(".__init__") for name in names)


def path_of(module: str) -> Path:
    """The file of a module."""
    path = PACKAGE / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@functools.cache
def tree_of(module: str) -> ast.Module:
    """The parsed file of a module."""
    return ast.parse(path_of(module).read_text())


def room_of(module: str) -> str:
    """The room of a module; a module that is in no room is one by itself."""
    return module.partition(".")[0]


def _imported(node: ast.ImportFrom) -> Iterator[tuple[str, str, str]]:
    """(module, name in it or "", name here) of each import from the package."""
    source = str(node.module).partition(".")[2]
    for alias in node.names:
        below = f"{source}.{alias.name}" if source else alias.name
        if path_of(below).exists():
            yield below, "", alias.asname or alias.name
        else:
            yield source or "__init__", alias.name, alias.asname or alias.name


@functools.cache
def uses(module: str) -> Mapping[str, frozenset[str]]:
    """module of the package -> the names that this one uses of it."""
    tree, used, here = tree_of(module), defaultdict(set), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "check_mounts":
            for source, name, local in _imported(node):
                used[source].add(name)
                if not name:
                    here[local] = source
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in here:
            used[here[node.value.id]].add(node.attr)
    return {source: frozenset(names - {""}) for source, names in used.items()}


def foreign(module: str) -> set[str]:
    """Top-level names of all imports from outside the package."""
    names: set[str] = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).split(".")[0])
    return names - {"check_mounts"}


def rooms() -> list[str]:
    """The rooms that there are, from above to below."""
    return [room for room in ORDER if any(room_of(module) == room for module in modules())]


def _short(module: str, room: str) -> str:
    return module.removeprefix(f"{room}.") if room_of(module) == room else module


def module_table() -> str:
    """One row for each module: what it is, in its own words, and what it imports."""
    lines = ["| module | what it is | imports |", "|---|---|---|"]
    for room in rooms():
        for module in (each for each in modules() if room_of(each) == room):
            first = (ast.get_docstring(tree_of(module)) or "").split("\n\n")[0]
            what = " ".join(first.split()).replace("|", "\\|")
            imports = " ".join(_short(each, room) for each in sorted(uses(module)) if each != module)
            lines.append(f"| `{module}` | {what} | {imports or '-'} |")
    return "\n".join(lines)


def gifts() -> Mapping[str, Mapping[str, frozenset[str]]]:
    """room -> its module -> the names that other rooms use of it."""
    given: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for module in modules():
        for source, names in uses(module).items():
            if room_of(source) != room_of(module):
                given[room_of(source)][source] |= names
    return {room: {source: frozenset(names) for source, names in by.items()} for room, by in given.items()}


def gift_table() -> str:
    """One row for each module that another room uses, with the names that it gives away."""
    lines = ["| module | gives to other rooms |", "|---|---|"]
    given = gifts()
    for room in rooms():
        for source, names in sorted(given.get(room, {}).items()):
            lines.append(f"| `{source}` | {' '.join(sorted(names)) or 'itself'} |")
    return "\n".join(lines)


def edge_table() -> str:
    """One row for each room: the rooms that it imports from."""
    lines = ["| room | imports from |", "|---|---|"]
    for room in rooms():
        below = {room_of(source) for module in modules() if room_of(module) == room for source in uses(module)}
        lines.append(f"| `{room}` | {' '.join(each for each in rooms() if each in below - {room}) or '-'} |")
    return "\n".join(lines)


TABLES = {"rooms": edge_table, "modules": module_table, "names": gift_table}


def written(document: str) -> str:
    """The document with its tables as the code has them now. Raises ValueError where a mark is
    missing."""
    for name, table in TABLES.items():
        begin, end = BEGIN.format(name), END.format(name)
        head, mark, rest = document.partition(begin)
        _, closing, tail = rest.partition(end)
        if not mark or not closing:
            raise ValueError(f"{DOCUMENT}: no marks for the table of {name}")
        document = f"{head}{begin}\n{table()}\n{end}{tail}"
    return document


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
