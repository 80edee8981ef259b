"""Values that others wrote, made safe to show.

What stands at a key, in a queue, in a message or in a server's error may be anybody's: two
megabytes of it, bytes that are no text, or codes that steer a terminal, turn a line of text
around, or begin another line of a log.  Whoever puts such a value into an error, a log line,
a trace or on a screen passes it through here.
"""

from __future__ import annotations

import reprlib
from bisect import bisect_right
from itertools import accumulate
from typing import Any

MOST = 200
"""So many characters of a value are shown; a token of ours is shorter."""

MOST_OF_ERROR = 1000
"""The same of an error's message; the longest of Redis's own has about 400."""


def shown(value: object, most: int = MOST) -> str:
    r"""
    Return a value as one line of printable text.

    What cannot be printed is written as Python would, such as ``\x1b``, and so are bytes
    that are no UTF-8.  Of a longer value there is the beginning, and how long it is.  What
    came from here before is returned as it is.

    :param value: text, bytes, or anything that has a ``str``
    :param most: characters to return at most
    """
    if not isinstance(value, (str, bytes)):
        value = str(value)
    text = value[:most]
    if isinstance(text, bytes):
        text = text.decode(errors="surrogateescape")
    if len(value) <= most and text.isprintable():
        return text
    pieces = [c if c.isprintable() else _escaped(ord(c)) for c in text]
    ends = list(accumulate(map(len, pieces)))
    if len(value) <= most and ends[-1] <= most:
        return "".join(pieces)
    cut = _cut(value)
    fit = bisect_right(ends, most - len(cut))
    return "".join(pieces[:fit]) + cut


def quoted(value: object) -> str:
    """Return a value as ``repr`` does, but not more of it than :func:`shown`."""
    if not isinstance(value, (str, bytes)):
        return shown(repr(value))
    return repr(value[:MOST]) + ("" if len(value) <= MOST else _cut(value))


class _Outlined(reprlib.Repr):
    """Of containers the beginning, to some depth; of texts, too."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxlist = self.maxdict = self.maxtuple = self.maxset = 8
        self.maxstring = self.maxother = 80

    def repr_bytes(self, value: bytes, _level: int) -> str:
        """Show the beginning; the rest is not even looked at."""
        return repr(value[: self.maxstring]) + ("..." if len(value) > self.maxstring else "")

    def repr_instance(self, value: Any, level: int) -> str:
        """Show an error by its kind and the beginning of its text."""
        if isinstance(value, list):  # a push, say
            return self.repr_list(value, level)
        return super().repr_instance(value, level)


outlined = _Outlined().repr
"""Return what came over the wire, whatever was nested in it, to be read by people."""


def described(error: BaseException) -> str:
    """Return what an error is and says, in one line."""
    return f"{type(error).__name__}: {message_of(error)}"


def message_of(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return one_line(str(error), MOST_OF_ERROR)


def one_line(told: str, most: int = 10 * MOST_OF_ERROR) -> str:
    """Return what is made of such values and of others' errors, in one line."""
    return shown(" ".join(told.split()), most)


def bounded(value: str | bytes) -> str:
    """
    Return a value that is handed on as data, as it is: but no more than anybody needs.

    Bytes that are no UTF-8 are replaced.
    """
    text = value[:MOST_OF_ERROR]
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    return text if len(value) <= MOST_OF_ERROR else text + _cut(value)


def _cut(value: str | bytes) -> str:
    """Tell that a value goes on, and how long it is."""
    return f"… ({len(value)} {'bytes' if isinstance(value, bytes) else 'characters'})"


def _escaped(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # a byte that is no UTF-8, as surrogateescape keeps it
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
