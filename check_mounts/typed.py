# ruff: noqa: E741, F821, PLC0414
"""The names of ``typing``, and records, without the cost of importing ``typing``.

A type checker sees the originals. At run time annotations are never evaluated (all modules have
``from __future__ import annotations``), so stand-ins do; and making a ``dataclass`` or a
``typing.NamedTuple`` runs generated code, which for all our records took longer than a whole run
over 40 mounts.

Import budget: ``_collections``, which is part of the interpreter."""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take a variable of this name for true
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any as Any
    from typing import Literal as Literal
    from typing import NamedTuple as NamedTuple
    from typing import NewType as NewType
    from typing import NoReturn as NoReturn
    from typing import Optional as Optional
    from typing import Protocol as Protocol
    from typing import TypeVar as TypeVar
    from typing import Union as Union
    from typing import cast as cast

    NOTHING: Mapping[Any, Any]  # an empty mapping that cannot be changed, for defaults
else:
    from _collections import _tuplegetter

    NOTHING = type(type.__dict__)({})

    class _Form:
        """Stands for what is only written in annotations and in aliases: ``Union[A, B]``."""

        def __getitem__(self, parameters):
            return self

    Any = Literal = NoReturn = Optional = Union = _Form()
    Protocol = object

    def TypeVar(name, *constraints, **more):
        """Stands for a type variable."""
        return None

    def NewType(name, kind):
        """A function that returns its argument, as the original makes one."""
        return _same

    def _same(value):
        return value

    def cast(kind, value):
        """The value, as it is."""
        return value

    class _Record(tuple):
        """What all records have in common; the names are those of ``collections.namedtuple``."""

        __slots__ = ()
        # The length is not checked: the callers have tuples that are complete.
        _make = classmethod(tuple.__new__)

        def _replace(self, /, **changes):
            result = tuple.__new__(type(self), map(changes.pop, self._fields, self))
            if changes:
                raise ValueError(f"Got unexpected field names: {list(changes)!r}")
            return result

        def _asdict(self):
            return dict(zip(self._fields, self))

        def __repr__(self):
            values = ", ".join([f"{name}={value!r}" for name, value in zip(self._fields, self)])
            return f"{type(self).__name__}({values})"

        def __getnewargs__(self):
            return tuple(self)

    def _maker(name, fields, defaults):
        """``__new__`` of a record.

        Its code is that of the function with as many parameters in ``_CONSTRUCTORS``, under the
        names of the fields. So a call costs what a call of a written function costs, and names a
        missing or unknown argument like that."""
        model = _CONSTRUCTORS[len(fields)]
        code = model.__code__.replace(co_name="__new__", co_varnames=("cls", *fields))
        made = type(model)(code, _GLOBALS, "__new__", defaults)
        made.__qualname__ = f"{name}.__new__"  # messages name it
        return made

    class _Maker(type):
        """The metaclass of ``NamedTuple`` alone: a class that has that as its base becomes a
        subclass of tuple instead."""

        def __new__(mcs, name, bases, body):
            fields = tuple(body.get("__annotations__", ()))
            if not fields:
                raise TypeError(f"{name}: no fields; the module needs 'from __future__ import annotations'")
            values = [body[field] for field in fields if field in body]
            if any(field not in body for field in fields[len(fields) - len(values) :]):
                raise TypeError(f"{name}: a field without a default follows one with a default")
            body["_field_defaults"] = dict(zip(fields[len(fields) - len(values) :], values))
            for place, field in enumerate(fields):
                body[field] = _tuplegetter(place, "")
            body["__slots__"], body["_fields"], body["__match_args__"] = (), fields, fields
            body["__new__"] = _maker(name, fields, tuple(values))
            return type(name, (_Record,), body)

    NamedTuple = type.__new__(_Maker, "NamedTuple", (), {})

    _GLOBALS = {"new": tuple.__new__, "__builtins__": {}}
    _CONSTRUCTORS = (
        None,
        lambda o, a: new(o, (a,)),
        lambda o, a, b: new(o, (a, b)),
        lambda o, a, b, c: new(o, (a, b, c)),
        lambda o, a, b, c, d: new(o, (a, b, c, d)),
        lambda o, a, b, c, d, e: new(o, (a, b, c, d, e)),
        lambda o, a, b, c, d, e, f: new(o, (a, b, c, d, e, f)),
        lambda o, a, b, c, d, e, f, g: new(o, (a, b, c, d, e, f, g)),
        lambda o, a, b, c, d, e, f, g, h: new(o, (a, b, c, d, e, f, g, h)),
        lambda o, a, b, c, d, e, f, g, h, i: new(o, (a, b, c, d, e, f, g, h, i)),
        lambda o, a, b, c, d, e, f, g, h, i, j: new(o, (a, b, c, d, e, f, g, h, i, j)),
        lambda o, a, b, c, d, e, f, g, h, i, j, k: new(o, (a, b, c, d, e, f, g, h, i, j, k)),
        lambda o, a, b, c, d, e, f, g, h, i, j, k, l: new(o, (a, b, c, d, e, f, g, h, i, j, k, l)),
        lambda o, a, b, c, d, e, f, g, h, i, j, k, l, m: new(o, (a, b, c, d, e, f, g, h, i, j, k, l, m)),
        lambda o, a, b, c, d, e, f, g, h, i, j, k, l, m, n: new(o, (a, b, c, d, e, f, g, h, i, j, k, l, m, n)),
        lambda o, a, b, c, d, e, f, g, h, i, j, k, l, m, n, p: new(o, (a, b, c, d, e, f, g, h, i, j, k, l, m, n, p)),
        lambda o, a, b, c, d, e, f, g, h, i, j, k, l, m, n, p, q: new(
            o, (a, b, c, d, e, f, g, h, i, j, k, l, m, n, p, q)
        ),
        lambda o, a, b, c, d, e, f, g, h, i, j, k, l, m, n, p, q, r: new(
            o, (a, b, c, d, e, f, g, h, i, j, k, l, m, n, p, q, r)
        ),
        lambda o, a, b, c, d, e, f, g, h, i, j, k, l, m, n, p, q, r, s: new(
            o, (a, b, c, d, e, f, g, h, i, j, k, l, m, n, p, q, r, s)
        ),
        lambda o, a, b, c, d, e, f, g, h, i, j, k, l, m, n, p, q, r, s, t: new(
            o, (a, b, c, d, e, f, g, h, i, j, k, l, m, n, p, q, r, s, t)
        ),
        lambda o, a, b, c, d, e, f, g, h, i, j, k, l, m, n, p, q, r, s, t, u: new(
            o, (a, b, c, d, e, f, g, h, i, j, k, l, m, n, p, q, r, s, t, u)
        ),
        lambda o, a, b, c, d, e, f, g, h, i, j, k, l, m, n, p, q, r, s, t, u, v: new(
            o, (a, b, c, d, e, f, g, h, i, j, k, l, m, n, p, q, r, s, t, u, v)
        ),
        lambda o, a, b, c, d, e, f, g, h, i, j, k, l, m, n, p, q, r, s, t, u, v, w: new(
            o, (a, b, c, d, e, f, g, h, i, j, k, l, m, n, p, q, r, s, t, u, v, w)
        ),
        lambda o, a, b, c, d, e, f, g, h, i, j, k, l, m, n, p, q, r, s, t, u, v, w, x: new(
            o, (a, b, c, d, e, f, g, h, i, j, k, l, m, n, p, q, r, s, t, u, v, w, x)
        ),
        lambda o, a, b, c, d, e, f, g, h, i, j, k, l, m, n, p, q, r, s, t, u, v, w, x, y: new(
            o, (a, b, c, d, e, f, g, h, i, j, k, l, m, n, p, q, r, s, t, u, v, w, x, y)
        ),
        lambda o, a, b, c, d, e, f, g, h, i, j, k, l, m, n, p, q, r, s, t, u, v, w, x, y, z: new(
            o, (a, b, c, d, e, f, g, h, i, j, k, l, m, n, p, q, r, s, t, u, v, w, x, y, z)
        ),
        lambda o, a, b, c, d, e, f, g, h, i, j, k, l, m, n, p, q, r, s, t, u, v, w, x, y, z, A: new(
            o, (a, b, c, d, e, f, g, h, i, j, k, l, m, n, p, q, r, s, t, u, v, w, x, y, z, A)
        ),
    )
