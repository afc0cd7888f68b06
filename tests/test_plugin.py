"""Survey -> the text that a Nagios-like core reads, with each supported nagiosplugin."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check_mounts.clocks import Boottime, epoch_of
from check_mounts.judging.policy import Policy, judged
from check_mounts.judging.thresholds import Range
from check_mounts.model import Condition, Finding, LeftOut, Mount, Reason, State, Survey
from check_mounts.outcome import Outcome, Step, Usage
from check_mounts.report import parts, summary
from check_mounts.report import plugin as plugins
from check_mounts.report.plugin import Presentation, report, report_each
from tests.conftest import PYTHON, ROOT

any_bytes = st.binary(max_size=60).map(lambda data: data.replace(b"\0", b""))


def mount(point: bytes, source: bytes = b"/dev/sda1", fs_type: bytes = b"xfs", mount_id: int = 1) -> Mount:
    return Mount(mount_id, 0, (8, mount_id), b"/", point, (b"rw",), (), fs_type, source, (b"rw",))


def finding(
    point: bytes, condition: Condition, detail: str = "", latency: Optional[float] = 0.012, **kind: bytes
) -> Finding:
    after = 5.0 if detail.startswith("after ") else None  # given up by this pass, as the detail says
    where = mount(point, **kind)  # type: ignore[arg-type]
    return Finding(point, where, condition, detail, Outcome(), latency, after=after)


def survey(*findings: Finding, **members: object) -> Survey:
    return Survey(findings, started=1e9, duration=0.083, timeout=5.0, **members)  # type: ignore[arg-type]


def printed(result: Survey, policy: Optional[Policy] = None, **presentation: object) -> str:
    shown = Presentation(**presentation)  # type: ignore[arg-type]
    return parts.printed(report(judged(result, policy or Policy()), shown), shown.max_output).decode("utf-8")


def written(
    result: Survey, policy: Policy, presentation: Presentation, allow_none: bool = False
) -> tuple[bytes, State]:
    whole = report(judged(result, policy, allow_none), presentation)
    return parts.printed(whole, presentation.max_output, presentation.encoding), whole.state


HEALTHY = [finding(b"/m%d" % number, Condition.OK) for number in range(42)]
NONE = (
    "missing=0;;;0 read_only=0;;;0 changed=0;;;0 full=0;;;0 failing=0;;;0 blocked=0;;;0 shadowed=0;;;0 idle=0;;;0 "
    "ghost=0;;;0 "
    "unprobed=0;;;0"
)
ZEROES = f"{NONE} time=0.083s slowest=0.012s"


def test_ok() -> None:
    assert printed(survey(*HEALTHY)) == (
        "MOUNTS OK - 42 mounts checked in 0.1 s "
        f"| mounts=42;;;0 ok=42;;;0 slow=0;;;0 denied=0;;;0 timed_out=0;;;0 dead=0;;;0 {ZEROES}\n"
    )


def test_critical() -> None:
    hung = finding(b"/home", Condition.TIMED_OUT, "after 5 s", 5.0, fs_type=b"nfs4", source=b"filer1:/export/home")
    dead = finding(b"/data", Condition.DEAD, "Input/output error (EIO)", source=b"/dev/sdb1")
    assert printed(survey(dead, hung, *HEALTHY[:40])) == (
        "MOUNTS CRITICAL - 2 of 42 mounts failed: /home (nfs4 filer1:/export/home) timed out after 5 s; "
        "/data (xfs /dev/sdb1) dead: Input/output error (EIO) "
        f"| mounts=42;;;0 ok=40;;;0 slow=0;;;0 denied=0;;;0 timed_out=1;;;0 dead=1;;;0 {ZEROES}\n"
    )


def _hung(source: bytes, fs_type: bytes, count: int, first: int = 0, **more: str) -> list[Finding]:
    found = [
        finding(b"/m%d" % (first + n), Condition.TIMED_OUT, f"after 5.{n} s", fs_type=fs_type, source=source)
        for n in range(count)
    ]
    return [each._replace(**more) for each in found]  # type: ignore[arg-type]


def test_failures_are_grouped_by_the_servers_that_their_types_name() -> None:
    lustre = [*_hung(b"10.1.0.1@o2ib:10.1.0.2@o2ib:/a", b"lustre", 3), *_hung(b"10.2.0.1@o2ib:/b", b"lustre", 3, 3)]
    said = printed(survey(*lustre), perfdata="none")
    assert (
        "all 3 mounts of 10.1.0.1@o2ib timed out (/m0, /m1, /m2); all 3 mounts of 10.2.0.1@o2ib timed out (/m3, "
        "/m4, /m5)" in said
    )
    urls = [
        *_hung(b"https://cloud.example.org/dav", b"fuse", 3),
        *_hung(b"curlftpfs#ftp://bob:pw@ftp.example.org/", b"fuse", 3, 3),
    ]
    said = printed(survey(*urls), perfdata="none")
    assert "all 3 mounts of cloud.example.org timed out" in said
    assert "all 3 mounts of ftp.example.org timed out" in said
    local = printed(survey(*_hung(b"tank:x/y", b"zfs", 6)), perfdata="none")
    assert "6 zfs mounts timed out" in local


def test_tunnels_on_one_address_are_servers_each_and_name_their_causes() -> None:
    efs = []
    for port in range(20049, 20056):
        cause = f"server 127.0.0.1 refuses connections on port {port}"
        (each,) = _hung(b"127.0.0.1:/", b"nfs4", 1, port, diagnosis=cause)
        assert each.mount is not None
        options = (b"rw", b"port=%d" % port, b"addr=127.0.0.1")
        efs.append(each._replace(mount=each.mount._replace(super_options=options)))
    said = printed(survey(*efs), perfdata="none")
    assert (
        "/m20049 (nfs4 127.0.0.1:/) timed out after 5.0 s: server 127.0.0.1 refuses connections on port 20049; " in said
    )
    assert said.count("refuses connections on port") == 6
    assert "; and 1 more\n" in said
    # Two of each tunnel
    twice = [
        *efs,
        *(each._replace(mount_point=each.mount_point + b"b", detail="after 6 s") for each in efs),
    ]
    assert "all 2 mounts of 127.0.0.1:20049 timed out: server 127.0.0.1 refuses connections on port 20049" in printed(
        survey(*twice)
    )


def test_warning() -> None:
    denied = finding(
        b"/example", Condition.DENIED, "mode 0000 does not allow access", fs_type=b"nfs", source=b"filer1:/example"
    )
    assert printed(survey(*HEALTHY[:41], denied), perfdata="none") == (
        "MOUNTS WARNING - 1 of 42 mounts failed: /example (nfs filer1:/example) denied: mode 0000 does not "
        "allow access\n"
    )


def test_thresholds_stand_with_the_latencies_only() -> None:
    policy = Policy(warning=Range.parse("1"), critical=Range.parse("@5:"))
    line = printed(survey(HEALTHY[0]), policy, perfdata="mounts").split(" | ")[1]
    assert line.endswith(" time=0.083s slowest=0.012s;1;@5: '/m0'=0.012000s;1;@5:\n")


def test_five_hundred_failures_stay_readable() -> None:
    hung = [
        finding(
            b"/home/u%d" % number,
            Condition.TIMED_OUT,
            "after 5 s",
            fs_type=b"nfs4",
            source=b"filer%d:/u" % (number % 3),
        )
        for number in range(450)
    ]
    dead = [finding(b"/d%d" % number, Condition.DEAD, "Input/output error (EIO)") for number in range(50)]
    line = printed(survey(*dead, *hung), perfdata="none")
    assert line == (
        "MOUNTS CRITICAL - 500 of 500 mounts failed: "
        "all 150 mounts of filer0 timed out after 5 s (/home/u0, /home/u3, /home/u6, ...); "
        "all 150 mounts of filer1 timed out after 5 s (/home/u1, /home/u4, /home/u7, ...); "
        "all 150 mounts of filer2 timed out after 5 s (/home/u2, /home/u5, /home/u8, ...); "
        "50 xfs mounts dead: Input/output error (EIO) (/d0, /d1, /d2, ...)\n"
    )


def test_five_hundred_servers_stay_readable() -> None:
    hung = [
        finding(b"/%d" % n, Condition.TIMED_OUT, "after 5 s", fs_type=b"nfs", source=b"filer%d:/" % n)
        for n in range(500)
    ]
    line = printed(survey(*hung), perfdata="none")
    assert line.endswith("; and 494 more\n")
    assert len(line) < 600


def test_verbosity() -> None:
    blocked = finding(b"/home/a", Condition.BLOCKED, "below /home, which timed out", None)
    hung = finding(b"/home", Condition.TIMED_OUT, "after 5 s", 5.0)
    out = LeftOut(mount(b"/proc", b"proc", b"proc"), Reason.PSEUDO)
    result = survey(HEALTHY[0], blocked, hung, left_out=(out,), notes=("something",))
    lines = [printed(result, verbosity=level, perfdata="none").split("\n")[1:-1] for level in range(4)]
    assert lines[0] == ["note: something"]
    assert lines[1] == [
        "note: something",
        "CRITICAL: /home (xfs /dev/sda1) timed out after 5 s",
        "OK: /home/a (xfs /dev/sda1) blocked: below /home, which timed out",
    ]
    assert lines[2] == [*lines[1], "OK: /m0 (xfs /dev/sda1) ok in 0.012 s"]
    assert lines[3][-1] == "left out: /proc (proc proc): kernel pseudo-filesystem"


def test_steps() -> None:
    outcome = Outcome(Step.READ, 13, (0.001, 0.002, 0.003, 0.004, *[None] * 4), 0o040700, 1000, 1000, 2, 1000)
    denied = Finding(b"/m", mount(b"/m"), Condition.DENIED, "x", outcome, 0.01)
    assert printed(survey(denied), verbosity=3).split("\n")[2:-1] == [
        "  look-up: 0.001000 s",
        "  statfs: 0.002000 s",
        "  statx: 0.003000 s",
        "  read: 0.004000 s, as uid 1000, Permission denied (EACCES)",
        "  root directory: mode 0700, uid 1000, gid 1000",
    ]


def test_nothing_selected() -> None:
    out = LeftOut(mount(b"/proc"), Reason.PSEUDO)
    data, state = written(survey(left_out=(out,)), Policy(), Presentation(perfdata="none"))
    assert (data, state) == (
        b"MOUNTS UNKNOWN - no mount was selected (1 mount left out, -vvv says why)\n",
        State.UNKNOWN,
    )
    data, state = written(survey(left_out=(out,)), Policy(), Presentation(perfdata="none"), allow_none=True)
    assert (data[:12], state) == (b"MOUNTS OK - ", State.OK)


def test_every_condition_can_be_told() -> None:
    for condition in Condition:
        if condition is not Condition.SLOW:  # the policy's own, never a finding's
            assert "/x" in printed(survey(finding(b"/x", condition, "why")), verbosity=2)


@given(
    st.lists(
        st.tuples(any_bytes, any_bytes, any_bytes, st.sampled_from([c for c in Condition if c is not Condition.SLOW])),
        max_size=12,
    ),
    st.integers(0, 3),
    st.sampled_from(["summary", "mounts", "none"]),
    st.sampled_from([0, 128, 200, 400, 1023]),
    st.sampled_from(["utf-8", "ascii"]),
)
def test_hostile_names_break_nothing(
    names: list[tuple[bytes, bytes, bytes, Condition]], verbosity: int, perfdata: str, limit: int, encoding: str
) -> None:
    findings = [
        Finding(b"/" + point, mount(b"/" + point, source, fs_type or b"x", number), condition, "why", None, 0.5)
        for number, (point, source, fs_type, condition) in enumerate(names)
    ]
    data, state = written(survey(*findings), Policy(), Presentation(verbosity, perfdata, limit, encoding=encoding))
    text = data.decode(encoding)
    first, *rest = text.removesuffix("\n").split("\n") if hasattr(text, "removesuffix") else []
    assert first.startswith(f"MOUNTS {state.name} - ")
    assert text.count("|") == (perfdata != "none" and " | " in first)
    assert all(line.isprintable() for line in (first, *rest))
    _check_perfdata(first.partition(" | ")[2])
    if limit:
        verdict = first.partition(" | ")[0]
        assert len(data) <= max(limit, len(verdict.encode(encoding)) + 1)


def _check_perfdata(words: str) -> None:
    import re

    for item in words.split(" ") if "'" not in words else re.findall(r"(?:'[^']*'|[^ ]+?)=[^ ]+", words):
        if item:
            assert re.fullmatch(r"(?:[a-z_]+|'[^'=]+'|\w+)=[\d.]+s?(?:;[^ ]*)*", item), item


def test_labels() -> None:
    assert plugins.label(b"/it's a=b|c\n") == r"/it\047s a\075b\174c\012"
    assert plugins.label(b"/a::b:::c") == r"/a:\072b:\072:c"


def test_max_output_keeps_the_verdict_and_whole_items() -> None:
    failures = [finding(b"/home/user%d" % number, Condition.DEAD, "Stale file handle (ESTALE)") for number in range(4)]
    whole = printed(survey(*failures), verbosity=1, perfdata="mounts")
    for limit in range(128, len(whole) + 1):
        text = printed(survey(*failures), verbosity=1, perfdata="mounts", max_output=limit)
        assert len(text) <= limit
        assert text.startswith("MOUNTS CRITICAL - 4 of 4 mounts failed")
        for item in text.split("\n")[0].partition(" | ")[2].split():
            assert item in whole.split("\n")[0].split()
        for line in text.split("\n")[1:-1]:
            assert line in whole.split("\n") or "--max-output" in line
    assert text == whole


def test_the_longest_names_are_cut_in_the_status_line_only() -> None:
    long = finding(b"/" + b"x" * 4000, Condition.DEAD, "Stale file handle (ESTALE)")
    text = printed(survey(long), verbosity=1, perfdata="none")
    assert len(text.split("\n")[0]) < 400
    assert "x" * 4000 in text.split("\n")[1]


def test_failures_are_words_alone_where_there_is_no_mount() -> None:
    line = Finding(b"", None, Condition.UNPROBED, "line 3 of the mount table cannot be understood: because: x")
    assert [each.words for each in summary.report(judged(survey(line), Policy())).failures] == [line.detail]
    assert report(judged(survey(line, *HEALTHY), Policy()), Presentation()).state is State.UNKNOWN


@pytest.mark.program
@pytest.mark.parametrize("version", ["1.3.2", "1.4.0"])
def test_with_each_nagiosplugin(version: str) -> None:
    """Debian 12 has 1.3.2; `make test` puts both beside the environment."""
    library = ROOT / ".venv" / f"nagiosplugin-{version}"
    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(library)]), "PATH": os.environ["PATH"]}
    script = "import nagiosplugin, sys; sys.stdout.write(nagiosplugin.__version__)"
    assert subprocess.check_output([PYTHON, "-c", script], env=environment, text=True) == version
    script = (
        "from tests import test_plugin as t\n"
        "t.test_ok(), t.test_critical(), t.test_warning(), t.test_nothing_selected()\n"
        "t.test_thresholds_stand_with_the_latencies_only(), t.test_five_hundred_failures_stay_readable()"
    )
    path = os.pathsep.join([str(library), str(ROOT), *_tools()])
    rerun = subprocess.run(
        [PYTHON, "-c", script], env={**environment, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert rerun.returncode == 0, f"with nagiosplugin {version}, a test of this file failed:\n{rerun.stderr}"
    result = subprocess.run(
        [PYTHON, "-m", "check_mounts", "-p", "/"], env=environment, capture_output=True, cwd="/", check=False
    )
    assert result.stdout.startswith(b"MOUNTS OK - 1 mount checked in ")


def _tools() -> list[str]:
    import hypothesis

    return [str(Path(hypothesis.__file__).parent.parent), str(Path(pytest.__file__).parent.parent)]


def test_each_mount_as_a_service_of_its_own() -> None:
    hung = Finding(
        b"/h|\n'", mount(b"/h|\n'"), Condition.TIMED_OUT, "after 5 s", None, 5.0, remarks=("a remark",), after=5.0
    )
    covered = finding(b"/m0", Condition.SHADOWED)
    missing = Finding(b"/gone", None, Condition.MISSING, "not mounted")
    unread = Finding(b"", None, Condition.UNPROBED, "line 3 of the mount table makes no sense")
    reports = report_each(
        judged(survey(HEALTHY[0], hung, covered, missing, unread), Policy()), Presentation(verbosity=1)
    )
    assert [
        (each.mount_point, each.state, parts.printed(each, 0), [item.words for item in each.perfdata])
        for each in reports
    ] == [
        (
            b"/h|\n'",
            State.CRITICAL,
            b"MOUNTS CRITICAL - /h\\174\\012' (xfs /dev/sda1) timed out after 5 s | "
            b"'/h\\174\\012\\047'=5.000000s\na remark\n",
            ["'/h\\174\\012\\047'=5.000000s"],
        ),
        (b"/gone", State.CRITICAL, b"MOUNTS CRITICAL - /gone missing: not mounted\n", []),
        (b"/m0", State.OK, b"MOUNTS OK - /m0 (xfs /dev/sda1) ok in 0.012 s | '/m0'=0.012000s\n", ["'/m0'=0.012000s"]),
    ]
    assert [
        each.perfdata for each in report_each(judged(survey(HEALTHY[0]), Policy()), Presentation(perfdata="none"))
    ] == [[]]


def test_json_is_what_it_is_documented_to_be() -> None:
    from check_mounts.report import jsontext

    hung = Finding(
        b"/h\n",
        mount(b"/h\n"),
        Condition.TIMED_OUT,
        "after 5 s",
        Outcome(Step.STATFS, usage=Usage(5, 4, 3, 2, 1)),
        5.0,
        4711,
        Boottime(100.0),
        "server 10.0.0.5 is down",
        ("a remark",),
        after=5.0,
    )
    out = LeftOut(mount(b"/proc"), Reason.PSEUDO)
    missing = Finding(b"/gone", None, Condition.MISSING, "not mounted")
    whole = judged(survey(hung, missing, HEALTHY[0], left_out=(out,), notes=("n",)), Policy())
    data, state = jsontext.report(whole), whole.state
    value = json.loads(data)
    assert state is State.CRITICAL
    first = data.decode("ascii").split("\n")[0]
    assert first.startswith('{"version": 1, "state": "CRITICAL", "summary": "2 of 3 mounts failed: ')
    assert value["findings"][0]["mount_point"] == "/h\\012"
    assert value["findings"][0]["stuck"] == {"pid": 4711, "since": pytest.approx(epoch_of(Boottime(100.0)), abs=60)}
    assert value["findings"][0]["outcome"]["failed_step"] == "statfs"
    assert value["findings"][0]["diagnosis"] == "server 10.0.0.5 is down"
    assert value["findings"][0]["remarks"] == ["a remark"]
    assert value["findings"][0]["outcome"]["usage"]["inodes_free"] == 1
    assert value["counts"]["timed_out"] == 1
    assert value["left_out"][0]["why"] == "kernel pseudo-filesystem"
    manual = (ROOT / "man/check_mounts.8").read_text()
    for name in _names(value):
        assert name.replace("-", "\\-") in manual, f"{name} is not in the manual"


def _names(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(_names, value.values()))
    if isinstance(value, list):
        return set().union(*map(_names, value))
    return set()
