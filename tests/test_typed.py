"""The stand-ins for ``typing``: a record behaves like one made by the original."""

from __future__ import annotations

import ast
import copy
import pickle
import re
import typing
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as some

from check_mounts import passive, typed
from check_mounts.judging.thresholds import Capacity, Range
from check_mounts.model import Declarer, ExpectedMount
from tests import architecture

PACKAGE = Path(typed.__file__).parent


def four() -> int:
    return 4


class Ours(typed.NamedTuple):
    """A record."""

    first: int
    second: str
    third: typed.Optional[bytes] = None
    fourth: typed.Callable[[], int] = four  # type: ignore[name-defined]

    @property
    def doubled(self) -> int:
        return self.first * 2

    def longer(self, more: str) -> Any:
        return self._replace(second=self.second + more)

    @classmethod
    def parse(cls, words: str) -> Any:
        return cls(len(words), words)

    def __str__(self) -> str:
        return f"<{self.second}>"


class Theirs(typing.NamedTuple):
    """A record."""

    first: int
    second: str
    third: typing.Optional[bytes] = None
    fourth: Callable[[], int] = four

    @property
    def doubled(self) -> int:
        return self.first * 2

    def longer(self, more: str) -> Any:
        return self._replace(second=self.second + more)

    @classmethod
    def parse(cls, words: str) -> Any:
        return cls(len(words), words)

    def __str__(self) -> str:
        return f"<{self.second}>"


def outcome(action: Callable[[Any], Any], cls: Any) -> Any:
    """What an action results in. Errors without their words, which differ between versions."""
    try:
        result = action(cls)
    except Exception as error:
        return type(error)
    if isinstance(result, tuple) and type(result) is cls:
        return "record", tuple(result)
    return result.replace(cls.__name__, "X") if isinstance(result, str) else result


def unexpected(action: Callable[[], Any]) -> bool:
    """Whether an action refuses a name: with a ValueError before Python 3.13, then a TypeError."""
    try:
        action()
    except (TypeError, ValueError):
        return True
    return False


SAME: list[Callable[[Any], Any]] = [
    lambda cls: cls(1, "a"),
    lambda cls: cls(1, second="a", third=b"b"),
    lambda cls: cls(second="a", first=1, fourth=None),
    lambda cls: cls(1, "a", b"b", None),
    lambda cls: cls(),
    lambda cls: cls(1),
    lambda cls: cls(1, "a", b"b", None, 5),
    lambda cls: cls(1, "a", fifth=5),
    lambda cls: cls(1, "a", first=5),
    lambda cls: cls._make([1, "a", None, None]),
    lambda cls: cls._make(iter((1, "a", None, None))),
    lambda cls: cls(1, "a")._replace(first=2),
    lambda cls: cls(1, "a")._replace(third=b"", second=""),
    lambda cls: cls(1, "a")._replace(),
    lambda cls: unexpected(lambda: cls(1, "a")._replace(fifth=2)),
    lambda cls: cls(1, "a", fourth=0)._asdict(),
    lambda cls: repr(cls(1, "a", fourth=0)),
    lambda cls: str(cls(1, "a")),
    lambda cls: f"{cls(1, 'a')}",
    lambda cls: cls(1, "a").doubled,
    lambda cls: cls(1, "a").longer("b"),
    lambda cls: cls.parse("four"),
    lambda cls: cls(1, "a").fourth(),
    lambda cls: (cls.__name__ in ("Ours", "Theirs"), cls.__doc__, cls.__module__),
    lambda cls: (
        cls._fields,
        sorted(cls._field_defaults),
        cls.__slots__,
        cls.__bases__ == () or issubclass(cls, tuple),
    ),
    lambda cls: getattr(cls, "__match_args__", cls._fields),
    lambda cls: cls(1, "a", fourth=0) == cls(1, "a", fourth=0),
    lambda cls: cls(1, "a", fourth=0) != cls(2, "a", fourth=0),
    lambda cls: hash(cls(1, "a", fourth=0)) == hash((1, "a", None, 0)),
    lambda cls: cls(1, "a") < cls(2, "a"),
    lambda cls: (lambda first, *rest: (first, len(rest)))(*cls(1, "a")),
    lambda cls: cls(1, "a")[1:3],
    lambda cls: object.__setattr__(cls(1, "a"), "first", 2),
    lambda cls: object.__setattr__(cls(1, "a"), "other", 2),
    lambda cls: object.__delattr__(cls(1, "a"), "first"),
    lambda cls: cls(1, "a").other,
    lambda cls: copy.copy(cls(1, "a")),
    lambda cls: copy.deepcopy(cls(1, "a")),
    lambda cls: pickle.loads(pickle.dumps(cls(1, "a", fourth=0))),
    lambda cls: len(cls(1, "a")),
    lambda cls: bool(cls(0, "")),
    lambda cls: type(cls).__name__,
]


