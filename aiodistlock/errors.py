"""The errors, split by what the caller does next.

All of them pickle, and all carry ``name``, the name of the lock.  The message is
built here, in one place, from the facts that the raiser hands over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar


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
        super().__init__(f"lock {name!r}: {problem}")
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
    """

    _facts = ("name", "timeout", "holder", "holder_ttl")

    def __init__(
        self,
        name: str,
        timeout: float,
        holder: str | None = None,
        holder_ttl: float | None = None,
    ) -> None:
        held = "nobody is known to hold it: is Redis reachable, and the timeout long enough?"
        if holder is not None:
            left = "with no ttl" if holder_ttl is None else f"for {holder_ttl:.3g} s more"
            held = f"held by {holder} {left} (it may renew)"
        LockError.__init__(self, name, f"not acquired within {timeout:g} s; {held}")
        self.timeout = timeout
        self.holder = holder
        self.holder_ttl = holder_ttl


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

    :ivar causes: one exception per node, the newest
    """

    _facts = ("name", "causes")

    def __init__(self, name: str, causes: Sequence[Exception]) -> None:
        told = "; ".join(f"{type(cause).__name__}: {cause}" for cause in causes)
        super().__init__(name, f"Redis is unavailable ({told})")
        self.causes = tuple(causes)
