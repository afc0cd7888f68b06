"""What only a sandbox did to the mounts: masks, copies that are read-only, what is hidden. Tables,
and a real mount namespace."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import pytest

from check_mounts import mounttable, selection
from check_mounts.checks import sandbox
from check_mounts.model import Condition, ExpectedMount, Finding, Mount, Survey
from tests.conftest import PYTHON, Mounts, Plugin

ROOT = b"%d 1 254:0 / / %s - ext4 /dev/vda rw\n"
RUN = b"%d %d 0:24 / /run rw - tmpfs tmpfs rw\n"
HOME = b"%d %d 254:9 / /home rw - ext4 /dev/vdb rw\n"


def mounts(*lines: bytes) -> list[Mount]:
    return mounttable.parse(b"".join(lines))[0]


def _left_out(*lines: bytes, filters: Optional[selection.Filters] = None) -> dict[bytes, str]:
    return {
        out.mount.mount_point: selection.why_left_out(out)
        for out in selection.select(mounts(*lines), filters or selection.Filters()).left_out
    }


@pytest.mark.parametrize(
    ("root", "point"),
    [
        (b"/systemd/inaccessible/dir", b"/home"),
        (b"/systemd/inaccessible/reg", b"/etc/hostname"),
        (b"/systemd/inaccessible/chr", b"/dev/kmsg"),
        (b"/systemd/inaccessible/sock", b"/run/x"),
        (b"/systemd/propagate/nagios-nrpe-server.service", b"/run/systemd/incoming"),
        (b"/systemd/nspawn/propagate/machine", b"/run/host/incoming"),
        (b"/systemd/inaccessible/dir//deleted", b"/root"),
    ],
)
@pytest.mark.parametrize("declared", [False, True])
def test_what_systemd_lays_over_paths_is_left_out(root: bytes, point: bytes, declared: bool) -> None:
    """Also where that place is declared or named: it is not what is meant there."""
    filters = selection.Filters(declared=lambda mount: declared)
    lines = (ROOT % (20, b"rw"), RUN % (21, 20), b"22 20 0:24 %s %s ro - tmpfs tmpfs rw\n" % (root, point))
    assert "systemd" in _left_out(*lines, filters=filters)[point]
    named = selection.select(mounts(*lines), selection.Filters(mount_points=[point]))
    assert point in dict(named.missing)


@pytest.mark.parametrize(
    "line",
    [
        b"22 20 0:30 /systemd/inaccessible/dir /srv/x rw - tmpfs tmpfs rw\n23 20 0:30 / /tmp rw - tmpfs tmpfs rw\n",
        b"22 20 254:5 /systemd/inaccessible/dir /srv/x rw - ext4 /dev/vdc rw\n",
        b"22 20 0:24 /systemd/inaccessible/other /srv/x rw - tmpfs tmpfs rw\n",
        b"22 20 0:24 /a/systemd/inaccessible/dir /srv/x rw - tmpfs tmpfs rw\n",
        b"22 20 0:24 /systemd/inaccessible/dir/x /srv/x rw - tmpfs tmpfs rw\n",
        b"22 20 254:7 /run/systemd/inaccessible/dir /srv/x rw - ext4 /dev/vdc rw\n",
    ],
)
def test_names_that_a_user_can_make_hide_nothing(line: bytes) -> None:
    assert b"/srv/x" not in _left_out(ROOT % (20, b"rw"), RUN % (21, 20), line)


def test_where_run_is_no_mount_of_its_own() -> None:
    line = b"22 20 254:0 /run/systemd/inaccessible/dir /home ro - ext4 /dev/vda rw\n"
    assert _left_out(ROOT % (20, b"rw"), line) == {b"/home": "made inaccessible in systemd's sandbox"}


@pytest.mark.parametrize(
    "point",
    [
        b"/run/credentials/systemd-sysusers.service", b"/run/systemd/incoming", b"/run/systemd/unit-root",
        b"/run/systemd/unit-root/usr",
        b"/run/systemd/mount-rootfs/home", b"/run/host/incoming",
    ],
)  # fmt: skip
def test_what_systemd_mounts_for_itself_is_left_out_unless_it_is_named(point: bytes) -> None:
    lines = (ROOT % (20, b"rw"), b"22 20 0:40 / %s ro - ramfs ramfs rw,mode=700\n" % point)
    assert _left_out(*lines) == {point: "systemd's own"}
    assert point not in _left_out(*lines, filters=selection.Filters(mount_points=[point]))


def _held(ours: Sequence[Mount], theirs: Sequence[Mount], expected: Sequence[ExpectedMount], *found: Finding) -> Survey:
    """What is said of the mounts that are expected, which all deviate if they are ro."""
    beyond = sandbox._with_our_root(theirs, ours)

    def hold(survey: Survey, seen: Sequence[Mount]) -> Survey:
        visible = {mount.mount_point: mount for mount in seen if mount.mount_id in mounttable.visible(seen)}
        wrong = [
            Finding(each.mount_point, None, Condition.MISSING, "not mounted")
            if each.mount_point not in visible
            else Finding(each.mount_point, visible[each.mount_point], Condition.READ_ONLY, "ro")
            for each in expected
            if each.mount_point not in visible or b"ro" in visible[each.mount_point].options
        ]
        return Survey((*survey.findings, *wrong))

    return sandbox.compared_outside(Survey(found), ours, beyond, hold, expected)


def _expect(*points: bytes) -> list[ExpectedMount]:
    return [ExpectedMount(point, None, None, (), "test") for point in points]


def _told(survey: Survey) -> dict[bytes, Condition]:
    assert survey.notes == (sandbox.NOTE,)
    return {each.mount_point: each.condition for each in survey.findings}


def test_a_copy_that_the_sandbox_made_read_only_is_no_alarm() -> None:
    theirs = mounts(ROOT % (20, b"rw"), HOME % (21, 20))
    ours = mounts(ROOT % (120, b"ro"), HOME % (121, 120))
    assert _told(_held(ours, theirs, _expect(b"/", b"/home"))) == {}


def test_what_is_read_only_outside_is() -> None:
    theirs = mounts(ROOT % (20, b"ro"))
    assert _told(_held(mounts(ROOT % (120, b"ro")), theirs, _expect(b"/"))) == {b"/": Condition.READ_ONLY}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"122 120 0:24 /systemd/inaccessible/dir /home ro - tmpfs tmpfs rw\n",
        b"122 120 0:99 / /home ro - tmpfs tmpfs rw\n",
        HOME % (121, 120) + b"122 121 0:24 /systemd/inaccessible/dir /home ro - tmpfs tmpfs rw\n",
        HOME % (121, 120) + b"122 121 0:98 / /home ro - tmpfs tmpfs rw\n",
    ],
)
def test_what_is_hidden_is_not_missing_but_not_seen(line: bytes) -> None:
    theirs = mounts(ROOT % (20, b"rw"), HOME % (21, 20))
    ours = mounts(ROOT % (120, b"rw"), line)
    found = [Finding(mount.mount_point, mount, Condition.OK) for mount in ours if mount.device[1] in (98, 99)]
    result = _held(ours, theirs, _expect(b"/home"), *found)
    conditions = [each.condition for each in result.findings if each.mount_point == b"/home"]
    assert conditions.count(Condition.UNPROBED) == 1
    assert set(conditions) <= {Condition.UNPROBED, Condition.OK}


def test_what_is_missing_outside_too_is_missing() -> None:
    both = mounts(ROOT % (20, b"rw")), mounts(ROOT % (120, b"rw"))
    assert _told(_held(both[1], both[0], _expect(b"/home"))) == {b"/home": Condition.MISSING}


def test_with_another_root_directory_paths_mean_something_else() -> None:
    ours = mounts(b"120 1 0:50 / / rw - overlay overlay rw\n")
    assert _told(_held(ours, mounts(ROOT % (20, b"rw"), HOME % (21, 20)), _expect(b"/home"))) == {
        b"/home": Condition.MISSING
    }


def _init(tmp_path: Path, table: bytes, namespace: str = "") -> str:
    (tmp_path / "ns").mkdir()
    (tmp_path / "mountinfo").write_bytes(table)
    if namespace:
        (tmp_path / "ns/mnt").symlink_to(namespace)
    return str(tmp_path)


def test_which_namespace_it_is(tmp_path: Path) -> None:
    ours, theirs = mounts(ROOT % (120, b"rw")), ROOT % (20, b"rw")
    asked = 0

    def mounted() -> list[Mount]:
        nonlocal asked
        asked += 1
        return ours

    own = os.readlink("/proc/self/ns/mnt")
    for name, namespace in (("a", own), ("b", "mnt:[1]"), ("c", "")):
        (tmp_path / name).mkdir()
        _init(tmp_path / name, theirs, namespace)
    path = mounttable.DEFAULT_PATH
    assert sandbox.look_outside(path, mounted, str(tmp_path / "a")) is None and asked == 0
    for other in ("b", "c"):  # also where only the table can be read
        found = sandbox.look_outside(path, mounted, str(tmp_path / other))
        assert found is not None and found.mounts == mounts(theirs)
    assert sandbox.look_outside("/some/table", mounted, str(tmp_path / "b")) is None
    assert sandbox.look_outside(path, mounted, str(tmp_path / "nothing")) is None
    (tmp_path / "c/mountinfo").write_bytes(ROOT % (120, b"rw"))  # a mount of ours: the same namespace
    assert sandbox.look_outside(path, mounted, str(tmp_path / "c")) is None


def test_a_mask_tells_of_a_sandbox_where_nothing_else_can(tmp_path: Path) -> None:
    ours = mounts(ROOT % (120, b"rw"), b"122 120 0:24 /systemd/inaccessible/dir /home ro - tmpfs tmpfs rw\n")
    found = sandbox.look_outside(mounttable.DEFAULT_PATH, lambda: ours, str(tmp_path / "nothing"))
    assert found == sandbox.Outside(is_known=False)


@pytest.mark.parametrize(
    ("fields", "is_one"), [(b"shared:300 master:1", True), (b"master:1", True), (b"shared:1", False), (b"", False)]
)
def test_who_gets_the_mounts_of_others_is_in_a_sandbox(tmp_path: Path, fields: bytes, is_one: bool) -> None:
    """PID 1 is not to be seen with ProtectProc=, nor with hidepid= where there is no sandbox."""
    ours = mounts(b"120 1 254:0 / / ro,relatime %s - ext4 /dev/vda rw\n" % fields)
    found = sandbox.look_outside(mounttable.DEFAULT_PATH, lambda: ours, str(tmp_path / "nothing"))
    assert found == (sandbox.Outside(is_known=False) if is_one else None)


@pytest.mark.parametrize(
    ("here", "told"), [(ROOT % (120, b"ro"), False), (b"120 1 254:0 / / ro - ext4 /dev/vda ro\n", True)]
)
def test_what_may_be_read_only_here_alone_is_remarked(here: bytes, told: bool) -> None:
    """Where PID 1 is not to be seen, nobody can say of a copy whether what it is a copy of is
    read-only."""
    ours = mounts(here)
    found = Finding(b"/", ours[0], Condition.OK)

    def hold(survey: Survey, seen: Sequence[Mount]) -> Survey:
        wrong = survey.findings[0]._replace(condition=Condition.READ_ONLY, detail="mounted ro, expected rw")
        return Survey((wrong,))

    result = sandbox.compared_outside(Survey((found,)), ours, sandbox.Outside(is_known=False), hold, _expect(b"/"))
    (after,) = result.findings
    assert after.condition is (Condition.READ_ONLY if told else Condition.OK)
    assert [remark.partition(";")[0] for remark in after.remarks] == (
        [] if told else ["read-only: mounted ro, expected rw"]
    )


def test_a_read_only_sys_of_a_sandbox_makes_no_container_of_it() -> None:
    """ProtectKernelTunables=; in a container what is declared by its device need not be mounted."""
    ours = mounts(
        ROOT % (120, b"ro"), b"121 120 0:9 / /sys ro,nosuid - sysfs sysfs rw\n", b"122 120 0:8 / /x ro - tmpfs x rw\n"
    )
    seen = {mount.mount_point: mount.options for mount in sandbox.as_outside(ours, sandbox.Outside(is_known=False))}
    assert seen == {b"/": (b"ro",), b"/sys": (b"rw",), b"/x": (b"ro",)}
    container = mounts(ROOT % (120, b"rw"), b"121 120 0:9 / /sys ro,nosuid - sysfs sysfs ro\n")
    assert sandbox.as_outside(container, sandbox.Outside(is_known=False)) == container


def test_what_the_sandbox_shows_elsewhere_is_as_writable_as_outside() -> None:
    """BindReadOnlyPaths=/home:/srv/copy; where it is declared, it is compared as it is."""
    ours = mounts(ROOT % (120, b"rw"), HOME % (121, 120), b"122 120 254:9 / /srv/copy ro - ext4 /dev/vdb rw\n")
    for outer, options in ((b"rw", b"rw"), (b"ro", b"ro")):
        beyond = sandbox.Outside(mounts(ROOT % (20, b"rw"), b"21 20 254:9 / /home %s - ext4 /dev/vdb rw\n" % outer))
        assert sandbox.as_outside(ours, beyond)[2].options == (options,)
        assert sandbox.as_outside(ours, beyond, {b"/srv/copy"})[2].options == (b"ro",)


@pytest.mark.root
def test_where_pid_1_is_hidden_a_read_only_copy_is_no_alarm(public: Path, plugin: Plugin, tmp_path: Path) -> None:
    """As ProtectProc=invisible and ProtectSystem=strict make it for a user's service; without a
    sandbox it is an alarm."""
    (public / "x").mkdir()
    (public / "fstab").write_text(f"tmpfs {public}/x tmpfs rw 0 0\n")
    script = f"""
