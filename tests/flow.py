"""Reads YAML as manifests of ours are written: mappings and lists by indentation, ``[a, b]`` and
``{a: b}`` on one line, plain words. No dependency of the tests has a parser."""

from __future__ import annotations

import re
from typing import Any

_LINE = re.compile(r"( *)(- )?(.*)")


def parse(text: str) -> Any:
    lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    # An entry of a list is a block that is indented as what follows its dash.
    found = [(len(indent), bool(dash), rest) for indent, dash, rest in (_match(line) for line in lines)]
    value, rest = _block(found)
    assert not rest, rest
    return value


def _match(line: str) -> tuple[str, str, str]:
    match = _LINE.fullmatch(line)
    assert match is not None and "\t" not in line
    return match[1], match[2] or "", match[3].strip()


_Lines = list[tuple[int, bool, str]]


def _block(lines: _Lines) -> tuple[Any, _Lines]:
    indent, is_list, _ = lines[0]
    result: Any = [] if is_list else {}
    while lines and lines[0][0] == indent and lines[0][1] == is_list:
        _, _, words = lines[0]
        if is_list and not re.match(r"[\w/.-]+:( |$)", words):
            result.append(_scalar(words))
            lines = lines[1:]
        elif is_list:
            value, lines = _block([(indent + 2, False, words), *lines[1:]])
            result.append(value)
        else:
            key, _, value = words.partition(":")
            lines = lines[1:]
            if value.strip():
                result[key] = _scalar(value.strip())
            else:
                result[key], lines = _block(lines)
    assert not lines or lines[0][0] < indent, lines[0]
    return result, lines


def _scalar(words: str) -> Any:
    if words[0] == "[":
        return [_scalar(each.strip()) for each in words[1:-1].split(",")]
    if words[0] == "{":
        pairs = (each.partition(":") for each in re.split(r",(?![^{]*\})", words[1:-1]))
        return {key.strip(): _scalar(value.strip()) for key, _, value in pairs}
    return {"true": True, "false": False}.get(words, int(words) if words.isdigit() else words)
