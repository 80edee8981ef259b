"""The judge of a quorum: what a majority of the nodes keeps is what counts.

A lease has no place among the grants of one server, so fencing tokens are judged by the order
in which holders begin, which is that of their leases while these do not overlap.
"""

from __future__ import annotations

import math

from aiodistlock import Lease
from aiodistlock.core.value import value_of
from tests.simulation.judge import NAMESPACE, Judge
from tests.simulation.known import Grant, Held, Name
from tests.simulation.process import Process
from tests.simulation.redis.server import RedisServer
from tests.simulation.redis.session import Session

QUARANTINE = 2.0
"""Seconds for which clients do not count a node that came up without its data."""


class QuorumJudge(Judge):
    """Judges leases on several nodes."""

    servers: list[RedisServer]

    def _handed_over(
        self, name: Name, value: bytes | None, server: RedisServer, session: Session
    ) -> None:
        """See nothing wrong: on a quorum there is no order, and who waits gets a hint."""

    def _granted(self, name: Name, value: bytes) -> None:
        token, _, fence = value.rpartition(b" ")
        if not any(each.token == token for each in name.grants):
            name.grants.append(Grant(value, token, int(fence), self._timeline.now))
        self.handed_over += 1

    def node_lost_data(self, server: RedisServer) -> None:
        """Take in that one node lost its data; a minority may, within two quarantines."""
        now = self._timeline.now
        self._lost_at[server.name] = now
        recent = [each for each in self._lost_at.values() if now - each < 2 * QUARANTINE]
        if len(recent) > (len(self.servers) - 1) // 2 or self.clock_stepped:
            self.data_was_lost()

    def data_was_lost(self) -> None:
        """Take in that a majority lost data, or one whose clock cannot be trusted either."""
        super().data_was_lost()
        self._broken_for_good()

    def clock_was_set(self, seconds: float) -> None:
        """Take in that a node's clock was stepped: its quarantine may end too soon."""
        super().clock_was_set(seconds)
        self.clock_stepped = True
        self._broken_for_good()

    def _broken_for_good(self) -> None:
        if self._lost_at and self.clock_stepped:
            self.broken_at = math.inf

    @property
    def fences_are_promised(self) -> bool:
        """Whether no majority has lost what it kept."""
        return self.broken_at < 0

    def began(  # noqa: PLR0917  # as Judge's
        self,
        process: Process,
        name_text: str,
        lease: Lease,
        asked_at: float,
        kind: str = "lock",
        looked_at: float | None = None,
    ) -> Held:
        """Take in a holder's word that it has a lease, for which it asked before."""
        name = self.names[name_text]
        self._count(kind, lease)
        token, fence = lease.token.encode(), lease.fencing_token
        grant = next((each for each in name.grants if each.token == token), None)
        if grant is None:
            self.note("order", f"{lease!r} was granted by nobody")
            grant = Grant(value_of(token, fence), token, fence, self._timeline.now)
        held = Held(process, lease, name_text, grant, self.now, asked_at, kind=kind)
        self.look_at_beginning(held, looked_at)
        if fence <= name.used and self.fences_are_promised:
            self.note("fence", f"{held} begins after {name.used} was used")
        name.used = max(name.used, fence)
        self._begin(name, held)
        return held

    def wrote(self, held: Held) -> None:
        """Have a body write to a store that refuses lower tokens than it has seen."""
        self.relies_on(held, self.now)
        name = self.names[held.name]
        fence = held.lease.fencing_token
        if fence < name.stored:
            return
        if held.began_at < name.stored_since and self.fences_are_promised:
            self.note("store", f"a write of {held} was accepted after one of a later lease")
        name.stored, name.stored_since = fence, max(held.began_at, name.stored_since)

    def look_at_keys(self, name_text: str, name: Name) -> None:
        """See whether what holders rely on stands at a majority of the nodes."""
        key = f"{NAMESPACE}{name_text}".encode()
        for each in name.open:
            if each.grant.at <= self.broken_at or not each.relies():
                continue
            there = sum(_has(server, key, each.grant.token) for server in self.servers)
            recent = sum(self._timeline.now - at < 2 * QUARANTINE for at in self._lost_at.values())
            # What a minority has forgotten counts: it does not vote for anybody else either.
            if there + recent <= len(self.servers) // 2:
                self.note("key", f"{each} is relied on, but {there} nodes have it")


def _has(server: RedisServer, key: bytes, token: bytes) -> bool:
    value, end = server.keys.values.get(key), server.keys.ends.get(key)
    if not isinstance(value, bytes) or (end is not None and server.clock_us() // 1000 > end):
        return False
    return value.rpartition(b" ")[0] == token
