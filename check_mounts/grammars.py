"""How sources name servers: one function for each way to write a source. Pure.

Import budget: ``text``; no pattern is compiled here, because every start imports this module. A
grammar decides on the text alone and looks nothing up."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from check_mounts import text
from check_mounts.model import Mount

# A source and its mount -> the servers that the source names, in its order.
Grammar = Callable[[bytes, Mount], list[bytes]]


def no_server(_source: bytes, _mount: Mount) -> list[bytes]:
    """A source that names no server, whatever it looks like.

    It is a dataset, a tag, a bucket, or a word that somebody chose."""
    return []


def _user_less(source: bytes) -> bytes:
    """A source without the slashes, ``user:password@`` or ``user@`` before its first host."""
    bare = text.without_secrets(source).lstrip(b"/")
    _, masked, rest = bare.partition(text.MASK + b"@")
    if masked:
        return rest
    # The user of `user@host:path`; the path may hold another `@`.
    end = min((at for at in map(bare.find, (b":", b"/")) if at >= 0), default=len(bare))
    return bare[bare.rfind(b"@", 0, end) + 1 :]


def _hosts(listed: Iterable[bytes], *default_ports: bytes) -> list[bytes]:
    """The words of a list that can be hosts, each without its port if that is the default.

    A colon that does not precede a port must stand in brackets."""
    return [host for each in listed if _is_host(host := _without_port(each.strip(), default_ports))]


def _without_port(host: bytes, ports: tuple[bytes, ...]) -> bytes:
    name, _, port = host.rpartition(b":")
    return name if name and port in ports else host


def _is_host(host: bytes) -> bool:
    name, colon, port = host.rpartition(b":") if not host.endswith(b"]") else (host, b"", b"")
    name = name if colon else host
    in_brackets = name.startswith(b"[") and name.endswith(b"]")
    return bool(name) and (not colon or port.isdigit()) and (in_brackets or not any(byte in b":/[]" for byte in name))


def export(source: bytes, mount: Mount) -> list[bytes]:
    """``host:/path``, ``user@host:/path``, ``[v6]:/path``, ``host1,host2:/path``."""
    if source.startswith(b"nfs://"):
        return url(source, mount)
    if source.startswith(b"//"):
        return share(source, mount)
    hosts, separator, _ = _user_less(source).partition(b":/")
    # Types with this grammar write no port here: `mon1:6789:/` belongs to another type.
    return [host for host in _hosts(hosts.split(b",")) if _has_no_port(host)] if separator else []


def _has_no_port(host: bytes) -> bool:
    return b":" not in host or host.endswith(b"]")


def nfs(source: bytes, mount: Mount) -> list[bytes]:
    """An export, perhaps through a tunnel."""
    return _through_tunnel(export(source, mount), mount)


def _through_tunnel(hosts: list[bytes], mount: Mount) -> list[bytes]:
    """The hosts, each loopback address with the port that the mount shows.

    There each port is the end of a tunnel (stunnel of efs-utils, ssh -L) to another server. Names
    of other hosts stay as they are."""
    port = mount.super_option(b"port") or b"0"
    if not port.isdigit() or len(port) > 5 or not int(port):
        return hosts
    return [host + b":" + port if _is_loopback(host) else host for host in hosts]


def _is_loopback(host: bytes) -> bool:
    return host.startswith(b"127.") or host in (b"localhost", b"localhost.localdomain", b"[::1]", b"ip6-localhost")


def share(source: bytes, mount: Mount) -> list[bytes]:
    """``//host/share``, ``\\\\host\\share``, ``//user%password@host/share``."""
    slashed = source.replace(b"\\", b"/")
    if not slashed.startswith(b"//"):
        return export(source, mount)
    return _through_tunnel(_hosts([_user_less(slashed).partition(b"/")[0]], b"445"), mount)


# A bucket or a path follows these schemes, not a host.
_NO_HOST = (b"s3", b"s3a", b"gs", b"gcs", b"oss", b"cos", b"obs", b"b2", b"az", b"swift", b"file", b"local")
_PORTS = {
    b"http": b"80",
    b"https": b"443",
    b"dav": b"80",
    b"davs": b"443",
    b"ftp": b"21",
    b"sftp": b"22",
    b"ssh": b"22",
}


