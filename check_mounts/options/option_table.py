"""The table of all options.

It is the source of the command line's parser, the keys of the configuration and of
``--extra-opts``, the rules for combining options, and the test of the manual. CONTRIBUTING.md has
the recipe for an option."""

from __future__ import annotations

from collections.abc import Mapping

from check_mounts import RESULT, mounttable
from check_mounts.model import Condition
from check_mounts.options import values
from check_mounts.options.option import Group, Option, Scope
from check_mounts.options.values import Parser
from check_mounts.typed import Any

SYNOPSIS = "check_mounts [OPTION]... [MOUNTPOINT]..."
MOUNT_POINTS = "mount_points"
DEFAULT_CONFIG = "/etc/check_mounts.conf"
DEFAULT_FSTAB = "/etc/fstab"
# Where the host's daemon keeps its incidents, and the word for nowhere.
INCIDENTS, NO_INCIDENTS = "/var/lib/check_mounts/incidents.jsonl", "none"
# Where it keeps what is usual on mounts.
USUAL = "/var/lib/check_mounts/usual"
# NRPE cuts the output off after this many bytes and does not say so (packet version 4).
_NRPE_LIMIT = 65504
_SMALLEST_OUTPUT = 128
# A module of :mod:`check_mounts.completion` for each.
SHELLS = ("bash", "zsh", "fish")


def _selecting(name: str, what: str, parse: Parser = values.path_globs, short: str = "", commas: bool = True) -> Option:
    return Option(name, Group.SELECTION, what, short, "GLOB", parse, repeatable=True, commas=commas)


def _choosing(name: str, group: Group, what: str, *choices: str, alone: tuple[str, ...] = ()) -> Option:
    """The first choice is the default. With ``alone``, all other choices can be combined."""
    metavar = "{" + ",".join(choices) + "}"
    parse = values.choices(*choices, alone=alone) if alone else values.choice(*choices)
    return Option(name, group, what, "", metavar, parse, choices[0], choices=choices)


def _latency(name: str, short: str) -> Option:
    words = (
        f"{name.upper()} if the seconds of the whole probe, or of one step, are outside this range (repeatable); "
        "with --daemon also for what programs did on NFS: rtt, exec, queue, retrans, timeouts"
    )
    return Option(
        name, Group.JUDGING, words, short, "[STEP=]RANGE", values.limit, repeatable=True, in_mount=values.limit
    )


def _capacity(what: str, example: str, name: str, state: str) -> Option:
    amount = f"the percentage of {what} in use, or the free amount ({example}),"
    words = f"{state.upper()} if {amount} is outside this range"
    return Option(name, Group.JUDGING, words, "", "RANGE", values.capacity, in_mount=values.capacity)


def _of_daemon(name: str, what: str, metavar: str, parse: Parser, default: Any = None) -> Option:
    return Option(name, Group.SERVICE, what, "", metavar, parse, default, only_with=("daemon",))


def _of_submission(name: str, what: str, metavar: str, parse: Parser, default: Any = None) -> Option:
    return Option(name, Group.SUBMISSION, what, "", metavar, parse, default, only_with=("submit",))


def _of_drill(name: str, what: str, metavar: str, parser: str, **more: Any) -> Option:
    def parse(word: str) -> Any:
        from check_mounts.options import drill_values  # only a drill needs it

        return getattr(drill_values, parser)(word)

    return Option(name, Group.JUDGING, what, "", metavar, parse, scope=Scope.COMMAND_LINE, **more)


_TYPES = "of this type (repeatable, or separated by commas)"

