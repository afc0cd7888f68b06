# The __main__.py of check_mounts.pyz. It reads the file that it is in once, at the start, and all
# that is ours is loaded from that copy: when the file's filesystem hangs later, nothing needs it.
#
# Even Python 2.7 can read this module, so that an old interpreter can say that it is too old.
import posix
import sys

_OLDEST = (3, 9)


def _fail(words):
    words = "".join(character if " " <= character <= "~" else "?" for character in words).replace("|", "/")
    try:
        posix.write(1, ("MOUNTS UNKNOWN - %s\n" % words).encode("ascii"))
    finally:
        posix._exit(3)


class _Archive(object):
    """The modules of the file: finder and loader at once (importlib.abc)."""

    def __init__(self, path, data):
        self._path, self._data = path, data
        self.carried = {}  # name in the archive -> where its bytes begin and end
        self._read_directory()

    def _read_directory(self):
        # Each entry is stored as it is, without extra fields and comments (tools/pyz.py).
        number = self._number
        end = len(self._data) - 22
        at = self._start = end - number(end + 12, 4) - number(end + 16, 4)  # behind the first line
        at += number(end + 16, 4)
        while at < end:
            size, length, local = number(at + 24, 4), number(at + 28, 2), number(at + 42, 4)
            begin = self._start + local + 30 + length
            self.carried[self._data[at + 46 : at + 46 + length].decode("ascii")] = begin, begin + size
            at += 46 + length

    def _number(self, at, size):
        return int.from_bytes(self._data[at : at + size], "little")

    def _place(self, name):
        """The file of a module, and whether it is a package; None for what is not here."""
        base = name.replace(".", "/")
        for file in (base + ".py", base + "/__init__.py"):
            if file in self.carried:
                return file, file.endswith("/__init__.py")
        return None

    def find_spec(self, name, path=None, target=None):
        place = self._place(name)
        if place is None:
            return None
        file, is_package = place
        spec = type(sys.__spec__)(name, self, origin="%s/%s" % (self._path, file), is_package=is_package)
        spec.has_location = True
        if is_package:
            spec.submodule_search_locations.append(spec.origin.rpartition("/")[0])
        return spec

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(self.get_code(module.__name__), module.__dict__)

    def get_code(self, name):
        return compile(self._bytes(name), "%s/%s" % (self._path, self._place(name)[0]), "exec", 0, True)

    def get_source(self, name):
        """For tracebacks (linecache)."""
        return self._bytes(name).decode("utf-8")

    def is_package(self, name):
        return self._place(name)[1]

    def _bytes(self, name):
        place = self._place(name)
        if place is None:
            raise ImportError("no module %s" % name)
        begin, end = self.carried[place[0]]
        return self._data[begin:end]


def _contents(path):
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        parts = [posix.read(fd, posix.fstat(fd).st_size + 1)]
        while parts[-1]:
            parts.append(posix.read(fd, 1 << 16))
        return b"".join(parts)
    finally:
        posix.close(fd)


def _start():
    if sys.version_info < _OLDEST:
        versions = _OLDEST + sys.version_info[:2]
        _fail("check_mounts needs Python %d.%d or later, and this is %d.%d: start it with another one" % versions)
    # Neither the environment nor a home directory decides what root runs; see check_mounts.in.
    if not (sys.flags.isolated and sys.flags.no_site) and sys.executable:
        posix.execv(sys.executable, [sys.executable, "-IS"] + sys.argv)  # noqa: RUF005
    path = sys.path.pop(0)
    sys.meta_path.insert(0, _Archive(path, _contents(path)))
    from check_mounts.__main__ import main

    return main


try:
    _main = _start()
except Exception as error:
    _fail("%s cannot be loaded: %s: %s" % (sys.argv[0], type(error).__name__, error))
_main()
