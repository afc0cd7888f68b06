"""The command line and the files -> :class:`Options`, with the users that they name looked up.

In this module ``said`` has the values of all options, wherever they come from. ``given`` has only
the options of the command line, by their names in Python (``submit_host``)."""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Mapping, Sequence

from check_mounts import mounttable, selection, text
from check_mounts.checks import demands
from check_mounts.checks.checking import Check
from check_mounts.judging.policy import Policy, is_slow
from check_mounts.model import NO_GRACE, BadLine, ExpectedMount
from check_mounts.options import command_line, config
from check_mounts.options.command_line import Values
from check_mounts.options.configuration import Configuration, Said
from check_mounts.options.option_table import DEFAULT_CONFIG
from check_mounts.options.refusals import ConfigError, Origin, Unreadable, UsageError, blamed, refuse
from check_mounts.options.rules import General, Rulebook, follow, places
from check_mounts.options.understood import Options, Service
from check_mounts.options.working_directory import absolute
from check_mounts.probing import asking, sysfs
from check_mounts.report.presenting import Output
from check_mounts.system import directories, privilege
from check_mounts.typed import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from check_mounts.options.drill_options import Drill
    from check_mounts.passive.delivery import Submission
    from check_mounts.report.each import Each
    from check_mounts.roots import Root
    from check_mounts.tablelines import Opener

_SELF_OR_OWNER: Mapping[str, Optional[privilege.Identity]] = {"owner": None, "self": None}


def understand(given: Mapping[str, Any], again: bool = False) -> Options:
    """Read the files that a command line names, and return all options. Raises UsageError.

    ``again``: a daemon that runs already reads them again."""
    configuration, from_files = read_files(given)
    said = command_line.with_defaults(*({line.option.dest: line.value} for line in from_files), given)
    command_line.refuse_measures(given)
    if configuration.sections and given:
        from check_mounts.options import overruled  # most runs have no sections

        configuration = overruled.without(configuration, given)
    # The lines that values come from, for errors that are found only later.
    origins = {line.option.name: line.origin for line in from_files if line.option.dest not in given}
    try:
        return _settled(said, configuration, given.keys(), origins, places(from_files, given), again)
    except UsageError as error:
        raise blamed(error, origins) from None


def read_files(given: Mapping[str, Any]) -> tuple[Configuration, Sequence[Said]]:
    """Read the configuration, and the options that it and --extra-opts give.

    Raises UsageError, which names file and line."""
    named = given.get("config")
    try:
        path, opener = (DEFAULT_CONFIG, os.open) if named is None else _config_of(named, given.get("namespace"))
        configuration = config.read(path, optional=named is None, opener=opener)
    except ConfigError as error:
        # An error within the file names its line, which says enough.
        option = "--config" if named is not None and error.origin is None else ""
        way_out = "; --config names another file, --config /dev/null none"
        why = error.why + way_out * (named is None and isinstance(error, Unreadable))
        raise UsageError(option, why, origin=error.origin) from None
    said = configuration.options
    if named is None and "daemon" not in given:
        # The file's --submit is for the daemon: a check of one mount by hand must not tell the
        # server that all mounts of this host are well. Its --per-mount goes with that.
        unmeant = {"submit"} if "submit" in given else {"submit", "per-mount"}
        said = tuple(line for line in said if line.option.name not in unmeant)
    return configuration, [*said, *_read_extra(given.get("extra_opts", ()))]


def _config_of(named: str, namespace: Optional[str]) -> tuple[str, Opener]:
    """The path of the configuration that the command line names, and what opens it: with
    --namespace, it is a file of that place. Raises UsageError."""
    if namespace is None or named == "/dev/null":
        return absolute("--config", named), os.open
    from check_mounts.options import namespace as places  # most runs look from where they are

    return places.rooted("--config", named), places.files(places.root(namespace))