OPTIONS: tuple[Option, ...] = (
    _selecting("include-type", f"only filesystems {_TYPES}", values.types, "-N"),
    _selecting("exclude-type", f"no filesystems {_TYPES}", values.types, "-X"),
    _selecting("path", "only these mount points (repeatable, or separated by commas)", short="-p"),
    _selecting("exclude", "not these mount points (repeatable, or separated by commas)", short="-x"),
    _selecting("include-source", "only mounts of this source (repeatable)", values.pattern, commas=False),
    _selecting("exclude-source", "no mounts of this source (repeatable)", values.pattern, commas=False),
    Option("remote", Group.SELECTION, "network filesystems only", not_with=("local",)),
    Option("local", Group.SELECTION, "all but network filesystems", not_with=("remote",)),
    Option("user-mounts", Group.SELECTION, "also FUSE mounts of unprivileged users"),
    _choosing(
        "autofs", Group.SELECTION,
        "autofs triggers: leave them alone (default), or trigger them and probe the new mounts", "skip", "probe",
    ),
    Option(
        "namespaces", Group.SELECTION,
        "also the network and FUSE mounts of other mount namespaces: of containers, units and the like",
    ),
    Option("allow-none", Group.SELECTION, "OK, not UNKNOWN, if no mount is selected"),
    Option(
        "mountinfo", Group.SELECTION, f"the mount table (default: {mounttable.DEFAULT_PATH})",
        metavar="FILE", parse=str, default=mounttable.DEFAULT_PATH,
    ),
    Option(
        "namespace", Group.SELECTION,
        "check what this process sees (its ID, or its directory in another procfs: /host/proc/1): its mounts, fstab, "
        "units, and the file of --config",
        metavar="PID|DIRECTORY", parse=values.some, not_with=("explain", "for"),
    ),
    Option(
        "fstab", Group.DEMANDS,
        f"expect the mounts that fstab declares, as it declares them (default: {DEFAULT_FSTAB}); write --fstab=FILE",
        metavar="FILE", parse=str, left_out=DEFAULT_FSTAB,
    ),
    Option("systemd", Group.DEMANDS, "expect the mount and automount units that systemd wants"),
    Option(
        "expect", Group.DEMANDS,
        "expect this mount: MOUNTPOINT[,source=SOURCE][,type=TYPE][,OPTION]... (repeatable)",
        metavar="SPEC", parse=values.expected_mount, repeatable=True, in_mount=values.boolean,
    ),
    Option(
        "expect-ro", Group.DEMANDS, "expect these mount points to be read-only (repeatable, or separated by commas)",
        metavar="GLOB", parse=values.path_globs, repeatable=True, commas=True, in_mount=values.boolean,
    ),
    Option(
        "ignore-option", Group.DEMANDS,
        "do not compare these declared options (repeatable, or separated by commas)",
        metavar="GLOB", parse=values.patterns, repeatable=True, commas=True, in_mount=values.patterns,
    ),
    Option(
        "boot-grace", Group.DEMANDS,
        "so long after boot, a missing network mount that is declared is only WARNING (default: 300; 0: never)",
        metavar="SECONDS", parse=values.seconds_or_none, default=300.0, in_mount=values.seconds_or_none,
    ),
    Option(
        "config", Group.DEMANDS, f"the configuration (default: {DEFAULT_CONFIG}, if it exists)",
        metavar="FILE", parse=str, scope=Scope.COMMAND_LINE,
    ),
    Option(
        "check-config", Group.DEMANDS,
        "only check the configuration and the options, such as all those of a daemon; no mount is touched",
        scope=Scope.COMMAND_LINE,
    ),
    Option(
        "write-config", Group.DEMANDS,
        "print sections of a configuration that declare what is mounted now (or --write-config=expect: options)",
        metavar="FORM", parse=values.choice("sections", "expect"), left_out="sections", choices=("sections", "expect"),
        scope=Scope.COMMAND_LINE, not_with=("daemon", "check-config", "wait"),
    ),
    Option(
        "extra-opts", Group.DEMANDS,
        "take more options from a section of an ini file of the Monitoring Plugins; write --extra-opts=...",
        metavar="[SECTION][@FILE]", parse=str, repeatable=True, left_out="", scope=Scope.COMMAND_LINE,
    ),
    Option(
        "timeout", Group.PROBING, "time limit for one mount (default: 5)", "-t", "SECONDS", values.seconds, 5.0,
        in_mount=values.seconds,
    ),
    Option(
        "deadline", Group.PROBING, "time limit for the whole run (default: 4 more than the timeout)",
        metavar="SECONDS", parse=values.seconds,
    ),
    Option(
        "wait", Group.PROBING,
        "check until all mounts have answered; --timeout is then the limit of the whole wait (default: 60)",
        scope=Scope.COMMAND_LINE, not_with=("daemon",),
    ),
    Option(
        "users", Group.PROBING,
        "only print which processes use the mounts of this server, or this mount: who waits for it, who holds it "
        "(repeatable); no mount is touched",
        metavar="SERVER|MOUNTPOINT", parse=str, repeatable=True, scope=Scope.COMMAND_LINE,
        not_with=("daemon", "check-config", "write-config", "wait", "table", "brief", "incidents"),
    ),
    Option(
        "as", Group.PROBING,
        "look into each mount as its owner ('owner', the default), as the caller ('self'), or as this user",
        metavar="USER", parse=values.user, default="owner", in_mount=values.user,
    ),
    Option(
        "max-workers", Group.PROBING, "at most this many processes at the same time (default: 1024)",
        metavar="N", parse=values.whole(1, 32768), default=1024,
    ),
    Option(
        "write", Group.PROBING,
        "also write a file to each filesystem that answers and is not read-only, as its owner, and remove it again",
        in_mount=values.boolean,
    ),
    Option(
        "canary", Group.PROBING,
        "this file must be in each filesystem that matches and answers, and its owner must be able to read it "
        "(repeatable)",
        metavar="GLOB=FILE", parse=values.canary, repeatable=True, in_mount=values.canary_file,
    ),
    _choosing(
        "automounted", Group.PROBING,
        "mounts that expire once nobody uses them: only ask their server meanwhile (default), or look them up always, "
        "so that they never expire", "spare", "probe",
    ),
    Option("no-diagnosis", Group.PROBING, "do not ask the servers of mounts that fail or are slow"),
    Option(
        "state-dir", Group.PROBING, "the directory that remembers stuck probes (default for root: /run/check_mounts)",
        metavar="DIR", parse=str,
    ),
    _latency("warning", "-w"),
    _latency("critical", "-c"),
    _capacity("space", "10GiB:", "usage-warning", "warning"),
    _capacity("space", "10GiB:", "usage-critical", "critical"),
    _capacity("inodes", "10K:", "inodes-warning", "warning"),
    _capacity("inodes", "10K:", "inodes-critical", "critical"),
    Option(
        "severity", Group.JUDGING,
        "the state of a condition (repeatable, or separated by commas); the conditions are "
        + ", ".join(condition.value for condition in Condition),
        metavar="CONDITION=STATE", parse=values.severities, repeatable=True, commas=True, in_mount=values.severities,
    ),
    _of_drill(
        "pretend", "a drill: as if this mount were in this condition; all outputs say DRILL (repeatable)",
        "MOUNTPOINT=CONDITION", "pretended", repeatable=True, not_with=("daemon", "wait", "write-config", "explain"),
    ),
    _of_drill(
        "for", "with --pretend: have the daemon of --cache hold the drill for so long (30s, 5m, at most 1h); root only",
        "TIME", "length", only_with=("pretend",), not_with=("submit", "json", "table", "per-mount"),
    ),
    Option(
        "unusual", Group.JUDGING,
        "a network mount on which operations take FACTOR times as long as usual (default: 5), and 20 ms more, is slow; "
        "write --unusual=FACTOR",
        metavar="FACTOR", parse=values.unusual, default=0.0, left_out="yes", only_with=("daemon",),
        in_mount=values.unusual,
    ),
    Option(
        "verbose", Group.OUTPUT, "mounts that are not ok (-v), all mounts (-vv), all steps (-vvv)", "-v",
        repeatable=True,
    ),
    _choosing(
        "perfdata", Group.OUTPUT,
        "only counts (default), also each mount, also each step of a mount, also the usage of each mount "
        "(usage; mounts,usage), or no perfdata",
        "summary", "mounts", "steps", "usage", "none", alone=("summary", "none"),
    ),
    Option(
        "max-output", Group.OUTPUT,
        f"drop whole lines and perfdata items beyond this (default: {_NRPE_LIMIT}; 0: no limit)",
        metavar="BYTES", parse=values.whole(_SMALLEST_OUTPUT, 1 << 30, 0), default=_NRPE_LIMIT,
    ),
    Option(
        "table", Group.OUTPUT, "below the verdict, a table of the mounts by file server, for people; -v: all mounts",
        scope=Scope.COMMAND_LINE, not_with=("daemon", "json"),
    ),
    Option(
        "explain", Group.OUTPUT,
        "a page about this mount, for people: what it is, what is expected, what it answered, who uses it, what to try",
        metavar="MOUNTPOINT", parse=str, scope=Scope.COMMAND_LINE,
        not_with=(
            "daemon", "table", "wait", "write-config", "check-config", "submit", "per-mount", "users", "incidents",
        ),
    ),
    Option("json", Group.OUTPUT, "print everything as JSON", not_with=("daemon",)),
    Option(
        "brief", Group.OUTPUT, "with --json: only the states, a quarter of the size",
        scope=Scope.COMMAND_LINE, only_with=("json",),
    ),
    Option("debug", Group.OUTPUT, "print the traceback of a defect on stderr, or in the daemon's log"),
    Option("version", Group.OUTPUT, "print the version", "-V", scope=Scope.COMMAND_LINE),
    Option(
        "completion", Group.OUTPUT, "print a script that completes command lines in this shell",
        metavar="SHELL", parse=values.choice(*SHELLS), choices=SHELLS, scope=Scope.COMMAND_LINE,
    ),
    Option("help", Group.OUTPUT, "print the options that people need most", "-h", scope=Scope.COMMAND_LINE),
    Option("help-all", Group.OUTPUT, "print all options", scope=Scope.COMMAND_LINE),
    Option(
        "daemon", Group.SERVICE,
        "run as a daemon: check again and again, log to syslog, and keep the result for --cached",
        scope=Scope.COMMAND_LINE,
    ),
    _of_daemon("interval", "time from one check to the next (default: 60)", "SECONDS", values.seconds, 60.0),
    Option(
        "foreground", Group.SERVICE, "do not detach, and log to stderr",
        scope=Scope.COMMAND_LINE, only_with=("daemon",),
    ),
    Option(
        "cache", Group.SERVICE, f"the file that keeps the result (default: {RESULT})",
        metavar="FILE", parse=str, default=RESULT, only_with=("daemon", "cached", "incidents", "for"),
    ),
    _of_daemon("metrics", "write metrics for node_exporter's textfile collector, too", "FILE.prom", str),
    _of_daemon("syslog-facility", "log with this facility (default: daemon)", "NAME", values.log_facility, "daemon"),
    _of_daemon("syslog-ident", "log under this name (default: check_mounts)", "NAME", values.log_ident, "check_mounts"),
    Option(
        "log-changes", Group.SERVICE, "log changes, and not each check: of these, one line a day",
        only_with=("daemon",),
    ),
    Option(
        "cached", Group.SERVICE,
        "print the daemon's last result, UNKNOWN if it is too old; allows only --cache, --max-age, -v, --json, --brief",
        scope=Scope.COMMAND_LINE,
    ),
    Option(
        "max-age", Group.SERVICE, "with --cached: UNKNOWN if the result is older than this",
        metavar="SECONDS", parse=values.seconds, scope=Scope.COMMAND_LINE, only_with=("cached",), not_with=("daemon",),
    ),
    Option(
        "incidents", Group.SERVICE, "print what the daemon has seen happen to mounts, the newest last",
        scope=Scope.COMMAND_LINE, not_with=("daemon", "check-config", "write-config", "wait", "table", "brief"),
    ),
    Option(
        "since", Group.SERVICE,
        "with --incidents: only what was not over so long ago (24h, 90m, 7d) or then (2026-11-29 02:00, 02:00)",
        metavar="TIME", parse=values.since, scope=Scope.COMMAND_LINE, only_with=("incidents",),
    ),
    Option(
        "incident-file", Group.SERVICE, f"the file that keeps incidents (default: {INCIDENTS}), or none",
        metavar="FILE", parse=values.some, only_with=("daemon", "incidents"),
    ),
    _of_daemon("on-change", "run this program (absolute path, arguments) for each change", "COMMAND", values.command),
    Option("on-change-drill", Group.SERVICE, "run the program of --on-change for drills, too", only_with=("daemon",)),
    # The kinds of destinations.KINDS, in words: most runs submit nothing and do not load them.
    Option(
        "submit", Group.SUBMISSION,
        "submit the result to command-file:PATH, nsca:HOST[:PORT], icinga2:https://HOST:PORT or nrdp:URL, too "
        '(repeatable); passwords belong in the configuration, section [submit "DESTINATION"]',
        metavar="DESTINATION", parse=str, repeatable=True,
    ),
    _of_submission(
        "submit-host", "submit it as the result of this host (default: the host name)", "NAME", values.object_name
    ),
    _of_submission(
        "submit-service", "submit it as the result of this service (default: mounts)",
        "NAME", values.object_name, "mounts",
    ),
    _of_submission("submit-timeout", "time limit for each destination (default: 5)", "SECONDS", values.seconds, 5.0),
    Option(
        "per-mount", Group.SUBMISSION,
        "also submit, or print, a result for each mount, as the service 'mounts MOUNTPOINT'; write --per-mount=... for "
        "some: a GLOB of mount points, type=GLOB, source=GLOB, remote, local (repeatable, or separated by commas)",
        metavar="SPEC", parse=values.per_mount, repeatable=True, commas=True, left_out="yes",
        in_mount=values.per_mount,
    ),
)  # fmt: skip

BY_NAME: Mapping[str, Option] = {option.name: option for option in OPTIONS}
BY_WORD: Mapping[str, Option] = {word: option for option in OPTIONS for word in option.words}

# The keys of [mount "GLOB"], with the parsers of their values. Some exist only there.
MOUNT_KEYS: Mapping[str, Parser] = {
    **{option.name: option.in_mount for option in OPTIONS if option.in_mount is not None},
    "ignore": values.boolean,
    "contains": values.some_bytes,
    "not-empty": values.boolean,
    "source": values.some_bytes,
    "type": values.fs_type,
    "options": values.mount_options,
}
# These keys may occur several times in a section, and their values add up; others may occur once.
ADDED_UP = frozenset(("severity", "options", "ignore-option", "warning", "critical"))
