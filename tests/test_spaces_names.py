"""Names of mount namespaces from cgroups as engines and systemd write them."""

from __future__ import annotations

import pytest

from check_mounts import selection
from check_mounts.spaces import names, reader, seeing, tables

HASH = "9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d"
SHORT = HASH[:12]
UID = "a5c1f8d5-1919-434d-add7-4afaafdaef89"
UID_ = UID.replace("-", "_")
STATIC = "1864dd0546310be9937c37cf88024cb8"
SLICES = "/kubepods.slice/kubepods-burstable.slice"
KIND = "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        # docker: the drivers cgroupfs and systemd; the second with a parent of its own; rootless
        (f"/docker/{HASH}", f"docker {SHORT}"),
        (f"/system.slice/docker-{HASH}.scope", f"docker {SHORT}"),
        (f"/jobs.slice/docker-{HASH}.scope", f"docker {SHORT}"),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{HASH}.scope", f"docker {SHORT}"),
        (f"/docker/{HASH}/system.slice/nginx.service", f"docker {SHORT}"),
        (f"/system.slice/docker-{HASH}.scope/init.scope", f"docker {SHORT}"),
        # podman: systemd, in a pod, rootless, cgroupfs, split (the unit has started it)
        (f"/machine.slice/libpod-{HASH}.scope/container", f"podman {SHORT}"),
        (f"/machine.slice/machine-libpod_pod_{HASH}.slice/libpod-{HASH}.scope", f"podman {SHORT}"),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{HASH}.scope", f"podman {SHORT}"),
        (f"/libpod_parent/libpod-{HASH}", f"podman {SHORT}"),
        (f"/system.slice/web.service/libpod-payload-{HASH}", "web.service"),
        (f"/machine.slice/libpod-conmon-{HASH}.scope", f"libpod-conmon-{HASH}.scope"),
        # kubernetes: containerd, CRI-O, dockershim; systemd and cgroupfs; a static pod; kind; k3s
        (f"{SLICES}/kubepods-burstable-pod{UID_}.slice/cri-containerd-{HASH}.scope", f"pod {UID}/{SHORT}"),
        (f"{SLICES}/kubepods-burstable-pod{UID_}.slice/crio-{HASH}.scope", f"pod {UID}/{SHORT}"),
        (f"{SLICES}/kubepods-burstable-pod{UID_}.slice/crio-{HASH}.scope/container", f"pod {UID}/{SHORT}"),
        (f"{SLICES}/kubepods-burstable-pod{UID_}.slice/docker-{HASH}.scope", f"pod {UID}/{SHORT}"),
        (f"/kubepods.slice/kubepods-pod{STATIC}.slice/crio-{HASH}.scope", f"pod {STATIC}/{SHORT}"),
        (f"/kubepods/besteffort/pod{UID}/{HASH}", f"pod {UID}/{SHORT}"),
        (f"/kubepods/pod{UID}/{HASH}", f"pod {UID}/{SHORT}"),
        (f"/kubepods/pod{UID}", f"pod {UID}"),
        (f"/system.slice/containerd.service/kubepods-burstable-pod{STATIC}.slice:cri-containerd:{HASH}",
         f"pod {STATIC}/{SHORT}"),
        (f"/docker/{HASH[::-1]}{KIND}/kubelet-kubepods-besteffort-pod{UID_}.slice/cri-containerd-{HASH}.scope",
         f"pod {UID}/{SHORT}"),
        (f"/k3s/kubepods/burstable/pod{UID}/{HASH}", f"pod {UID}/{SHORT}"),
        # containerd without kubernetes
        (f"/system.slice/nerdctl-{HASH}.scope", f"containerd {SHORT}"),
        (f"/system.slice/cri-containerd-{HASH}.scope", f"containerd {SHORT}"),
        ("/default/redis", "containerd default/redis"),
        # LXC: pure cgroup v2 and v1, Proxmox, LXD with a project
        ("/lxc.payload.web/system.slice/apache2.service", "lxc web"),
        ("/lxc.payload/web", "lxc web"),
        ("/lxc/101/ns/init.scope", "lxc 101"),
        ("/lxc.payload.project_web", "lxc project_web"),
        # systemd-nspawn, libvirt
        ("/machine.slice/systemd-nspawn@web.service/payload/system.slice/cron.service", "machine web"),
        ("/machine.slice/systemd-nspawn@old\\x2dweb.service/payload", "machine old-web"),
        ("/machine.slice/machine-web.scope/payload", "machine web"),
        ("/machine.slice/machine-lxc\\x2d1234\\x2dweb.scope", "machine lxc-1234-web"),
        (f"/machine.slice/systemd-nspawn@web.service/payload/system.slice/docker-{HASH}.scope", f"docker {SHORT}"),
        # units
        ("/system.slice/nginx.service", "nginx.service"),
        ("/system.slice/system-postgresql.slice/postgresql@15-main.service", "postgresql@15-main.service"),
        ("/init.scope", "init.scope"),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/foot.service", "foot.service of uid 1000"),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", "user@1000.service of uid 1000"),
        ("/../../system.slice/cron.service", "cron.service"),
        # nothing is guessed
        ("/", ""),
        ("/my/own/group", ""),
        (f"/{HASH}", ""),
        (f"/system/{HASH}", ""),
        (f"/docker/{HASH[:12]}", ""),
        (f"/docker/{HASH.upper()}", ""),
        ("/default/redis/below", ""),
        (f"/kubepods/burstable/podsome/{HASH}", ""),
        ("/lxc", ""),
    ],
)  # fmt: skip
def test_names(path: str, name: str) -> None:
    for data in (f"0::{path}\n", f"12:memory:{path}\n1:name=systemd:{path}\n0::/\n", f"0::{path} (deleted)\n"):
        assert names.name_of(data.encode()) == name.encode(), data


