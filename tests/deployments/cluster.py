"""A Redis Cluster of three primaries and three replicas, as child processes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import redis as redis_sync
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from aiodistlock.core.slots import SLOTS, slot_of
from aiodistlock.testing.discovery import LOOPBACK
from aiodistlock.testing.embedded import EmbeddedRedis, TlsFiles
from tests.proxy import ChaosProxy

NODE_TIMEOUT = 1.0
"""Seconds of silence after which the nodes suspect one of them."""

DETECTION = 2 * NODE_TIMEOUT
"""Seconds after which they have agreed that it failed, before they elect another."""

ARGS = (
    *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"),
    *("--cluster-node-timeout", str(int(NODE_TIMEOUT * 1000))),
    # A replica stands for election however long ago it heard of its primary.
    *("--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"),
    # Until its primary has sent it something, a replica is not listed.
    *("--repl-ping-replica-period", "1"),
)


TLS_ARGS = ("--tls-cluster", "yes", "--tls-replication", "yes")


class Node:
    """One process of the cluster, and an administrator's connection to it."""

    def __init__(self, binary: Path, tls: TlsFiles | None = None) -> None:
        self._tls: dict[str, Any] = (
            {} if tls is None else {"ssl": True, "ssl_ca_certs": str(tls.ca)}
        )
        args = ARGS if tls is None else (*ARGS, *TLS_ARGS)
        self.server = EmbeddedRedis(binary=binary, args=args, tls=tls)
        self.server.start()
        self.id = self.command("CLUSTER", "MYID").decode()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port

    def command(self, *args: Any, timeout: float = 2.0) -> Any:
        """Run a command on this very node, and return the raw reply."""
        with redis_sync.Redis(
            host=LOOPBACK, port=self.port, socket_timeout=timeout, protocol=2, **self._tls
        ) as client:
            client.response_callbacks.clear()
            return client.execute_command(*args)

    def info(self, key: str) -> str:
        """Return a line of CLUSTER INFO, ``""`` from a node that does not answer."""
        try:
            lines = self.command("CLUSTER", "INFO").decode().splitlines()
        except (RedisConnectionError, RedisTimeoutError):
            return ""
        values: dict[str, str] = dict(line.split(":", 1) for line in lines)
        return values.get(key, "")


