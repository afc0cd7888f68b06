"""The units of systemd are read as systemd reads them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import pytest

from check_mounts.declared import grace
from check_mounts.declared.units import read_units


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    directories = [tmp_path / name for name in ("etc", "generator", "lib", "absent")]
    for directory in directories[:3]:
        directory.mkdir()
    return [str(directory) for directory in directories]


def unit(directory: str, name: str, text: str, wanted: Optional[str] = "local-fs.target.wants") -> None:
    path = Path(directory, name)
    path.write_text(text)
    if wanted:
        (path.parent / wanted).mkdir(exist_ok=True)
        (path.parent / wanted / path.name).symlink_to(f"../{path.name}")


def mount_unit(what: str, where: str, more: str = "") -> str:
    return f"[Unit]\nDescription=x\n[Mount]\nWhat={what}\nWhere={where}\n{more}\n"


def test_units(units: list[str]) -> None:
    etc, generator, lib, _ = units
    unit(
        etc,
        "srv.mount",
        "# c\n[Mount]\nWhat = /dev/100%%\n; c\nWhere=/srv/\nOptions=ro,\\\n  # between\n  nodev\nType=ext4\n",
    )
    unit(lib, "srv.mount", mount_unit("/dev/other", "/srv"))
    unit(generator, "a\\x2db-c.mount", "[Mount]\nWhat=filer:/a\n", "remote-fs.target.requires")
    unit(generator, "opt.mount", mount_unit("/dev/opt", "/opt"))  # only wanted: fstab says nofail
    unit(lib, "tmp.mount", mount_unit("tmpfs", "/tmp", "[Unit]\nConditionPathIsSymbolicLink=!/tmp"))
    unit(lib, "db.mount", mount_unit("/dev/db", "/db"), "db.service.requires")
    unit(lib, "idle.mount", mount_unit("/dev/idle", "/idle"), None)
    unit(
        lib, "dev-hugepages.mount", mount_unit("hugetlbfs", "/dev/hugepages", "Type=hugetlbfs"), "sysinit.target.wants"
    )
    unit(etc, "net.automount", "[Automount]\nWhere=/net\n", "remote-fs.target.wants")
    unit(etc, "net.mount", mount_unit("filer:/n", "/net", "Type=nfs\nOptions=soft"), None)
    unit(
        etc,
        "proc-sys-fs-binfmt_misc.automount",
        "[Automount]\nWhere=/proc/sys/fs/binfmt_misc\n",
        "sysinit.target.wants",
    )
    unit(
        lib,
        "proc-sys-fs-binfmt_misc.mount",
        mount_unit("binfmt_misc", "/proc/sys/fs/binfmt_misc", "Type=binfmt_misc"),
        None,
    )
    unit(lib, "masked.mount", mount_unit("/dev/m", "/masked"))
    Path(etc, "masked.mount").symlink_to("/dev/null")
    unit(lib, "off.mount", mount_unit("/dev/o", "/off"))
    Path(etc, "local-fs.target.wants", "off.mount").symlink_to("/dev/null")
    Path(etc, "srv.mount.d").mkdir()
    Path(etc, "srv.mount.d", "10.conf").write_text("[Mount]\nType=xfs\n")
    Path(lib, "srv.mount.d").mkdir()
    Path(lib, "srv.mount.d", "10.conf").write_text("[Mount]\nType=hidden\n")
    entries, complaints = read_units(units)
    assert complaints == []
    assert {one.mount_point: (one.source, one.fs_type, one.options, one.nofail, one.automount) for one in entries} == {
        b"/srv": (b"/dev/100%", b"xfs", (b"ro", b"nodev"), False, False),
        b"/a-b/c": (b"filer:/a", None, (), False, False),
        b"/opt": (b"/dev/opt", None, (), True, False),
        b"/tmp": (b"tmpfs", None, (), True, False),
        b"/db": (b"/dev/db", None, (), True, False),
        b"/net": (b"filer:/n", b"nfs", (b"soft",), False, True),
    }
    assert next(one.origin for one in entries if one.mount_point == b"/srv") == f"unit {etc}/srv.mount"


def test_units_that_are_not_understood(units: list[str]) -> None:
    etc, generator, *_ = units
    unit(etc, "b.mount", mount_unit("/dev/b", "b"))
    unit(etc, "c.mount", mount_unit("/dev/c", "/c"))
    os.mkfifo(Path(generator, "d.mount"))
    (Path(etc, "local-fs.target.wants") / "d.mount").symlink_to("../d.mount")
    Path(etc, "e.mount").symlink_to("/net/hangs/e.mount")
    (Path(etc, "local-fs.target.wants") / "e.mount").symlink_to("/net/hangs/e.mount")
    entries, complaints = read_units(units)
    assert [one.mount_point for one in entries] == [b"/c"]
    assert [str(one) for one in complaints] == [
        f"unit {etc}/b.mount: the mount point b is not an absolute path",
        f"unit {generator}/d.mount: cannot be read: not a regular file",
        f"unit {etc}/e.mount: its link leads out of systemd's directories",
    ]


def test_units_with_specifiers(units: list[str]) -> None:
    """Only systemd knows what stands there; the mount is declared all the same."""
    etc, *_ = units
    unit(etc, "a.mount", mount_unit("filer:/%H", "/a", "Type=nfs\nOptions=ro,clientaddr=%m,x=100%%,nodev"))
    unit(etc, "b-c.mount", mount_unit("/dev/b", "/%i/c"))
    entries, complaints = read_units(units)
    assert complaints == []
    assert [(one.mount_point, one.source, one.fs_type, one.options) for one in entries] == [
        (b"/a", None, b"nfs", (b"ro", b"x=100%", b"nodev")),
        (b"/b/c", b"/dev/b", None, ()),
    ]


def test_drop_ins_of_many_units(units: list[str]) -> None:
    etc, _, lib, _ = units
    unit(lib, "srv-a\\x2db-c.mount", mount_unit("/dev/c", "/srv/a-b/c", "Options=lib\nType=lib"))
    for directory, holder, conf, text in (
        (lib, "srv-a\\x2db-c.mount.d", "20.conf", "Options=own"),
        (etc, "srv-a\\x2db-.mount.d", "10.conf", "Options=prefix\nType=xfs"),
        (etc, "mount.d", "20.conf", "Options=hidden"),
        (etc, "mount.d", "05.conf", "Type=kind"),
        (etc, "srv-a.mount.d", "99.conf", "Options=other"),
    ):
        Path(directory, holder).mkdir(exist_ok=True)
        Path(directory, holder, conf).write_text(f"[Mount]\n{text}\n")
    (entry,), complaints = read_units(units)
    assert (entry.fs_type, entry.options, complaints) == (b"xfs", (b"own",), [])


def test_what_remote_fs_target_wants_needs_the_network(units: list[str]) -> None:
    """As a disk of a storage network has it, which needs neither _netdev nor a network type."""
    etc, generator, *_ = units
    unit(etc, "san.mount", mount_unit("/dev/san", "/san", "Type=ext4"), "remote-fs.target.wants")
    unit(etc, "disk.mount", mount_unit("/dev/disk", "/disk", "Type=ext4"))
    unit(generator, "opt.mount", mount_unit("/dev/opt", "/opt", "Type=ext4\nOptions=_netdev"), "x.target.wants")
    entries, _ = read_units(units)
    assert {each.mount_point: grace.is_network(each) for each in entries} == {
        b"/san": True,
        b"/disk": False,
        b"/opt": True,
    }