@pytest.mark.parametrize("at", range(len(SAME)))
def test_a_record_is_like_the_original(at: int) -> None:
    assert outcome(SAME[at], Ours) == outcome(SAME[at], Theirs)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda: Ours(), "missing 2 required positional arguments: 'first' and 'second'"),  # type: ignore[call-arg]
        (lambda: Ours(1, "a", fifth=5), "unexpected keyword argument 'fifth'"),  # type: ignore[call-arg]
        (lambda: Ours(1, "a", first=5), "multiple values for argument 'first'"),  # type: ignore[misc]
        (lambda: Ours(1, "a", None, int, 5), "takes from 3 to 5 positional arguments but 6 were given"),  # type: ignore
    ],
)
def test_errors_name_the_field(action: Callable[[], object], words: str) -> None:
    with pytest.raises(TypeError, match=re.escape(words)):
        action()


FIELDS = [f"field{number}" for number in range(26)]


@given(some.integers(1, 26), some.integers(0, 26), some.data())
def test_any_number_of_fields_and_defaults(count: int, required: int, data: some.DataObject) -> None:
    fields, required = FIELDS[:count], min(required, count)
    defaults = {field: object() for field in fields[required:]}
    made = [make(fields, defaults, base) for base in (typed.NamedTuple, typing.NamedTuple)]
    positional = data.draw(some.integers(0, count))
    named = data.draw(some.sets(some.sampled_from(fields[positional:]))) if positional < count else set()
    values, more = range(positional), {field: field for field in named}

    def result(cls: Any) -> Any:
        try:
            one = cls(*values, **more)
        except TypeError as error:
            return str(error).partition("()")[2]  # the name differs: <lambda> in 3.9
        return tuple(one), [getattr(one, field) for field in fields], one._asdict(), cls._field_defaults

    assert result(made[0]) == result(made[1])


def make(fields: list[str], defaults: dict[str, object], base: Any = typed.NamedTuple) -> Any:
    """A class with these fields, made as a ``class`` statement makes it."""
    namespace: dict[str, Any] = {"NamedTuple": base, "defaults": defaults}
    lines = [f"    {field}: int" + (f" = defaults['{field}']" if field in defaults else "") for field in fields]
    exec("class Made(NamedTuple):\n" + "\n".join(lines or ["    pass"]), namespace)
    return namespace["Made"]


def test_what_is_no_record() -> None:
    with pytest.raises(TypeError, match="no fields"):
        make([], {})
    with pytest.raises(TypeError, match="without a default follows"):
        make(["one", "two"], {"one": 1})


def test_stand_ins() -> None:
    assert typed.NewType("Seconds", float)(1) == 1 and typed.cast("int", "a") == "a"  # type: ignore
    assert typed.Optional[int] is typed.Union[int, str] is typed.Any  # type: ignore[comparison-overlap]
    assert {**typed.NOTHING} == typed.NOTHING == {}
    with pytest.raises(TypeError):
        typed.NOTHING["a"] = 1  # type: ignore[index]


# -- records of ours whose equality or words are special


def test_what_does_not_count_for_equality() -> None:
    one = ExpectedMount(b"/a", None, None, (), "here")
    other = one._replace(by=Declarer.COMMAND_LINE)
    assert one == other and (one != other) is False and hash(one) == hash(other) and len({one, other}) == 1
    assert one != one._replace(nofail=True) and one != tuple(one)
    range_ = Capacity(Range("1", 0.0, 1.0, False), "free")
    alike = range_._replace(for_one=True)
    assert range_ == alike and (range_ != alike) is False and hash(range_) == hash(alike)
    assert range_ != range_._replace(kind="percent") and range_ != tuple(range_)


def test_no_secret_is_shown() -> None:
    settings = passive.Settings(user="icinga", password="pa55", token="t0ken")
    for words in (repr(settings), str(settings), f"{settings}", f"{[settings]}", "%s" % [settings]):
        assert "icinga" in words and "pa55" not in words and "t0ken" not in words


# -- the rule


def run_time_imports(node: ast.AST) -> set[str]:
    """The modules that are imported, but not for type checkers alone."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return set().union(*map(run_time_imports, node.orelse))
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {str(node.module)}
    return set().union(*map(run_time_imports, ast.iter_child_nodes(node)))


@pytest.mark.parametrize("module", architecture.modules())
def test_no_module_imports_typing_or_dataclasses(module: str) -> None:
    """Each of them costs a start more than all modules of ours together."""
    assert not run_time_imports(architecture.tree_of(module)) & {"typing", "dataclasses"}
