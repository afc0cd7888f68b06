"""--write-config: what is mounted, as declarations that say nothing when they are read back."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from check_mounts import mounttable, readonly, write_config
from check_mounts.declared import compare
from check_mounts.model import ExpectedMount, Mount
from check_mounts.options import command_line, config_text
from check_mounts.options.refusals import UsageError
from check_mounts.selection import Filters
from tests.conftest import Mounts, Plugin
from tests.test_mounttable import any_bytes

FORMS = write_config._FORMS
# A host with most of what a table may show.
TABLE = rb"""
1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro,stripe=128
2 1 0:5 / /dev rw,nosuid - devtmpfs udev rw,size=8000000k,nr_inodes=2000000,mode=755
3 2 0:6 / /dev/shm rw,nosuid,nodev - tmpfs tmpfs rw
4 1 0:7 / /run rw,nosuid,nodev,noexec - tmpfs tmpfs rw,size=1600000k,mode=755
5 4 0:8 / /run/user/1000 rw,nosuid,nodev - tmpfs tmpfs rw,size=1600000k,mode=700,uid=1000,gid=1000
6 1 253:0 / /srv rw,noatime - xfs /dev/mapper/vg-srv rw,attr2,inode64,logbufs=8,logbsize=32k,prjquota
7 1 0:40 / /home rw,nosuid - nfs4 filer1:/home rw,vers=4.2,rsize=1048576,hard,sec=krb5,clientaddr=10.0.0.1,addr=10.0.0.5
8 7 0:41 / /home/bob rw,nosuid - nfs4 filer1:/home/bob rw,vers=4.2,hard,sec=krb5,clientaddr=10.0.0.1,addr=10.0.0.5
9 1 7:0 / /snap/core/1 ro,nodev - squashfs /dev/loop0 ro
10 1 0:50 / /var/lib/docker/overlay2/abc/merged rw - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
11 1 0:51 / /share rw - cifs //user%geheim@filer2/share rw,vers=3.1.1,username=user,soft,addr=10.0.0.6
12 1 0:52 / /net rw - autofs /etc/auto.net rw,fd=6,pgrp=1,timeout=300,indirect
13 12 0:53 / /net/filer3 rw - nfs filer3:/x rw,vers=3,hard,mountport=20048,addr=10.0.0.7
14 1 8:17 / /media/bob/STICK ro,nosuid,nodev - ext4 /dev/sdb1 ro
15 1 0:54 / /tmp rw,nosuid,nodev - tmpfs tmpfs rw,size=50%,mode=1777
16 1 8:1 /srv/www /var/www ro,relatime - ext4 /dev/sda1 rw,errors=remount-ro,stripe=128
17 1 0:55 /@data /data rw,relatime - btrfs /dev/sdc1 rw,ssd,space_cache=v2,subvolid=256,subvol=/@data
18 1 0:56 / /mnt/sshfs rw,nosuid,nodev - fuse.sshfs bob@host:/x rw,user_id=0,group_id=0,allow_other
19 1 0:57 / /tank/a rw - zfs tank/a rw,xattr,posixacl
20 1 8:18 / /mnt/a\011b\012c*[d]"\134\040 rw - vfat /dev/sdd1 rw,fmask=0022,dmask=0022,codepage=437
21 1 0:58 / /mnt/\377a,b rw,idmapped - ext4 /dev/mapper/a,b rw
"""[1:]
# What the next boot, another kernel or server makes of it.
LATER = (
    (rb"clientaddr=10.0.0.1", b"clientaddr=10.9.9.9"),
    (rb"(?<!client)addr=10.0.0.", b"addr=10.9.9."),
    (rb"/dev/sd([abcd])", rb"/dev/sdx\1"),
    (rb"rsize=1048576", b"rsize=65536"),
    (rb"mountport=20048", b"mountport=999"),
    (rb"size=1600000k", b"size=800000k"),
    (rb",stripe=128|,ssd|logbufs=8,|,attr2|,size=50%", b""),
    (rb"subvolid=256", b"subvolid=300"),
    (rb"vers=4.2", b"vers=4.1"),
)


def told(output: bytes) -> list[str]:
    return [line.decode() for line in output.split(b"\n") if line.startswith(b"#")]


def read_back(output: bytes, form: str) -> list[ExpectedMount]:
    if form == "sections":
        return config_text.parse(output, "f").expected()
    words = shlex.split(os.fsdecode(output), comments=True)
    found: list[ExpectedMount] = command_line.given(words).get("expect", [])
    return found


def compared(expected: Sequence[ExpectedMount], mounts: Sequence[Mount]) -> compare.Results:
    return compare.compared(expected, mounts, frozenset(mounttable.visible(mounts)))


def test_a_host() -> None:
    mounts = mounttable.parse(TABLE)[0]
    output = write_config.written(mounts, Filters(), FORMS["sections"])
    assert told(output) == [
        "# MOUNTS OK - 11 mounts written, 8 not",
        "# not written: /dev/shm (tmpfs): mounted anew at each boot, without a declaration",
        "# not written: /home/bob (nfs4): mounted on demand, until nobody uses it",
        "# not written: /media/bob/STICK (ext4): mounted for a user",
        "# not written: /net/filer3 (nfs): mounted on demand, until nobody uses it",
        "# not written: /run (tmpfs): mounted anew at each boot, without a declaration",
        "# not written: /run/user/1000 (tmpfs): made when a user logs in",
        "# not written: /snap/core/1 (squashfs): a snap: each refresh mounts it elsewhere",
        "# not written: /var/lib/docker/overlay2/abc/merged (overlay): of a container",
    ]
    assert b"geheim" not in output
    sections = output.split(b"\n\n")[1:]
    assert b'[mount "/"]\nexpect = yes\ntype = ext4\noptions = rw' in sections
    assert (
        b'[mount "/home"]\nexpect = yes\ntype = nfs4\nsource = filer1:/home\noptions = rw, nosuid, hard, sec=krb5'
        in sections
    )
    assert (
        b'[mount "/srv"]\nexpect = yes\ntype = xfs\nsource = /dev/mapper/vg-srv\noptions = rw, noatime, prjquota'
        in sections
    )
    assert b'[mount "/share"]\nexpect = yes\ntype = cifs\noptions = rw, soft' in sections
    assert b'[mount "/var/www"]\nexpect = yes\ntype = ext4\noptions = ro' in sections
    assert rb'[mount "/mnt/a\011b\012c[*][[]d]\"\\ "]' in [section.split(b"\n")[0] for section in sections]
    # It may be absent, but if it is there, it is read-only.
    assert b'[mount "/media/bob/STICK"]\nexpect-ro = yes\n' in sections
    points = [each.mount_point for each in read_back(output, "sections")]
    assert points == sorted(points)
    assert len(points) == 11


@pytest.mark.parametrize("form", FORMS)
def test_it_is_silent_now_and_later(form: str) -> None:
    mounts = mounttable.parse(TABLE)[0]
    expected = read_back(write_config.written(mounts, Filters(), FORMS[form]), form)
    assert len(expected) == (11 if form == "sections" else 9)  # two names are not fit for a command line
    assert compared(expected, mounts) == compare.Results([], [], [], [])
    later = TABLE
    for pattern, new in LATER:
        assert re.search(pattern, later), pattern
        later = re.sub(pattern, new, later)
    found = compared(expected, mounttable.parse(later)[0])
    assert (found.deviations, found.empty) == ([], [])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (b"/home rw,nosuid", b"/home rw", "nosuid is not in force"),
        (b"filer1:/home rw", b"filer9:/home rw", "source is filer9:/home"),
        (b"hard,sec", b"soft,sec", "hard"),
        (b"/srv rw", b"/elsewhere rw", "not mounted"),
        (b"- zfs tank/a", b"- ext4 tank/a", "type is ext4"),
        (b"/ /data rw", b"/ /data ro", "read-only"),
    ],
)
def test_a_change_is_found(form: str, before: bytes, after: bytes, words: str) -> None:
    mounts = mounttable.parse(TABLE)[0]
    expected = read_back(write_config.written(mounts, Filters(), FORMS[form]), form)
    assert before in TABLE or before == b"/ /data rw"
    changed = TABLE.replace(before, after) if before in TABLE else TABLE.replace(b"/data rw,rel", b"/data ro,rel")
    assert words in str(compared(expected, mounttable.parse(changed)[0]).deviations[0].detail) or words == "read-only"


def test_a_named_mount_is_always_written() -> None:
    mounts = mounttable.parse(TABLE)[0]
    output = write_config.written(mounts, Filters(mount_points=[b"/snap/core/1"]), FORMS["expect"])
    assert output == b"# MOUNTS OK - 1 mount written\n--expect '/snap/core/1,type=squashfs,ro,nodev'\n"
    with pytest.raises(UsageError, match="/nowhere: not mounted"):
        write_config.written(mounts, Filters(mount_points=[b"/nowhere"]), FORMS["expect"])


_types = some.sampled_from(
    [b"ext4", b"nfs4", b"cifs", b"tmpfs", b"fuse.sshfs", b"zfs", b"squashfs", b"overlay", b"xfs"]
)
_words = some.sampled_from(
    [b"rw", b"ro", b"nosuid", b"nodev", b"noatime", b"hard", b"sec=sys", b"mode=755", b"uid=0", b"subvol=/a", b"soft"]
)
_options = some.lists(some.one_of(_words, any_bytes.filter(bool)), min_size=1, max_size=5).map(tuple)
_mounts = some.builds(
    Mount,
    mount_id=some.integers(2, 2**31 - 1),
    parent_id=some.just(1),
    device=some.tuples(some.integers(0, 3), some.integers(0, 3)),
    root=some.just(b"/"),
    mount_point=any_bytes.map(lambda data: b"/" + data.strip(b"/")),
    options=_options,
    optional_fields=some.just(()),
    fs_type=some.one_of(_types, any_bytes.filter(bool)),
    source=some.one_of(some.sampled_from([b"filer:/x", b"//h/s", b"/dev/sda1", b"/dev/mapper/a"]), any_bytes),
    super_options=_options,
    seen_at=some.none(),
)


@given(some.lists(_mounts, max_size=6, unique_by=lambda mount: mount.mount_id), some.sampled_from(sorted(FORMS)))
def test_on_any_table(mounts: list[Mount], form: str) -> None:
    try:
        output = write_config.written(mounts, Filters(), FORMS[form])
    except UsageError as error:
        assert error.why == "no mount was selected"
        return
    lines = output.split(b"\n")
    assert re.match(rb"# MOUNTS OK - \d+ mounts? written", lines[0])
    assert all(line.decode().isprintable() for line in lines if line.startswith(b"#"))
    if form == "sections":
        assert all(line.decode().isprintable() for line in lines)
    expected = read_back(output, form)
    assert len(expected) == int(lines[0].split()[4])
    found = compared(expected, mounts)
    stopped = {mount.mount_point for mount in mounts if readonly.why_read_only(mount)}
    assert {each.mount_point for each in found.deviations} <= stopped
    assert not found.empty


@pytest.mark.root
@pytest.mark.parametrize("form", FORMS)
def test_on_real_mounts(plugin: Plugin, mounts: Mounts, tmp_path: Path, form: str) -> None:
    names = ["plain", "a b", " c ", "d'e", 'f"g', "h\\i", "j*k", "[l]", "m,n", "o#p", "q;r", "$(s)", "t=u", "ü", "v|w"]
    points = [str(mounts.tmpfs(name, "mode=0755")) for name in names]
    points += (
        [] if form == "expect" else [os.fsdecode(bytes(mounts.tmpfs(name))) for name in ("x\ny", "\udcffz", "\33[m")]
    )
    ro = mounts.point("ro")
    mounts.mount_at(ro, "tmpfs", flags=1 | 2)
    points.append(str(ro))
    result = plugin(f"--write-config={form}", *points, below=False)
    assert (result.code, result.stderr) == (0, b"")
    assert result.lines[0] == f"# MOUNTS OK - {len(points)} mounts written"
    words: list[str]
    if form == "sections":
        config = tmp_path / "c.conf"
        config.write_bytes(result.stdout)
        config.chmod(0o644)
        words = ["--config", str(config)]
        assert plugin("--check-config", *words, below=False, state=False).code == 0
    else:
        words = shlex.split(os.fsdecode(result.stdout), comments=True)
    back = plugin(*words, "-v", "-p", f"{mounts.base}/*", below=False)
    assert (back.code, back.lines[1:], back.count("ok")) == (0, [""], len(points))
    mounts.detach(Path(points[0]))
    assert plugin(*words, below=False).count("missing") == 1


@pytest.mark.root
def test_no_mount_is_touched(plugin: Plugin, hung: Path) -> None:
    result = plugin("--write-config", str(hung), below=False)
    assert (result.code, result.lines[0]) == (0, "# MOUNTS OK - 1 mount written")


def test_this_host(plugin: Plugin, tmp_path: Path) -> None:
    written = plugin("--write-config", below=False)
    assert (written.code, written.stderr) == (0, b"")
    config = tmp_path / "c.conf"
    config.write_bytes(written.stdout)
    config.chmod(0o644)
    plain, back = (plugin(*words, "-v", below=False) for words in ([], ["--config", str(config)]))
    assert (back.code, back.lines[1:]) == (plain.code, plain.lines[1:])
    assert back.count("ok") == plain.count("ok")


def test_how_it_refuses(plugin: Plugin) -> None:
    for words, why in (
        (["--write-config", "-N", "nosuchfs"], "no mount was selected"),
        (["--write-config", "/nowhere"], "argument MOUNTPOINT: /nowhere: not mounted"),
        (["--write-config", "--daemon"], "argument --write-config: does not go with --daemon"),
        (["--write-config", "expect"], "argument --write-config: 'expect' would be a MOUNTPOINT"),
        (["--write-config=expct"], "'expct' is not one of sections, expect; the nearest is 'expect'"),
    ):
        result = plugin(*words, below=False, state=False)
        assert (result.code, why in result.verdict) == (3, True), result.verdict
        assert result.verdict.startswith("MOUNTS UNKNOWN - ")
