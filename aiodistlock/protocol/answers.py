"""What a store answers: one type for each thing that can be true, no numbers."""

from __future__ import annotations

from typing import NamedTuple

from aiodistlock.core.mark import Mark


class Granted(NamedTuple):
    """The lock is ours for the whole ttl, counted from ``sent_at``."""

    fence: int
    server_us: int
    """The server's time at the grant; 0: the clock covers no hand-offs."""
    sent_at: float
    token: bytes | None = None
    """The token at the key, where that is not the one that was asked with."""
    others_wait: bool = False
    """Whether somebody waits at Redis, so that the lease does not linger."""


class Queued(NamedTuple):
    """Somebody else holds the lock; our place in the queue is kept."""

    holder: str
    remaining: float | None
    """Seconds left of the holder's lease; ``None``: its key has no ttl."""
    position: int
    server_us: int
    sent_at: float


class Held(NamedTuple):
    """Somebody else holds the lock, and we did not queue."""

    holder: str
    remaining: float | None
    position: int = 0
    """How many wait before us for a hint, where we do."""
    split: bool = False
    """Nobody has a majority of a quorum: those who contend ask again, each at random."""


class Kept(NamedTuple):
    """Nobody waits at Redis: the lease goes on, with fresh ttl and fencing tokens."""

    fence: int
    server_us: int
    sent_at: float


class Renewed(NamedTuple):
    """The lease has its whole ttl again, counted from ``sent_at``."""

    sent_at: float
    waiters: int


class Done(NamedTuple):
    """Released or abandoned."""


class NotOurs(NamedTuple):
    """The key does not hold our token: the lease is gone."""

    reason: str
    surely: bool = False
    """Whether that is so, too, if an earlier copy of the request has run."""


class Taken(NamedTuple):
    """The lock was taken from its holder by force."""

    fence: int
    """Above every fencing token that the holder may have used."""
    passed_to: str | None
    """Token of the waiter that has it now."""


class HeldByOther(NamedTuple):
    """The lock was not taken: it is not its former holder's any more."""

    holder: str | None


class Voted(NamedTuple):
    """One node of a quorum gave us its vote, or keeps it for us."""

    fence: int
    waiters: int = 0
    """How many wait on it, where it was asked to keep the vote."""


class Untrusted(NamedTuple):
    """One node of a quorum came up without its data; it counts for nothing as yet."""

    marker: bytes
    age: float
    """Seconds for which that has been known."""
    remaining: float
    """Seconds after which it counts."""


class Unvoted(NamedTuple):
    """One node of a quorum has no vote of ours any more."""

    refusal: NotOurs | None
    """Why there was none to take back."""
    hinted: bool
    """Whether a waiter was told that it may ask."""


class Failed(NamedTuple):
    """No answer that decides anything."""

    cause: Exception
    transient: bool
    """Whether asking again may help."""
    since: float
    """Local instant since which the request was under way."""

    @property
    def causes(self) -> tuple[Exception, ...]:
        """One cause per node, where there are several."""
        cause = self.cause
        return cause.exceptions if isinstance(cause, ExceptionGroup) else (cause,)


class Claimed(NamedTuple):
    """The lease is as its holder wants it."""

    before: bool
    """The wanted token was there already: by an earlier copy of the request, or others'."""


class Ends(NamedTuple):
    """When our lease ends."""

    at_ms: int
    """By the server's clock; -1: never."""
    moved: bool
    before: bool
    """The wanted end was there already: by an earlier copy of the request, or another."""


class Inspected(NamedTuple):
    """What Redis has about a name."""

    holder: str | None
    remaining: float | None
    fence: int
    """With which the lease began; 0: the lock is free, or the token stands there alone."""
    waiters: tuple[str, ...]


class Looked(NamedTuple):
    """What Redis has about a name that is to be done once a window."""

    server_us: int
    holder: str | None
    """Token, ``None`` if the name is free."""
    mark: Mark | None
    """The last window that was done; ``None``: none is known."""


class AlreadyMarked(NamedTuple):
    """The window, or a later one, was done, or begun, by somebody else."""

    mark: Mark


class Led(NamedTuple):
    """Who holds the lock of an election."""

    holder: str | None
    remaining: float | None
    fence: int
    """With which the lease began; 0: nobody leads, or the token stands there alone."""
    proclaimed: str | None
    """``None``: the holder has proclaimed nothing yet."""


class Permit(NamedTuple):
    """A lease of permits of a semaphore, for the whole ttl."""

    token: bytes
    fence: int
    slots: tuple[int, ...]
    """The numbers of the permits, the lowest first."""


class Permits(NamedTuple):
    """What we have of a semaphore, of what we asked for."""

    leases: tuple[Permit, ...]
    server_us: int
    """The server's time; 0: the clock covers no hand-offs."""
    sent_at: float
    waits: Queued | Held | None
    """Whom the rest waits for, in the queue or not; ``None``: there is no rest."""


class PermitHeld(NamedTuple):
    """A lease of permits, as Redis has it."""

    token: str
    fence: int
    slots: tuple[int, ...]
    remaining: float
    """Seconds."""


class PermitWaiter(NamedTuple):
    """Who waits for permits."""

    token: str
    permits: int
    limit: int
    """By which it judges."""


class PermitsInspected(NamedTuple):
    """What Redis has about a semaphore."""

    leases: tuple[PermitHeld, ...]
    waiters: tuple[PermitWaiter, ...]


class Downgraded(NamedTuple):
    """The writer reads now, for the whole ttl, counted from ``sent_at``."""

    version: int
    sent_at: float


AcquireReply = Granted | Queued | Held | Failed
PassOnReply = Granted | Kept | Queued | Held | NotOurs | Failed
RenewReply = Renewed | NotOurs | Failed
ReleaseReply = Done | NotOurs | Failed
AbandonReply = Done | Failed
InspectReply = Inspected | Failed
LookReply = Looked | Failed
BeginReply = Done | AlreadyMarked | NotOurs | Failed
ClaimReply = Claimed | NotOurs | Failed
MoveEndReply = Ends | NotOurs | Failed
LeaderReply = Led | Failed
ProclaimReply = Done | NotOurs | Failed
PermitsReply = Permits | Failed
InspectPermitsReply = PermitsInspected | Failed
UpgradeReply = Granted | Queued | Held | NotOurs | Failed
DowngradeReply = Downgraded | NotOurs | Failed
