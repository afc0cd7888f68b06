"""The table of destinations: what is in it can be used, and is named wherever people look."""

from __future__ import annotations

import re
import sys
import types

import pytest

from check_mounts.passive import Settings, destinations
from check_mounts.passive.destinations import KINDS, Kind
from tests.conftest import ROOT, Plugin


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.word)
def test_each_kind_is_named_where_people_look(plugin: Plugin, kind: Kind) -> None:
    words = " ".join(plugin("--help-all", below=False, state=False).stdout.decode().split())
    assert str(kind) in words, f"add {kind} to the help of --submit in check_mounts/options/option_table.py"
    for name in ("man/check_mounts.8", "README.md", "nrpe/check_mounts.cron"):
        page = re.sub(r"\\f[BIRP]|\\", "", (ROOT / name).read_text())
        assert f"{kind.word}:" in page, f"add {kind} to {name}, beside the others"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.word)
def test_the_module_of_each_kind_takes_settings_that_there_are(kind: Kind) -> None:
    destinations.load_all()
    module = sys.modules[f"check_mounts.passive.{kind.module}"]
    assert set(Settings._fields) >= module.SETTINGS


def test_a_row_and_a_module_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("check_mounts.passive.pigeon")
    vars(module).update(SETTINGS=frozenset({"user"}), destination=lambda rest, settings: (rest, settings.user))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(destinations, "KINDS", (*KINDS, Kind("pigeon", "LOFT", "pigeon")))
    made: object = destinations.destination("pigeon:home:1", Settings(user="bob"))
    assert made == ("home:1", "bob")
    with pytest.raises(ValueError, match="'token' does not fit; settings that do: user"):
        destinations.destination("pigeon:home", Settings(token="t"))
    with pytest.raises(ValueError, match=rf"{re.escape(str(KINDS[-1]))}, pigeon:LOFT\Z"):
        destinations.destination("dove:home", Settings())
