"""The life of what lies between a store and its Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from aiodistlock.core.clock import ServerClock
from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol.call import Call


class Line(Protocol):
    """One connection that is open; another one that follows it is another object."""

    @property
    def heard_at(self) -> float:
        """Local instant at which anything arrived last."""
        ...


class Connection(Protocol):
    """The connection of a store, or all that it has; its calls are told from other stores'."""

    def listen(self, keys: LockKeys) -> bool:
        """
        See to it that grants for these keys are heard soon.

        Returns whether they are heard now, so that queueing makes sense.
        """
        ...

    def line(self, keys: LockKeys) -> Line | None:
        """Return what requests for these keys go over now, ``None`` if no grant is heard there."""
        ...

    def server_clock(self, call: Call[Any]) -> ServerClock:
        """Return the clock of the server that answered a call: of several each has its own."""
        ...

    def excuses(self, call: Call[Any]) -> Sequence[Exception]:
        """
        Return why a call has no answer yet, one exception per node.

        Empty if that is not known, or nothing is wrong.
        """
        ...

    def suspect(self, call: Call[Any]) -> None:
        """Take note that ``call`` stayed unanswered for longer than it should."""
        ...

    async def aclose(self) -> None:
        """Send what was issued, within a bound, and close."""
        ...

    def stop(self) -> None:
        """Close at once."""
        ...

    @property
    def online(self) -> bool:
        """Whether a connection is open, on a quorum to a majority."""
        ...

    @property
    def heard_at(self) -> float:
        """Local instant at which anything came last, on a quorum from a majority; -inf: never."""
        ...

    @property
    def stopped(self) -> bool:
        """Whether nothing can be sent any more."""
        ...

    def disown(self) -> None:
        """Send nothing any more: after a fork the sockets are the parent's."""
        ...
