"""The lease that this process holds on a name, whichever of its tasks uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from aiodistlock.core.lease_state import (
    TRANSITIONS,
    LeaseEvent,
    LeaseState,
    deadline,
    renewal_due,
)
from aiodistlock.core.options import LockOptions
from aiodistlock.stores.base import Call, NotOurs, RenewReply

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
        "server_us",
        "span_ends_at",
        "state",
        "token",
    )

    def __init__(
        self,
        contender: Contender,
        token: bytes,
        fence: int,
        server_us: int,
        options: LockOptions,
    ) -> None:
        self.contender = contender
        self.token = token
        self.fence = fence
        self.server_us = server_us
        """Server time of the grant, µs."""
        self.options = options
        """Options of the local holder: its ttl is what renewals ask for."""
        self.state = LeaseState.HELD
        self.deadline = 0.0
        self.due_at = 0.0
        """When the watchdog looks at it next."""
        self.ends_at: float | None = None
        """When ``max_hold`` of the local holder is over."""
        self.span_ends_at = 0.0
        self.handoffs = 0
        self.holder: Holder | None = None
        self.renewal: Call[RenewReply] | None = None
        """The latest renewal that is under way, if one is."""

    def confirm(self, granted_at: float, ttl: float) -> None:
        """Take in that the server set the remaining time to ``ttl`` after ``granted_at``."""
        self.event(LeaseEvent.CONFIRMED)
        self.deadline = deadline(granted_at, ttl)
        self.plan()

    def expect(self, now: float, ttl: float) -> None:
        """Take in that the server may set the remaining time to ``ttl`` from now on."""
        self.deadline = min(self.deadline, deadline(now, ttl))

    def plan(self) -> None:
        """Decide when the watchdog must look at the lease next."""
        renews = self.options.auto_renew
        due = renewal_due(self.deadline, self.options.ttl) if renews else self.deadline
        self.try_again(due)

    def try_again(self, due: float) -> None:
        """Have the watchdog look at ``due``, or before if the lease ends before."""
        self.due_at = min(
            due, self.deadline, self.deadline if self.ends_at is None else self.ends_at
        )

    def drop_renewal(self) -> None:
        """Let go of a renewal under way: its answer is about what is over."""
        renewal, self.renewal = self.renewal, None
        if renewal is not None:
            renewal.drop(NotOurs("the lease had ended meanwhile"))

    def event(self, event: LeaseEvent) -> LeaseState:
        """Change the state by the table, and return the new one."""
        self.state = TRANSITIONS[self.state, event]
        return self.state

    @property
    def alive(self) -> bool:
        """Whether the lease has neither been lost nor released."""
        return self.state is LeaseState.HELD or self.state is LeaseState.UNCERTAIN
