"""Report modules, classes and functions of the package that have outgrown their bounds."""

import ast
import sys
from pathlib import Path

LINES, ATTRIBUTES, FUNCTION = 400, 15, 40
# "check_mounts/module", "...:Class" or "...:Class.function", and the reason why it may be larger.
EXCEPTIONS: dict[str, str] = {
    "check_mounts/model:Finding": "a field for each thing that is told of a mount",
    "check_mounts/outcome:Outcome": "a field for each that a worker's frame has",
    "check_mounts/typetable:Traits": "the columns of one table",
}


def attributes(cls: ast.ClassDef) -> int:
    """Count the fields and what methods assign to ``self``."""
    fields = {ast.unparse(node.target) for node in cls.body if isinstance(node, ast.AnnAssign)}
    stored = [node for node in ast.walk(cls) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)]
    return len(fields | {node.attr for node in stored if ast.unparse(node.value) == "self"})


def large(name: str, node: ast.AST) -> list[tuple[str, str]]:
    found = []
    for child in ast.iter_child_nodes(node):
        inner = f"{name}{'.' if ':' in name else ':'}{getattr(child, 'name', '')}"
        if isinstance(child, ast.ClassDef) and (count := attributes(child)) > ATTRIBUTES:
            found.append((inner, f"{count} attributes, at most {ATTRIBUTES}"))
        if isinstance(child, ast.FunctionDef) and (count := (child.end_lineno or 0) - child.lineno + 1) > FUNCTION:
            found.append((inner, f"{count} lines, at most {FUNCTION}"))
        found += large(inner if hasattr(child, "name") else name, child)
    return found


if __name__ == "__main__":
    files = {str(path.with_suffix("")): path.read_text("utf-8") for path in sorted(Path("check_mounts").rglob("*.py"))}
    every = {
        name: f"{text.count(chr(10))} lines, at most {LINES}"
        for name, text in files.items()
        if text.count("\n") > LINES
    }
    every.update(pair for name, text in files.items() for pair in large(name, ast.parse(text)))
    told = [f"{name}: {what}" for name, what in sorted(every.items()) if name not in EXCEPTIONS]
    told += [f"{name}: no longer an exception" for name in EXCEPTIONS if name not in every]
    sys.exit("\n".join(told) or None)