def test_hostile_names() -> None:
    assert names.name_of(b"0::/lxc.payload.a\nb") == b"lxc a"
    assert names.name_of(b"0::/lxc/\xff|\x1b[m") == b"lxc \xff|\x1b[m"
    assert names.name_of(b"0::/system.slice/machine-a\\x00b.scope") == b"machine ab"
    assert len(names.name_of(b"0::/lxc/" + b"n" * 255)) == 100
    for junk in (b"", b"\n\n", b"0:", b"::::", b"\0" * 100, b"0::" + b"/" * 5000):
        assert names.name_of(junk) == b""


TABLE = b"""1 9 0:1 / / rw - overlay overlay rw
2 1 0:2 / /data rw - nfs4 filer:/d rw
3 2 0:3 / /data/tmp rw - tmpfs none rw
4 3 0:4 / /data/tmp/a\\012b rw - fuse.sshfs x rw,user_id=0,group_id=5,allow_other
5 1 0:5 / /x rw - tmpfs host:/export rw
6 1 0:6 / /y rw - nfs4 f:/y rw
7 6 0:7 / /y rw - tmpfs none rw
8 1 0:8 / /z rw - weird filer:/z rw
9 1 0:9 / /o rw - overlay host:/o rw
10 1 0:10 / /w rw - weird word rw
"""


FIRST = seeing.First(1, b"/")


def test_what_is_kept_of_a_table() -> None:
    """Network and FUSE mounts that a path leads to; each hangs from the nearest one of these."""
    kept = tables.kept(TABLE)
    assert [(mount.mount_id, mount.parent_id) for mount in kept.mounts] == [(2, 1), (4, 2), (8, 1)]
    assert tables.kept(b"1 9 0:1 / / rw - overlay overlay rw\n") == ((), False)
    for junk in (b"", b"\n\n", b"nonsense\n", b" - nfs4 \n" * 3, b"\0" * 100):
        assert tables.kept(junk).mounts == ()


def test_ids_of_another_user_namespace() -> None:
    ids, groups = ((0, 100000, 10),), ((0, 200000, 10), (10, 7, 1))
    space = seeing.Space(FIRST, (812,), 1000, ids=ids, groups=groups)
    data, fuse, _ = tables.named(tables.kept(TABLE).mounts, space, 812, b"web.service")
    assert data.super_options == (b"rw",)
    assert fuse.super_options == (b"rw", b"user_id=100000", b"group_id=200005", b"allow_other")
    assert (fuse.mount_point, fuse.path) == (b"web.service: /data/tmp/a\nb", b"/data/tmp/a\nb")
    assert fuse.seen_at is not None and fuse.seen_at.base == b"/proc/812/root"
    assert fuse.is_elsewhere
    assert selection.unprivileged_owner(fuse) == 100000
    (unknown,) = tables.named((fuse,), space._replace(ids=((5, 1, 1),)), 812, b"x")
    assert selection.unprivileged_owner(unknown) == 0xFFFFFFFE
    assert (space.is_users, space._replace(ids=((0, 0, 9),)).is_users, space._replace(ids=None).is_users) == (
        True,
        False,
        False,
    )


def test_names_are_given_once() -> None:
    """The first ones come from root's namespaces: no user can take their names."""
    given = reader._Names()
    root, twin = seeing.Space(FIRST, (5,), 0, b"web.service"), seeing.Space(FIRST, (6,), 0, b"web.service")
    users = seeing.Space(FIRST, (7,), 1000, b"web.service", ids=((0, 1000, 1),))
    nameless = seeing.Space(FIRST, (8,), 33)
    assert [given.of(space, space.pids[0]) for space in (root, twin, users, nameless)] == [
        b"web.service",
        b"web.service (pid 6)",
        b"web.service (uid 1000)",
        b"pid 8 (uid 33)",
    ]
