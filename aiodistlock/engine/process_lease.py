"""The lease that this process holds on a name, whichever of its tasks uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from aiodistlock.core.lease_state import (
    TRANSITIONS,
    LeaseEvent,
    LeaseState,
)
from aiodistlock.core.options import LockOptions
from aiodistlock.engine.story import Story
from aiodistlock.stores.answers import NotOurs, RenewReply
from aiodistlock.stores.base import Call

if TYPE_CHECKING:
    from aiodistlock.engine.contender import Contender


class Holder(Protocol):
    """The local holder: what the lease's user sees (``lease.Lease``)."""

    @property
    def token(self) -> str:
        """What stands at the key in Redis."""
        ...

    @property
    def validity(self) -> float:
        """Seconds for which the lease can be relied on."""
        ...

    def lose(self, reason: str) -> None:
        """Take note that the lease must not be relied on any more."""
        ...

    def give_back(self) -> Call[Any] | None:
        """Release the lease unused; return the request, if that takes one."""
        ...


class ProcessLease:
    """
    One period of possession by this process, from grant to release or loss.

    Local hand-offs change its holder, not it.
    """

    __slots__ = (
        "contender",
        "deadline",
        "due_at",
        "ends_at",
        "fence",
        "handoffs",
        "holder",
        "options",
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
        contender: Contender,
        token: bytes,
        fence: int,
        server_us: int,
        options: LockOptions,
        deadline: float,
    ) -> None:
        self.contender = contender
        self.token = token
        self.fence = fence
        self.server_us = server_us
        """Server time of the grant, µs."""
        self.options = options
        """Options of the local holder: its ttl is what renewals ask for."""
        self.state = LeaseState.HELD
        self.deadline = deadline
        self.due_at = deadline - options.renewed_before
        """When the watchdog looks at it next."""
        self.ends_at: float | None = None
        """When ``max_hold`` of the local holder is over."""
        self.span_ends_at = 0.0
        self.handoffs = 0
        self.holder: Holder | None = None
        self.story: Story | None = None
        """Of the local holder's acquisition, if anybody listens."""
        self.renewals = 0
        """How many renewals were sent."""
        self.renewal: Call[RenewReply] | None = None
        """The latest renewal that is under way, if one is."""

    def confirm(self, deadline: float) -> None:
        """Take in that the server lets the lease last until ``deadline``."""
        if self.state is not LeaseState.HELD:
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
        lost = self.state is LeaseState.LOST
        return self.deadline + self.options.ttl if lost else self.deadline

    def drop_renewal(self) -> None:
        """Let go of a renewal under way: its answer is about what is over."""
        renewal, self.renewal = self.renewal, None
        if renewal is not None:
            renewal.drop(NotOurs("the lease had ended meanwhile"))

    def let_go(self) -> None:
        """Look after the lease no longer; at Redis it lasts until its ttl is over."""
        self.contender.process_lease = self.holder = None
        self.contender.engine.watchdog.remove(self)
        self.event(LeaseEvent.GIVEN_UP)
        self.drop_renewal()

    def event(self, event: LeaseEvent) -> LeaseState:
        """Change the state by the table, and return the new one."""
        self.state = TRANSITIONS[self.state, event]
        return self.state

    @property
    def alive(self) -> bool:
        """Whether the lease has neither been lost nor released."""
        return self.state is LeaseState.HELD or self.state is LeaseState.UNCERTAIN