class Cluster:
    """
    Primaries with their share of the slots each, and replicas.

    :param before: called with the number of each node before that is started
    :param tls: the nodes speak TLS with these files, to clients and to each other
    """

    def __init__(
        self,
        binary: Path,
        stack: ExitStack,
        *,
        shards: int = 3,
        replicas: int = 1,
        before: Callable[[int], None] = lambda _number: None,
        tls: TlsFiles | None = None,
    ) -> None:
        self.nodes: list[Node] = []
        self._hurt = False
        self._shards = shards
        for number in range(shards * (1 + replicas)):
            before(number)
            node = Node(binary, tls)
            stack.callback(node.server.stop)
            self.nodes.append(node)
            node.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number, node in enumerate(self.nodes[:shards]):
            first, end = SLOTS * number // shards, SLOTS * (number + 1) // shards
            node.command("CLUSTER", "ADDSLOTS", *range(first, end))
        for node in self.nodes[1:]:
            node.command("CLUSTER", "MEET", LOOPBACK, self.nodes[0].port)
        known = str(len(self.nodes))
        self._until(lambda: all(each.info("cluster_known_nodes") == known for each in self.nodes))
        for number, replica in enumerate(self.nodes[shards:]):
            self._until(partial(self._replicate, replica, self.nodes[number % shards]))
        self.wait_until_whole()

    @staticmethod
    def _replicate(replica: Node, primary: Node) -> bool:
        try:
            replica.command("CLUSTER", "REPLICATE", primary.id)
        except ResponseError:  # not introduced to each other yet
            return False
        return True

    @property
    def sharded(self) -> bool:
        """Whether the servers have sharded pub/sub."""
        return bool(self.nodes[0].command("COMMAND", "INFO", "SPUBLISH")[0])

    def client(self, **options: Any) -> RedisCluster:
        """Make a user's client."""
        nodes = [ClusterNode(LOOPBACK, node.port) for node in self.nodes]
        return RedisCluster(startup_nodes=nodes, **options)

    @property
    def url(self) -> str:
        """Where ``LockClient.from_url`` finds the cluster."""
        scheme = "redis" if self.nodes[0].server.url.startswith("redis:") else "rediss"
        hosts = ",".join(f"{LOOPBACK}:{node.port}" for node in self.nodes)
        return f"{scheme}+cluster://{hosts}"

    def wait_until_whole(self, within: float = 20.0) -> None:
        """Wait until all nodes agree that all is well, and every replica has its data."""
        self._until(self._whole, within)

    def _whole(self) -> bool:
        try:
            if any(node.info("cluster_state") != "ok" for node in self.nodes):
                return False
            views = [_view(node.command("CLUSTER", "SLOTS")) for node in self.nodes]
            roles = [node.command("ROLE") for node in self.nodes]
        except (RedisConnectionError, RedisTimeoutError, ResponseError):
            return False
        followed = [role for role in roles if role[0] == b"slave"]
        return (
            all(view == views[0] for view in views)
            and len(followed) == len(self.nodes) - self._shards
            and len({port for _, _, _, replicas in views[0] for port in replicas}) == len(followed)
            and all(role[3] == b"connected" for role in followed)
        )

    @staticmethod
    def _until(what: Callable[[], bool], within: float = 20.0) -> None:
        give_up_at = time.monotonic() + within
        while not what():
            assert time.monotonic() < give_up_at, f"the cluster was not whole after {within} s"
            # Polls: gossip has no other way to tell that it is over.
            time.sleep(0.02)

    def kill(self, node: Node) -> None:
        """End a node as a crash would."""
        self._hurt = True
        node.server.kill()

    def freeze(self, node: Node) -> None:
        """Freeze a node; :meth:`heal` lets it go on."""
        self._hurt = True
        node.server.freeze()

    def heal(self) -> None:
        """Start what was killed, thaw what was frozen, and wait until all is well."""
        if not self._hurt:
            return
        for node in self.nodes:
            if not node.server.is_running:
                node.server.restart()
            else:
                node.server.thaw()
        self.wait_until_whole()
        self._hurt = False

    def primaries(self) -> list[Node]:
        """Return the nodes that own slots."""
        ports = {port for _, _, port, _ in _view(self.nodes[0].command("CLUSTER", "SLOTS"))}
        return [node for node in self.nodes if node.port in ports]

    def keys(self, prefix: str) -> list[str]:
        """Return the keys below a prefix, but counters and versions, which outlive their locks."""
        found = [key for node in self.primaries() for key in node.command("KEYS", f"*{prefix}*")]
        stays = (b"aiodistlock:fence:", b"aiodistlock:version:")
        return sorted(key.decode() for key in found if not key.startswith(stays))

    def remove(self, prefix: str) -> list[str]:
        """Remove all keys below a prefix, and return those but fence counters."""
        left = self.keys(prefix)
        for node in self.primaries():
            for key in node.command("KEYS", f"*{prefix}*"):
                node.command("DEL", key)
        return left

    def owner(self, key: str) -> Node:
        """Return the primary of a key, as the others see it."""
        slot = slot_of(key.encode())
        for node in self.nodes:
            try:
                view = _view(node.command("CLUSTER", "SLOTS", timeout=0.3))
            except (RedisConnectionError, RedisTimeoutError):
                continue
            for first, last, port, _ in view:
                if first <= slot <= last:
                    return next(each for each in self.nodes if each.port == port)
        raise AssertionError(f"nobody serves slot {slot}")

    def others(self, key: str) -> list[Node]:
        """Return the primaries that do not serve a key."""
        owner = self.owner(key)
        ports = {port for _, _, port, _ in _view(owner.command("CLUSTER", "SLOTS"))}
        return [node for node in self.nodes if node.port in ports and node is not owner]

    def begin_migration(self, key: str, target: Node) -> None:
        """Have a slot on its way: its keys are still where they were."""
        slot, source = slot_of(key.encode()), self.owner(key)
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)

    def move_keys(self, key: str, target: Node) -> None:
        """Move the keys of a slot that is on its way."""
        slot, source = slot_of(key.encode()), self.owner(key)
        while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.command("MIGRATE", LOOPBACK, target.port, "", 0, 2000, "KEYS", *keys)

    def end_migration(self, key: str, target: Node) -> None:
        """Make the target the owner of a slot; it learns that first, as it should."""
        slot, source = slot_of(key.encode()), self.owner(key)
        for node in (target, source, *self.nodes):
            try:
                node.command("CLUSTER", "SETSLOT", slot, "NODE", target.id)
            # Replicas are told by their primaries; who gives its last slot away becomes one.
            except ResponseError:
                if node.command("ROLE")[0] == b"master":
                    raise

    def add(self, node: Node) -> None:
        """Introduce a primary without slots, and wait until all know it."""
        self.nodes.append(node)
        self._shards += 1
        node.command("CLUSTER", "SET-CONFIG-EPOCH", len(self.nodes))
        node.command("CLUSTER", "MEET", LOOPBACK, self.nodes[0].port)
        known = str(len(self.nodes))
        self._until(
            lambda: all(
                (each.info("cluster_known_nodes"), each.info("cluster_state")) == (known, "ok")
                for each in self.nodes
            )
        )

    def remove_node(self, node: Node) -> None:
        """Forget a node that has no slots any more, and kill it."""
        self.nodes.remove(node)
        self._shards -= 1
        for each in self.nodes:
            each.command("CLUSTER", "FORGET", node.id)
        node.server.kill()

    def migrate(self, key: str, target: Node) -> None:
        """Move a slot with its keys to another primary."""
        self.begin_migration(key, target)
        self.move_keys(key, target)
        self.end_migration(key, target)


def _view(slots: Any) -> list[tuple[int, int, int, tuple[int, ...]]]:
    """Read CLUSTER SLOTS: ranges, the primary's port, the replicas' ports."""
    return sorted(
        (first, last, primary[1], tuple(sorted(each[1] for each in replicas)))
        for first, last, primary, *replicas in slots
    )


@asynccontextmanager
async def remapped(
    node: Node, script_names: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[ChaosProxy, RedisCluster]]:
    """
    Make a user's client that reaches one node by way of a proxy.

    :param script_names: as for the proxy
    """
    async with ChaosProxy(LOOPBACK, node.port, script_names=script_names) as proxy:

        def remap(address: tuple[str, int]) -> tuple[str, int]:
            return (LOOPBACK, proxy.port) if address[1] == node.port else address

        async with RedisCluster(host=LOOPBACK, port=node.port, address_remap=remap) as redis:
            yield proxy, redis


@contextmanager
def running_cluster(binary: Path) -> Iterator[Cluster]:
    """Start a cluster, and leave nothing of it."""
    with ExitStack() as stack:
        yield Cluster(binary, stack)
