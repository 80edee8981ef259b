"""What the tests on a quorum share: its nodes, and clients of them."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import redis as redis_sync

from aiodistlock import Backoff, LockClient
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.value import read_value
from aiodistlock.deployments.quorum.store import QuorumStore
from aiodistlock.testing.embedded import EmbeddedRedis

EAGER = Backoff(initial=0.02, factor=1.5, cap=0.1)
"""Of a waiter that makes up quickly for what it missed."""

NEVER = Backoff(initial=60.0, cap=60.0)
"""Of a waiter that only a hint wakes in time."""


class Nodes:
    """The nodes of a quorum, as an administrator, or fate, gets at them."""

    def __init__(self, servers: Sequence[EmbeddedRedis]) -> None:
        self.servers = servers
        self.urls = [server.url for server in servers]
        self._stack = ExitStack()
        self._redis = [
            self._stack.enter_context(redis_sync.Redis.from_url(url, socket_timeout=5))
            for url in self.urls
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def client(self, **options: Any) -> LockClient:
        """Build a client with connections of its own: to the nodes, a process of its own."""
        return LockClient.from_url(self.urls, **options)

    def redis(self, node: int) -> Any:
        """Return a plain client of one node."""
        return self._redis[node]

    def holders(self, name: str, nodes: Sequence[int] | None = None) -> list[str | None]:
        """Return whose token each node has at a name."""
        chosen = range(len(self.servers)) if nodes is None else nodes
        found = [self._redis[node].get(f"lock:{name}") for node in chosen]
        return [None if value is None else read_value(value).token.decode() for value in found]

    def keys(self, nodes: Sequence[int] | None = None) -> list[str]:
        """Name the locks and queues on the nodes; what outlives them is left out."""
        chosen = range(len(self.servers)) if nodes is None else nodes
        found = {key.decode() for node in chosen for key in self._redis[node].scan_iter()}
        lasting = ("aiodistlock:fence", "aiodistlock:void:", "aiodistlock:marker")
        return sorted(key for key in found if not key.startswith(lasting))

    def waiters(self, name: str, node: int) -> int:
        """Return how many wait at a node for a name."""
        return int(self._redis[node].zcard(LockKeys(name, "lock:").queue))

    async def soon(self, what: Any, wanted: object, within: float = 5.0) -> None:
        """Ask until the answer is as wanted; what nobody awaits takes time."""
        until = time.monotonic() + within
        while (answer := what()) != wanted:
            assert time.monotonic() < until, f"{answer!r}, not {wanted!r}, after {within} s"
            await asyncio.sleep(0.005)


def store_of(client: LockClient) -> QuorumStore:
    """Return a client's store."""
    store = client._engine("test").store
    assert isinstance(store, QuorumStore)
    return store


def all_ready(client: LockClient) -> bool:
    """Return whether a round would ask every node."""
    asked = store_of(client).quorum.nodes
    for node in asked:
        node.recover()
    return all(node.ready for node in asked)


async def warm(client: LockClient) -> None:
    """Connect, load the scripts, have the deployment trusted, and hear from every node.

    A majority does not wait for the others: what a node that did not know a script is asked
    again could come after what the test does to it.
    """
    # Rounds wait for a twentieth of the ttl: a slow machine must answer in the first one, as
    # nodes that come up one after another are not trusted.
    async with client.lock("warm", ttl=min(10.0, client.options.quarantine)):
        pass
    while owes_answers(client):
        await asyncio.sleep(0.005)


def owes_answers(client: LockClient) -> bool:
    """Return whether any node has yet to answer what it was asked."""
    return any(_asked(node) for node in store_of(client).quorum.nodes)


def _asked(node: Any) -> bool:
    """Return whether a node owes answers, and is thought to give them."""
    backlog = node._backlog  # a pipe, behind the protocol
    # What nobody wants any more is not sent, so nobody connects for it either.
    return bool(node.ready and (backlog.sent or backlog.calls()))
