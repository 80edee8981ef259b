"""The lease that this process holds on a name, whichever of its tasks uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol
from weakref import ref

from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import LockOptions
from aiodistlock.core.value import value_of
from aiodistlock.events.story import Story
from aiodistlock.leases.states import HELD, LOST, TRANSITIONS, LeaseEvent, LeaseState
from aiodistlock.protocol.answers import NotOurs, ReleaseReply, RenewReply
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.store import Store


class Holder(Protocol):
    """The local holder: what the lease's user sees (``lease.Lease``)."""

    def _lose(self, reason: str) -> None:
        """Take note that the lease must not be relied on any more."""
        ...

    def _give_back(self) -> Call[Any] | None:
        """Release the lease unused; return the request, if that takes one."""
        ...


class Possessor(Protocol):
    """Whose lease it is; it is told of what happens to it, and gives it up (``Contender``)."""

    __slots__ = ()

    process_lease: ProcessLease | None

    def on_lost(self, lease: ProcessLease, reason: str) -> None:
        """Take in that a lease is lost."""
        ...

    def on_dropped(self, lease: ProcessLease, holder: ref[Holder]) -> None:
        """Take in that nobody refers to the holder of a lease any more."""
        ...

    def on_renewal_due(self, lease: ProcessLease) -> None:
        """Look whether the holder of a lease waits, for ever, for one who waits for it."""
        ...

    def release(self, lease: ProcessLease) -> Call[ReleaseReply] | None:
        """Give a lease up for its holder; return the request, if that takes one."""
        ...

    def release_at_redis(self, lease: ProcessLease) -> Call[ReleaseReply]:
        """Send the request that gives the lock up."""
        ...

    def lingers(self, lease: ProcessLease) -> bool:
        """Tell whether a lease stays with the process though nobody holds it."""
        ...

    def end_lingering(self, lease: ProcessLease) -> None:
        """Release a lease that lingers for good."""
        ...

    def let_go(self, lease: ProcessLease) -> None:
        """Look after a lease no longer."""
        ...

    def close(self, problem: str) -> None:
        """End the lease, as its client is closed."""
        ...


class ProcessLease:
    """
    One period of possession by this process, from grant to release or loss.

    Local hand-offs change its holder, not it.
    """

    __slots__ = (
        "deadline",
        "dropped",
        "due_at",
        "ends_at",
        "fence",
        "handoffs",
        "held_as",
        "holder",
        "keys",
        "options",
        "possessor",
        "renewal",
        "renewals",
        "server_us",
        "span_ends_at",
        "state",
        "story",
        "token",
    )

    def __init__(  # noqa: PLR0917  # runs for every lease, and keywords cost
        self,
        possessor: Possessor,
        keys: LockKeys,
        token: bytes,
        fence: int,
        server_us: int,
        options: LockOptions,
        deadline: float,
    ) -> None:
        self.possessor = possessor
        self.keys = keys
        self.held_as = keys.key
        """Under what it stands among those that somebody here holds."""
        self.token = token
        self.fence = fence
        self.server_us = server_us
        """Server time of the grant, µs; 0: unknown."""
        self.options = options
        """Options of the local holder: its ttl is what renewals ask for."""
        self.state = HELD
        self.deadline = deadline
        self.due_at = deadline - options.renewed_before
        """When the watchdog looks at it next."""
        self.ends_at: float | None = None
        """When ``max_hold`` of the local holder is over."""
        self.span_ends_at = 0.0
        self.handoffs = 0
        self.holder: ref[Holder] | None = None
        """Weak, so that a lease is released that its user forgot."""
        self.story: Story | None = None
        """Of the local holder's acquisition, if anybody listens."""
        self.renewals = 0
        """How many renewals were sent."""
        self.dropped = 0
        """How many of these, the first, prolong nothing any more."""
        self.renewal: Call[RenewReply] | None = None
        """The latest renewal that is under way, if one is."""

    @property
    def value(self) -> bytes:
        """What stands at the key."""
        return value_of(self.token, self.fence)

    def ask_to_renew(
        self, store: Store, ttl_ms: int, on_reply: Callable[[RenewReply], object], until: float
    ) -> Call[RenewReply]:
        """Send a request that sets the remaining time."""
        return store.renew(self.keys, self.value, ttl_ms, on_reply, until)

    @property
    def renewed_as(self) -> ProcessLease:
        """The lease that is renewed where this one is to last longer."""
        return self

    def hand_to(self, holder: Holder) -> None:
        """Have a holder, for as long as somebody refers to it."""
        self.holder = ref(holder, self._dropped)

    def _dropped(self, holder: ref[Holder]) -> None:
        self.possessor.on_dropped(self, holder)

    def lose(self, reason: str) -> None:
        """Tell the holder that it holds no more."""
        held, self.holder = self.holder, None
        holder = None if held is None else held()
        if holder is not None:
            holder._lose(reason)

    def validity_at(self, now: float) -> float:
        """Return for how many seconds the lease can be relied on, unless it is over."""
        until = self.deadline if self.ends_at is None else min(self.deadline, self.ends_at)
        return max(0.0, until - now)

    def confirm(self, deadline: float) -> None:
        """Take in that the server lets the lease last until ``deadline``."""
        if self.state is not HELD:
            self.event(LeaseEvent.CONFIRMED)
        self.deadline = deadline
        self.due_at = deadline - self.options.renewed_before
        if self.ends_at is not None:
            self.plan()

    def expect(self, deadline: float) -> None:
        """Take in that the server may let the lease last until ``deadline`` only."""
        self.deadline = min(self.deadline, deadline)

    def go_by(self, options: LockOptions, now: float) -> None:
        """Go on by the options of the next holder."""
        self.options = options
        self.ends_at = None if options.max_hold is None else now + options.max_hold
        if self.renewal is None:
            self.plan()
        else:
            self.look_at(self.due_at)  # or its answer would be missed too soon

    def plan(self) -> None:
        """Decide when the watchdog must look at the lease next."""
        self.look_at(self.deadline - self.options.renewed_before)

    def look_at(self, due: float) -> None:
        """Have the watchdog look at ``due``, or before if the lease ends before."""
        due = min(due, self.deadline)
        self.due_at = due if self.ends_at is None else min(due, self.ends_at)

    @property
    def matters_until(self) -> float:
        """Local instant after which the server has let the lock go anyway."""
        # Lost, perhaps only to us: a renewal that nobody confirmed may have run until then.
        return self.deadline + self.options.ttl if self.state is LOST else self.deadline

    def drop_renewal(self) -> None:
        """Let go of the renewals under way: they prolong nothing any more."""
        renewal, self.renewal = self.renewal, None
        self.dropped = self.renewals
        if renewal is not None:
            renewal.drop(NotOurs("the lease had ended meanwhile"))

    def event(self, event: LeaseEvent) -> LeaseState:
        """Change the state by the table, and return the new one."""
        self.state = TRANSITIONS[self.state, event]
        return self.state

    @property
    def alive(self) -> bool:
        """Whether the lease has neither been lost nor released."""
        return self.state is HELD or self.state is LeaseState.UNCERTAIN