mount --make-rshared / && mount -t tmpfs none {public}/x && unshare -m --propagation slave sh -c '
mount -t proc -o hidepid=2 proc /proc && mount -o remount,bind,ro {public}/x && $0
exec setpriv --reuid 1000 --regid 1000 --clear-groups \\
{PYTHON} -m check_mounts -v -p {public}/x --fstab={public}/fstab' '%s'
"""
    environment = {**plugin.environment, "PYTHONPATH": str(public)}
    for change, code in (("true", 0), ("mount --make-rprivate /", 2)):
        command = ["unshare", "-m", "--propagation", "private", "sh", "-c", script % change]
        result = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60)
        assert result.returncode == code, result.stdout
        assert (b"read-only: mounted ro, expected rw" in result.stdout) and (
            b"maybe for this process alone" in result.stdout
        ) == (code == 0)


@pytest.mark.root
def test_what_the_sandbox_hides_is_noted(mounts: Mounts, plugin: Plugin) -> None:
    """It is not known of what nobody has declared, either."""
    hidden, seen = mounts.tmpfs("hidden"), mounts.tmpfs("seen")
    code = """
import subprocess, sys
from check_mounts import __main__
from check_mounts.checks import sandbox
outer, hide, path, *sys.argv[1:] = sys.argv[1:]
subprocess.run(["umount", path] if hide == "umount" else ["mount", "-t", "tmpfs", "none", path], check=True)
original = sandbox.look_outside
sandbox.look_outside = lambda mountinfo, mounted: original(mountinfo, mounted, outer)
__main__.main()
"""
    words = f"note: this process does not see what PID 1 has mounted there, so it was not checked: {hidden}\n"
    state = ["--state-dir", str(plugin.state_dir), "-v"]
    for hide in ("umount", "mount"):
        start = [
            "unshare",
            "-m",
            "--propagation",
            "private",
            PYTHON,
            "-c",
            code,
            f"/proc/{os.getpid()}",
            hide,
            str(hidden),
        ]
        for arguments, code_, noted in (
            (["-p", f"{mounts.base}/*"], 0, True),
            (["-p", str(seen)], 0, False),
            (["-p", f"{mounts.base}/*", "--expect", f"{hidden},type=tmpfs"], 3, False),
        ):
            result = subprocess.run(
                [*start, *arguments, *state], env=plugin.environment, capture_output=True, check=False, timeout=60
            )
            assert result.returncode == code_, result.stdout
            assert (words in result.stdout.decode()) == noted


@pytest.mark.root
def test_in_a_namespace_of_its_own_it_is_noted(mounts: Mounts, plugin: Plugin) -> None:
    mounts.tmpfs("a")
    process = plugin.start("-v")
    assert f"note: {sandbox.NOTE}" in process.communicate()[0].decode().split("\n")


@pytest.mark.root
def test_a_table_from_elsewhere_says_nothing_of_covering(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    """The host's table in a container: its paths lead elsewhere, or nowhere. That is not known, but
    not that something covers them."""
    table = tmp_path / "table"
    table.write_bytes(ROOT % (2000000020, b"rw") + b"2000000021 2000000020 0:99 / /no/such/place rw - tmpfs x rw\n")
    for point in ("/no/such/place", "/"):
        result = plugin("--mountinfo", str(table), point, below=False)
        assert result.code == 3
        assert "covered" not in result.verdict


@pytest.mark.root
def test_a_read_only_copy_for_real(mounts: Mounts, plugin: Plugin) -> None:
    """PID 1's table is that of a namespace around, as far as the program knows."""
    path = mounts.tmpfs("data")
    code = """
import os, subprocess, sys
from check_mounts import __main__
from check_mounts.checks import sandbox
outer, path, *sys.argv[1:] = sys.argv[1:]
subprocess.run(["mount", "-o", "remount,bind,ro", path], check=True)
original = sandbox.look_outside
sandbox.look_outside = lambda mountinfo, mounted: original(mountinfo, mounted, outer)
__main__.main()
"""
    outer = f"/proc/{os.getpid()}"
    arguments = ["--expect", f"{path},type=tmpfs,rw", "-p", str(path), "--state-dir", str(plugin.state_dir)]
    command = ["unshare", "-m", "--propagation", "private", PYTHON, "-c", code, outer, str(path), *arguments]
    result = subprocess.run(command, env=plugin.environment, capture_output=True, check=False, timeout=60)
    assert (result.returncode, result.stderr) == (0, b""), result.stdout
    subprocess.run(["mount", "-o", "remount,bind,ro", str(path)], check=True)
    result = subprocess.run(command, env=plugin.environment, capture_output=True, check=False, timeout=60)
    assert result.returncode == 2, result.stdout