def _read_extra(specs: Sequence[str]) -> Sequence[Said]:
    """Read the options that --extra-opts gives. Raises UsageError."""
    if not specs:
        return ()
    from check_mounts.options import extra_opts

    try:
        return [said for spec in specs for said in extra_opts.read(spec, os.environ)]
    except ConfigError as error:
        raise UsageError("", error.why, origin=error.origin) from None


def _settled(
    said: Values,
    configuration: Configuration,
    given: Collection[str],
    origins: Mapping[str, Origin],
    said_in: Mapping[str, str],
    again: bool,
) -> Options:
    """The options, from the values of all options. Raises UsageError."""
    deadline = command_line.checked_deadline(said, given)
    root = None if said.namespace is None else _place(said)
    declared, wrong, notes = _read_declarations(said, configuration, root)
    rulebook = _rulebook(said, configuration, said_in, deadline)
    globs = _globs(said, drill := _drill(said))
    check = Check(
        filters=_filters(said, rulebook, configuration),
        settings=_settings(said, rulebook, configuration, deadline),
        demands=_demands(said, rulebook, configuration, declared),
        notes=notes,
        wrong=wrong,
        mountinfo=absolute("--mountinfo", said.mountinfo),
        state_dir=absolute("--state-dir", said.state_dir or directories.default_directory()),
        patterns=[path for path in (*[glob.leading for glob in globs], *configuration.leading()) if path],
        follow=functools.partial(follow, globs, rulebook),
    )
    options = Options(
        check=_with_spaces(check) if said.namespaces else check if root is None else _seen_from(root, check),
        policy=_policy(said, rulebook, configuration),
        origins=origins,
        output=_output(said, _per_mount(said, rulebook, configuration, declared)),
        allow_none=said.allow_none,
        fstab=None if said.fstab is None else absolute("--fstab", said.fstab),
        service=_service(said, configuration, given, again),
        submission=_submission(said, configuration),
        debug=said.debug,
        wait=said.wait,
        drill=drill,
    )
    return options if said.explain is None else _explained(options, said, given, rulebook)


def _read_declarations(
    said: Values, configuration: Configuration, root: Optional[Root]
) -> tuple[list[ExpectedMount], list[BadLine], list[str]]:
    if said.fstab is not None or said.systemd or said.expect or said.expect_ro or configuration.sections:
        from check_mounts.declared import compare  # noqa: F401  an import that fails later must not lose the findings
    more = [*configuration.expected(), *said.expect]
    if said.fstab is None and not said.systemd:
        return more, [], []
    from check_mounts.options import declarations

    return declarations.read(said, more, root)


def _place(said: Values) -> Root:
    """The place that --namespace names. Raises UsageError."""
    from check_mounts.options import namespace  # most runs look from where they are

    return namespace.settled(said)


def _explained(options: Options, said: Values, given: Collection[str], rulebook: Rulebook) -> Options:
    """The options, for the mount that --explain names. Raises UsageError."""
    from check_mounts.options import explain_options  # most runs explain nothing

    return explain_options.settled(options, said, given, rulebook, mount_point(said.explain, "--explain"))


def _seen_from(root: Root, check: Check) -> Check:
    from check_mounts.options import namespace

    return namespace.adapted(check, root)


def _with_spaces(check: Check) -> Check:
    """The check, with other mount namespaces. Raises UsageError."""
    from check_mounts.options import space_options  # most runs look at their own namespace only

    return check._replace(spaces=space_options.settled(check.mountinfo, check.settings.deadline))


def _globs(said: Values, drill: Optional[Drill]) -> Sequence[selection.PathGlob]:
    chosen = (each.pattern for each in said.per_mount)
    paths = (each for each in chosen if isinstance(each, selection.PathGlob))
    canaries = (glob for glob, _ in said.canary)
    pretended = () if drill is None else drill.pretended.globs
    return [*said.path, *said.exclude, *said.expect_ro, *paths, *canaries, *pretended]


def _drill(said: Values) -> Optional[Drill]:
    """What ``--pretend`` asks for. Raises UsageError."""
    if not said.pretend:
        return None
    from check_mounts.options import drill_options

    return drill_options.settled(said)


