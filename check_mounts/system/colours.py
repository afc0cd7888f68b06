"""Colours for people at a terminal, put around words of a finished output. No word changes.

An output for a terminal is the output for a pipe, painted. So its limits and its columns are the
same, and nobody who tries a command by hand is misled about what monitoring gets.

Import budget: ``posix``, for ``--cached``."""

import posix

_RESET = b"\33[0m"
_BOLD, _DIM = b"1;", b"\33[2m"
# By the names of states, with which the first line and the lines of -v begin.
_STATES = {b"OK": b"32m", b"WARNING": b"33m", b"CRITICAL": b"31m", b"UNKNOWN": b"35m"}
_SERVICE = b"MOUNTS "
# All terminals obey escape sequences that are still in use, but for what calls itself so: a buffer
# of an editor, the log of a build.
_DUMB = (b"", b"dumb", b"unknown")


def obeyed() -> bool:
    """Whether this kind of terminal obeys escape sequences."""
    return posix.environ.get(b"TERM", b"") not in _DUMB


def wanted() -> bool:
    """Whether a terminal gets colours: not if NO_COLOR is set to anything (https://no-color.org)."""
    return obeyed() and not posix.environ.get(b"NO_COLOR")


def painted(output: bytes) -> bytes:
    """An output of the plugin with the states in colours, and the perfdata faint.

    Printed names hold no escape and no line feed, so each line begins with a word of ours."""
    first, feed, others = output.partition(b"\n")
    if first.startswith(_SERVICE):
        words, bar, perfdata = first[len(_SERVICE) :].partition(b" | ")
        state, blank, words = words.partition(b" ")
        first = _SERVICE + _state(state, _BOLD) + blank + words + (bar and _DIM + bar + perfdata + _RESET)
    return first + feed + b"\n".join(map(_line, others.split(b"\n")))


def _line(line: bytes) -> bytes:
    state, colon, words = line.partition(b": ")
    return _state(state) + colon + words


def _state(word: bytes, bold: bytes = b"") -> bytes:
    return b"\33[%b%b%b%b" % (bold, _STATES[word], word, _RESET) if word in _STATES else word
