"""The table of conditions: each has its row, and no other table names conditions."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from check_mounts import meaning
from check_mounts.judging.policy import Policy, judge
from check_mounts.model import Condition, Finding, State
from tests.conftest import ROOT

MODULES = sorted((ROOT / "check_mounts").rglob("*.py"))


@pytest.mark.parametrize("condition", list(Condition), ids=lambda condition: condition.value)
def test_each_condition_has_one_row(condition: Condition) -> None:
    rows = [row for row in meaning.TABLE if row.condition is condition]
    assert len(rows) == 1, f"meaning.TABLE has {len(rows)} rows for {condition.name}"
    assert meaning.of(condition) is rows[0]


@pytest.mark.parametrize("row", meaning.TABLE, ids=lambda row: row.condition.value)
def test_rows_say_what_goes_together(row: meaning.Meaning) -> None:
    assert row.doubtful or not row.silent
    assert not (row.passable and (row.doubtful or row.spreads))
    if row.condition is not Condition.GHOST:  # whose name says what it is: `old filer filer3`
        names = (row.condition.value.replace("-", " "), row.condition.value, "not probed")
        assert row.words.format("").startswith(names)


def test_the_worst_come_first() -> None:
    ranks = [0 if row.severity is None else row.severity.rank for row in meaning.TABLE if row.severity]
    assert sorted(map(meaning.gravity, Condition), reverse=True) == [
        meaning.gravity(row.condition) for row in meaning.TABLE
    ]
    assert meaning.TABLE[0].severity is State.CRITICAL and ranks[-1] == 0


@pytest.mark.parametrize("row", meaning.TABLE, ids=lambda row: row.condition.value)
def test_what_is_judged_is_in_the_row(row: meaning.Meaning) -> None:
    judgement = judge(Finding(b"/x", None, row.condition, "why"), Policy())
    assert judgement.state is (row.severity or State.WARNING)
    assert judgement.words == row.words.format("why")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_module_has_a_table_of_its_own(path: Path) -> None:
    """A collection of three conditions or more is a column that belongs into the table."""

    def conditions(nodes: list[ast.expr]) -> int:
        return sum(
            isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "Condition"
            for each in nodes
        )

    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.Set, ast.Tuple, ast.List)):
            assert conditions(node.elts) < 3, node.lineno
        elif isinstance(node, ast.Dict):
            assert conditions([key for key in node.keys if key is not None]) < 2, node.lineno
