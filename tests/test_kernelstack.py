"""The kernel function that a process waits in: real processes, and real texts of the kernel."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Optional

import pytest

from check_mounts.probing import kernelstack
from tests.conftest import Fuse, until


@contextlib.contextmanager
def child(function: Callable[[], object]) -> Iterator[int]:
    pid = os.fork()
    if pid == 0:
        try:
            function()
        finally:
            os._exit(0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_process_that_waits_for_a_pipe() -> None:
    with child(lambda: os.read(os.pipe()[0], 1)) as pid:
        until(lambda: "pipe" in (kernelstack.read_kernel_stack(pid) or "pipe"))
        name = kernelstack.read_kernel_stack(pid)
    assert name is None or "pipe" in name
    assert kernelstack.read_kernel_stack(pid) is None  # it is gone


@pytest.mark.root
def test_a_probe_that_waits_for_a_fuse_server(fuse: Fuse) -> None:
    path = fuse.mount("fs")
    fuse.command("hang", "fs")
    with child(lambda: os.statvfs(path)) as pid:
        until(lambda: fuse.waiting("fs"))
        until(
            lambda: (
                "State:\tD" in Path(f"/proc/{pid}/status").read_text()
                or "State:\tS" in Path(f"/proc/{pid}/status").read_text()
            )
        )
        name = kernelstack.read_kernel_stack(pid)
        fuse.command("die", "fs")
    assert name is not None
    assert "fuse" in name or "request_wait_answer" in name
    assert kernelstack.stack_words(name) == f"its probe waits in {name}"


@pytest.mark.parametrize(
    ("stack", "wchan", "name"),
    [
        (b"[<0>] rpc_wait_bit_killable+0x1e/0xb0 [sunrpc]\n[<0>] __rpc_execute+0x1\n", b"0", "rpc_wait_bit_killable"),
        (
            b"[<0>] __wait_on_bit+0x1/0x2\n[<0>] out_of_line_wait_on_bit+0x1/0x2\n[<0>] "
            b"nfs_wait_on_request+0x1/0x2 [nfs]\n",
            b"0",
            "nfs_wait_on_request",
        ),
        (b"[<0>] rwsem_down_read_slowpath+0x1/0x2\n[<0>] walk_component+0x1/0x2\n", b"0", "walk_component"),
        (b"[<0>] folio_wait_bit_common+0x1/0x2\n[<0>] nfs_wb_all+0x1/0x2 [nfs]\n", b"0", "nfs_wb_all"),
        (b"[<0>] request_wait_answer+0x1/0x2 [fuse]\n", b"0", "request_wait_answer"),
        (b"[<0>] p9_client_rpc+0x1/0x2 [9pnet]\n", b"0", "p9_client_rpc"),
        (b"[<0>] wait_for_response+0x1/0x2 [cifs]\n", b"0", "wait_for_response"),
        (
            b"[<ffffffffc0a1b2c0>] cifs_call.isra.5+0x1/0x2 [cifs]\n[<ffffffffffffffff>] 0xffffffffffffffff\n",
            b"0",
            "cifs_call.isra.5",
        ),
        (b"[<0>] 0xffffffffc0123456\n[<0>] do_syscall_64+0x1/0x2\n", b"0", "do_syscall_64"),
        (b"", b"rpc_wait_bit_killable", "rpc_wait_bit_killable"),
        (None, b"io_schedule", "io_schedule"),
        (None, b"0", None),
        (b"", b"", None),
        (b"\xff\n|;rm\n", None, None),
        (None, None, None),
    ],
)
def test_stacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stack: Optional[bytes], wchan: Optional[bytes], name: Optional[str]
) -> None:
    for file, data in (("stack", stack), ("wchan", wchan)):
        if data is not None:
            (tmp_path / file).write_bytes(data)
    really = os.open
    monkeypatch.setattr(os, "open", lambda path, flags: really(str(path).replace("/proc/42", str(tmp_path)), flags))
    assert kernelstack.read_kernel_stack(42) == name
