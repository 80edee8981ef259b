"""Heads of arrays that are too long to be meant.

hiredis makes a list as long as its head says before anything of it has come, and to look
through a list of a thousand million places, or to drop it, takes the collector seconds.  So
such a head must not get to it.  A text may hold what looks like one; so what is before it is
parsed first, and then the parser tells: it has something left only in the middle of a text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_LONG = rb"[*~>|%]\d{7,}\r"
"""A million and more; no reply that is meant has a tenth of that."""

find_long = re.compile(rb"\n" + _LONG).search
_IS_LONG = re.compile(_LONG).match
_BEGUN = re.compile(rb"[*~>|%]\d*\r?")


class Heads:
    """
    Looks at the heads in what arrives, where there may be a long one.

    :param unparsed: whether the parser has something left
    :ivar begun: a head that is not all there yet
    """

    __slots__ = ("_unparsed", "begun")

    def __init__(self, unparsed: Callable[[], bool]) -> None:
        self._unparsed = unparsed
        self.begun = b""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """
        Return what to parse, piece by piece.

        :raises ValueError: at a head that is too long
        """
        data = self.begun + data
        last = data.rfind(b"\n") + 1
        self.begun = data[last:] if _BEGUN.fullmatch(data, last) else b""
        end = len(data) - len(self.begun)
        begin = 0
        match = _IS_LONG(data, 0, end) or find_long(data, 0, end)
        while match is not None:
            head = match.group().strip()
            yield data[begin : (begin := match.end() - len(head) - 1)]
            if not self._unparsed():
                raise ValueError(f"an array of {head[1:].decode()} is too long")
            match = find_long(data, begin, end)
        yield data[begin:end]
