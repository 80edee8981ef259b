"""The errors, split by what the caller does next.

All of them pickle, and all carry ``name``, the name of the lock.  The message is
built here, in one place, from the facts that the raiser hands over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from aiodistlock.core.durations import in_words
from aiodistlock.core.escaping import described, quoted, shown
from aiodistlock.core.mark import KEPT


class LockError(Exception):
    """
    Base of every error of this library.

    Raised as such for a misuse that no subclass names, such as a task that waits
    for a lock which it holds itself.

    :ivar name: the name of the lock
    """

    # The facts, in the order in which the constructor takes them: what pickles.
    _facts: ClassVar[tuple[str, ...]] = ("name", "problem")

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"lock {quoted(name)}: {problem}")
        self.name = name
        self.problem = problem

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own pickling would call the class with the finished message.
        return type(self), tuple(getattr(self, fact) for fact in self._facts)


class AcquireTimeout(LockError, TimeoutError):
    """
    The lock was not free within the caller's ``timeout``: try later, or give up.

    :ivar timeout: how long the caller waited, in seconds
    :ivar holder: token of the holder when last seen, ``None`` if unknown
    :ivar holder_ttl: seconds that were left of the holder's lease when last seen,
        ``None`` if unknown or if the key has no ttl (a lock of another client)
    :ivar causes: what kept Redis from answering when time ran out, one exception per node;
        empty if it answered.  Also the ``__cause__``
    :ivar dead_lock: how tasks of this process wait for each other, each for what the next
        one holds; ``None`` if they are not seen to
    """

    _facts = ("name", "timeout", "holder", "holder_ttl", "causes", "dead_lock")

    def __init__(  # noqa: PLR0917  # the facts pickle by their places
        self,
        name: str,
        timeout: float,
        holder: str | None = None,
        holder_ttl: float | None = None,
        causes: Sequence[Exception] = (),
        dead_lock: str | None = None,
    ) -> None:
        held = "nobody is known to hold it: is the timeout long enough?"
        if causes:
            held = f"Redis gave no answer ({_told(causes)})"
        if holder is not None:
            left = "with no ttl" if holder_ttl is None else f"for {_said(holder_ttl)} more"
            kept = holder.startswith(KEPT)  # nobody renews that
            seen = f", when last seen: {held}" if causes else "" if kept else " (it may renew)"
            who = (
                f"kept by {shown(holder.removeprefix(KEPT))}"
                if kept
                else f"held by {shown(holder)}"
            )
            held = f"{who} {left}{seen}"
        seen = "" if dead_lock is None else f"; {dead_lock}"
        LockError.__init__(self, name, f"not acquired within {timeout:g} s; {held}{seen}")
        self.timeout = timeout
        self.holder = holder
        self.holder_ttl = holder_ttl
        self.causes = tuple(causes)
        self.dead_lock = dead_lock
        self.__cause__ = _as_one(causes)


class LeaseLost(LockError):
    """
    The lease ended before its holder released it: stop, undo, or rely on the fence.

    :ivar reason: what ended the lease
    :ivar fencing_token: fencing token of the lost lease
    """

    _facts = ("name", "reason", "fencing_token")

    def __init__(self, name: str, reason: str, fencing_token: int) -> None:
        super().__init__(
            name,
            f"lease with fencing token {fencing_token} lost: {reason}; "
            "somebody else may hold the lock now",
        )
        self.reason = reason
        self.fencing_token = fencing_token


class NotHeld(LockError):
    """The lease was released before: a bug of the caller."""

    _facts = ("name",)

    def __init__(self, name: str) -> None:
        super().__init__(name, "the lease was released before; acquire a new one")


class StoreUnavailable(LockError):
    """
    Redis did not answer, or refused to work: infrastructure needs attention.

    :ivar causes: the newest exception of each node that failed; also the ``__cause__``
    """

    _facts = ("name", "causes")

    def __init__(self, name: str, causes: Sequence[Exception]) -> None:
        super().__init__(name, f"Redis is unavailable ({_told(causes)})")
        self.causes = tuple(causes)
        self.__cause__ = _as_one(causes)


def _told(causes: Sequence[Exception]) -> str:
    told = "; ".join(map(described, causes))
    if "WRONGTYPE" not in told:
        return told
    return (
        f"{told}; something of another kind has its key, its fence counter or its queue: a "
        "semaphore and a lock of one name, or what somebody else wrote: find out what does so, "
        "and use another name, or delete that"
    )


def _as_one(causes: Sequence[Exception]) -> Exception | None:
    if len(causes) > 1:
        return ExceptionGroup(f"what {len(causes)} nodes said", causes)
    return causes[0] if causes else None


def _said(ttl: float) -> str:
    """Return seconds to three digits, while they are few: a short ttl is exact."""
    return f"{ttl:.3g} s" if ttl < 60 else in_words(ttl)
