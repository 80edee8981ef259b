"""The servers of a soak, one deployment of each kind, and what befalls them.

No fault goes beyond what P1 is promised for, but where a primary is lost: ``History.broken``
has from when to when. A single Redis keeps its data over a crash, a quorum loses that of one
node at a time and not again before it has left quarantine.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any, Protocol

import redis as redis_sync
from anyio import fail_after
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from aiodistlock.core.clock import local_clock
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.deployments.cluster import Cluster, running_cluster
from tests.deployments.sentinel import MASTER, SentinelDeployment, sentinel_deployment
from tests.faults.world import SCRIPTS
from tests.proxy import ChaosProxy, Do, on
from tests.soak.client_main import NAMES, QUARANTINE
from tests.soak.history import History

Strikes = dict[str, Callable[[], Awaitable[None]]]


class Ground(Protocol):
    """
    Servers, and what can befall them.

    :ivar urls: where clients connect
    :ivar servers: all that keep locks
    :ivar strikes: by name; each ends when what it broke is whole again
    """

    urls: list[str]
    servers: list[EmbeddedRedis]
    strikes: Strikes


def command(server: EmbeddedRedis, *words: Any) -> Any:
    """Send a command, which may run twice, to a server; sentinels may have it hang up."""
    retry: Any = Retry(ConstantBackoff(0.1), 50)
    with redis_sync.Redis.from_url(server.url, socket_timeout=5, protocol=2, retry=retry) as client:
        return client.execute_command(*words)


class Proxied:
    """One Redis that keeps its data, or a quorum; all behind proxies that cut connections."""

    def __init__(self, servers: list[EmbeddedRedis], proxies: list[ChaosProxy]) -> None:
        self.servers = servers
        self.urls = [each.url for each in proxies]
        self._proxies = proxies
        self._rng = Random()
        self.strikes: Strikes = {
            "cut": self._cut,
            "refuse": self._refuse,
            "black hole": self._black_hole,
            "lose replies": self._lose_replies,
            "kill a server": self._kill,
            "freeze a server": self._freeze,
            "flush scripts": self._flush_scripts,
        }

    async def _cut(self) -> None:
        await self._rng.choice(self._proxies).cut()

    async def _refuse(self) -> None:
        proxy = self._rng.choice(self._proxies)
        await proxy.refuse()
        await proxy.cut()
        await asyncio.sleep(self._rng.random())
        await proxy.accept()

    async def _black_hole(self) -> None:
        proxy = self._rng.choice(self._proxies)
        proxy.black_hole()
        await asyncio.sleep(2 * self._rng.random())
        await proxy.accept()

    async def _lose_replies(self) -> None:
        """Cut connections for a while whenever a script has run and before its answer comes."""
        proxy = self._rng.choice(self._proxies)
        names = self._rng.sample(sorted(SCRIPTS.values()), 3)
        proxy.rules = [on("reply", name, Do.CUT_BEFORE) for name in names]
        await asyncio.sleep(0.3 * self._rng.random())
        proxy.rules = []

    async def _kill(self) -> None:
        server = self._rng.choice(self.servers)
        server.kill()
        await asyncio.sleep(self._rng.random())
        await asyncio.to_thread(server.restart)
        if len(self.servers) > 1:
            await asyncio.sleep(2 * QUARANTINE)

    async def _freeze(self) -> None:
        server = self._rng.choice(self.servers)
        server.freeze()
        await asyncio.sleep(2 * self._rng.random())
        server.thaw()

    async def _flush_scripts(self) -> None:
        await asyncio.to_thread(command, self._rng.choice(self.servers), "SCRIPT", "FLUSH")


async def _proxied(binary: Path, count: int, stack: AsyncExitStack) -> Proxied:
    """Start one Redis, or a quorum."""
    keeps = ("--appendonly", "yes", "--appendfsync", "always") if count == 1 else ()
    servers = [stack.enter_context(EmbeddedRedis(binary=binary, args=keeps)) for _ in range(count)]
    proxies = []
    for each in servers:
        proxy = ChaosProxy.before(each.url)
        proxy.script_names = SCRIPTS
        proxies.append(await stack.enter_async_context(proxy))
    return Proxied(servers, proxies)


class BehindSentinels:
    """A primary, two replicas and three sentinels."""

    def __init__(self, deployment: SentinelDeployment, history: History) -> None:
        self._deployment = deployment
        self._history = history
        self.urls = [deployment.url]
        self.servers = deployment.servers
        self.strikes: Strikes = {
            "kill the primary": self._kill,
            "fail over": self._fail_over,
            "drop clients": self._drop_clients,
        }

    async def _kill(self) -> None:
        former = await self._primary()
        with _broken(self._history):
            former.kill()
            await self._deployment.failed_over(former, within=30.0)
            await asyncio.to_thread(former.restart)
            await _until(self._is_whole)

    async def _fail_over(self) -> None:
        former = await self._primary()
        with _broken(self._history):
            await _until(self._has_agreed)
            await self._deployment.failed_over(former, within=30.0)
            await _until(self._is_whole)

    async def _drop_clients(self) -> None:
        await _drop_clients([await self._primary()])

    async def _primary(self) -> EmbeddedRedis:
        return await asyncio.to_thread(lambda: self._deployment.master)

    def _has_agreed(self) -> bool:
        """Ask for a failover; a sentinel refuses while it has one in mind, or no good replica."""
        try:
            self._deployment.ask(self._deployment.sentinels[0], "SENTINEL", "FAILOVER", MASTER)
        except redis_sync.ResponseError:
            return False
        return True

    def _is_whole(self) -> bool:
        """Whether one server is a primary, and the others follow it."""
        roles = [command(each, "ROLE") for each in self.servers]
        following = [each[3] == b"connected" for each in roles if each[0] == b"slave"]
        return following == [True] * (len(roles) - 1)


class Slots:
    """A Redis Cluster, whose slots move and whose primaries fail over."""

    def __init__(self, cluster: Cluster, history: History, namespace: str) -> None:
        self._cluster = cluster
        self._history = history
        self._keys = [namespace + each for each in NAMES]
        self._rng = Random()
        self.urls = [cluster.url]
        self.servers = [each.server for each in cluster.nodes]
        self.strikes: Strikes = {
            "move a slot": self._move,
            "kill a primary": self._kill,
            "drop clients": self._drop_clients,
        }

    async def _move(self) -> None:
        key, cluster = self._rng.choice(self._keys), self._cluster
        target = self._rng.choice(await asyncio.to_thread(cluster.others, key))
        await asyncio.to_thread(cluster.begin_migration, key, target)
        await asyncio.sleep(0.3 * self._rng.random())
        await asyncio.to_thread(cluster.move_keys, key, target)
        await asyncio.sleep(0.3 * self._rng.random())
        await asyncio.to_thread(cluster.end_migration, key, target)

    async def _kill(self) -> None:
        key, cluster = self._rng.choice(self._keys), self._cluster
        former = await asyncio.to_thread(cluster.owner, key)
        with _broken(self._history):
            cluster.kill(former)
            await _until(lambda: cluster.owner(key) is not former)
            await asyncio.to_thread(cluster.heal)

    async def _drop_clients(self) -> None:
        primaries = await asyncio.to_thread(self._cluster.primaries)
        await _drop_clients([each.server for each in primaries])


@contextmanager
def _broken(history: History) -> Iterator[None]:
    """P1 is not promised meanwhile: writes may be lost, and two servers may serve."""
    began_at = local_clock()
    history.broken.append((began_at, math.inf))
    try:
        yield
    finally:
        history.broken[-1] = (began_at, local_clock())


async def _until(what: Callable[[], bool], within: float = 30.0) -> None:
    # Polls: servers have no other way to tell that they have agreed.
    with fail_after(within):
        while not await asyncio.to_thread(what):
            await asyncio.sleep(0.05)


async def _drop_clients(servers: Sequence[EmbeddedRedis]) -> None:
    for server in servers:
        await asyncio.to_thread(command, server, "CLIENT", "KILL", "TYPE", "normal")


DEPLOYMENTS = ("single", "sentinel", "cluster", "quorum")


async def ground(
    deployment: str, binary: Path, history: History, namespace: str, stack: AsyncExitStack
) -> Ground:
    """Start a deployment, which ends with the stack."""
    if deployment == "sentinel":
        return BehindSentinels(stack.enter_context(sentinel_deployment(binary)), history)
    if deployment == "cluster":
        return Slots(stack.enter_context(running_cluster(binary)), history, namespace)
    return await _proxied(binary, 3 if deployment == "quorum" else 1, stack)