def _filters(said: Values, rulebook: Rulebook, configuration: Configuration) -> selection.Filters:
    if said.remote and said.local:  # one of them, or both, in a file
        refuse("--local", "does not go with --remote: no mount could be selected")
    filters = selection.Filters(
        include_types=said.include_type,
        exclude_types=said.exclude_type,
        include_paths=said.path,
        exclude_paths=said.exclude,
        include_sources=said.include_source,
        exclude_sources=said.exclude_source,
        remote=said.remote,
        local=said.local,
        user_mounts=said.user_mounts,
        autofs=said.autofs == "probe",
        mount_points=[mount_point(word) for word in said.mount_points],
    )
    if not configuration.sections:
        return filters
    return filters._replace(ignored=rulebook.is_ignored, declared=rulebook.is_declared)


def mount_point(word: str, option: str = "MOUNTPOINT") -> bytes:
    """A mount point as the kernel spells it. Raises UsageError, which names the option.

    This comes after the options were checked: if an option is misspelt, the message must name the
    option, not its value."""
    if word.startswith("-"):  # an unknown option whose value has blanks, and may be a secret
        refuse(option, f"'{command_line.without_value(word)}' is not an absolute path")
    if not word.startswith("/"):
        refuse(option, f"'{text.printable_argument(word)}' is not an absolute path")
    from check_mounts.naming import names  # most runs name no mount point

    return names.simplified(os.fsencode(word))


def _settings(said: Values, rulebook: Rulebook, configuration: Configuration, deadline: float) -> asking.Settings:
    policy = _policy(said, rulebook, configuration)
    return asking.Settings(
        timeout=said.timeout,
        deadline=deadline,
        max_workers=said.max_workers,
        as_owner=said.identity == "owner",
        identity=rulebook.identities[said.identity],
        spares=said.automounted == "spare",
        diagnosis=not said.no_diagnosis,
        slow_from=min(x.slow_from for x in (policy, *(s.overrides.policy(policy) for s in configuration.sections))),
        is_slow=lambda finding: is_slow(finding, policy.of(finding.mount_point)),
        writes=rulebook.writes,
        canary=rulebook.canary if said.canary or configuration.has_canaries else None,
        override=rulebook.override if configuration.sections else None,
    )


def _policy(said: Values, rulebook: Rulebook, configuration: Configuration) -> Policy:
    policy = rulebook.general.policy
    if not configuration.sections:
        return policy
    return policy._replace(exception=rulebook.policy, told=rulebook.told)


def _demands(
    said: Values, rulebook: Rulebook, configuration: Configuration, declared: Sequence[ExpectedMount]
) -> demands.Demands:
    any_ro = bool(declared or said.expect_ro) or said.fstab is not None or said.systemd
    # The device numbers in another host's table mean nothing here.
    why_read_only = sysfs.why_read_only if said.mountinfo == mounttable.DEFAULT_PATH else lambda mount: None
    # Nor is it this host that was booted. A wait gives its mounts time anyway.
    has_grace = said.mountinfo.startswith("/proc/") and not said.wait
    return demands.Demands(
        declared,
        rulebook.declared,
        rulebook.ignored_options,
        rulebook.expect_ro,
        rulebook.expect_ro_in,
        any_ro=any_ro,
        by_mount=bool(configuration.sections or said.expect_ro),
        why_read_only=why_read_only,
        boot_grace=rulebook.boot_grace if has_grace else lambda mount_point: NO_GRACE,
    )


# -- the rules


