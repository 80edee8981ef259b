"""What a worker asks of a peer."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol


class Peer(Protocol):
    """Locks of one library, on one connected client."""

    def lock(self, name: str) -> AbstractAsyncContextManager[Any]:
        """Return a lock for one task, which enters it over and over."""
        ...


class ThreadPeer(Protocol):
    """The same for locks that block their thread."""

    def lock(self, name: str) -> AbstractContextManager[Any]:
        """Return a lock for one thread, which enters it over and over."""
        ...


class Keeper(Protocol):
    """A peer whose leases are kept for long."""

    async def keep(self, name: str) -> None:
        """Acquire a lock, and have it renewed from then on."""
        ...

    def losses(self) -> list[str]:
        """Return why leases were lost, one text each."""
        ...
