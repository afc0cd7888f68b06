"""``--write-config``: declarations of what is mounted now. Only the mount table is read, and no
mount is touched.

Each part of a declaration is understood and compared as a check would do it, and left out if that
says anything. So nothing is written that is not silent when it is read back. What another boot or
another answer of a server may change is left out as well."""

from __future__ import annotations

import collections
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from check_mounts import filesystems, readonly, selection, text
from check_mounts.declared import compare, spec
from check_mounts.declared.options_to_keep import FLAGS, KEPT
from check_mounts.guard.notes import Notes
from check_mounts.model import ExpectedMount, Mount, State
from check_mounts.options import config_text, trusted_file
from check_mounts.options.refusals import ConfigError, refuse
from check_mounts.options.understood import Options, read_table
from check_mounts.system.printing import write
from check_mounts.system.signals import Interrupts
from check_mounts.typed import NamedTuple, Optional

# In seconds. Nothing can hang once the table has been read, but 10,000 mounts take a while.
_LONGEST = 600.0
# What comes and goes while a host is up: a pattern of mount points, and why.
_TRANSIENT = tuple(
    (re.compile(pattern, re.DOTALL), why)
    for pattern, why in (
        (rb"/(var/lib/snapd/)?snap/", "a snap: each refresh mounts it elsewhere"),
        (
            rb"/var/(lib|snap)/(docker|containers?|containerd|kubelet|rancher|lxc|lxd|incus|nomad|cni|machines)/",
            "of a container",
        ),
        (rb"/home/[^/]+/\.local/share/(containers|docker)/", "of a container"),
        (rb"/run/user/[0-9]+(/|\Z)", "made when a user logs in"),
        (rb"/(run/)?media/", "mounted for a user"),
        (rb"/(dev|proc|run|sys)(/|\Z)", "mounted anew at each boot, without a declaration"),
        (rb"/(var/)?tmp/", "below a directory for temporary files"),
        (rb".*/\.zfs/snapshot/", "a snapshot, mounted on demand"),
    )
)
# Names of devices that mean the same disk after another boot.
_LASTING_DEVICE = re.compile(rb"/dev/(mapper/|disk/by-|md/|zvol/|drbd)", re.DOTALL)
_PLAIN = re.compile(rb"[\w./:@%+=,~-]+(?: [\w./:@%+=,~-]+)*\Z", re.ASCII)


class Keys(NamedTuple):
    """The parts of one declaration."""

    mount_point: bytes
    fs_type: Optional[bytes] = None
    source: Optional[bytes] = None
    options: tuple[bytes, ...] = ()


class Form(NamedTuple):
    """How declarations are written: ``spelt`` gives the bytes, ``understood`` what they mean when
    they are read back, None if they make no sense. ``read_only`` expects a mount point to be
    read-only, if anything is mounted there."""

    spelt: Callable[[Keys], bytes]
    understood: Callable[[Keys], Optional[ExpectedMount]]
    read_only: Callable[[bytes], bytes]


def run(options: Options, form: str, interrupts: Interrupts, noted: Notes) -> int:
    """Print the declarations, and return the exit code. Raises UsageError."""
    mounts, unparsed = read_table(options)
    noted.step("comparing declarations with the mount table")
    noted.until(time.monotonic() + _LONGEST)
    output = written(mounts, options.filters, _FORMS[form], [f"line {line.number}: {line.why}" for line in unparsed])
    write(output, interrupts)
    return State.OK.value


def written(mounts: Sequence[Mount], filters: selection.Filters, form: Form, notes: Sequence[str] = ()) -> bytes:
    """The declarations of the selected mounts. Raises UsageError if there is nothing to
    declare, or if it is too much for a configuration."""
    chosen = selection.select(mounts, filters)
    for point, why in chosen.missing:
        refuse("MOUNTPOINT", f"{text.printable(point)}: {why}")
    declared, others = _declarations(mounts, chosen, form)
    if not declared:
        refuse("", "no mount was selected")
    left = [f"{text.printable(mount.mount_point)} ({text.printable(mount.fs_type)}): {why}" for mount, why in others]
    verdict = f"{text.counted(len(declared), 'mount')} written" + (f", {len(left)} not" if left else "")
    comments = [f"MOUNTS OK - {verdict}", *(f"not written: {each}" for each in [*left, *notes])]
    output = b"".join(b"# %b\n" % text.encoded(text.one_line(line), "utf-8") for line in comments)
    output += b"".join(map(form.spelt, declared))
    # With any declaration, a read-only mount that nobody declared is a failure.
    output += b"".join(form.read_only(mount.mount_point) for mount, _ in others if _needs_ro(mount, mounts))
    if len(output) > trusted_file.MAX_SIZE:
        refuse("--write-config", "a configuration must not be larger than 1 MiB: select fewer mounts")
    return output


