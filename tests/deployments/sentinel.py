"""A master, two replicas and three sentinels as processes of the test's own."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import redis as redis_sync
import redis.asyncio as redis_asyncio
from redis.asyncio.sentinel import Sentinel

from aiodistlock import LockClient
from aiodistlock.testing.discovery import LOOPBACK
from aiodistlock.testing.embedded import EmbeddedRedis

DOWN_AFTER = 1.0
"""Seconds of silence after which a sentinel takes a server for dead."""

MASTER = "mymaster"

# A replica that lost its master asks again at once, and a sync needs no fork's pause.
_SERVER_ARGS = [
    *("--repl-diskless-sync-delay", "0", "--repl-diskless-sync", "yes"),
    *("--repl-ping-replica-period", "1", "--hz", "50"),
]


@dataclass
class SentinelDeployment:
    """Six processes: ``servers`` (the first was the master at first), and ``sentinels``."""

    servers: list[EmbeddedRedis]
    sentinels: list[EmbeddedRedis]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the sentinels listen."""
        return [(LOOPBACK, each.port) for each in self.sentinels]

    @property
    def url(self) -> str:
        """The deployment's URL, as ``LockClient.from_url`` takes it."""
        hosts = ",".join(f"{host}:{port}" for host, port in self.addresses)
        return f"redis+sentinel://{hosts}/{MASTER}"

    def redis(self, **options: Any) -> redis_asyncio.Redis:
        """Build a client of the master, as users do."""
        manager = Sentinel(self.addresses, socket_timeout=0.5)  # type: ignore[no-untyped-call]  # redis-py's
        client: redis_asyncio.Redis = manager.master_for(MASTER, **options)
        return client

    @contextlib.asynccontextmanager
    async def locks(self, *, protocol: int = 3, **options: Any) -> AsyncIterator[LockClient]:
        """Open a client that stands for a process of its own."""
        async with (
            self.redis(protocol=protocol) as redis,
            LockClient(redis, **options) as client,
        ):
            yield client

    def ask(self, server: EmbeddedRedis, *command: str) -> Any:
        """Send one command to a server or a sentinel."""
        with redis_sync.Redis(port=server.port, socket_timeout=2) as client:
            return client.execute_command(*command)

    @property
    def master_port(self) -> int:
        """The port of whom the last sentinel takes for the master."""
        found = self.ask(self.sentinels[-1], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
        return int(found[1])

    @property
    def master(self) -> EmbeddedRedis:
        """The master by the last sentinel's word."""
        port = self.master_port
        return next(each for each in self.servers if each.port == port)

    @property
    def replicas(self) -> list[EmbeddedRedis]:
        """The other two."""
        master = self.master
        return [each for each in self.servers if each is not master]

    async def failed_over(self, former: EmbeddedRedis, within: float = 15.0) -> float:
        """Wait until a sentinel names another master; return the local instant."""
        until = time.monotonic() + within
        while self.master_port == former.port:
            assert time.monotonic() < until, f"no failover within {within} s"
            # Polls: the sentinels tell others by messages, but a test needs no more.
            await asyncio.sleep(0.02)
        return time.monotonic()

    def appoint(self, replica: EmbeddedRedis, former: EmbeddedRedis) -> None:
        """Make a replica the master, and its master its replica, without a failover."""
        self.ask(replica, "REPLICAOF", "NO", "ONE")
        self.ask(former, "REPLICAOF", LOOPBACK, str(replica.port))
        for sentinel in self.sentinels:
            self.ask(sentinel, "SENTINEL", "REMOVE", MASTER)
            self.ask(sentinel, "SENTINEL", "MONITOR", MASTER, LOOPBACK, str(replica.port), "2")

    def connected_replicas(self) -> int:
        """Return how many replicas the master has, all in step."""
        role = self.ask(self.servers[0], "ROLE")
        return sum(int(offset) >= int(role[1]) - 100 for _, _, offset in role[2])


@contextlib.contextmanager
def sentinel_deployment(binary: Path) -> Iterator[SentinelDeployment]:
    """Start all six, and wait until the replicas are in step and known to the sentinels."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="aiodistlock-sentinel-")))

        def start(*args: str, config: Path | None = None) -> EmbeddedRedis:
            return stack.enter_context(EmbeddedRedis(binary=binary, args=args, config=config))

        master = start(*_SERVER_ARGS)
        follow = ("--replicaof", LOOPBACK, str(master.port))
        servers = [master, *(start(*_SERVER_ARGS, *follow) for _ in range(2))]
        configs = [_sentinel_config(folder / f"{i}.conf", master.port) for i in range(3)]
        sentinels = [start("--sentinel", config=config) for config in configs]
        _introduce(sentinels, configs, servers)
        deployment = SentinelDeployment(servers, sentinels)
        _wait_until_complete(deployment)
        yield deployment


def _sentinel_config(config: Path, master_port: int, *known: str) -> Path:
    """Write a sentinel's configuration, which it rewrites as it runs."""
    lines = [
        f"sentinel monitor {MASTER} {LOOPBACK} {master_port} 2",
        f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER * 1000:.0f}",
        f"sentinel failover-timeout {MASTER} 3000",
        f"sentinel parallel-syncs {MASTER} 2",
        *known,
    ]
    config.write_text("\n".join(lines) + "\n")
    return config


def _introduce(
    sentinels: list[EmbeddedRedis], configs: list[Path], servers: list[EmbeddedRedis]
) -> None:
    """Tell the sentinels of each other and of the replicas: by themselves it takes seconds."""
    ids = []
    for sentinel in sentinels:
        with redis_sync.Redis(port=sentinel.port) as client:
            ids.append(_text(client.execute_command("SENTINEL", "MYID")))
    master, *replicas = servers
    for sentinel, own_id, config in zip(sentinels, ids, configs, strict=True):
        known = [f"sentinel myid {own_id}"]
        known += [
            f"sentinel known-sentinel {MASTER} {LOOPBACK} {other.port} {its_id}"
            for other, its_id in zip(sentinels, ids, strict=True)
            if other is not sentinel
        ]
        known += [f"sentinel known-replica {MASTER} {LOOPBACK} {each.port}" for each in replicas]
        sentinel.kill()
        _sentinel_config(config, master.port, *known)
        sentinel.restart()


def _wait_until_complete(deployment: SentinelDeployment) -> None:
    until = time.monotonic() + 20
    while not _is_complete(deployment):
        assert time.monotonic() < until, "the deployment does not come up"
        time.sleep(0.02)


def _is_complete(deployment: SentinelDeployment) -> bool:
    if deployment.connected_replicas() < 2:
        return False
    for sentinel in deployment.sentinels:
        flat = deployment.ask(sentinel, "SENTINEL", "MASTER", MASTER)
        state = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
        found = {_text(key): _text(value) for key, value in state.items()}
        if (found["num-slaves"], found["num-other-sentinels"]) != ("2", "2"):
            return False
    return True


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
