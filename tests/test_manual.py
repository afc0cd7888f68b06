"""What the documentation says, against what the program does: names of options, conditions,
perfdata, JSON and keys, both ways."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Collection

import pytest

from check_mounts import meaning
from check_mounts.clocks import Boottime
from check_mounts.judging import courses
from check_mounts.judging.policy import Policy, judged
from check_mounts.judging.thresholds import parse_capacity
from check_mounts.model import BadLine, Condition, Finding, LeftOut, Mount, Reason, State, Survey
from check_mounts.options import config_text
from check_mounts.options.option_table import BY_WORD, OPTIONS
from check_mounts.outcome import Outcome, Step, Usage
from check_mounts.report import jsontext, summary
from check_mounts.report.plugin import Presentation, report
from check_mounts.traffic import Measure, Operation, Traffic
from tests.conftest import ROOT
from tests.test_install import SHARED


def _plain(groff: str) -> str:
    """Without its quoting."""
    return groff.replace("\\-", "-").replace("\\(aq", "'").replace("\\ ", " ").replace("\\&", "")


def _bold(groff: str) -> set[str]:
    """The words that are set in bold."""
    words: list[str] = []
    for line in groff.split("\n"):
        macro, _, rest = line.partition(" ")
        pieces = re.findall(r'"[^"]*"|\S+', rest)
        if macro == ".B":
            words += pieces
        elif macro in (".BR", ".BI"):
            words += pieces[::2]
        words += re.findall(r"\\fB(.*?)\\f[RPI]", line)
    return {word.strip('", ') for word in words}


MANUAL = _plain((ROOT / "man/check_mounts.8").read_text())
README = (ROOT / "README.md").read_text()
STATES = (ROOT / "docs/states.md").read_text()


def section(manual: str, title: str) -> str:
    """From the heading of a section, or of a part of one, to the next of its kind."""
    found = re.search(rf'^\.(SH|SS) "?{re.escape(title)}"?\n(.*?)(?=^\.SH|\Z)', manual, re.M | re.S)
    assert found, title
    return found[2].partition("\n.SS ")[0] if found[1] == "SS" else found[2]


def agree(where: str, said: Collection[str], there: Collection[str]) -> None:
    """Fails with what to add and to remove."""
    lacking, surplus = sorted(set(there) - set(said)), sorted(set(said) - set(there))
    assert not lacking, f"add to {where}: {', '.join(lacking)}"
    assert not surplus, f"remove from {where}, for the program does not have it: {', '.join(surplus)}"


def test_options_are_those_there_are() -> None:
    headings = re.findall(r"^\.TP\n(\\fB-.*)$", section(MANUAL, "OPTIONS"), re.M)
    documented = {
        name
        for heading in headings
        for name in re.findall(r"(?<![\w-])--?[a-z][a-z-]*|-[A-Z]\b", re.sub(r"\\f.", " ", heading))
    }
    agree("OPTIONS of man/check_mounts.8", documented, {name for option in OPTIONS for name in option.words})


def test_options_of_the_command_line_alone_are_those_there_are() -> None:
    page = _plain((ROOT / "man/check_mounts.conf.5").read_text())
    part = re.search(r"without the dashes, except\n(.*?)\.\nThe value", page, re.DOTALL)
    assert part is not None
    said = re.findall(r"^\.BR? ([a-z-]+)", part[1], re.MULTILINE)
    agree("THE SECTION [check_mounts] of man/check_mounts.conf.5", said, config_text.REFUSED)


def test_choices_are_those_there_are() -> None:
    for option in OPTIONS:
        if option.choices:
            (heading,) = re.findall(rf"^\\fB{option.long}\\fR ?(.*)$", MANUAL, re.M)
            assert set(re.findall(r"\\fB(.*?)\\fR", heading)) == set(option.choices), option.name


def test_defaults_are_those_there_are() -> None:
    for name in ("--timeout", "--interval", "--max-age", "--max-workers", "--max-output", "--submit-timeout"):
        text = section(MANUAL, "OPTIONS").partition(f"{name}\\fR")[2].partition("\n.TP")[0]
        said = re.search(r"\(default: ([\d.]+)\)|The default is ([\d.]+)", text)
        assert (said and float((said[1] or said[2]).rstrip("."))) == BY_WORD[name].default, name


def test_measures_are_those_there_are() -> None:
    for name in ("--warning", "--critical"):
        agree(name, BY_WORD[name].help.rpartition(": ")[2].split(", "), {measure.word for measure in Measure})


def test_the_file_of_what_is_usual_has_its_bound() -> None:
    said = re.search(r"^At most ([\d,]+) operations are kept, in at most (\d+) MiB\.$", MANUAL, re.M)
    assert said is not None
    assert (int(said[1].replace(",", "")), int(said[2]) << 20) == (courses.MOST, courses.LONGEST)


def test_conditions_are_those_there_are() -> None:
    headings = re.findall(r"^\.TP\n\\fB(\S+?)\\fR \((.*)\)$", section(MANUAL, "CONDITIONS"), re.M)
    rows = re.findall(
        r"^\| ([a-z-]+) \| .* \| ([^|]+) \|$", STATES.partition("## States")[2].partition("\n## ")[0], re.M
    )
    for where, listed in (
        ("CONDITIONS of man/check_mounts.8", headings),
        ("the table of docs/states.md", [row for row in rows if row[0] != "condition"]),
    ):
        agree(where, [name for name, _ in listed], [condition.value for condition in Condition])
        assert [name for name, _ in listed] == [condition.value for condition in Condition], (
            f"{where} has another order than Condition in model.py"
        )
        for condition, (_, said) in zip(Condition, listed):
            state = meaning.of(condition).severity
            assert said.startswith("WARNING or CRITICAL" if state is None else state.name), (
                f"{where} says another default state of {condition.value} than meaning.py"
            )


@pytest.mark.parametrize(
    ("name", "before", "unlisted"),
    [
        ("README.md", "A mount is in one condition: ", ()),
        ("prometheus/README.md", "with the label `condition`: ", (Condition.SHADOWED, Condition.GHOST)),  # no series
    ],
)
def test_sentences_list_all_conditions(name: str, before: str, unlisted: Collection[Condition]) -> None:
    sentence = (ROOT / name).read_text().partition(before)[2].partition(".")[0]
    listed = set(re.findall(r"[a-z_-]+", sentence)) - {"or"}
    there = [condition for condition in Condition if condition not in unlisted]
    agree(
        f"'{before}' in {name}", {word.replace("_", "-") for word in listed}, [condition.value for condition in there]
    )


def _told() -> Survey:
    mount = Mount(1, 0, (8, 1), b"/", b"/home", (b"rw",), (), b"xfs", b"/dev/sda1", (b"rw",))
    outcome = Outcome(seconds=(0.1,) * len(Step), usage=Usage(1 << 40, 1 << 39, 1 << 39, 1000, 500))
    done = {name: Operation(name, 20, 20, 0, 1, 1, 1, 1, 1, 0) for name in (b"READ", b"OPEN")}
    hung = Finding(
        *(b"/home", mount, Condition.TIMED_OUT, "after 5 s", outcome, 5.0, 4711, Boottime(100.0)),
        after=5.0,
        traffic=Traffic(done, done, 60.0),
    )
    line = Finding(b"", None, Condition.UNPROBED, "x", line=BadLine("/etc/fstab", 3, "x"))
    return Survey((hung, line), (LeftOut(mount, Reason.TYPE_EXCLUDED),), ("a note",))


def test_perfdata_is_what_there_is() -> None:
    limit = parse_capacity("90")
    policy = Policy(usage_warning=limit, inodes_warning=limit)
    whole = report(judged(_told(), policy), Presentation(perfdata="steps,usage"))
    first = whole.first_line.partition(" | ")[2]
    printed = {quoted or plain for quoted, plain in re.findall(r"(?:'([^']+)'|(\w+))=", first)}
    general = {name for name in printed if not name.startswith("/")}
    assert general == {name for name, _ in summary.counts(())} | {"time", "slowest"}
    part = section(MANUAL, "Perfdata").partition(".I MOUNTPOINT")[0]
    agree("Perfdata in man/check_mounts.8", {word for word in _bold(part) if not word.startswith("-")}, general)
    table = STATES.partition("## Perfdata")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.M)
    agree("Perfdata in docs/states.md", {name for row in rows for name in re.findall(r"`(\w+)`", row)}, general)
    of_mounts = {name for row in rows for name in re.findall(r"`'(.*?)'`", row)}
    of_usage = {f"/home {word}" for word in ("used", "free", "inodes", "inodes_free")}
    assert of_mounts <= printed and {"/home", *of_usage} <= of_mounts
    for name in ("look-up", "statfs", "used", "free", "inodes", "inodes_free", *(each.word for each in Measure)):
        assert f"\\fIMOUNTPOINT\\fR {name}" in section(MANUAL, "Perfdata")


def test_json_is_what_there_is() -> None:
    value = json.loads(jsontext.report(judged(_told(), Policy())))
    whole = MANUAL.partition("\n.SH JSON\n")[2].partition("\n.SH ")[0]
    general, _, of_finding = whole.partition(".SS Members of a finding")
    general, _, of_cached = general.partition(".SS With --cached")
    finding = value["findings"][0]

    def headings(text: str) -> set[str]:
        return {word for heading in re.findall(r"^\.TP\n(\.BR? .*)$", text, re.M) for word in _bold(heading)}

    assert headings(general) == set(value)
    assert headings(of_cached) == {"age", "last"}  # as tests/test_cached_json.py finds them
    assert headings(of_finding) == set(finding) | set(finding["outcome"])
    told = _bold(of_finding)
    for member in ("stuck", "mount", "outcome", "traffic"):
        assert set(finding[member]) <= told, member
    assert set(value["findings"][1]["line"] or finding["line"]) <= told
    assert set(finding["traffic"]["since_mount"]["other"]) <= told
    assert set(finding["outcome"]["seconds"]) | set(finding["outcome"]["usage"]) <= told


def test_what_is_installed() -> None:
    text = README.partition("To install the program")[2].partition("sudo make install")[0]
    for place in SHARED:
        assert f"`{place}/`" in text
    for page in (ROOT / "man").iterdir():
        name, _, number = page.name.rpartition(".")
        assert f"{name}({number})" in text


@pytest.mark.parametrize("name", ["README.md", "docs/states.md", "man/check_mounts.8"])
def test_the_states_of_a_plugin(name: str) -> None:
    text = (ROOT / name).read_text()
    assert all(state.name in text for state in State)


PACKAGE = ROOT / "check_mounts"


@pytest.mark.parametrize(
    "name",
    [
        "CONTRIBUTING.md",
        "RELEASING.md",
        "SECURITY.md",
        "docs/glossary.md",
        "docs/states.md",
        "tests/lab/README.md",
    ],
)
def test_files_that_a_document_names_exist(name: str) -> None:
    """By their path, or by the end of it."""
    named = re.findall(r"\b[\w./-]+\.(?:py|txt|yml|json|cron|md|conf(?!\.5))\b", (ROOT / name).read_text())
    tops = [path for path in ROOT.iterdir() if not path.name.startswith(".")]
    files = [path for top in tops for path in (top.rglob("*") if top.is_dir() else [top])]
    there = [f"/{path.relative_to(ROOT)}" for path in files]
    lacking = {word for word in named if not any(path.endswith(f"/{word}") for path in there)}
    assert not lacking, f"{name} names {sorted(lacking)}"


def test_tables_and_classes_that_the_recipes_name_exist() -> None:
    defined = {
        name
        for path in (*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py"))
        for name in re.findall(r"^(?: {4})?(?:class )?(\w+)\b(?=[:(]| = )", path.read_text(), re.M)
    }
    named = set(re.findall(r"`(_?[A-Z]\w{3,})`", (ROOT / "CONTRIBUTING.md").read_text()))
    assert named
    assert named <= defined, "CONTRIBUTING.md names what no module defines"


@pytest.mark.parametrize("name", ["check_mounts.8", "check_mounts.conf.5"])
@pytest.mark.parametrize("width", [50, 78, 120])
def test_pages_fit_the_terminal(name: str, width: int) -> None:
    """Only what stands as it is, and a word that cannot be broken, may be wider."""
    source = (ROOT / "man" / name).read_text()
    literal = {
        re.sub(r"\\f[BIRP]", "", _plain(line)).strip()
        for example in re.findall(r"^\.EX\n(.*?)^\.EE", source, re.M | re.S)
        for line in example.split("\n")
    }
    command = ["groff", "-man", "-Tutf8", "-P-cbou", f"-rLL={width}n", str(ROOT / "man" / name)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8")
    wide = [line.strip() for line in done.stdout.split("\n") if len(line) > width]
    assert [line for line in wide if line not in literal and " " in line] == []
    assert done.stdout.count("\n") > 200
