"""Permits kept in this process: the scripts of semaphores, said in Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from aiodistlock.core.keys import LockKeys
from aiodistlock.core.permits import lease_of_permits
from aiodistlock.deployments.memory.connection import MemoryConnection
from aiodistlock.deployments.memory.server import MemoryServer
from aiodistlock.protocol.answers import (
    AbandonReply,
    Done,
    Failed,
    Held,
    InspectPermitsReply,
    NotOurs,
    Permit,
    PermitHeld,
    Permits,
    PermitsInspected,
    PermitsReply,
    PermitWaiter,
    Queued,
    ReleaseReply,
    Renewed,
    RenewReply,
)
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.grant_message import Grant
from aiodistlock.protocol.permits import Want

_GONE = NotOurs("its key is gone (expired or deleted)")


@dataclass(slots=True)
class _Lease:
    permit: Permit
    ends_at: float

    @property
    def value(self) -> bytes:
        return lease_of_permits(*self.permit)


@dataclass(slots=True)
class _Waiting:
    want: Want
    limit: int
    inbox: bytes
    grant_ttl_ms: int


@dataclass(slots=True)
class Table:
    """What is kept about one semaphore."""

    leases: dict[bytes, _Lease] = field(default_factory=dict)
    queue: dict[bytes, _Waiting] = field(default_factory=dict)

    @property
    def held(self) -> int:
        """How many permits are held."""
        return sum(len(lease.permit.slots) for lease in self.leases.values())

    def fits(self, permits: int, limit: int) -> bool:
        """Tell whether so many permits are free, by a limit."""
        return self.held + permits <= limit

    def free_slots(self, permits: int) -> tuple[int, ...]:
        """Return the lowest numbers that are free."""
        taken = {slot for lease in self.leases.values() for slot in lease.permit.slots}
        free = (slot for slot in count() if slot not in taken)
        return tuple(next(free) for _ in range(permits))

    def by_end(self) -> list[_Lease]:
        """Return the leases in the order of their ends."""
        return sorted(self.leases.values(), key=lambda lease: lease.ends_at)

    def until_it_fits(self, permits: int, limit: int) -> _Lease | None:
        """Return the lease with whose end so many permits are free, if none is renewed."""
        missing = self.held + permits - limit
        for lease in self.by_end():
            missing -= len(lease.permit.slots)
            if missing <= 0:
                return lease
        return None


class MemoryPermits:
    """
    One client's access to the permits of a :class:`MemoryServer`.

    :param connection: carries the operations there
    """

    def __init__(self, server: MemoryServer, connection: MemoryConnection) -> None:
        self._server = server
        self.connection = connection
        self._run = connection.run

    def permits(self, key: bytes, now: float) -> Table:
        """Return what is kept about a semaphore, without what has expired."""
        table: Table = self._server.permits.setdefault(key, Table())
        table.leases = {
            token: lease for token, lease in table.leases.items() if lease.ends_at > now
        }
        return table

    def acquire_permits(
        self,
        keys: LockKeys,
        wants: Sequence[Want],
        *,
        limit: int,
        ttl_ms: int,
        grant_ttl_ms: int,
        on_reply: Callable[[PermitsReply], object],
    ) -> Call[PermitsReply]:
        """Take permits, or queue for them; see ``acquire_permits.lua``."""

        def operation(now: float) -> PermitsReply:
            if self._server.entry(keys.key, now).holder is not None:
                return Failed(TypeError("a lock of this name is held"), False, now)
            table = self.permits(keys.key, now)
            mine, first = {want.token for want in wants}, None
            blocked = not self._serve(keys.key, table, now, mine, ttl_ms)
            for want in wants:
                lease = table.leases.get(want.token)
                if lease is not None:
                    lease.ends_at = now + ttl_ms / 1000
                elif not blocked and table.fits(want.permits, limit):
                    self._give(table, want, now, ttl_ms)
                else:
                    first = first or want
                    blocked = blocked or want.waits
                    if want.waits:
                        waiting = _Waiting(want, limit, self.connection.channel, grant_ttl_ms)
                        table.queue.setdefault(want.token, waiting)
            had = [table.leases[token] for token in mine if token in table.leases]
            leases = tuple(each.permit for each in had)
            waits = None if first is None else self._seen(table, first, limit, mine, now)
            return Permits(leases, int(now * 1e6), now, waits)

        return self._run(operation, on_reply)

    @staticmethod
    def _seen(table: Table, first: Want, limit: int, mine: set[bytes], now: float) -> Queued | Held:
        """Tell whom the first in the queue waits for, or who is refused."""
        head = next(iter(table.queue.values()), None)
        permits, by = (first.permits, limit) if head is None else (head.want.permits, head.limit)
        until = table.until_it_fits(permits, by)
        holder = "" if until is None else until.permit.token.decode()
        remaining = 0.0 if until is None else until.ends_at - now
        for position, token in enumerate(table.queue):
            if token in mine:
                return Queued(holder, remaining, position, int(now * 1e6), now)
        return Held(holder, remaining)

    def _give(self, table: Table, want: Want, now: float, ttl_ms: int) -> None:
        permit = Permit(want.token, self._server.issue_fence(now), table.free_slots(want.permits))
        table.leases[want.token] = _Lease(permit, now + ttl_ms / 1000)

    def _serve(self, key: bytes, table: Table, now: float, mine: set[bytes], ttl_ms: int) -> bool:
        """Give permits to the first in the queue while they fit; tell whether nobody is left."""
        while table.queue:
            token, waiting = next(iter(table.queue.items()))
            deliver = self._server.inboxes.get(waiting.inbox)
            if deliver is not None and not table.fits(waiting.want.permits, waiting.limit):
                return False
            del table.queue[token]
            if token in mine:
                self._give(table, waiting.want, now, ttl_ms)
            elif deliver is not None and deliver(Grant(0, 0, 0.0, token, key)):
                self._give(table, waiting.want, now, waiting.grant_ttl_ms)
        return True

    def release_permits(
        self,
        keys: LockKeys,
        value: bytes,
        highest: int,
        until: float,  # noqa: ARG002  # memory answers in time
    ) -> Call[ReleaseReply]:
        """Give a lease of permits up, to the first in the queue while they fit."""

        def operation(now: float) -> ReleaseReply:
            table = self.permits(keys.key, now)
            lease = self._lease(table, value)
            if lease is None:
                return _GONE
            self._server.counter = max(self._server.counter, highest)
            del table.leases[lease.permit.token]
            self._serve(keys.key, table, now, set(), 0)
            return Done()

        return self._run(operation)

    @staticmethod
    def _lease(table: Table, value: bytes) -> _Lease | None:
        lease = table.leases.get(value.split(b" ", 1)[0])
        return lease if lease is not None and lease.value == value else None

    def renew_permits(
        self,
        keys: LockKeys,
        value: bytes,
        ttl_ms: int,
        on_reply: Callable[[RenewReply], object] | None = None,
        until: float = math.inf,  # noqa: ARG002  # memory answers in time
    ) -> Call[RenewReply]:
        """Set the remaining time of a lease of permits."""

        def operation(now: float) -> RenewReply:
            table = self.permits(keys.key, now)
            lease = self._lease(table, value)
            if lease is None:
                return _GONE
            lease.ends_at = now + ttl_ms / 1000
            return Renewed(now, len(table.queue))

        return self._run(operation, on_reply)

    def abandon_permits(
        self,
        keys: LockKeys,
        wants: Sequence[Want],
        limit: int,  # noqa: ARG002  # the tokens find their places here
        grant_ttl_ms: int,  # noqa: ARG002  # the same
    ) -> Call[AbandonReply]:
        """Undo acquisitions of permits."""

        def operation(now: float) -> AbandonReply:
            table = self.permits(keys.key, now)
            for want in wants:
                table.queue.pop(want.token, None)
                table.leases.pop(want.token, None)
            self._serve(keys.key, table, now, set(), 0)
            return Done()

        return self._run(operation)

    def inspect_permits(self, keys: LockKeys) -> Call[InspectPermitsReply]:
        """Tell who holds permits and who waits."""

        def held(now: float, table: Table) -> Iterator[PermitHeld]:
            for lease in table.by_end():
                token, fence, slots = lease.permit
                yield PermitHeld(token.decode(), fence, slots, lease.ends_at - now)

        def operation(now: float) -> InspectPermitsReply:
            table = self.permits(keys.key, now)
            waiters = (
                PermitWaiter(token.decode(), each.want.permits, each.limit)
                for token, each in table.queue.items()
            )
            return PermitsInspected(tuple(held(now, table)), tuple(waiters))

        return self._run(operation)
