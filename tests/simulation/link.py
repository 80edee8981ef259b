"""The way between a client and a node, which loses, delays and repeats.

In one direction nothing overtakes; between nodes anything does.  A link that breaks leaves
open which requests arrived.  As in ``engine/pipe.py`` the unanswered ones are sent again,
in order; and here copies of them may still arrive long after, as if the server could not
be told to kill the former connection.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from aiodistlock.stores.redis_call import RedisCall
from aiodistlock.stores.rounds.base import Vote
from aiodistlock.stores.rounds.nodes import NodeError
from tests.resp import flat_blobs
from tests.simulation.server import Server

_FIRST_TAG = 1_000_000_000

TICK = 1e-7
"""Seconds by which one message comes after another: timers of one instant run in any order."""


class Link:
    """
    A node as a client's store sees it (``stores/rounds/nodes.py``).

    :param delay: draws the seconds that one way takes
    """

    introduced = True
    stopped = False

    def __init__(
        self, number: int, server: Server, rng: Random, delay: Callable[[], float]
    ) -> None:
        self.address = f"node{number}"
        self.server = server
        self.ready = True
        self.trouble = NodeError(self.address, "is cut off")
        self._rng = rng
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._calls: deque[Vote] = deque()
        self._tag = _FIRST_TAG
        self._life = 0
        self._there_at = self._back_at = 0.0
        self.cut_until = 0.0
        self.dead = False

    def submit(self, call: RedisCall[Any]) -> None:
        """Send a call."""
        assert isinstance(call, Vote)
        if self.dead:
            return
        call.issued_at = min(call.issued_at, self._loop.time())
        self._calls.append(call)
        if self.cut_until == 0.0:
            self._send(call)

    clean_up = submit

    def _send(self, call: Vote, *, source: bool = False) -> None:
        call.sent_at = self._loop.time()
        call.tag = self._tag = self._tag + 1
        request = call.packed_with_source() if source else call.packed()
        self._there_at = max(self._there_at + TICK, call.sent_at + self._delay())
        life, tag = self._life, call.tag
        self._loop.call_at(self._there_at, self._arrive, call, tag, request, source, life)

    def _arrive(self, call: Vote, tag: int, request: bytes, source: bool, life: int) -> None:
        stale = life != self._life
        if stale and self._rng.random() < 0.5:
            return
        words = flat_blobs(request)
        script = call.round.script
        if source or self.server.knows(script.source):
            keys = int(words[2])
            reply = self.server.run(script.source, words[3 : 3 + keys], words[3 + keys :])
        else:
            reply = None
        if not stale:
            self._back_at = max(self._back_at + TICK, self._loop.time() + self._delay())
            self._loop.call_at(self._back_at, self._answer, call, tag, reply, life)

    def _answer(self, call: Vote, tag: int, reply: list[Any] | None, life: int) -> None:
        if life != self._life or self.dead:
            return
        # An answer that the client pays for: it is the oldest call's.
        assert self._calls[0] is call
        assert call.tag == tag
        self._calls.popleft()
        if reply is not None:
            call.finish(reply)
        elif not call.obsolete:
            self._calls.append(call)
            self._send(call, source=True)

    def break_(self, for_: float) -> None:
        """Lose the connection, and have another one some time later."""
        self._life += 1
        self.ready = False
        self.cut_until = self._loop.time() + for_
        self._there_at = self._back_at = 0.0
        for call in [each for each in self._calls if not each.round.cleans_up]:
            if self._rng.random() < 0.5:
                call.fail(self.trouble)
        self._loop.call_later(for_, self._again, self._life)

    def _again(self, life: int) -> None:
        if life == self._life:
            self.cut_until, self.ready = 0.0, True
            now = self._loop.time()
            wanted = [call for call in self._calls if not call.obsolete and now <= call.until]
            self._calls = deque(wanted)
            for call in wanted:
                call.resent = call.sent_at > 0
                self._send(call)

    def die(self) -> None:
        """End with the process: what is on its way may arrive, nothing comes back."""
        self.dead = True

    def listen(self) -> None:
        """Hints are heard always."""

    def recover(self) -> None:
        """It recovers by itself."""

    def look(self, now: float) -> bool:  # as the protocol says
        """Fall silent only when broken."""
        return False

    def suspect(self, call: RedisCall[Any]) -> None:
        """Do nothing: what is lost is lost by breaking."""

    def server_clock(self, call: RedisCall[Any]) -> Any:
        """Nobody asks."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """End."""
        self.die()

    def stop(self) -> None:
        """End."""
        self.die()

    disown = stop
