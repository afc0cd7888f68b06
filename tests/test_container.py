"""container/: an image, a DaemonSet, systemd-nspawn. The image is what `make install` makes, on
this host's Python; the pods are namespaces with the capabilities of the manifest."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from check_mounts.options import command_line, option_table
from tests import documents, flow, kernel, pod
from tests.conftest import ROOT, Mounts, Plugin, Result, until
from tests.test_namespace import There, there

__all__ = ["there"]
PLACE = ROOT / "container"
LINES = [line for line in (PLACE / "Containerfile").read_text().splitlines() if line and not line.startswith("#")]
MANIFEST: dict[str, Any] = flow.parse((PLACE / "daemonset.yaml").read_text())
POD = MANIFEST["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
ARGUMENTS: list[str] = CONTAINER["args"]
CAPABILITIES: list[str] = CONTAINER["securityContext"]["capabilities"]["add"]


def _made(place: Path) -> Path:
    """What the Containerfile's own line makes, of these sources."""
    (line,) = [line for line in LINES if line.startswith("RUN make ")]
    words = line.removeprefix("RUN ").replace("/src", str(ROOT)).replace("/out", str(place))
    subprocess.run(shlex.split(words), check=True, stdout=subprocess.DEVNULL)
    return place


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _made(tmp_path_factory.mktemp("image"))


@pytest.fixture
def pods(there: There) -> Iterator[pod.Pods]:
    """Before their hosts go, whose FUSE mounts may hold a process of theirs."""
    result = pod.Pods()
    yield result
    there.fuse.close()
    result.close()


def test_the_image_has_what_the_program_needs(image: Path) -> None:
    assert LINES[0].startswith("FROM ") and [line.split()[0] for line in LINES].count("FROM") == 2
    copied = next(line.split() for line in LINES if line.startswith("COPY --from"))
    assert copied[1:] == ["--from=build", "/out/", "/"]
    program = re.search(r'ENTRYPOINT \["(.*)"\]', "\n".join(LINES))
    assert program is not None and (image / program[1].lstrip("/")).is_file()
    installed = next(line for line in LINES[4:] if line.startswith("RUN apt-get"))
    assert {"python3", "python3-nagiosplugin", "python3-prometheus-client"} <= set(installed.split())
    (words,) = re.findall(r"CMD \[(.*)\]", "\n".join(LINES))
    assert command_line.given(re.findall(r'"([^"]*)"', words))["namespace"] == "1"


def _with(arguments: list[str], pid: str, place: Path) -> list[str]:
    """The arguments for a host whose process 1 has another ID, without its declarations."""
    own = [word for word in arguments if not word.startswith(("--fstab", "--systemd", "--namespace"))]
    return [*(word.replace("/metrics", str(place)) for word in own), f"--namespace={pid}"]


@pytest.mark.root
def test_the_manifest(plugin: Plugin, tmp_path: Path) -> None:
    assert (MANIFEST["kind"], MANIFEST["apiVersion"]) == ("DaemonSet", "apps/v1")
    assert POD["hostPID"] is True and POD["hostNetwork"] is True
    labels = MANIFEST["spec"]["template"]["metadata"]["labels"]
    assert MANIFEST["spec"]["selector"]["matchLabels"].items() <= labels.items()
    mounted = {each["name"]: each["mountPath"] for each in CONTAINER["volumeMounts"]}
    assert mounted.keys() == {each["name"] for each in POD["volumes"]}
    assert all(each["hostPath"]["type"] == "DirectoryOrCreate" for each in POD["volumes"])
    given = command_line.given(ARGUMENTS)
    assert given["namespace"] == "1" and given["daemon"]
    # All that it keeps is on the node.
    kept = [given["cache"], given["metrics"], f"{given['state_dir']}/x", option_table.INCIDENTS]
    assert {os.path.dirname(path) for path in kept} == set(mounted.values())
    assert CONTAINER["securityContext"]["capabilities"]["drop"] == ["ALL"]
    words = _with(ARGUMENTS, str(os.getpid()), tmp_path)
    checked = plugin("--check-config", *words, f"--cache={tmp_path}/run/status", below=False, state=False)
    assert checked.code == 0, checked.stdout


def test_nspawn_has_the_same_arguments_and_capabilities() -> None:
    text = (PLACE / "check-mounts.nspawn").read_text()
    (line,) = re.findall(r"^Parameters=(.*)$", text, re.M)
    program, *arguments = line.split()
    assert program == "/usr/local/bin/check_mounts"
    given = command_line.given(arguments)
    assert given["namespace"] == "/host/proc/1" and "Bind=/proc:/host/proc" in text
    for name in ("cache", "state_dir", "fstab", "systemd", "daemon", "foreground"):
        assert given[name] == command_line.given(ARGUMENTS)[name]
    (kept,) = re.findall(r"^# What remains.*: (.*)\.$", text, re.M)
    assert {each.removeprefix("CAP_") for each in kept.split(", ")} == set(CAPABILITIES)
    dropped = {word for line in re.findall(r"^DropCapability=(.*)$", text, re.M) for word in line.split()}
    assert not dropped & set(kept.split(", "))
    table = (PLACE / "README.md").read_text()
    assert all(f"CAP_{each}" in table for each in CAPABILITIES)


