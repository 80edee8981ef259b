"""The way between a client and a node, which loses, delays and repeats.

In one direction nothing overtakes; between nodes anything does.  A link that breaks leaves
open which requests arrived.  As in ``connection/pipe.py`` the unanswered ones are sent again,
in order; and copies of the former ones may still arrive long after.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from aiodistlock.connection.numbering import ONE_SERVER, Numbering
from aiodistlock.core.keys import LockKeys
from aiodistlock.deployments.quorum.rounds.nodes import NodeError
from aiodistlock.deployments.quorum.rounds.round import Vote
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.redis_call import RedisCall
from tests.resp import flat_blobs
from tests.simulation.server import Server

TICK = 1e-7
"""Seconds by which one message comes after another: timers of one instant run in any order."""


class Link:
    """
    A node as a client's store sees it (``deployments/quorum/rounds/nodes.py``).

    :param delay: draws the seconds that one way takes
    """

    introduced = online = True
    heard_at = 0.0
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
        self._numbering = Numbering()
        self._life = 0
        self._ran = (server.values, 0)
        """The life of the latest request that ran, as long as the node has its data."""
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
        self._numbering.number(call)
        request = self._numbering.packed(call, source=source)
        self._there_at = max(self._there_at + TICK, call.sent_at + self._delay())
        life, tag = self._life, call.tag
        self._loop.call_at(self._there_at, self._arrive, call, tag, request, source, life)

    def _arrive(self, call: Vote, tag: int, request: bytes, source: bool, life: int) -> None:
        stale = life != self._life
        if stale and self._rng.random() < 0.5:
            return
        words = flat_blobs(request)
        script = call.script
        if source or self.server.knows(script.source):
            keys = int(words[2])
            reply = self.server.run(script.source, words[3 : 3 + keys], words[3 + keys :])
            values, latest = self._ran
            if values is self.server.values and latest > life:
                assert reply[0].startswith(b"STALE"), "a later life has declared it void"
            else:
                self._ran = (self.server.values, life)
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
            self._numbering.heard(call)
            call.finish(call.decode(reply, call.sent_at))
        elif not call.obsolete:
            self._calls.append(call)
            self._send(call, source=True)

    def break_(self, for_: float) -> None:
        """Lose the connection, and have another one some time later."""
        self._life += 1
        if self._calls:
            self._numbering.give_up((ONE_SERVER,))
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

    def listen(self, _keys: LockKeys) -> bool:
        """Hear hints always."""
        return True

    def hear_leaders(self, _keys: LockKeys) -> bool:
        """There are no elections on a quorum."""
        return False

    def recover(self) -> None:
        """It recovers by itself."""

    def look(self, now: float) -> bool:  # as the protocol says
        """Fall silent only when broken."""
        return False

    def line(self, _keys: object) -> None:
        """Have none on which a lease would be recalled."""

    def excuses(self, _call: Call[Any]) -> tuple[()]:
        """Know nothing."""
        return ()

    def suspect(self, call: Call[Any]) -> None:
        """Do nothing: what is lost is lost by breaking."""

    def server_clock(self, call: Call[Any]) -> Any:
        """Nobody asks."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """End."""
        self.die()

    def stop(self) -> None:
        """End."""
        self.die()

    disown = stop
