"""A misspelt declaration is not a declaration; and what could be compared with nothing is no OK."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from check_mounts.declared import compare, option_rules, option_spelling
from check_mounts.declared.fstab import read_fstab
from check_mounts.declared.spec import parse_spec
from check_mounts.model import Condition, Mount
from tests.conftest import Mounts, Plugin


@pytest.mark.parametrize(
    ("spec", "slip", "meant"),
    [
        ("/tmp,fstype=nfs4,source=filer1:/x", "fstype", "type"),
        ("/tmp,type=nfs4,src=filer1:/x", "src", "source"),
        ("/tmp,typ=tmpfs", "typ", "type"),
        ("/tmp,Type=x", "Type", "type"),
        ("/tmp,tpye=x", "tpye", "type"),
        ("/tmp,soruce=x", "soruce", "source"),
        ("/tmp,Source=x", "Source", "source"),
        ("/tmp,vfstype=x", "vfstype", "type"),
        ("/tmp,fs_type=x", "fs_type", "type"),
        ("/tmp,type=ext4,device=/dev/sda1", "device", "source"),
        ("/tmp,noexecc", "noexecc", "noexec"),
        ("/tmp,noexce", "noexce", "noexec"),
        ("/tmp,nosiud", "nosiud", "nosuid"),
        ("/tmp,relatme", "relatme", "relatime"),
        ("/tmp,NOEXEC", "NOEXEC", "noexec"),
        ("/tmp,readonly", "readonly", "ro"),
        ("/tmp,nofial", "nofial", "nofail"),
        ("/tmp,type=tmpfs,sizee=1G", "sizee", "size"),
        ("/tmp,type=nfs4,harrd", "harrd", "hard"),
        ("/tmp,type=fuse.sshfs,nodve", "nodve", "nodev"),
        ("/tmp,erors=remount-ro", "erors", "errors"),
    ],
)
def test_a_slip_is_named(spec: str, slip: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"^'{slip}' is not known; did you mean '{meant}'\\?$"):
        parse_spec(spec.encode())


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("/tmp, type=nfs4", "' type' has a blank before or after it"),
        ("/tmp,noexec ", "'noexec ' has a blank before or after it"),
        ("/tmp,type=ext4,options=noatime", "'options' is not known; write options without a key, separated by commas"),
        ("/tmp,opts=ro", "'opts' is not known; write options without a key"),
        ("/tmp,o=ro", "'o' is not known; write options without a key"),
        ("/tmp,Mountpoint=/x", "'Mountpoint' is not known; write the mount point without a key"),
        ("/tmp,target=/x", "'target' is not known; write the mount point without a key"),
        ("/tmp,type=ext4,=x", "an option has no name"),
        ("/tmp,type", "type= has no value"),
        ("/tmp,source", "source= has no value"),
        ("/tmp,type=tmfps", "the type 'tmfps' is not known; did you mean 'tmpfs'\\?"),
        ("/tmp,type=nsf4", "the type 'nsf4' is not known; did you mean 'nfs4'\\?"),
        ("/tmp,type=xfs,type=NFS4", "given twice"),
        ("/tmp,type=NFS4,hard", "did you mean 'nfs4'"),
        ("/tmp,type=xfs\\,etx4", "the type 'etx4' is not known; did you mean 'ext4'"),
        ("/tmp,type=cfis,vers=3", "did you mean 'cifs'"),
    ],
)
def test_what_else_is_wrong(spec: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_spec(spec.encode())


@pytest.mark.parametrize(
    "option",
    [
        "vfs_cache_mode=full", "passwd_file=/x", "category.create=mfs", "cache.files=off", "ServerAliveInterval=15",
        "direct_io",
        "norecover",
        "share", "flock", "localflock", "ver=3.0", "guest", "retrans=5", "metadata", "noinode_cache", "checksum",
        "anything", "x-anything", "X-mount.mkdir", "comment=x", "_netdev", "user=bob",
        "vers=4.2", "sec=krb5", "zfsutil", "credentials=/x",
        "context=system_u:object_r:tmp_t:s0", "ro=vfs", "noexec=recursive", "lowerdir=/a", "big_writes",
        "compression=yes",
    ],
)  # fmt: skip
def test_what_may_be_an_option_is_taken(option: str) -> None:
    for fs_type in (None, b"fuse.x", b"ext4", b"somefs"):
        option_spelling.check_spelling(option.encode(), fs_type)


@pytest.mark.parametrize(
    ("fs_type", "option"),
    [
        ("9p", "uname=root"), ("overlay", "userxattr"), ("reiserfs", "notail"), ("jfs", "resize=1"), ("gpfs", "mtime"),
        ("f2fs", "no_heap"),
        ("cifs", "ignorecase"), ("erofs", "device=/dev/sdb"),
    ],
)  # fmt: skip
def test_what_one_type_takes(fs_type: str, option: str) -> None:
    option_spelling.check_spelling(option.encode(), fs_type.encode())


@pytest.mark.parametrize(
    "fs_type",
    ["ext4", "nfs3", "fuse",
     "fuse.sshfs", "fuse.ours", "drvfs", "mergerfs", "rclone", "ufs", "nfs", "ourfs", "xfs,ext4", "auto", "efs",
     "ntfs-3g"],
)  # fmt: skip
def test_what_may_be_a_type_is_taken(fs_type: str) -> None:
    option_spelling.check_type(fs_type.encode())


def test_every_option_of_the_table_is_taken() -> None:
    for fs_type, kind in option_rules.KINDS.items():
        for word in (
            *kind.values,
            *kind.respelt,
            *kind.shown,
            *kind.uncertain,
            *(word for group in kind.groups for word in group),
        ):
            option_spelling.check_spelling(word, fs_type)
            option_spelling.check_spelling(word, None)


def test_one_line_and_exit_3(plugin: Plugin, tmp_path: Path) -> None:
    for spec in ("/tmp,fstype=nfs4,src=filer1:/x", "/tmp,typ=tmpfs", "/tmp, type=nfs4", "/tmp,noexecc", "/tmp,Type=x"):
        result = plugin("--expect", spec, below=False)
        assert (result.code, result.stderr) == (3, b"")
        assert result.verdict.startswith("MOUNTS UNKNOWN - argument --expect: ")
    config = tmp_path / "check_mounts.conf"
    for line, why in (
        ("type = tmfps", "type: the type 'tmfps' is not known; did you mean 'tmpfs'?"),
        ("options = typ=nfs4", "options: 'typ' is not known; did you mean 'type'?"),
        ("options = nodev, noexecc", "options: 'noexecc' is not known; did you mean 'noexec'?"),
        ("options = type=nfs4", "options: 'type=' is not a mount option; it has a key of its own"),
        ("options = szie=1g\ntype = tmpfs", "options: 'szie' is not known; did you mean 'size'?"),
    ):
        config.write_text(f'[mount "/tmp"]\nexpect = yes\n{line}\n')
        config.chmod(0o644)
        result = plugin("--config", str(config), below=False)
        assert (result.code, result.stderr) == (3, b"")
        assert result.verdict == f"MOUNTS UNKNOWN - {config} line 3: {why}"
    # Near to an option of NFS, but one of davfs.
    config.write_text('[mount "/tmp"]\noptions = nolocks\ntype = davfs\n')
    assert plugin("--config", str(config), "--allow-none").code == 0


def test_a_line_of_fstab_is_not_refused(tmp_path: Path) -> None:
    fstab = tmp_path / "fstab"
    fstab.write_text("tmpfs /tmp tmpfs noexecc,typ=x 0 0\n")
    entries, complaints = read_fstab(str(fstab))
    assert (len(entries), complaints) == (1, [])


# Compared with nothing
# ------------------------------------------------------------------------------------------------


def held(spec: str, fs_type: str = "tmpfs", options: str = "rw", more: str = "rw") -> compare.Results:
    words = (tuple(text.encode().split(b",")) for text in (options, more))
    there = Mount(9, 1, (0, 9), b"/", b"/m", next(words), (), fs_type.encode(), b"x", next(words))
    return compare.compared([parse_spec(f"/m,{spec}".rstrip(",").encode())], [there], {9})


@pytest.mark.parametrize(
    "spec",
    ["strange", "strange=1,odd", "size=50%", "credentials=/secret", "source=UUID=x", "nofail,strange", "bind,strange"],
)
def test_nothing_could_be_compared(spec: str) -> None:
    found = held(spec, "ext4")
    assert [each.condition for each in found.empty] == [Condition.UNPROBED]
    assert found.empty[0].detail.startswith("nothing in the declaration could be compared")
    assert "secret" not in found.empty[0].detail


@pytest.mark.parametrize(
    "spec",
    ["", "nofail", "_netdev,x-systemd.growfs", "rw", "suid", "type=tmpfs,strange", "nosuid,strange", "mode=1777,odd"],
)
def test_something_could_be_compared(spec: str) -> None:
    assert held(spec, options="rw,nosuid" if "nosuid" in spec else "rw")[:3] == ([], [], [])


def test_a_type_that_nobody_knows_of_proves_nothing() -> None:
    """It may be that of a mount helper, which mounts what it likes, or a slip."""
    assert [each.detail for each in held("type=xsf").empty] == [
        "nothing in the declaration could be compared: type (--expect)"
    ]
    assert held("type=ourfs,strange,nodev", options="rw,nodev").uncompared == ["/m: type, strange (--expect)"]
    assert held("type=ourfs", "fuse.other").empty and held("type=fuse.ours", "fuse.other").empty
    for declared, there in (
        ("ourfs", "ourfs"),
        ("fuse.ours", "fuse.ours"),
        ("efs", "nfs4"),
        ("drvfs", "9p"),
        ("mergerfs", "fuse.mergerfs"),
    ):
        assert held(f"type={declared}", there)[:3] == ([], [], []), declared


def test_what_could_not_be_compared_is_named() -> None:
    assert held("type=tmpfs,strange=secret,odd,size=50%").uncompared == ["/m: strange, odd, size (--expect)"]
    assert held("type=tmpfs,size=1m,nodev,_netdev,x-y", options="rw,nodev", more="rw,size=1024k").uncompared == []


def test_what_could_not_be_compared_is_named_beside_a_difference() -> None:
    found = held("type=tmpfs,strange,noexec,size=50%")
    assert [each.condition for each in found.deviations] == [Condition.CHANGED]
    assert found.uncompared == ["/m: strange, size (--expect)"]
    assert held("strange,rw", "ext4", more="ro").uncompared == ["/m: strange (--expect)"]  # read-only


def test_a_source_that_could_not_be_compared_is_named() -> None:
    assert [each.detail for each in held("source=/srv", "ext4").empty] == [
        "nothing in the declaration could be compared: source (--expect)"
    ]
    assert held("source=/x.img,type=ext4,loop", "ext4").uncompared == ["/m: source (--expect)"]
    assert held("source=x,type=ext4", "ext4").uncompared == held("source=/srv,bind", "ext4").uncompared == []


def test_why_no_option_of_a_filesystem_could_be_compared() -> None:
    bind = "a bind mount does not set the options of its filesystem"
    assert held("bind,source=/,nosuid,size=1m").uncompared == [f"/m: size; {bind} (--expect)"]
    both = [Mount(9 + n, 1, (0, 9), b"/", b"/%d" % n, (b"rw",), (), b"ext4", b"/dev/x", (b"rw",)) for n in (1, 2)]
    found = compare.compared([parse_spec(b"/1,commit=9"), parse_spec(b"/2,type=ext4")], both, {10, 11})
    assert [each.detail for each in found.empty] == [
        "nothing in the declaration could be compared: commit; another declared mount may share its filesystem "
        "(--expect)"
    ]


@pytest.mark.root
def test_on_a_real_mount(mounts: Mounts, plugin: Plugin, tmp_path: Path) -> None:
    path = mounts.point("data")
    subprocess.run(["mount", "-t", "tmpfs", "data", str(path)], check=True)
    mounts.adopt(path)
    assert plugin("--expect", str(path)).code == 0
    result = plugin("--expect", f"{path},strange", "-v")
    assert result.code == 3
    assert result.line(path).endswith(" nothing in the declaration could be compared: strange (--expect)")
    fstab = tmp_path / "fstab"
    fstab.write_text(f"data {path} tmpfs strange=secret,rw 0 0\n")
    result = plugin(f"--fstab={fstab}", "-v")
    assert result.code == 0
    assert f"not compared: {path}: strange ({fstab} line 1)" in result.lines
    config = tmp_path / "check_mounts.conf"
    config.write_text(f'[mount "{path}"]\noptions = strange\n')
    config.chmod(0o644)
    assert plugin("--config", str(config)).code == 3