def _rulebook(said: Values, configuration: Configuration, said_in: Mapping[str, str], deadline: float) -> Rulebook:
    """The rules for all mounts. Raises UsageError."""
    for section in configuration.sections:
        timeout = section.overrides.timeout
        if timeout is not None and timeout > deadline and not said.wait:
            why = f"{timeout:g} s is longer than the deadline of {deadline:g} s"
            raise UsageError("--timeout", why, origin=section.origins["timeout"])
    policy = _general_policy(said)
    if said.critical or said.usage_critical or said.inodes_critical or configuration.sections:
        from check_mounts.options import contradictions  # most runs have no thresholds

        contradictions.refuse(policy, configuration)
        if not said.canary:
            contradictions.refuse_contains(configuration)
    general = General(
        timeout=said.timeout,
        user=said.identity,
        write=said.write,
        canaries=said.canary,
        policy=policy,
        expect_ro=said.expect_ro,
        ignored_options=said.ignore_option,
        boot_grace=said.boot_grace,
        origins=said_in,
    )
    return Rulebook(general, configuration, _look_up_users(said.identity, configuration))


def _general_policy(said: Values) -> Policy:
    warning, critical = dict(said.warning), dict(said.critical)
    return Policy(
        severity=dict(said.severity),
        warning=warning.pop(None, None),
        critical=critical.pop(None, None),
        usage_warning=said.usage_warning,
        usage_critical=said.usage_critical,
        inodes_warning=said.inodes_warning,
        inodes_critical=said.inodes_critical,
        unusual=said.unusual,
        step_warning=warning,
        step_critical=critical,
    )


def _look_up_users(general: str, configuration: Configuration) -> Mapping[str, Optional[privilege.Identity]]:
    """Look up the users that the options name. Raises UsageError."""
    users = dict(_SELF_OR_OWNER)
    if general not in users:
        users[general] = _look_up_user(general)
    for user, origin in configuration.identities().items():
        if user not in users:
            users[user] = _look_up_user(user, origin)
    return users


def _look_up_user(user: str, origin: Optional[Origin] = None) -> Optional[privilege.Identity]:
    """Look up a user; None if this process is that user already. Raises UsageError."""
    try:
        identity = privilege.resolve(user)
    except privilege.UnknownUser:
        why = f"there is no user '{text.printable_argument(user)}'"
        raise UsageError("--as", why, origin=origin) from None
    if os.geteuid() == identity.uid:
        return None
    if not privilege.can_act_as_others():
        why = "only root, or a process with CAP_SETUID and CAP_SETGID, can act as another user"
        raise UsageError("--as", why, origin=origin)
    return identity


# -- the daemon and the submission


def _service(said: Values, configuration: Configuration, given: Collection[str], again: bool) -> Optional[Service]:
    """The work of the daemon; None without ``--daemon``. Raises UsageError.

    ``again``: the daemon runs already."""
    if said.cached:  # which the fast path (cache.py) has not seen
        refuse("--cached", "must stand before all mount points, with --cache, --max-age, -v, --json, --brief only")
    command_line.check_combination(given, said)
    if not said.daemon:
        return None
    from check_mounts.options import service_options

    return service_options.settled(
        said, again, any(section.overrides.limits.get("unusual") for section in configuration.sections)
    )


def _output(said: Values, per_mount: Optional[Each]) -> Output:
    return Output(said.verbose, said.perfdata, said.max_output, said.json, said.brief, per_mount, said.table)


def _per_mount(
    said: Values, rulebook: Rulebook, configuration: Configuration, declared: Sequence[ExpectedMount]
) -> Optional[Each]:
    """Which mounts have a result of their own. A section that wants one for its mount needs no
    option, but a submission: a run by hand should print nothing that it was not asked for."""
    sections = [section.overrides.per_mount for section in configuration.sections]
    if not said.per_mount and not (said.submit and any(sections)):
        return None
    from check_mounts.report import each

    says = rulebook.per_mount if any(one is not None for one in sections) else lambda point: None
    return each.Each(said.per_mount, says, {one.mount_point: one for one in declared})


def _submission(said: Values, configuration: Configuration) -> Optional[Submission]:
    """The destinations of the result; None without ``--submit``. Raises UsageError."""
    if not said.submit:
        return None
    from check_mounts.options import submission_options

    return submission_options.settled(said, configuration.destinations)
