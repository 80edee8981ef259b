"""The numbers of a client's requests, and which of them must take no effect any more.

A connection that was given up may still bring requests to the server: TCP sends again for a
quarter of an hour, and a proxy keeps what it has for as long as it likes.  Whatever was
unanswered is sent again over the next connection, and life goes on; what comes after that
from the former one would pass on a lease that was kept since, or shorten one that was extended.

Rules
-----
1. Each request has a number, above those of all that the client sent before, over whatever
   connection, to whichever node of a cluster.
2. When requests are given up, all numbers so far are void there: what was answered has run,
   and what was not has gone again, under a new number, or is not wanted.
3. Every later request declares that, until one of them is answered: the script notes it in
   Redis before it does anything, and refuses what is void (see ``prelude.lua``).  One
   request of its own, in front of the others, would do so only if it is not refused itself.
   A question declares nothing, for it must write nothing; nor does a request for the key
   alone, for what is noted may be at another node (``renew_alone.lua`` does no harm late).
4. "There" is the server, or on a cluster the hash slots of what was given up: a slot takes
   what is noted along when it moves.

So nothing has to be waited for after a connect, and no former connection has to be killed.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from functools import cache
from typing import Any

from redis.exceptions import ResponseError

from aiodistlock.connection.backlog import Backlog
from aiodistlock.core.keys import void_key
from aiodistlock.protocol.batch import Batch
from aiodistlock.protocol.redis_call import RedisCall
from aiodistlock.protocol.scripts import bulks

_FIRST = 10**12
"""All of thirteen digits, so that their length need not be counted; enough for 300,000 a
second for a year, and exact in Lua."""

_MOST = 9 * 10**12
"""Above this nobody's word has us go."""

ONE_SERVER = -1
"""Where all is noted together: stands for the slot where there are none."""


class Numbering:
    """
    Numbers the requests of one client to one Redis.

    :ivar last: the number given last
    :ivar void: by slot, the highest number that is void there, until that is known to be
        noted
    :ivar marker: the key where it is noted, packed; ``b""``: each slot has its own
    """

    __slots__ = ("last", "marker", "sender", "void")

    def __init__(self) -> None:
        self.sender = secrets.token_hex(8)
        self.last = _FIRST
        self.void: dict[int, int] = {}
        self.marker = bulks(void_key(self.sender, None))

    def number(self, call: RedisCall[Any]) -> None:
        """Give a request the next number."""
        self.last = call.tag = self.last + 1

    def refused(self, error: ResponseError) -> None:
        """Go on above the number that a refusal as void names: somebody else noted that."""
        code, noted, *_ = (*str(error).split(" ", 2), "")
        if code == "STALE" and noted.isdigit() and self.last < int(noted) < _MOST:
            self.last = int(noted)

    def lost(self, backlog: Backlog) -> None:
        """Have what a lost connection may still bring take no effect."""
        if backlog.unanswered:
            self.give_up((ONE_SERVER,))

    def give_up(self, slots: Collection[int]) -> None:
        """Have all that was sent so far take no effect from the next request on."""
        for slot in slots:
            self.void[slot] = self.last

    def packed(self, call: RedisCall[Any] | Batch, *, source: bool = False) -> bytes:
        """
        Pack a request with all that it has to say.

        :param source: whether the server may not know the script
        """
        void = self.void.get(ONE_SERVER, 0) if call.declares else 0
        return call.packed_in_full(self.marker, void, source=source)

    def heard(self, call: RedisCall[Any] | Batch) -> None:
        """Take in that a request ran: what it declared is noted now."""
        if call.declares:
            self._noted(ONE_SERVER, call.tag)

    def _noted(self, slot: int, number: int) -> None:
        if number > self.void.get(slot, number):
            del self.void[slot]


class ClusterNumbering(Numbering):
    """Numbers the requests of one client to all nodes of a cluster."""

    __slots__ = ("_marker_in",)

    def __init__(self) -> None:
        super().__init__()
        self.marker = b""
        self._marker_in = cache(lambda slot: bulks(void_key(self.sender, slot)))

    def lost(self, backlog: Backlog) -> None:
        """Have what a lost connection may still bring take no effect, slot by slot."""
        self.give_up(backlog.slots())

    def packed(self, call: RedisCall[Any] | Batch, *, source: bool = False) -> bytes:
        """Pack a request with all that it has to say."""
        assert isinstance(call, RedisCall), "no two names have all their keys in one place"
        slot = call.keys.slot
        if not source and not self.void:
            return call.packed(self._marker_in(slot))
        void = self.void.get(slot, 0) if call.declares else 0
        return call.packed_in_full(self._marker_in(slot), void, source=source)

    def heard(self, call: RedisCall[Any] | Batch) -> None:
        """Take in that a request ran, and noted what it declared."""
        if isinstance(call, RedisCall) and call.declares:
            self._noted(call.keys.slot, call.tag)
