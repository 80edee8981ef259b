"""The pipe to one node of a quorum: the others go on without it when it fails.

Rules
-----
1. A node that cannot be connected to, or leaves a call unanswered for longer than its
   round waits, is not ready: rounds do without it, and nothing queues up for it.
2. What takes something back is sent or kept all the same, up to ``MOST_KEPT`` calls:
   what is dropped beyond that expires by its ttl.
3. It is ready again as soon as it is connected anew, or anything is heard from it.
4. A connection that stays silent for ``DROP_AFTER`` seconds is dropped, so that the
   requests written to a frozen node take no memory without bound.
"""

from __future__ import annotations

import re
from typing import Any, Protocol

from redis.asyncio.connection import AbstractConnection

from aiodistlock.connection.greeting import Greeting
from aiodistlock.connection.inbox import Inbox
from aiodistlock.connection.opening import Opener, address_of, lasts
from aiodistlock.connection.pipe import Pipe
from aiodistlock.connection.turned_away import TurnedAway
from aiodistlock.connection.wire import Wire
from aiodistlock.core.escaping import described
from aiodistlock.deployments.quorum.rounds.nodes import NodeError
from aiodistlock.deployments.quorum.rounds.round import Vote
from aiodistlock.deployments.quorum.votes import LEAST_LIMIT
from aiodistlock.protocol.owner import PipeOwner
from aiodistlock.protocol.redis_call import RedisCall

MOST_KEPT = 1_000
"""Most calls that are kept for a node that is not ready; one that is silent with more
than that under way is not waited for as long as a round may wait."""

DROP_AFTER = 1.0
"""Seconds of silence after which a connection is dropped, if no round waits longer."""

RETRY_AFTER = 0.1
"""Seconds between two looks whether somebody still tries to connect."""

_RUN_ID = re.compile(rb"\brun_id:(\w+)")


class NodeOwner(PipeOwner, Protocol):
    """Whom the pipes to all nodes tell; see ``deployments/quorum/deployment.py``."""

    def on_identified(self) -> None:
        """Take note of which server was connected to, by its run id."""
        ...


class NodePipe(Pipe):
    """
    The pipe to one node.

    :param owner: told, too, when the server has said who it is
    """

    def __init__(self, opener: Opener, inbox: Inbox, owner: NodeOwner) -> None:
        super().__init__(opener, inbox, owner)
        self.address = address_of(opener.connector)
        self.ready = True
        self.trouble = NodeError(self.address, "not connected yet")
        self.run_id: bytes | None = None
        self.introduced = False
        self._on_identified = owner.on_identified
        self._silent_since = 0.0
        self._retry_at = 0.0
        self._greeter.also.append(Greeting((b"INFO", b"server"), self._identified))

    @property
    def heard(self) -> bool:
        """Whether hints are heard now."""
        return self._inbox.heard

    def _identified(self, reply: Any) -> None:
        # Where an ACL denies it duplicates go unnoticed; ``doctor`` tells.
        text = reply.encode() if isinstance(reply, str) else reply
        found = _RUN_ID.search(text) if isinstance(text, bytes) else None
        self.run_id = found[1] if found else None
        self.introduced = True
        self._on_identified()

    def opened(self, connection: AbstractConnection) -> Wire:
        """Be ready again."""
        self.ready = True
        return super().opened(connection)

    def not_opened(self, error: Exception) -> None:
        """Have the others go on without this node."""
        super().not_opened(error)
        lasting = lasts(error) and not self._was_let_in()
        self._not_ready(described(error), lasting=lasting)

    def _ended(self, error: Exception) -> None:
        super()._ended(error)
        if isinstance(error, TurnedAway):
            self._not_ready(str(error))

    def _not_ready(self, problem: str, *, lasting: bool = False) -> None:
        self.ready = False
        self.trouble = NodeError(self.address, problem, lasting=lasting)
        self._silent_since = self._clock()
        if self._wire is None:
            # Whoever may do without this node need not wait for it any longer.
            for call in self._backlog.calls():
                if isinstance(call, Vote) and not call.round.cleans_up:
                    call.fail(self.trouble)

    def clean_up(self, call: RedisCall[Any]) -> None:
        """Send a call that takes something back, or keep it for the next connection."""
        backlog = self._backlog
        if len(backlog.unsent) + len(backlog.sent) >= MOST_KEPT:
            call.fail(self.trouble)
        else:
            self.submit(call)

    def recover(self) -> None:
        """Become ready if anything was heard; see to it that somebody tries to connect."""
        wire = self._wire
        if wire is not None:
            self.ready = wire.heard_at > self._silent_since
        elif (now := self._clock()) >= self._retry_at:
            self._retry_at = now + RETRY_AFTER
            if self._keeper.ended:
                # Nobody has tried since: what was wrong may be right by now.
                self.trouble = NodeError(self.address, self.trouble.problem)
            self._keeper.start()

    def look(self, now: float) -> bool:
        """Notice silence; tell whether any call waits for an answer."""
        wire, backlog = self._wire, self._backlog
        if wire is None:
            waiting = next((call for call in backlog.unsent if not call.obsolete), None)
            since = 0.0 if waiting is None else waiting.issued_at
        else:
            waiting = next(backlog.on_the_wire(), None)
            since = 0.0 if waiting is None else max(waiting.sent_at, wire.heard_at)
        if not isinstance(waiting, Vote):
            return False
        silence, limit = now - since, waiting.round.limit
        owed = len(backlog.sent) + len(backlog.unsent)
        flooded = silence > LEAST_LIMIT and owed > MOST_KEPT
        if (silence > limit or flooded) and self.ready:
            self._not_ready(f"no answer for {silence:.3g} s")
        if wire is not None and silence > max(DROP_AFTER, 2 * limit):
            wire.abort(TimeoutError(f"no answer for {silence:.3g} s"))
        return True

    async def aclose(self, within: float = 1.0) -> None:
        """Send what was submitted, wait ``within`` seconds for answers, and close."""
        await super().aclose(within if self.ready else 0.0)
