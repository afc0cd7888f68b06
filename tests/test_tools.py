"""What `make lint` and `make durations` find."""

from __future__ import annotations

import ast
from pathlib import Path

from tests import sizes, slow

SOURCE = """
class Large:
    field: int

    def __init__(self, other):
        self.a, self.b = self.c, [self.d for self.d in other]
        self.field = other.e = 1

    def long(self):
        def inner():
            pass
{}

def short():
    pass
"""


def test_what_is_too_large_is_named() -> None:
    (cls, *_) = ast.parse(SOURCE.format("")).body
    assert isinstance(cls, ast.ClassDef)
    assert sizes.attributes(cls) == 4  # field, a, b and d: c is only read, e is another's
    long = SOURCE.format("        pass\n" * sizes.FUNCTION) + "\n".join(f"x{n}: int" for n in range(20))
    assert sizes.large("m", ast.parse(long)) == [("m:Large.long", "43 lines, at most 40")]
    many = "class Many:\n" + "\n".join(f"    x{n}: int" for n in range(sizes.ATTRIBUTES + 1))
    assert sizes.large("m", ast.parse(many)) == [("m:Many", "16 attributes, at most 15")]


def test_slow_is_who_takes_long_by_one_case_or_by_many(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    cases = [("quick", 0.1), ("one[x]", 1.6), ("one[y]", 0.1), *((f"many[{n}]", 0.2) for n in range(60))]
    report.write_text("<t>" + "".join(f'<testcase name="{name}" time="{time}"/>' for name, time in cases) + "</t>")
    assert slow.listed(str(report)) == slow.HEAD + "many 12.0\none 1.7\n"
    assert slow.slow()["test_it_does_not_grow"] > slow.CASE
