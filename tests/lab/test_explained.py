"""``--explain`` with a real NFS whose server is silent: see explained.py."""

from __future__ import annotations

import errno
import json

import pytest

from tests.lab import guest, verdict


@pytest.mark.guest
def test_nfs_whose_server_is_silent_is_explained() -> None:
    result = guest.run(["/usr/bin/python3", "-m", "tests.lab.explained"], 250, verdict.environment())
    assert result.status == 0, (result.output, result.console[-3000:])
    report = json.loads(result.files["explained.json"])
    well, hung = report["well"], report["hung"]
    assert well["code"] == 0 and "answers RPC" in well["output"] and "nothing: it answers" in well["output"]
    assert {each["code"] for each in hung} == {2}
    # However often it is explained, it holds one process at most.
    assert max(each["held"] for each in hung) <= 1
    assert max(each["seconds"] for each in hung) < 25
    for each in hung:
        said = " ".join(each["output"].split())
        assert "does not answer on port 2049" in said and "rpc_wait_bit_killable" in said
        assert "Get its server" in said and "goes on by itself" in said
        assert f"pid {report['reader']} (" in said and "waits in" in said, said
    assert "1 process of 1 user waits: python3" in report["verbose"]
    # What the page says of umount -f is true.
    assert report["forced"]["read"] in (str(errno.EIO), "512") and "busy" in report["forced"]["stderr"]