def url(source: bytes, _mount: Mount) -> list[bytes]:
    """``scheme://user:password@host:port/path``, or ``host/path`` without a scheme.

    A word such as ``curlftpfs#`` may stand before it."""
    scheme, is_url, rest = source.partition(b"://")
    scheme = scheme.rpartition(b"#")[2].rpartition(b"=")[2].lower()
    if not is_url:
        scheme, rest = b"", source.rpartition(b"#")[2]
    if scheme in _NO_HOST or rest.startswith(b"/"):
        return []
    authority = text.without_secrets(scheme + b"://" + rest).partition(b"://")[2]
    for end in (b"/", b"?", b"#"):
        authority = authority.partition(end)[0]
    host = authority.rpartition(b"@")[2].rstrip(b":")
    # Without a scheme, a word alone is more likely a name than a host.
    return _hosts([host], _PORTS.get(scheme, b"")) if is_url or b"." in host or b":" in host else []


def nids(source: bytes, _mount: Mount) -> list[bytes]:
    """Lustre: ``nid[,nid...][:nid...]:/fsname``.

    A NID is ``address@network``; commas separate the NIDs of one server."""
    servers, separator, _ = source.partition(b":/")
    found: list[bytes] = []
    begun: list[bytes] = []
    for word in servers.replace(b",", b":").split(b":") if separator else []:
        begun.append(word)
        # This also splits an IPv6 address at its colons: a word that does not end an address
        # belongs to the next word.
        if b"@" in word or not _is_part_of_v6(word):
            found.append(b":".join(begun))
            begun.clear()
    return [nid for nid in [*found, *begun] if nid and b"/" not in nid]


def _is_part_of_v6(word: bytes) -> bool:
    return len(word) <= 4 and not word.strip(b"0123456789abcdefABCDEF")


def ceph(source: bytes, mount: Mount) -> list[bytes]:
    """``mon1:6789,mon2:6789:/path``, or ``user@fsid.fsname=/path`` with ``mon_addr=``.

    ``mon_addr=A:PORT/B:PORT`` is an option (mount.ceph(8))."""
    monitors = mount.super_option(b"mon_addr")
    if monitors is not None:
        return _hosts(monitors.split(b"/"), b"6789", b"3300")
    head, separator, _ = source.partition(b":/")
    return _hosts(head.split(b","), b"6789", b"3300") if separator else []


def volume(source: bytes, _mount: Mount) -> list[bytes]:
    """GlusterFS: ``host:/volume``, ``host1,host2:volume``.

    A path names a file that describes the volume."""
    if source.startswith(b"/"):
        return []
    head = source.partition(b":/")[0] if b":/" in source else source.rpartition(b":")[0]
    return _hosts(head.split(b","), b"24007")


def with_port(source: bytes, _mount: Mount) -> list[bytes]:
    """``host:port``, ``mfs#host:port``, ``host:port:/path``: MooseFS, LizardFS, SeaweedFS."""
    if source.startswith(b"/"):
        return []
    head = source.rpartition(b"#")[2].partition(b":/")[0].partition(b"/")[0]
    return _hosts(head.split(b","), b"9421", b"8888") if b":" in head or b":/" in source else []


def login(source: bytes, _mount: Mount) -> list[bytes]:
    """sshfs: ``user@host:path``, with or without a slash; ``[v6]:path``."""
    rest = _user_less(source.rpartition(b"sshfs#")[2])
    host, separator, _ = rest.partition(b"]:") if rest.startswith(b"[") else rest.partition(b":")
    return _hosts([host + separator[:-1]]) if separator else []


def registries(source: bytes, _mount: Mount) -> list[bytes]:
    """Quobyte: ``quobyte@registry1:7866|registry2:7866/volume``."""
    return _hosts(source.partition(b"@")[2].partition(b"/")[0].replace(b"|", b",").split(b","), b"7866")


def before_slash(source: bytes, _mount: Mount) -> list[bytes]:
    """WekaFS ``backend1,backend2/filesystem``, NCP ``server/user``.

    The name of a filesystem alone names no server."""
    head, slash, _ = source.partition(b"/")
    return _hosts(head.split(b","), b"14000") if slash else []


def plan9(source: bytes, mount: Mount) -> list[bytes]:
    """9p: over TCP the source is the server's address; over virtio, Xen or a descriptor, a tag."""
    return _through_tunnel(_hosts([source]), mount) if mount.super_option(b"trans") in (b"tcp", b"rdma") else []


def guess(source: bytes, mount: Mount) -> list[bytes]:
    """The server that a person would see in a source whose type is not in the table."""
    if b"://" in source:
        return url(source, mount)
    return share(source, mount) if source.startswith((b"//", b"\\\\")) or not source.startswith(b"/") else []
