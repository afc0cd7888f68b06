"""The files of nagios/ in a real Nagios 4, with NRPE and a file server, in network namespaces: what
status.dat says."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PYTHON, Fuse, Mounts, ageless, in_time, remaining, without_note
from tests.monitoring.nagios import Nagios
from tests.monitoring.stack import Network, Server, Stack

pytestmark = [pytest.mark.root, pytest.mark.monitoring]

NAGIOS = "/usr/sbin/nagios4"
CHECK_MOUNTS = "/usr/local/bin/check_mounts"
SHIPPED = Path("/usr/local/share/check_mounts/nagios")
NRPE = SHIPPED.parent / "nrpe"
CONFIGURATION = Path("/etc/check_mounts.conf")
BASE = Path("/run/check_mounts-tests/mounts")
OK, WARNING, CRITICAL, UNKNOWN = "0123"
HARD = "1"

# Seconds instead of minutes, no hosts to ping, no question to the maker's server; what else is
# there are paths of this instance.
MAIN = """\
interval_length={interval}
check_result_reaper_frequency=1
status_update_interval=1
service_freshness_check_interval=1
additional_freshness_latency=0
max_service_check_spread=1
execute_host_checks=0
check_for_updates=0
check_external_commands=1
use_syslog=0
nagios_user=nagios
nagios_group=nagios
illegal_macro_output_chars=`~$&|'"<>
resource_file=/etc/nagios4/resource.cfg
log_file={base}/nagios.log
command_file={base}/rw/nagios.cmd
query_socket={base}/rw/nagios.qh
status_file={base}/status.dat
object_cache_file={base}/objects.cache
check_result_path={base}/checkresults
temp_file={base}/nagios.tmp
temp_path={base}/tmp
lock_file={base}/nagios.pid
"""

# Who is told, and how: a line in a file.
CONTACTS = """\
define contact {
	contact_name	nagiosadmin
	use		generic-contact
	service_notification_commands	note
	host_notification_commands	note
}
define contactgroup {
	contactgroup_name	admins
	members			nagiosadmin
}
define command {
	command_name	note
	command_line	/bin/echo "$HOSTNAME$ $SERVICEDESC$ $SERVICESTATE$" >> %s
}
"""


class Shipped(Nagios):
    """An instance with the shipped objects, of which only addresses and the limit of freshness are
    replaced. ``interval``: the seconds that it takes for a minute."""

    def __init__(self, stack: Stack, network: Network, name: str, freshness: int = 600, interval: int = 1) -> None:
        self.base = stack.own(stack.base / name)
        for directory in ("rw", "tmp", "checkresults"):
            stack.own(self.base / directory)
        self.commands = self.base / "rw/nagios.cmd"
        self._status = self.base / "status.dat"
        self._told = self.base / "told"
        self.main = self._configure(stack, network, freshness, interval)
        # As root, who alone may read Debian's resource.cfg; it becomes nagios_user by itself.
        self.server = stack.server(NAGIOS, self.main, user="root", name=name, enter=network.left.enter)
        self.server.until(lambda: self.commands.is_fifo() and self._status.exists() and self.program())

    def _configure(self, stack: Stack, network: Network, freshness: int, interval: int) -> Path:
        objects = [f"/etc/nagios4/objects/{name}.cfg" for name in ("commands", "timeperiods", "templates")]
        objects.append("/etc/nagios-plugins/config/ping.cfg")  # check-host-alive
        # Not Debian's contacts.cfg: that one has mail sent.
        own = {
            "contacts.cfg": CONTACTS % self._told,
            "check_mounts.cfg": replaced(
                r"^(\tfreshness_threshold\t).*$", rf"\g<1>{freshness}", SHIPPED / "check_mounts.cfg", 1
            ),
            "example.cfg": replaced(r"192\.0\.2\.1[123]$", "127.0.0.1", SHIPPED / "example.cfg", 3).replace(
                "192.0.2.1\n", f"{network.right.address}\n"
            ),
        }
        files = [*objects, *(stack.write(self.base / name, text) for name, text in own.items())]
        lines = "".join(f"cfg_file={path}\n" for path in files)
        return stack.write(self.base / "nagios.cfg", lines + MAIN.format(base=self.base, interval=interval))

    def until(self, state: str, host: str, name: str = "mounts", **expected: str) -> dict[str, str]:
        """Wait until a service that has been checked is in a state."""
        expected = {"has_been_checked": "1", "current_state": state, **expected}
        self.server.until(lambda: expected.items() <= self.service(host, name).items(), 60)
        return self.service(host, name)

    def submit(self, state: str, *services: str) -> None:
        """Results of web03."""
        for service in services:
            self.command(f"PROCESS_SERVICE_CHECK_RESULT;web03;{service};{state};MOUNTS of {service}")

    def command(self, line: str) -> None:
        with open(self.commands, "w") as pipe:
            pipe.write(f"[{int(time.time())}] {line}\n")

    @property
    def told(self) -> list[str]:
        """The notifications."""
        return self._told.read_text().splitlines() if self._told.exists() else []


def replaced(pattern: str, replacement: str, path: Path, times: int) -> str:
    text, count = re.subn(pattern, replacement, path.read_text(), flags=re.M)
    assert count == times, pattern
    return text


@pytest.fixture(scope="module")
def network(stack: Stack, installed: Path) -> Network:
    """The monitoring server and its clients on the left, with NRPE on its usual port; the file
    server on the right."""
    stack.write("/etc/sudoers.d/check_mounts", (NRPE / "check_mounts.sudoers").read_text(), mode=0o440)
    stack.write("/etc/nagios/nrpe.d/check_mounts.cfg", (NRPE / "check_mounts.cfg").read_text())
    network = stack.network()
    stack.server("/usr/sbin/nrpe", "-c", "/etc/nagios/nrpe.cfg", "-f", enter=network.left.enter)
    return network


@pytest.fixture
def mounts(stack: Stack) -> Iterator[Mounts]:
    """The checks have no arguments of a test: the configuration limits them to these mounts."""
    result = Mounts(BASE)
    stack.write(CONFIGURATION, f"[check_mounts]\npath = {BASE}/*\n")
    yield result
    result.close()
    CONFIGURATION.unlink()


@pytest.fixture
def nagios(stack: Stack, network: Network, mounts: Mounts, request: pytest.FixtureRequest) -> Iterator[Shipped]:
    result = Shipped(stack, network, request.node.name, **getattr(request, "param", {}))
    yield result
    result.server.stop()


def filer(stack: Stack, network: Network) -> Server:
    """Somebody who accepts connections where nfsd would."""
    words = (
        "import socket; listener = socket.create_server(('', 2049)); print('ready', flush=True)\nwhile "
        "True: listener.accept()[0].close()"
    )
    server = stack.server(PYTHON, "-I", "-c", words, name="filer", enter=network.right.enter)
    server.until(lambda: "ready" in server.log)
    return server


def hung(fuse: Fuse) -> Path:
    path = fuse.mount("hung", source="filer1:/home")
    fuse.command("hang", "hung")
    return path


def without_times(text: str) -> str:
    return re.sub(r"in [0-9.]+ s| \(as of \d+ s ago\)", "", text)


def halves(text: str) -> tuple[str, str]:
    """What Nagios takes for the output and for the perfdata of the first line."""
    output, _, perfdata = text.split("\n")[0].partition("|")
    return output.strip(), perfdata.strip()


# -- objects


def verify(path: Path | str, stack: Stack) -> str:
    result = stack.run(NAGIOS, "-v", path, user="root")
    assert result.returncode == 0, result.stdout
    return result.stdout


def test_the_objects_are_clean(nagios: Shipped, stack: Stack) -> None:
    text = verify(nagios.main, stack)
    assert "Checked 4 service dependencies\n" in text
    assert "Total Warnings: 0\nTotal Errors:   0\n" in text, text


def test_they_go_with_the_configuration_of_debian(stack: Stack, installed: Path) -> None:
    for name in ("check_mounts.cfg", "example.cfg"):
        stack.write(f"/etc/nagios4/conf.d/{name}", (SHIPPED / name).read_text())
    text = verify("/etc/nagios4/nagios.cfg", stack)
    assert "Total Warnings: 0\nTotal Errors:   0\n" in text, text


# -- active


def test_active_checks_of_a_hung_mount(nagios: Shipped, stack: Stack, fuse: Fuse) -> None:
    path = hung(fuse)
    with stack.daemon(interval=60):
        cached = stack.run(CHECK_MOUNTS, "--cached").stdout
        status = nagios.until(CRITICAL, "web01")
        output = ageless(status["plugin_output"].encode()).decode()
        assert (output, status["performance_data"]) == halves(ageless(cached.encode()).decode())
        # After 0.5 s, or because a check of web02 was there before it.
        assert f"1 of 1 mounts failed: {path} (fuse.test filer1:/home) timed out" in status["plugin_output"]
        assert without_note(status["long_plugin_output"]) == ""

    def attempt() -> dict[str, str]:
        fuse.command("answer", "hung")
        nagios.until(OK, "web02")
        fuse.command("hang", "hung")
        return nagios.until(CRITICAL, "web02")

    status = in_time(6.5, attempt, lambda status: float(status["check_execution_time"]), attempts=2)
    assert status["plugin_output"].startswith(
        f"MOUNTS CRITICAL - 1 of 1 mounts failed: {path} (fuse.test filer1:/home) timed out"
    )
    remaining(1)


def test_no_daemon_is_unknown(nagios: Shipped) -> None:
    Path("/run/check_mounts/status").unlink(missing_ok=True)
    status = nagios.until(UNKNOWN, "web01")
    assert status["plugin_output"].startswith(
        "MOUNTS UNKNOWN - /run/check_mounts/status is not there: is the daemon running?"
    )


def test_a_mount_point_cannot_inject_a_command(nagios: Shipped, stack: Stack, mounts: Mounts) -> None:
    mounts.tmpfs("x\n[0] DISABLE_NOTIFICATIONS", options="mode=0000")
    with stack.daemon(interval=60):
        printed = stack.run(CHECK_MOUNTS, "--cached").stdout
        for host in ("web01", "web02"):
            status = nagios.until(WARNING, host)
            assert without_times(status["plugin_output"]) == without_times(halves(printed)[0])
            assert r"mounts/x\012[0] DISABLE_NOTIFICATIONS (tmpfs" in status["plugin_output"]
            assert without_note(status["long_plugin_output"]) == ""
    assert nagios.program()["enable_notifications"] == "1"
    # What it would have been.
    nagios.command("DISABLE_NOTIFICATIONS")
    nagios.server.until(lambda: nagios.program()["enable_notifications"] == "0")


# -- passive


def test_a_passive_result_arrives_as_it_was_printed(nagios: Shipped, stack: Stack, mounts: Mounts, fuse: Fuse) -> None:
    path = hung(fuse)
    mounts.tmpfs("healthy")
    # A memory of its own: web02 is checked meanwhile, and whoever comes second says so.
    printed = stack.run(CHECK_MOUNTS, "-t", "0.5", "-vv", "--state-dir", stack.base / "state", user="root").stdout
    verdict, _, more = printed.partition("\n")
    assert ";" not in verdict.partition("|")[0] + more  # Nagios would make a colon of it
    text = printed.rstrip("\n").replace("\\", "\\\\").replace("\n", "\\n")
    nagios.command(f"PROCESS_SERVICE_CHECK_RESULT;web03;mounts;2;{text}")
    status = nagios.until(CRITICAL, "web03")
    assert (status["plugin_output"], status["performance_data"]) == halves(printed)
    assert f"1 of 2 mounts failed: {path} (fuse.test filer1:/home) timed out after 0.5 s" in status["plugin_output"]
    assert status["long_plugin_output"] == "\\n".join(printed.split("\n")[1:-1])
    nagios.command(
        "PROCESS_SERVICE_CHECK_RESULT;web03;mounts /home;0;MOUNTS OK - /home (nfs4 filer1:/home) ok | time=0.1s"
    )
    assert nagios.until(OK, "web03", "mounts /home")["performance_data"] == "time=0.1s"


@pytest.mark.parametrize("nagios", [{"freshness": 6}], indirect=True)
def test_a_service_that_gets_nothing_becomes_unknown(nagios: Shipped) -> None:
    status = nagios.until(UNKNOWN, "web03")
    assert status["plugin_output"] == "UNKNOWN: no result came for 3 min: does check_mounts --submit run on web03?"
    nagios.command("PROCESS_SERVICE_CHECK_RESULT;web03;mounts;0;MOUNTS OK")
    nagios.until(OK, "web03", plugin_output="MOUNTS OK")
    nagios.until(UNKNOWN, "web03")


# -- whom it is told


@pytest.fixture
def in_trouble(stack: Stack, network: Network, fuse: Fuse) -> Iterator[None]:
    """The clients, before Nagios asks them: of one without a daemon or a mount, something else
    would be told first."""
    hung(fuse)
    with stack.daemon(interval=60):
        yield


@pytest.fixture
def file_server(stack: Stack, network: Network) -> Iterator[None]:
    with filer(stack, network):
        yield


@pytest.mark.usefixtures("in_trouble", "file_server")
def test_a_client_in_trouble_is_told(nagios: Shipped) -> None:
    nagios.until(OK, "filer1", "nfs")
    for host in ("web01", "web02"):
        nagios.until(CRITICAL, host, state_type=HARD)
    nagios.server.until(lambda: sorted(nagios.told) == ["web01 mounts CRITICAL", "web02 mounts CRITICAL"])


@pytest.mark.usefixtures("in_trouble")
def test_clients_of_a_file_server_that_is_down_are_not(nagios: Shipped) -> None:
    """They are checked all the same. A notification is sent when the result that makes a state hard
    is taken in, so none comes later."""
    nagios.until(CRITICAL, "filer1", "nfs", state_type=HARD)
    for host in ("web01", "web02"):
        status = nagios.until(CRITICAL, host, state_type=HARD)
        assert status["current_notification_number"] == "0"
    nagios.server.until(lambda: nagios.told)
    assert nagios.told == ["filer1 nfs CRITICAL"]


@pytest.mark.usefixtures("file_server")
def test_a_drill_can_be_told_from_a_failure(nagios: Shipped, stack: Stack, mounts: Mounts) -> None:
    """The daemon's result through NRPE, and the same as a passive result; both end with the drill,
    and who is paged has been paged."""
    path = mounts.tmpfs("home")
    begin = f"MOUNTS CRITICAL - DRILL: 1 of 1 mounts failed: {path} (tmpfs none) dead: DRILL, really ok in "
    submit = ("--submit", f"command-file:{nagios.commands}", "--submit-host", "web03")
    with stack.daemon(*submit, interval=60) as daemon:
        nagios.until(OK, "filer1", "nfs")  # or nobody would be told of its clients
        nagios.until(OK, "web01")
        asked = stack.run(CHECK_MOUNTS, "--pretend", f"{path}=dead", "--for", "1h", user="root")
        assert (asked.returncode, asked.stderr) == (0, "")
        for host in ("web01", "web03"):
            status = nagios.until(CRITICAL, host)
            assert status["plugin_output"].startswith(begin)
            assert "dead=1;;;0" in status["performance_data"]
            assert status["long_plugin_output"].startswith(f"note: DRILL: {path} is only pretended to be dead")
        nagios.server.until(lambda: "web01 mounts CRITICAL" in nagios.told)
        Path("/run/check_mounts/status.drill").unlink()
        daemon.signal(signal.SIGUSR1)
        for host in ("web01", "web03"):
            assert "DRILL" not in nagios.until(OK, host)["plugin_output"]


PASSIVE = ("mounts", "mounts /home")


def told_of_web03(nagios: Shipped) -> list[str]:
    return [line for line in nagios.told if line.startswith("web03 ")]


@pytest.mark.parametrize("nagios", [{"interval": 4}], indirect=True)
def test_results_in_quick_succession_are_told_no_sooner(nagios: Shipped, stack: Stack, network: Network) -> None:
    """The daemon submits each change at once, and each result is an attempt. What lasts is told,
    what does not is not."""
    with filer(stack, network):
        nagios.until(OK, "filer1", "nfs")
        began = time.time()
        nagios.submit(OK, *PASSIVE)
        for service in PASSIVE:
            nagios.until(OK, "web03", service)
        for _ in range(3):
            nagios.submit(CRITICAL, *PASSIVE)
        for service in PASSIVE:
            nagios.until(CRITICAL, "web03", service, state_type=HARD)
        assert time.time() - began < 3 * 4 - 2, "too slow to tell"
        assert not told_of_web03(nagios)
        nagios.submit(OK, "mounts /home")
        while not told_of_web03(nagios):
            assert time.time() - began < 60, "it was never told"
            nagios.submit(CRITICAL, "mounts")
            time.sleep(0.25)
        # Both ends in whole seconds.
        assert time.time() - began > 3 * 4 - 1
        nagios.until(OK, "web03", "mounts /home")
    assert told_of_web03(nagios) == ["web03 mounts CRITICAL"]


def test_one_mount_is_silent_while_its_file_server_is_down(nagios: Shipped, stack: Stack, network: Network) -> None:
    nagios.until(CRITICAL, "filer1", "nfs", state_type=HARD)
    for _ in range(3):
        nagios.submit(CRITICAL, *PASSIVE)
    for service in PASSIVE:
        nagios.until(CRITICAL, "web03", service, state_type=HARD)
    # Past the delay, with results that are taken in.
    end = time.time() + 5
    while any(int(nagios.service("web03", service)["last_check"]) < end for service in PASSIVE):
        nagios.submit(CRITICAL, *PASSIVE)
        time.sleep(0.25)
    assert not told_of_web03(nagios)
    with filer(stack, network):
        nagios.until(OK, "filer1", "nfs")
        nagios.submit(CRITICAL, *PASSIVE)
        nagios.server.until(
            lambda: sorted(told_of_web03(nagios)) == ["web03 mounts /home CRITICAL", "web03 mounts CRITICAL"]
        )