def _workers(began: int) -> set[int]:
    """The pids of workers that are younger and hang, in whatever namespace."""
    found = set()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            before, _, after = Path(f"/proc/{entry}/stat").read_text(errors="replace").rpartition(")")
        except OSError:
            continue
        fields = after.split()
        if before.endswith("(check_mounts:w") and fields[0] == "D" and int(fields[19]) >= began:
            found.add(int(entry))
    return found


def _said(process: subprocess.Popen[bytes]) -> str:
    """All that a check prints. A container with PIDs of its own ends no earlier than the last of
    its processes, the one that hangs (zap_pid_ns_processes in kernel/pid_namespace.c)."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    output: list[bytes] = []

    def whole() -> bool:
        output.append(process.stdout.read() or b"")  # type: ignore[union-attr]
        return b"".join(output).count(b"\n") >= 4 or process.poll() is not None

    until(whole)
    return b"".join(output).decode()


def _three(there: There) -> None:
    for name in ("well", "dead", "hung"):
        there.fuse.mount(name)
    there.fuse.command("die", "dead")
    there.fuse.command("hang", "hung")


@pytest.mark.root
@pytest.mark.parametrize("host_pid", [True, False], ids=["hostPID", "its own PIDs"])
def test_the_host_from_a_pod(there: There, pods: pod.Pods, image: Path, tmp_path: Path, host_pid: bool) -> None:
    """A check, the daemon, and the daemon again after its pod was killed: one process hangs in the
    host's mount, and all of them know it."""
    began = kernel.now()
    _three(there)
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / "metrics").mkdir()
    volumes = {"run/check_mounts": kept, "metrics": tmp_path / "metrics"}
    run = pod.command(tmp_path, image, volumes, CAPABILITIES, host_pid)
    name = there.pid if host_pid else f"/host/proc/{there.pid}"
    common = ["--namespace", name, "-t", "0.5", "-p", f"{there.base}/*", "--state-dir=/run/check_mounts"]
    program = ["/usr/local/bin/check_mounts", *common]
    for _ in range(2):
        said = _said(pods.start([*run, *program, "-vv"]))
        assert re.search(r"\| mounts=3;.* ok=1;.* timed_out=1;.* dead=1;", said), said
        until(lambda: len(_workers(began)) == 1)  # another one may wait for a moment
        stuck = _workers(began)
    assert f"(pid {min(stuck)})" in said  # by its ID on the host
    service = [word for word in ARGUMENTS if word.startswith(("--daemon", "--fore", "--cache", "--metrics"))]
    for times in (1, 2):
        daemon = pods.start([*run, *program, *service, "--incident-file=none", "--interval=0.5"], tmp_path / "log")
        log = tmp_path / "log"
        until(lambda: log.read_text().count("\nChecked ") >= 2 * times or daemon.poll() is not None)  # noqa: B023
        assert daemon.poll() is None, log.read_text()
        status = (kept / "status").read_text()
        assert "2 of 3 mounts failed" in status and "/hung" in status
        daemon.kill()
        until(lambda: _workers(began) <= stuck)
    assert _workers(began) == stuck


@pytest.mark.root
@pytest.mark.parametrize("missing", ["SYS_PTRACE", "DAC_READ_SEARCH", "hostPID"])
def test_a_pod_says_what_it_lacks(there: There, pods: pod.Pods, image: Path, tmp_path: Path, missing: str) -> None:
    rights = [each for each in CAPABILITIES if each != missing]
    run = pod.command(tmp_path, image, {}, rights, host_pid=missing != "hostPID")
    named = "1" if missing == "hostPID" else there.pid
    found = Result(pods.start([*run, "/usr/local/bin/check_mounts", "--namespace", named]))
    assert found.code == 3
    assert f"{missing} is missing" in found.verdict


@pytest.mark.root
def test_the_commands_of_the_page(tmp_path: Path, mounts: Mounts) -> None:
    """README.md, with programs in place of podman that look at what it is told."""
    (block,) = [each for each in documents.blocks(PLACE / "README.md") if each.info == "sh"]
    build, made, run = map(shlex.split, documents.commands(block.text))
    assert build[:3] == ["podman", "build", "-f"] and (ROOT / build[3]).is_file()
    assert made[:2] == ["mkdir", "-p"]
    options, arguments = run[: run.index("check_mounts")], run[run.index("check_mounts") + 1 :]
    assert command_line.given(arguments)["namespace"] == "1"
    rights = next(word for word in options if word.startswith("--cap-add=")).partition("=")[2].split(",")
    assert {each.upper() for each in rights} == set(CAPABILITIES)
    assert {"--pid=host", "--network=host", "--read-only", "--cap-drop=all"} <= set(options)
    assert f"{made[2]}:{made[2]}" in options
    assert shutil.which("unshare")
