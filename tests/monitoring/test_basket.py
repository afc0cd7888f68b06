"""icinga2/director-basket.json: of the format that Icinga Director exports and restores, and about
the same commands as the CheckCommands.

The format is that of Director 1.11: what its export writes (Data/Exporter.php), its import reads
(Data/ObjectImporter.php, Objects/IcingaArguments.php) and its schema holds (schema/mysql.sql)."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.monitoring.icinga import COMMANDS, SHIPPED, Authority, Icinga
from tests.monitoring.stack import ROOT_OF_PACKAGES, Stack

pytestmark = [pytest.mark.root, pytest.mark.monitoring]

BASKET = SHIPPED / "director-basket.json"
ITL = ROOT_OF_PACKAGES / "usr/share/icinga2/include"
# Where the command line differs: sudo is a command of its own there, because a command of the
# Director cannot be a function.
OF_SUDO = {"-n", "PROGRAM"}
VARIABLES_OF_SUDO = {"mounts_sudo", "mounts_runner", "mounts_program"}

Kind = Callable[[Any], bool]


def text(longest: int) -> Kind:
    return lambda value: isinstance(value, str) and 0 < len(value) <= longest


def optional(kind: Kind) -> Kind:
    return lambda value: value is None or kind(value)


def of(*types: type) -> Kind:
    return lambda value: isinstance(value, types) and (bool in types or not isinstance(value, bool))


def exactly(*values: object) -> Kind:
    return lambda value: value in values


def is_uuid(value: Any) -> bool:
    return isinstance(value, str) and str(uuid.UUID(value)) == value


def is_seconds(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def is_function(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"type", "body"}
        and value["type"] == "Function"
        and isinstance(value["body"], str)
    )


def is_field(value: Any) -> bool:
    known = {"datafield_id": of(int), "is_required": exactly("y", "n"), "var_filter": optional(text(1000))}
    return isinstance(value, dict) and not complaints("field", value, known)


def fields(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_field, value))


COMMAND: dict[str, Kind] = {
    "arguments": of(dict),
    "command": text(65535),
    "disabled": exactly(False, True),
    "fields": fields,
    "imports": names,
    "is_string": exactly(None, True, False),
    "methods_execute": exactly(None, "PluginCheck"),
    "object_name": text(255),
    "object_type": exactly("object", "template", "external_object"),
    "timeout": optional(is_seconds),
    "uuid": is_uuid,
    "vars": of(dict),
    "zone": optional(text(255)),
}
ARGUMENT: dict[str, Kind] = {
    "description": text(65535),
    "order": lambda value: isinstance(value, str) and re.fullmatch(r"-?\d+", value) is not None,
    "repeat_key": exactly(True, False),
    "required": exactly(True, False),
    "set_if": text(255),
    "set_if_format": exactly("string", "expression", "json"),
    "skip_key": exactly(True, False),
    "value": lambda value: is_function(value) or text(65535)(value),
}
_SWITCHES = ("active_checks", "event_handler", "flapping", "notifications", "passive_checks", "perfdata")
_NAMES_AND_TEXTS = (
    "action_url apply_for assign_filter check_command check_period command_endpoint display_name event_command "
    "host icon_image "
    "icon_image_alt notes notes_url service_set template_choice zone"
)
SERVICE_TEMPLATE: dict[str, Kind] = {
    **{name: optional(text(255)) for name in _NAMES_AND_TEXTS.split()},
    **{
        name: optional(is_seconds)
        for name in ("check_interval", "retry_interval", "check_timeout", "max_check_attempts")
    },
    **{f"enable_{name}": exactly(None, True, False) for name in _SWITCHES},
    **{name: exactly(None, True, False) for name in ("use_agent", "use_var_overrides", "volatile")},
    **{f"flapping_threshold_{name}": optional(of(int)) for name in ("high", "low")},
    "disabled": exactly(False, True),
    "fields": fields,
    "groups": names,
    "imports": names,
    "object_name": text(255),
    "object_type": exactly("template"),
    "uuid": is_uuid,
    "vars": of(dict),
}
SERVICE_GROUP: dict[str, Kind] = {
    "assign_filter": optional(text(65535)),
    "disabled": exactly(False, True),
    "display_name": optional(text(255)),
    "object_name": text(255),
    "object_type": exactly("object"),
    "uuid": is_uuid,
}
SERVICE_SET: dict[str, Kind] = {
    "assign_filter": text(65535),
    "description": text(65535),
    "object_name": text(128),
    "object_type": exactly("template"),
    "services": of(list),
    "uuid": is_uuid,
    "vars": of(dict),
}
SERVICE_IN_SET: dict[str, Kind] = {
    "imports": names,
    "object_name": text(255),
    "object_type": exactly("object"),
    "uuid": is_uuid,
    "vars": of(dict),
}
DATAFIELD: dict[str, Kind] = {
    "caption": text(255),
    "category": optional(text(255)),
    "datatype": lambda value: (
        value
        in {f"Icinga\\Module\\Director\\DataType\\DataType{kind}" for kind in ("String", "Number", "Boolean", "Array")}
    ),
    "description": text(65535),
    "format": exactly(None, "string", "json", "expression"),
    "settings": of(dict),
    "uuid": is_uuid,
    "varname": text(64),
}
TYPES = {
    "Command": COMMAND,
    "ServiceGroup": SERVICE_GROUP,
    "ServiceTemplate": SERVICE_TEMPLATE,
    "ServiceSet": SERVICE_SET,
    "Datafield": DATAFIELD,
}


def complaints(name: str, value: dict[str, Any], known: dict[str, Kind], partial: bool = False) -> list[str]:
    """What is wrong with an object: fields that are unknown, missing, or of the wrong kind."""
    wrong = [f"{name}: {key} is unknown" for key in value.keys() - known.keys()]
    wrong += [] if partial else [f"{name}: {key} is missing" for key in known.keys() - value.keys()]
    return wrong + [
        f"{name}: {key} is {value[key]!r}" for key in value.keys() & known.keys() if not known[key](value[key])
    ]


@pytest.fixture(scope="module")
def basket() -> Any:
    return json.loads(BASKET.read_text())


@pytest.fixture(scope="module")
def commands(stack: Stack) -> Iterator[dict[str, Any]]:
    """The CheckCommands as Icinga has understood them."""
    icinga = Icinga(stack, Authority(stack), "").start()
    yield {
        name: icinga.attributes("checkcommands", name)
        for name in ("check_mounts", "check_mounts_cached", "check_mounts_nrpe")
    }
    icinga.stop()


def test_every_field_is_of_the_format(basket: Any) -> None:
    assert basket.keys() == TYPES.keys()
    wrong = []
    for kind, objects in basket.items():
        assert objects
        for name, value in objects.items():
            wrong += complaints(f"{kind} {name}", value, TYPES[kind])
            wrong += [] if kind == "Datafield" or value["object_name"] == name else [f"{kind} {name}: has another name"]
    for name, command in basket["Command"].items():
        for key, argument in command["arguments"].items():
            assert len(key) <= 64
            wrong += complaints(f"{name} {key}", argument, ARGUMENT, partial=True)
    for name, service_set in basket["ServiceSet"].items():
        for service in service_set["services"]:
            wrong += complaints(f"{name} {service.get('object_name')}", service, SERVICE_IN_SET)
    assert not wrong


def test_the_format_is_known_well_enough() -> None:
    good = json.loads(BASKET.read_text())["Command"]["check_mounts"]
    assert not complaints("x", good, COMMAND)
    for key in good:
        assert complaints("x", {each: value for each, value in good.items() if each != key}, COMMAND)
        assert complaints("x", {**good, key: 1.5}, COMMAND), key
    assert complaints("x", {**good, "guid": "x"}, COMMAND)


def test_what_is_referred_to_is_there(basket: Any) -> None:
    itl = "".join(path.read_text() for path in ITL.glob("command-*.conf"))
    known_commands = basket["Command"].keys() | set(re.findall(r'object CheckCommand "([^"]+)"', itl))
    templates = basket["ServiceTemplate"]
    for command in basket["Command"].values():
        assert set(command["imports"]) <= basket["Command"].keys()
        assert {field["datafield_id"] for field in command["fields"]} <= set(map(int, basket["Datafield"]))
    for name, template in templates.items():
        assert set(template["imports"]) <= templates.keys()
        assert set(template["groups"]) <= basket["ServiceGroup"].keys()
        assert template["check_command"] in known_commands | {None}, name
    for service_set in basket["ServiceSet"].values():
        assert all(set(service["imports"]) <= templates.keys() for service in service_set["services"])
        # Director's filters are URL-encoded.
        assert re.fullmatch(r"host\.vars\.mounts_via=%22[a-z-]+%22", service_set["assign_filter"])


def test_uuids_are_unique_and_can_be_left_out(basket: Any) -> None:
    found = re.findall(r'"uuid": "([^"]+)"', BASKET.read_text())
    assert len(found) == len(set(found)) > 40
    # Before 1.11 datafields have none, and the text of one is refused elsewhere: sed '/"uuid": /d',
    # as the README says.
    without = "".join(line for line in BASKET.read_text().splitlines(keepends=True) if '"uuid": ' not in line)
    assert "uuid" not in json.loads(without)["Datafield"]["1"]


def variables(command: Any) -> set[str]:
    return set(re.findall(r"\$(mounts_\w+)\$", json.dumps(command["arguments"])))


def test_every_variable_has_a_field_and_every_field_a_variable(basket: Any) -> None:
    by_id = {int(number): field for number, field in basket["Datafield"].items()}
    for name in ("check_mounts", "check_mounts_cached"):
        command = basket["Command"][name]
        assert {by_id[each["datafield_id"]]["varname"] for each in command["fields"]} == variables(command), name
        for argument in command["arguments"].values():
            for varname in set(re.findall(r"\$(mounts_\w+)\$", json.dumps(argument))):
                (field,) = (field for field in by_id.values() if field["varname"] == varname)
                assert field["description"] == argument["description"]
                kind = field["datatype"].rpartition("DataType")[2]
                flag = "value" not in argument
                assert (kind == "Boolean", kind == "Array") == (flag, argument.get("repeat_key", False)), varname
                assert field["settings"] == ({"visibility": "visible"} if kind == "String" else {})
    assert {field["varname"] for field in by_id.values()} == variables(basket["Command"]["check_mounts"]) | variables(
        basket["Command"]["check_mounts_cached"]
    )
    sudo = basket["Command"]["check_mounts_sudo"]
    assert (sudo["imports"], sudo["arguments"], sudo["fields"]) == (
        ["check_mounts"],
        {},
        basket["Command"]["check_mounts"]["fields"],
    )


def bodies() -> set[str]:
    """The functions in the file of the CheckCommands, without layout."""
    return {" ".join(body.split()) for body in re.findall(r"value = \{\{(.*?)\}\}", COMMANDS.read_text(), re.S)}


@pytest.mark.parametrize("name", ["check_mounts", "check_mounts_cached"])
def test_the_commands_are_the_same(basket: Any, commands: dict[str, Any], name: str) -> None:
    here, there = commands[name], basket["Command"][name]
    assert there["arguments"].keys() == here["arguments"].keys() - OF_SUDO
    for key, argument in there["arguments"].items():
        original = here["arguments"][key]
        if is_function(argument.get("value")):
            assert original["value"]["type"] == "Function"
            assert " ".join(argument["value"]["body"].split()) in bodies(), key
            original = {**original, "value": argument["value"]}
        if "order" in argument:
            original = {**original, "order": str(int(original["order"]))}
        assert argument == original, key
    assert there["vars"] == {
        variable: value for variable, value in here["vars"].items() if variable not in VARIABLES_OF_SUDO
    }
    assert there["timeout"] == here["timeout"]


def test_the_command_lines_are_the_same(basket: Any, commands: dict[str, Any]) -> None:
    program = commands["check_mounts"]["vars"]["mounts_program"]
    lines = {name: command["command"] for name, command in basket["Command"].items()}
    assert lines["check_mounts"] == program
    assert lines["check_mounts_cached"].split() == [program, *commands["check_mounts_cached"]["command"][1:]]
    # Director puts its PluginDir in front of what is no absolute path.
    assert lines["check_mounts_sudo"].split() == ["/usr/bin/sudo", "-n", program]


def test_the_services_are_the_same(basket: Any, commands: dict[str, Any]) -> None:
    text_of_services = (SHIPPED / "check_mounts-services.conf").read_text()
    ways = {
        re.findall("%22(.*)%22", each["assign_filter"])[0]: each["services"] for each in basket["ServiceSet"].values()
    }
    # There, sudo is a variable of the host.
    assert ways.keys() - {"agent-sudo"} == set(re.findall(r'host\.vars\.mounts_via == "([a-z-]+)"', text_of_services))
    assert all([service["object_name"] for service in services] == ["mounts"] for services in ways.values())
    nrpe = basket["ServiceTemplate"]["mounts by NRPE"]["vars"]
    assert basket["ServiceTemplate"]["mounts"]["groups"] == [
        "mounts"
    ]  # by which dependencies and notifications know them
    assert nrpe.items() <= commands["check_mounts_nrpe"]["vars"].items()
    templates = basket["ServiceTemplate"]
    # No function can be said there, so it is not known how long ago a result came, and nothing is
    # said of it.
    (words,) = re.findall(r'mounts_no_result = "(.*)"', text_of_services)
    silent = templates["mounts, passive"]["vars"]["dummy_text"]
    assert silent.startswith(f"{words}$host.name$ in time") and set(re.findall(r"\$.*?\$", silent)) == {"$host.name$"}
    for template, name in (("mounts", "mounts-service"), ("mounts, passive", "mounts-passive")):
        body = re.findall(rf'template Service "{name}" \{{(.*?)\n\}}', text_of_services, re.S)[0]
        settings = re.findall(r"(check_interval|retry_interval|max_check_attempts) = (?=\d+(m|s|\n))(\d+)", body)
        assert len(settings) >= 2
        for key, unit, number in settings:
            assert templates[template][key] == int(number) * (60 if unit == "m" else 1), (template, key)
