"""Privilege is capabilities, not uid; and whoever acts as a user comes back, or ends."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from check_mounts.system import privilege, syscalls
from tests.conftest import PYTHON, Fuse, Mounts, Plugin, Result

pytestmark = pytest.mark.root

_OWNER = 1000
_NOTHING = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"]


def _as_user(*capabilities: str) -> list[str]:
    """uid 1001 with these capabilities."""
    named = ",".join(f"+{name}" for name in capabilities)
    caps = [f"--inh-caps={named}", f"--ambient-caps={named}"] if named else []
    return ["setpriv", "--reuid=1001", "--regid=1001", "--clear-groups", *caps, "--"]


class Anywhere:
    """Mounts and runs in a directory that everybody may enter."""

    def __init__(self, mounts: Mounts, public: Path) -> None:
        self._mounts, self._public = mounts, public
        self._made: list[Path] = []

    def tmpfs(self, name: str, options: str) -> Path:
        path = self._public / name
        path.mkdir()
        self._mounts.mount_at(path, "tmpfs", options=options)
        self._made.append(path)
        return path

    def __call__(self, wrapper: list[str], *arguments: str) -> dict[str, Any]:
        plugin = Plugin(self._public, self._public / "state")
        plugin.environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(self._public), "XDG_RUNTIME_DIR": ""}
        paths = [str(path) for path in self._made]
        result = Result(
            plugin.start("--json", *arguments, *paths, wrapper=wrapper, below=False, state=False, cwd=self._public)
        )
        value = json.loads(result.stdout)
        found = {Path(finding["mount_point"]).name: finding for finding in value["findings"]}
        return {"": value["state"], **found}

    def close(self) -> None:
        for path in self._made:
            self._mounts.detach(path)


@pytest.fixture
def anywhere(mounts: Mounts, public: Path) -> Any:
    result = Anywhere(mounts, public)
    yield result
    result.close()


def test_root_without_capabilities_is_told_what_any_user_is(anywhere: Anywhere) -> None:
    for name, options in (
        ("private", "mode=0700"),
        ("group", "mode=0070"),
        ("closed", "mode=0000"),
        ("open", "mode=0755"),
    ):
        anywhere.tmpfs(name, f"{options},uid={_OWNER}")
    as_nothing, as_user = anywhere(_NOTHING), anywhere(_as_user())
    for name in ("private", "group", "closed", "open"):
        assert as_nothing[name]["condition"] == as_user[name]["condition"], name
    assert {name: as_nothing[name]["condition"] for name in ("private", "open")} == {"private": "ok", "open": "ok"}
    assert as_nothing["private"]["outcome"]["not_owner"] and as_nothing["private"]["outcome"]["acted_as"] == 0


def test_what_is_refused_to_root_of_its_own_is_told(anywhere: Anywhere) -> None:
    anywhere.tmpfs("own", "mode=0070,uid=0,gid=1")
    assert anywhere(_NOTHING)["own"]["text"] == "denied: Permission denied (EACCES) for its owner, uid 0"


@pytest.mark.parametrize("missing", ["setuid", "setgid", "setuid,-setgid"])
def test_root_that_cannot_change_its_id_looks_itself(anywhere: Anywhere, missing: str) -> None:
    anywhere.tmpfs("private", f"mode=0700,uid={_OWNER},gid={_OWNER}")
    found = anywhere(["setpriv", f"--bounding-set=-{missing}", "--"], "--write")
    assert (found["private"]["condition"], found["private"]["outcome"]["acted_as"]) == ("ok", 0)
    assert found["private"]["remarks"] == ["not written: refused, and this process cannot act as the owner"]


def test_a_fuse_mount_of_a_user_is_told_the_same(fuse: Fuse, plugin: Plugin) -> None:
    fuse.mount("users", user_id=_OWNER, group_id=_OWNER, uid=_OWNER, mode="700", allow_other=0)
    told = [Result(plugin.start("--user-mounts", "-v", wrapper=wrapper)).lines[1] for wrapper in (_NOTHING, [])]
    assert told[0].endswith(" denied: Permission denied (EACCES) at statx")
    assert told[1] == ""


@pytest.mark.parametrize("more", [(), ("dac_override", "dac_read_search")])
def test_others_with_capabilities_act_as_the_owner(anywhere: Anywhere, more: tuple[str, ...]) -> None:
    """And are refused what he is: their own power is laid down meanwhile."""
    anywhere.tmpfs("private", f"mode=0700,uid={_OWNER}")
    anywhere.tmpfs("group", f"mode=0070,uid={_OWNER}")
    anywhere.tmpfs("roots", "mode=0700,uid=0")
    found = anywhere(_as_user("setuid", "setgid", *more))
    assert [found[name]["outcome"]["acted_as"] for name in ("private", "group", "roots")] == [_OWNER, _OWNER, 0]
    assert found["group"]["text"] == f"denied: Permission denied (EACCES) for its owner, uid {_OWNER}"
    assert [found[name]["condition"] for name in ("private", "roots")] == ["ok", "ok"]


def test_as_a_user_takes_capabilities(anywhere: Anywhere, plugin: Plugin) -> None:
    anywhere.tmpfs("private", f"mode=0700,uid={_OWNER}")
    found = anywhere(_as_user("setuid", "setgid"), "--as", str(_OWNER))
    assert found["private"]["outcome"]["acted_as"] == _OWNER
    result = Result(plugin.start("--as", str(_OWNER), wrapper=_NOTHING))
    assert result.code == 3
    assert (
        result.verdict
        == "MOUNTS UNKNOWN - argument --as: only root, or a process with CAP_SETUID and CAP_SETGID, can act as "
        "another user"
    )


def test_groups_of_others_open_no_door(anywhere: Anywhere) -> None:
    anywhere.tmpfs("group", f"mode=0070,uid={_OWNER},gid=4711")
    wrapper = [word if word != "--clear-groups" else "--groups=4711" for word in _as_user("setuid", "setgid")]
    assert anywhere(wrapper)["group"]["condition"] == "denied"
    wrapper = [word if word != "--clear-groups" else "--groups=4711" for word in _as_user()]
    assert anywhere(wrapper, "--as", "self")["group"]["condition"] == "ok"


@pytest.mark.parametrize("call", ["setresuid", "setresgid"])
@pytest.mark.parametrize("error", ["ENOMEM", "EAGAIN", "EPERM"])
def test_a_worker_that_cannot_come_back_ends(mounts: Mounts, plugin: Plugin, call: str, error: str) -> None:
    mounts.tmpfs("a", f"uid={_OWNER},mode=0700")
    roots = [mounts.tmpfs(name, "uid=0,mode=0700") for name in "bcd"]
    wrapper = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:error={error}:when=2",
    ]
    result = Result(plugin.start("--json", wrapper=wrapper))
    found = {finding["mount_point"]: finding for finding in json.loads(result.stdout)["findings"]}
    for path in roots:
        assert (found[str(path)]["condition"], found[str(path)]["outcome"]["acted_as"]) == ("ok", 0)
    assert found[f"{mounts.base}/a"]["condition"] == "unprobed"


_LEFT_IN_BETWEEN = """
import os, sys
from check_mounts.system import privilege
real = os.setresgid
def once(*ids, calls=[]):
    calls.append(ids)
    if len(calls) > 1:
        raise OSError(12, "no")
    real(*ids)
def refused(*ids):
    raise OSError(11, "no")
os.setresgid, os.setresuid = once, refused
try:
    if sys.argv[1] == "acting":
        privilege.Acting(1000, 1000, os.getppid()).__enter__()
    else:
        privilege.become(1000, 1000, os.getppid())
except OSError:
    print("went on with gid", os.getegid())
"""


@pytest.mark.parametrize("how", ["acting", "become"])
def test_what_is_left_in_between_ends(plugin: Plugin, how: str) -> None:
    import subprocess

    process = subprocess.run(
        [PYTHON, "-c", _LEFT_IN_BETWEEN, how], env=plugin.environment, stdout=subprocess.PIPE, check=False
    )
    assert (process.stdout, process.returncode) == (b"", 1)


def test_capabilities_are_read() -> None:
    effective = int(
        next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff")).split()[
            1
        ],
        16,
    )
    assert syscalls.capabilities()[0] == effective
    assert privilege.can_act_as_others() == (effective & 0xC0 == 0xC0)
