"""A private Nagios 4 below ``stack.base`` whose services take passive results, and what its
status.dat says of them.

    nagios = Nagios(stack, services)           configured and started; services: (host, service),
                                               (host, service), ...
    nagios.commands                            its command file
    nagios.service(host, service)              what status.dat says, key by key
    nagios.program()                           the same of Nagios itself: enable_notifications, ...
    nagios.until_checked(host, service)        wait for a first result; give what status.dat says
                                               then
    nagios.server, .stop()
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tests.conftest import until
from tests.monitoring.stack import Stack

_MAIN = """\
log_file={base}/nagios.log
cfg_file={base}/objects.cfg
object_cache_file={base}/objects.cache
precached_object_file={base}/objects.precache
status_file={base}/status.dat
status_update_interval=1
nagios_user=nagios
nagios_group=nagios
check_external_commands=1
command_file={base}/rw/nagios.cmd
lock_file={base}/nagios.pid
temp_file={base}/nagios.tmp
temp_path={base}/tmp
check_result_path={base}/checkresults
query_socket={base}/rw/nagios.qh
state_retention_file={base}/retention.dat
log_passive_checks=1
use_syslog=0
event_broker_options=0
check_result_reaper_frequency=1
interval_length=1
execute_host_checks=0
execute_service_checks=0
enable_notifications=1
check_for_updates=0
accept_passive_service_checks=1
"""
_OBJECTS = """\
define timeperiod {
    timeperiod_name  always
    alias            always
    sunday           00:00-24:00
    monday           00:00-24:00
    tuesday          00:00-24:00
    wednesday        00:00-24:00
    thursday         00:00-24:00
    friday           00:00-24:00
    saturday         00:00-24:00
}
define command {
    command_name     none
    command_line     /bin/true
}
define contact {
    contact_name                    admin
    host_notification_period        always
    service_notification_period     always
    host_notification_options       n
    service_notification_options    n
    host_notification_commands      none
    service_notification_commands   none
}
"""
_HOST = """\
define host {{
    host_name           {host}
    alias               {host}
    address             127.0.0.1
    max_check_attempts  1
    check_period        always
    contacts            admin
}}
"""
_SERVICE = """\
define service {{
    host_name               {host}
    service_description     {service}
    check_command           none
    active_checks_enabled   0
    passive_checks_enabled  1
    max_check_attempts      1
    check_period            always
    notification_period     always
    contacts                admin
}}
"""


class Nagios:
    """See the module's docstring."""

    def __init__(self, stack: Stack, services: Sequence[tuple[str, str]], name: str = "nagios") -> None:
        self.base = stack.own(stack.base / name)
        for directory in ("rw", "tmp", "checkresults"):
            stack.own(self.base / directory)
        self.commands = self.base / "rw/nagios.cmd"
        self._status = self.base / "status.dat"
        hosts = dict.fromkeys(host for host, _ in services)
        objects = [_OBJECTS, *(_HOST.format(host=host) for host in hosts)]
        objects += [_SERVICE.format(host=host, service=service) for host, service in services]
        stack.write(self.base / "objects.cfg", "".join(objects))
        main = stack.write(self.base / "nagios.cfg", _MAIN.format(base=self.base))
        self.server = stack.server("nagios4", main, name=name)
        self.server.until(lambda: self.commands.is_fifo() and self._status.exists() and self.program())

    @property
    def log(self) -> str:
        return (self.base / "nagios.log").read_text("utf-8", "surrogateescape")

    def _blocks(self, kind: str) -> Iterable[dict[str, str]]:
        try:
            text = self._status.read_text("utf-8", "surrogateescape")
        except FileNotFoundError:  # being replaced
            return
        for block in re.findall(rf"^{kind} \{{\n(.*?)^\t\}}\n", text, re.MULTILINE | re.DOTALL):
            yield dict(line.strip().split("=", 1) for line in block.split("\n") if "=" in line)

    def service(self, host: str, service: str) -> dict[str, str]:
        for block in self._blocks("servicestatus"):
            if (block["host_name"], block["service_description"]) == (host, service):
                return block
        return {}

    def program(self) -> dict[str, str]:
        return next(iter(self._blocks("programstatus")), {})

    def until_checked(self, host: str, service: str, since: int = 1) -> dict[str, str]:
        self.server.until(lambda: int(self.service(host, service).get("last_check", "0")) >= since)
        return self.service(host, service)

    def stop(self) -> None:
        self.server.stop()
        until(lambda: not self.server.runs())


def as_status(output: bytes) -> dict[str, str]:
    """What status.dat says of a service whose plugin printed this. Nagios has its own ways, also
    with what it runs itself: ``;`` in the text is ``:``, and in the lines below the first one,
    backslashes and line breaks are escaped."""
    first, _, below = output.decode("utf-8").rstrip("\n").partition("\n")
    text, _, perfdata = first.partition(" | ")
    return {
        "plugin_output": text.replace(";", ":"),
        "performance_data": perfdata,
        "long_plugin_output": below.replace("\\", "\\\\").replace("\n", "\\n"),
    }
