"""Leases that stay with this process for a moment after their release.

Rules
-----
1. What may stay, and be used again, :mod:`~aiodistlock.waiting.linger_rules` says.  What may
   not is released at Redis at once; if somebody here wants the lock, in one write with the
   request for a new lease.
2. A lease that stays has no holder and is not renewed.  It is released for good when its time
   is over, when somebody asks for it (a recall), when it is due for a renewal, with its
   connection, and with its client.  From then on nothing of it is used.
3. A recall is for one token; of a lease that is in use it is remembered until the release.

A released lease is looked after by the watchdog all the same, so that its deadline is seen.
"""

from __future__ import annotations

from typing import Any

from aiodistlock.core.fencing import covered
from aiodistlock.core.keys import LockKeys
from aiodistlock.leases.process_lease import ProcessLease
from aiodistlock.leases.states import HELD
from aiodistlock.protocol.connection import Line
from aiodistlock.waiting.client_state import ClientState
from aiodistlock.waiting.linger_rules import may_be_used


class Lingering:
    """What a contender whose lock lingers knows of it; its lease may stay, or does."""

    __slots__ = ("_barred", "_client", "_keys", "_line", "_may_stay", "lease", "until")

    def __init__(self, client: ClientState[Any], keys: LockKeys) -> None:
        self._client = client
        self._keys = keys
        self.lease: ProcessLease | None = None
        """The lease that stays, without a holder; no other name of this process has it."""
        self.until = 0.0
        """When that is over."""
        self._line: Line | None = None
        """What the lease that may stay was got over, and recalls are heard on."""
        self._may_stay: ProcessLease | None = None
        self._barred: bytes | None = None
        """Token of a lease, or an attempt, that somebody else waits for."""

    def began(
        self, lease: ProcessLease, granted_at: float, recallable: bool, *, others_wait: bool
    ) -> None:
        """
        Decide whether a lease that begins may linger later.

        :param recallable: whether its token tells others to ask for it
        :param others_wait: whether somebody waits already
        """
        client = self._client
        self._may_stay = None
        others_wait = others_wait or lease.token == self._barred
        if lease.options.linger_auto:
            client.lingering.arming(self._keys.key).began(granted_at, others_wait=others_wait)
        connection = client.connection
        connection.listen(self._keys)  # so that it may the next time, if not now
        self._line = line = connection.line(self._keys)
        if (
            recallable
            and not others_wait
            and line is not None
            and not client.lingering.is_quiet(self._keys.key, granted_at)
        ):
            self._may_stay = lease

    def bar(self, token: bytes) -> None:
        """Have the lease under a token not linger: others wait for it."""
        self._barred = token
        if self._may_stay is not None and self._may_stay.token == token:
            self._may_stay = None

    def recalled(self, token: bytes) -> bool:
        """Have the lease under a token linger no more; tell whether it did until now."""
        lease = self._may_stay
        self.bar(token)
        if lease is None or self._may_stay is not None:
            return False
        client = self._client
        client.lingering.recalls += 1
        if lease.options.linger_auto:
            client.lingering.arming(self._keys.key).recalled(client.clock(), lease.handoffs)
        if lease.story is not None:
            lease.story.lingered("recall")
        lingered = self.lease is lease
        self._let_go()
        return lingered

    def stay(self, lease: ProcessLease) -> bool:
        """Have a released lease linger if it may; tell whether it does."""
        client, options = self._client, lease.options
        now = client.clock()
        until = now + options.linger
        if lease is not self._may_stay or lease.renewal is not None:
            if options.linger_auto:
                client.lingering.arming(self._keys.key).released(until)
            return False
        line = client.connection.line(self._keys)
        if (
            line is None
            or line is not self._line
            or lease.state is not HELD
            or not covered(lease.fence, lease.server_us)
            or not may_be_used(
                now, lease.deadline, options.ttl, lease.handoffs, line.heard_at, until
            )
        ):
            return False
        self.lease, self.until = lease, until
        client.lingering.add(lease, until)
        return True

    def take(self, ttl: float, now: float) -> ProcessLease | None:
        """
        Take the lease that lingers, to be used again; ``None`` if that may not be.

        Then it is given up, before whatever is asked next.
        """
        lease = self.lease
        if lease is None:
            return None
        client = self._client
        line = client.connection.line(self._keys)
        if (
            line is not None
            and line is self._line
            and may_be_used(now, lease.deadline, ttl, lease.handoffs, line.heard_at, self.until)
        ):
            self.lease = None
            client.lingering.used(lease)
            return lease
        lease.possessor.end_lingering(lease)
        return None

    def forget(self) -> None:
        """Take note that the lease lingers no longer, and was not used again."""
        lease = self.lease
        if lease is not None:
            self._client.lingering.misses += 1
            if lease.story is not None:
                lease.story.lingered("miss")
        self._let_go()

    def _let_go(self) -> None:
        lease, self.lease = self.lease, None
        if lease is not None:
            lease.story = None
            self._client.lingering.remove(lease)