def _needs_ro(mount: Mount, mounts: Sequence[Mount]) -> bool:
    found = readonly.unwritable(mount, True, lambda: mounts, lambda each: None)
    return found is not None and found.fails


def _declarations(
    mounts: Sequence[Mount], chosen: selection.Selection, form: Form
) -> tuple[list[Keys], list[tuple[Mount, str]]]:
    """The declarations, and the mounts without one, with the reason; both in the order of mount
    points."""
    by_id = {mount.mount_id: mount for mount in mounts}
    shared = _shared(mounts)
    declared: list[Keys] = []
    others: list[tuple[Mount, str]] = []
    topmost = {mount.mount_point: mount for mount in chosen.selected}
    for _, mount in sorted(topmost.items()):
        why = None if mount.mount_point in chosen.named else _why_transient(mount, by_id)
        keys = _declaration(mount, form, mount.device in shared) if why is None else None
        if keys is None:
            others.append((mount, why or "its name cannot be written"))
        else:
            declared.append(keys)
    return _silent_together(declared, mounts, chosen.visible), others


def _shared(mounts: Sequence[Mount]) -> frozenset[tuple[int, int]]:
    """The superblocks that several mounts show: only the first one decided their options."""
    counts = collections.Counter(mount.device for mount in mounts)
    return frozenset(device for device, count in counts.items() if count > 1)


def _why_transient(mount: Mount, by_id: Mapping[int, Mount]) -> Optional[str]:
    """Why a mount may rightly be absent later; None if it should be there."""
    above = by_id.get(mount.parent_id)
    if above is not None and (filesystems.is_trigger(above) or _is_followed(mount, above)):
        return "mounted on demand, until nobody uses it"
    return next((why for pattern, why in _TRANSIENT if pattern.match(mount.mount_point)), None)


def _is_followed(mount: Mount, above: Mount) -> bool:
    """Whether the client has mounted what lies below an export or share there, because somebody
    entered it (nfs_d_automount in fs/nfs/namespace.c)."""
    below = mount.mount_point[len(above.mount_point.rstrip(b"/")) :]
    return (
        mount.fs_type == above.fs_type
        and filesystems.is_network(mount)
        and mount.source == above.source.rstrip(b"/") + below
    )


def _silent_together(declared: Sequence[Keys], mounts: Sequence[Mount], visible: frozenset[int]) -> list[Keys]:
    """The declarations without what is not silent once all of them are compared together."""
    expected = [ExpectedMount(keys.mount_point, keys.source, keys.fs_type, keys.options, "") for keys in declared]
    found = compare.compared(expected, mounts, visible)
    loud = {finding.mount_point for finding in (*found.deviations, *found.empty)}
    return [Keys(keys.mount_point) if keys.mount_point in loud else keys for keys in declared]


def _declaration(mount: Mount, form: Form, shared: bool) -> Optional[Keys]:
    """All that can be declared of a mount; None if not even its mount point can."""
    keys = whole = Keys(mount.mount_point)
    for more in _candidates(mount, shared):
        whole = more(whole)
    if _is_silent(whole, mount, form):
        return whole
    if not _is_silent(keys, mount, form):
        return None
    for more in _candidates(mount, shared):
        grown = more(keys)
        if _is_silent(grown, mount, form):
            keys = grown
    return keys


