"""What ``--explain`` advises: each row of the tables of remedies, and commands that can be pasted,
whatever a mount point is called."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from check_mounts.judging.judgements import Judgement
from check_mounts.model import Condition, Finding, Mount, State
from check_mounts.outcome import Outcome, Step
from check_mounts.report import advice, facts, relatives
from check_mounts.report.advice import Facts
from check_mounts.report.explanation import Subject
from check_mounts.report.page import WIDTH, Line, Section, laid_out
from check_mounts.report.remedies import DESCRIPTORS, Kind, Remedy, Sign
from check_mounts.report.shellwords import command, quoted
from check_mounts.system.terminal import cells
from check_mounts.unitnames import mount_unit

_PATHS = some.binary(min_size=1, max_size=40).map(lambda name: b"/" + name.replace(b"\0", b""))
HOSTILE = [
    b"/a b", b"/a'b", b"/a\"b", b"/$(touch /tmp/x)", b"/`reboot`", b"/a;reboot", b"/a\nreboot\n", b"/a\\nb", b"/!!",
    b"/a|b", b"/-rf", b"/\xff\xfe", "/ü\u202e".encode(), b"/\x1b[2J", b"/a&b", b"/~root", b"/*", b"/{a,b}", b"/#x",
    b"/a'!'\\", b"/\t", b"/=ls",
]  # fmt: skip


def _facts(remedy: Remedy, condition: Condition, kind: Kind, point: bytes = b"/srv/a") -> Facts:
    """Facts to which this row applies."""
    return Facts(
        condition, kind, remedy.when, point, source=b"/dev/sdb1", above=b"/srv", cover=point, unit=b"srv-a.mount",
        below=[b"/srv/a/b", b"/srv/a/c"], layers=[b"/l"], others=[b"/o"] * 5,
        units=[b"a.service"], server="its server filer1", connection=42, remount=b"remount,rw",
    )  # fmt: skip


@pytest.mark.parametrize("remedy", advice.TABLE, ids=lambda remedy: remedy.do[:40])
def test_each_row_is_a_step_where_it_applies(remedy: Remedy) -> None:
    for condition in remedy.conditions:
        for kind in remedy.kinds:
            steps = advice.steps(_facts(remedy, condition, kind))
            found = [step for step in steps if step.do == _filled(remedy.do) and step.effect == _filled(remedy.effect)]
            assert len(found) == 1, steps
            assert bool(found[0].commands) == bool(remedy.command)
            assert not any("{" in words for words in (found[0].do, found[0].effect, *found[0].commands))


def _filled(words: str) -> str:
    filled = words.format(server="its server filer1", others="/o, /o, /o and 2 more")
    return filled[:1].upper() + filled[1:]


@pytest.mark.parametrize("remedy", advice.TABLE, ids=lambda remedy: remedy.do[:40])
def test_no_row_applies_without_its_signs(remedy: Remedy) -> None:
    for sign in remedy.when:
        facts = _facts(remedy, min(remedy.conditions, key=str), min(remedy.kinds, key=str))
        without = facts._replace(signs=facts.signs - {sign})
        assert _filled(remedy.do) + _filled(remedy.effect) not in [
            step.do + step.effect for step in advice.steps(without)
        ]
    for sign in remedy.unless:
        facts = _facts(remedy, min(remedy.conditions, key=str), min(remedy.kinds, key=str))
        with_it = facts._replace(signs=facts.signs | {sign})
        assert _filled(remedy.do) + _filled(remedy.effect) not in [
            step.do + step.effect for step in advice.steps(with_it)
        ]


def test_each_sign_decides_something() -> None:
    assert {sign for row in advice.TABLE for sign in row.when | row.unless} == set(Sign)


def test_no_rows_are_the_same() -> None:
    keys = [(row.conditions, row.kinds, row.when, row.unless, row.do, row.command) for row in advice.TABLE]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("condition", [each for each in Condition if each not in (Condition.OK, Condition.GHOST)])
def test_there_is_a_step_for_each_condition(condition: Condition, kind: Kind) -> None:
    signs = {Sign.COVERED} if condition is Condition.SHADOWED else set()
    assert advice.steps(Facts(condition, kind, frozenset(signs), b"/srv/a", above=b"/srv", cover=b"/srv"))


def test_nothing_to_try_for_a_mount_that_is_well() -> None:
    assert not advice.steps(Facts(Condition.OK, Kind.NFS, frozenset(Sign), b"/srv/a"))


@pytest.mark.parametrize("kind", Kind)
def test_below_a_failed_mount_only_that_one_matters(kind: Kind) -> None:
    for condition in (Condition.TIMED_OUT, Condition.DEAD, Condition.BLOCKED):
        steps = advice.steps(Facts(condition, kind, frozenset({Sign.ABOVE_FAILED}), b"/srv/a", above=b"/srv"))
        assert "check_mounts --explain /srv" in steps[0].commands
        assert not any(line.startswith("umount") for step in steps for line in step.commands)


def test_a_silent_server_comes_first_then_aborting_then_detaching() -> None:
    signs = frozenset({Sign.SERVER_SILENT, Sign.DECLARED, Sign.NAMED_UNIT, Sign.RESTARTED})
    facts = Facts(
        Condition.TIMED_OUT, Kind.NFS, signs, b"/srv/a", unit=b"srv-a.mount", units=[b"a.service", b"b.service"]
    )
    steps = advice.steps(facts)
    assert steps[0].do.startswith("Get its server back")
    assert "goes on by itself" in steps[0].effect
    assert [each for step in steps for each in step.commands] == [
        "systemctl restart a.service", "systemctl restart b.service", "umount -f /srv/a", "umount -l /srv/a",
        "systemctl start srv-a.mount", "mount /srv/a",
    ]  # fmt: skip
    forced = next(step for step in steps if "umount -f /srv/a" in step.commands)
    assert "EIO" in forced.effect and "lost" in forced.effect


@pytest.mark.parametrize("kind", Kind)
def test_the_root_directory_is_not_unmounted(kind: Kind) -> None:
    signs = frozenset((Sign.ROOT, Sign.STOPPED, Sign.STACKED, Sign.DECLARED, Sign.DEVICE))
    for condition in (Condition.TIMED_OUT, Condition.DEAD, Condition.READ_ONLY):
        commands = [line for step in advice.steps(Facts(condition, kind, signs, b"/")) for line in step.commands]
        assert not [line for line in commands if line.startswith(("umount", "mount /", "fsck"))]
        assert any(line.startswith("systemctl reboot") for line in commands)


def test_more_mounts_than_anybody_types_are_counted() -> None:
    facts = Facts(Condition.DEAD, Kind.NFS, frozenset({Sign.STACKED}), b"/a", below=[b"/a/%d" % n for n in range(9)])
    commands = next(step.commands for step in advice.steps(facts) if step.do == "Unmount what hangs from it:")
    assert commands[0] == "umount /a/0" and len(commands) == 6 and commands[-1] == "# and 4 more"


# -- what a shell makes of it


def _as_bash_reads(line: str, **environment: str) -> list[bytes]:
    """The words of a command line, once a shell has done all that it does with them."""
    script = f"printf '%s\\0' {line}\n"
    result = subprocess.run(
        ["bash", "--norc"], input=script.encode("ascii"), env={"PATH": os.environ["PATH"], **environment},
        capture_output=True, check=True,
    )  # fmt: skip
    assert result.stderr == b""
    return result.stdout.split(b"\0")[:-1]


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_word_means_itself_to_a_shell(locale: str) -> None:
    every = [*HOSTILE, *(b"/" + bytes((byte,)) for byte in range(1, 256)), bytes(range(1, 256))]
    assert _as_bash_reads(command(every), LC_ALL=locale) == every


@given(some.lists(_PATHS, min_size=1, max_size=5))
@settings(max_examples=30)
@example([b"/'", b"/\\", b"/\x01\x37"])
def test_any_words_mean_themselves(words: list[bytes]) -> None:
    assert _as_bash_reads(command(words)) == words


def test_an_interactive_shell_that_expands_history_runs_nothing(tmp_path: object) -> None:
    script = "set -o history -o histexpand\n: first\nprintf '%s\\0' " + command([b"/!!", b"/a'!:0'"]) + "\n"
    result = subprocess.run(["bash", "--norc"], input=script.encode(), capture_output=True, check=True)
    assert result.stdout.split(b"\0")[:-1] == [b"/!!", b"/a'!:0'"]


@given(_PATHS)
def test_a_word_is_printable_ascii_on_one_line(word: bytes) -> None:
    shown = quoted(word)
    assert shown.isascii() and shown.isprintable() and "|" not in shown


def test_plain_words_stay_as_they_are() -> None:
    assert command([b"umount", b"-f", b"/srv/a_b-c.d", b"1,2"]) == "umount -f /srv/a_b-c.d 1,2"
    assert quoted(b"/a b") == "'/a b'" and quoted(b"") == "''"
    assert shlex.split(quoted(b'/a$b "x"')) == ['/a$b "x"']


@pytest.mark.parametrize("point", HOSTILE)
@pytest.mark.parametrize("condition", [Condition.TIMED_OUT, Condition.DEAD, Condition.MISSING, Condition.SHADOWED])
def test_no_command_runs_a_mount_point(point: bytes, condition: Condition) -> None:
    signs = frozenset((Sign.STACKED, Sign.DECLARED, Sign.NAMED_UNIT, Sign.COVERED, Sign.DEVICE))
    for kind in (Kind.NFS, Kind.FUSE, Kind.DISK):
        facts = Facts(
            condition, kind, signs, point, source=point, below=[point], cover=point, above=point,
            unit=mount_unit(point) or b"",
        )  # fmt: skip
        for line in (line for step in advice.steps(facts) for line in step.commands):
            program, *words = [word for word in line.split(" ") if word not in (">", DESCRIPTORS)]
            assert program.isalpha() or program == "check_mounts"
            read = _as_bash_reads(" ".join(words))
            assert all(
                word in (point, mount_unit(point))
                or word.replace(b"/", b"").replace(b"-", b"").isalnum()
                or word in (b"* (deleted)", b"fusectl")
                or b"connections" in word
                for word in read
            ), read


# -- the names of units


def test_units_are_named_as_systemd_names_them() -> None:
    points = [
        b"/",
        b"/srv",
        b"/srv/a-b",
        b"/.hidden/.x",
        b"/a b",
        "/ü".encode(),
        b"/a//b/",
        b"/a\\b",
        b"/-x",
        b"/a:b_c.d",
        b"/\xff",
    ]
    command_line = [b"systemd-escape", b"--path", b"--suffix=mount", *points]
    result = subprocess.run(command_line, capture_output=True, check=True)
    assert [mount_unit(point) for point in points] == result.stdout.rstrip(b"\n").split(b" ")


@given(_PATHS.filter(lambda path: b".." not in path and b"\n" not in path))
@settings(max_examples=30)
def test_any_unit_is_named_as_systemd_names_it(point: bytes) -> None:
    result = subprocess.run(["systemd-escape", "--path", "--suffix=mount", point], capture_output=True)
    if result.returncode == 0:  # it refuses some control characters
        assert mount_unit(point) == result.stdout[:-1]


def test_a_name_that_becomes_a_hash_is_not_known() -> None:
    assert mount_unit(b"/" + b"a" * 249) == b"a" * 249 + b".mount"
    assert mount_unit(b"/" + b"a" * 250) is None


# -- what is known of a mount


def _mount(fs_type: bytes, source: bytes = b"x", options: tuple[bytes, ...] = (b"rw",), **more: object) -> Mount:
    return Mount(1, 0, (0, 42), b"/", b"/m", (b"rw",), (), fs_type, source, options)._replace(**more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mount", "kind"),
    [
        (_mount(b"nfs4", b"filer:/x"), Kind.NFS), (_mount(b"nfs", b"filer:/x"), Kind.NFS),
        (_mount(b"cifs", b"//filer/x"), Kind.SMB), (_mount(b"smb3", b"//filer/x"), Kind.SMB),
        (_mount(b"fuse.sshfs", b"u@h:/x"), Kind.FUSE), (_mount(b"fuseblk", b"/dev/sdb1"), Kind.FUSE),
        (_mount(b"9p", b"host"), Kind.NETWORK), (_mount(b"ceph", b"10.0.0.1:/"), Kind.NETWORK),
        (_mount(b"virtiofs", b"tag"), Kind.NETWORK), (_mount(b"gfs2", b"/dev/dm-1"), Kind.DISK),
        (_mount(b"overlay"), Kind.OVERLAY), (_mount(b"autofs"), Kind.TRIGGER), (_mount(b"tmpfs"), Kind.MEMORY),
        (_mount(b"proc"), Kind.KERNEL), (_mount(b"ext4", b"/dev/sda1"), Kind.DISK), (_mount(b"zfs", b"p/d"), Kind.DISK),
        (_mount(b"newfs", b"host:/x"), Kind.NETWORK), (_mount(b"newfs", b"/dev/x"), Kind.DISK),
    ],
)  # fmt: skip
def test_kinds(mount: Mount, kind: Kind) -> None:
    assert advice.kind_of(mount) is kind


def test_the_number_of_a_connection_is_that_of_its_device() -> None:
    assert advice.connection_of(_mount(b"fuse", device=(0, 57))) == 57
    assert advice.connection_of(_mount(b"fuseblk", device=(8, 17))) == (8 << 20) + 17


@pytest.mark.parametrize(
    ("mount", "outcome", "sign"),
    [
        (_mount(b"nfs4", b"f:/x", (b"rw", b"soft")), Outcome(), Sign.SOFT),
        (_mount(b"nfs4", b"f:/x", (b"rw", b"softerr")), Outcome(), Sign.SOFT),
        (_mount(b"nfs4", b"f:/x"), Outcome(Step.STATX, 116), Sign.STALE),
        (_mount(b"nfs4", b"f:/x"), Outcome(mode=0o040755, nlink=0), Sign.STALE),
        (_mount(b"ext4", b"/dev/sda1", (b"ro",)), Outcome(), Sign.STOPPED),
        (_mount(b"ext4", b"/dev/sda1", (b"rw", b"emergency_ro")), Outcome(), Sign.STOPPED),
        (_mount(b"ext4", b"/dev/sda1"), Outcome(), Sign.DEVICE),
        (_mount(b"btrfs", b"/dev/sda1"), Outcome(), Sign.SCRUBBED),
        (_mount(b"fuse.sshfs", b"u@h:/x"), Outcome(Step.STATFS, 107), Sign.DISCONNECTED),
        (_mount(b"fuse.sshfs", b"u@h:/x"), Outcome(), Sign.SERVES_NETWORK),
        (_mount(b"nfs4", b"f:/x"), Outcome(Step.READ, 126), Sign.NO_KEY),
        (_mount(b"ext4", b"/dev/sda1"), Outcome(Step.CREATE, 122), Sign.QUOTA),
        (_mount(b"tmpfs"), Outcome(mode=0o040000), Sign.BY_MODE),
    ],
)  # fmt: skip
def test_signs(mount: Mount, outcome: Outcome, sign: Sign) -> None:
    well = Outcome(mode=0o040755, nlink=2)
    assert sign in advice.signs_of(mount, outcome)
    assert sign not in advice.signs_of(_mount(b"fuse", b"fuse"), well)


# -- the mounts that have to do with one


def _at(mount_id: int, parent: int, point: bytes, fs_type: bytes, source: bytes, *options: bytes) -> Mount:
    return Mount(mount_id, parent, (0, mount_id), b"/", point, (b"rw",), (), fs_type, source, options)


_TABLE = [
    _at(1, 0, b"/", b"ext4", b"/dev/sda1"), _at(2, 1, b"/srv", b"nfs4", b"filer:/x"),
    _at(3, 2, b"/srv/a:b", b"fuse.sshfs", b"u@h:/y"), _at(4, 1, b"/local", b"xfs", b"/dev/sdb1"),
    _at(5, 1, b"/merged", b"overlay", b"overlay", b"lowerdir=/srv/a\\:b/x:/srv/c:/local/l", b"upperdir=/local/u"),
    _at(6, 5, b"/merged/in", b"tmpfs", b"t"), _at(7, 6, b"/merged/in/deep", b"tmpfs", b"t"),
    _at(8, 1, b"/bound", b"nfs4", b"filer:/x")._replace(device=(0, 2)),
]  # fmt: skip


def _named(mounts: Sequence[Mount]) -> list[bytes]:
    return [mount.mount_point for mount in mounts]


def test_relatives() -> None:
    merged = relatives.relatives(b"/merged", _TABLE[4], _TABLE)
    assert _named(merged.layers) == [b"/srv/a:b", b"/srv"]  # those that can hang
    assert _named(merged.below) == [b"/merged/in/deep", b"/merged/in"]
    assert merged.holder == _TABLE[0]
    assert _named(relatives.relatives(b"/srv", _TABLE[1], _TABLE).alike) == [b"/bound"]
    assert relatives.relatives(b"/srv/none", None, _TABLE).holder == _TABLE[1]
    assert relatives.mounted_at(b"/srv", _TABLE) == _TABLE[1] and relatives.mounted_at(b"/srv/x", _TABLE) is None


def test_an_overlay_is_explained_by_its_layers() -> None:
    finding = Finding(b"/merged", _TABLE[4], Condition.TIMED_OUT, "after 5 s")
    subject = Subject(
        b"/merged", _TABLE[4], Judgement(finding, Condition.TIMED_OUT, State.CRITICAL, "timed out"),
        relatives.relatives(b"/merged", _TABLE[4], _TABLE),
    )  # fmt: skip
    steps = advice.steps(facts.facts_of(subject, _TABLE, (), ()))
    assert steps[0].commands == ("check_mounts --explain /srv/a:b", "check_mounts --explain /srv")


# -- the page


def test_wide_characters_take_two_columns() -> None:
    lines = list(laid_out([Section("T", [Line("\u6f22\u5b57 " * 30)])]))
    assert all(cells(line) <= WIDTH for line in lines)


def test_words_are_wrapped_and_commands_are_not() -> None:
    long, name = "word " * 40 + "end", "/" + "n" * 200
    section = Section("What to try", [Line(long, "1.", 6), Line(f"umount {name} x", "", 8, whole=True), Line(name)])
    lines = list(laid_out([section]))
    assert lines[:2] == ["", "What to try"]
    assert lines[2].startswith("  1.  word") and lines[3].startswith("      word")
    assert f"        umount {name} x" in lines and f"  {name}" in lines
    assert all(len(line) <= WIDTH for line in lines if name not in line)
    assert " ".join(" ".join(lines[2:5]).split()) == f"1. {long}"