def _candidates(mount: Mount, shared: bool) -> Iterator[Callable[[Keys], Keys]]:
    """What a declaration may say of a mount, one after the other."""
    yield _with_option(b"ro" if mount.is_read_only else b"rw")
    yield lambda keys: keys._replace(fs_type=mount.fs_type)
    if _lasts(mount):
        yield lambda keys: keys._replace(source=mount.source)
    kept = FLAGS | KEPT.get(mount.fs_type, frozenset())
    of_superblock = () if shared else mount.super_options
    flags = [option for option in mount.options if option in FLAGS]
    yield from map(
        _with_option, dict.fromkeys([*flags, *(each for each in of_superblock if each.partition(b"=")[0] in kept)])
    )


def _with_option(option: bytes) -> Callable[[Keys], Keys]:
    return lambda keys: keys._replace(options=(*keys.options, option))


def _lasts(mount: Mount) -> bool:
    """Whether the source is the same after another boot, and no secret."""
    known = filesystems.traits(mount.fs_type)
    if text.without_secrets(mount.source) != mount.source:
        return False
    if mount.source.startswith(b"/dev/") or known.device:
        return _LASTING_DEVICE.match(mount.source) is not None
    return filesystems.is_network(mount) or known.pool or known.named


def _is_silent(keys: Keys, mount: Mount, form: Form) -> bool:
    """Whether a declaration is read back as it is meant, and a check says nothing about it."""
    expected = form.understood(keys)
    if expected is None or Keys(expected.mount_point, expected.fs_type, expected.source, expected.options) != keys:
        return False
    found = compare.compared([expected], [mount], {mount.mount_id})
    return not (found.empty or found.uncompared or found.excused or (keys[1:] != Keys(b"")[1:] and found.deviations))


# -- sections of a configuration


def _section(keys: Keys) -> bytes:
    lines = [b'\n[mount "%b"]' % _escaped(_literal(keys.mount_point)), b"expect = yes"]
    values = {b"type": keys.fs_type, b"source": keys.source, b"options": b", ".join(keys.options)}
    lines += [b"%b = %b" % (key, _quoted(value)) for key, value in values.items() if value]
    return b"\n".join([*lines, b""])


def _understood_section(keys: Keys) -> Optional[ExpectedMount]:
    try:
        found = config_text.parse(_section(keys), "").expected()
    except ConfigError:
        return None
    return found[0] if len(found) == 1 else None


def _read_only_section(mount_point: bytes) -> bytes:
    return b'\n[mount "%b"]\nexpect-ro = yes\n' % _escaped(_literal(mount_point))


def _literal(path: bytes) -> bytes:
    """A pattern that matches only this path."""
    return re.sub(rb"[*?[]", rb"[\g<0>]", path)


def _quoted(value: bytes) -> bytes:
    return value if _PLAIN.match(value) else b'"%b"' % _escaped(value)


def _escaped(value: bytes) -> bytes:
    """The bytes between quotes: what no terminal, editor or line could bear is written in octal."""
    return b"".join(map(_escaped_character, value.decode("utf-8", "surrogateescape")))


def _escaped_character(char: str) -> bytes:
    if char in '"\\':
        return b"\\" + char.encode()
    data = char.encode("utf-8", "surrogateescape")
    return data if char.isprintable() else b"".join(b"\\%03o" % byte for byte in data)


# -- words of a command line


def _word(keys: Keys) -> bytes:
    fields = [keys.mount_point]
    fields += [b"type=" + keys.fs_type] if keys.fs_type else []
    fields += [b"source=" + keys.source] if keys.source else []
    return b",".join(field.replace(b",", b"\\,") for field in (*fields, *keys.options))


def _understood_word(keys: Keys) -> Optional[ExpectedMount]:
    word = _word(keys)
    if not os.fsdecode(word).isprintable():
        return None
    try:
        return spec.parse_spec(word)
    except ValueError:
        return None


def _shell(word: bytes) -> bytes:
    return b"'%b'" % word.replace(b"'", b"'\"'\"'")


def _read_only_word(mount_point: bytes) -> bytes:
    if not os.fsdecode(mount_point).isprintable():
        return b""
    # There, braces and commas may mean several patterns.
    return b"--expect-ro %b\n" % _shell(re.sub(rb"[{,]", rb"[\g<0>]", _literal(mount_point)))


_FORMS = {
    "sections": Form(_section, _understood_section, _read_only_section),
    "expect": Form(lambda keys: b"--expect %b\n" % _shell(_word(keys)), _understood_word, _read_only_word),
}
