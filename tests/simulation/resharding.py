"""What befalls a cluster besides its servers: slots that move, and shards that fail over.

One at a time: what a slot on its way becomes in a failover is for its administrator to settle.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from aiodistlock.core.slots import slot_of
from tests.simulation.cluster_judge import ClusterJudge
from tests.simulation.failover import Failover
from tests.simulation.network import Network
from tests.simulation.redis.cluster import ClusterServer, View
from tests.simulation.redis.server import RedisServer

if TYPE_CHECKING:
    from tests.simulation.plan import Strike

RETRIES = 0.02
"""Seconds after which keys are tried again that could not be moved."""


def first_view(names: list[str]) -> View:
    """Return who is who at first: the first half are primaries, of the others each its replica."""
    half = len(names) // 2
    return View(tuple(zip(names[:half], names[half:], strict=True)))


class Cluster:
    """
    Its shards, as they are in truth.

    :param servers: primaries, and as many replicas
    """

    def __init__(
        self, network: Network, judge: ClusterJudge, servers: list[ClusterServer], rng: Random
    ) -> None:
        self._timeline = network.timeline
        self._judge = judge
        self.servers = {each.name: each for each in servers}
        self.view = first_view(list(self.servers))
        self._failovers = [
            ShardFailover(self, network, judge, [self.servers[each] for each in names], rng)
            for names in self.view.shards
        ]
        self._moving: tuple[int, int] | None = None
        """Which slot is on its way, and to which shard."""
        judge.cluster = self

    def primary(self, shard: int) -> ClusterServer:
        """Return who serves a shard."""
        return self.servers[self.view.shards[shard][0]]

    def is_moving(self, slot: int) -> bool:
        """Tell whether a slot is on its way."""
        return self._moving is not None and self._moving[0] == slot

    def holder(self, key: bytes) -> ClusterServer:
        """Return where a key is, if it is there."""
        slot = slot_of(key)
        if self._moving is not None and self.is_moving(slot):
            target = self.primary(self._moving[1])
            if key in target.keys.values:
                return target
        return self.primary(self.view.shard(slot))

    def written(self, server: RedisServer) -> None:
        """Take down what a primary has, to be had by its replica later."""
        for each in self._failovers:
            each.written(server)

    @property
    def _is_busy(self) -> bool:
        return self._moving is not None or any(each.under_way for each in self._failovers)

    def begin(self, strike: Strike) -> None:
        """Have the primary of a shard fail, or seem to."""
        if not self._is_busy:
            self._failovers[strike.number // 8 % len(self._failovers)].begin(strike)

    def move(self, strike: Strike) -> None:
        """Have the slot of a lock move to another shard."""
        if self._is_busy:
            return
        semaphores = self._judge.permits.names.values()
        keys = [*self._judge.keys, *(each.key for each in semaphores)]
        slot = slot_of(keys[strike.number % len(keys)])
        shard = self.view.shard(slot)
        target = (shard + 1) % len(self.view.shards)
        self._moving = slot, target
        self.primary(target).importing.add(slot)
        self.primary(shard).migrating[slot] = self.primary(target).name
        self._timeline.after(strike.amount * 0.2, self._move_on, self._moving, strike.amount * 0.02)

    def _move_on(self, moving: tuple[int, int], pause: float) -> None:
        """Move one key, or, when none is left, the slot."""
        if self._moving != moving:
            return
        source, target = self.primary(self.view.shard(moving[0])), self.primary(moving[1])
        if any(not each.up or each.frozen or each.saying for each in (source, target)):
            self._timeline.after(RETRIES, self._move_on, moving, pause)
        elif self._move_a_key(source, target, moving[0]):
            self._timeline.after(pause, self._move_on, moving, pause)
        else:
            self._hand_over(pause)

    def _move_a_key(self, source: ClusterServer, target: ClusterServer, slot: int) -> bool:
        key = next((each for each in sorted(source.keys.values) if slot_of(each) == slot), None)
        if key is None:
            return False
        target.keys.values[key] = source.keys.values[key]
        if (end := source.keys.ends.get(key)) is not None:
            target.keys.ends[key] = end + (target.clock_us() - source.clock_us()) // 1000
        source.keys.drop(key)
        for each in (source, target):
            self.written(each)
        return True

    def _hand_over(self, pause: float) -> None:
        """Make the target the owner of the slot; it learns that first, as it should."""
        assert self._moving is not None
        slot, shard = self._moving
        source, target = self.primary(self.view.shard(slot)), self.primary(shard)
        self._moving = None
        self.view = replace(self.view, moved={**self.view.moved, slot: shard})
        target.learn_of(self.view)
        target.importing.discard(slot)
        self.tell([source, *(each for each in self.servers.values() if each is not source)], pause)

    def tell(self, servers: list[ClusterServer], pause: float) -> None:
        """Have servers learn what is true now, one after the other."""
        for number, server in enumerate(servers):
            self._timeline.after(number * pause, self._learn, server)

    def _learn(self, server: ClusterServer) -> None:
        if server.up and not server.frozen:
            server.learn_of(self.view)
            if self._moving is None:
                server.migrating.clear()
        else:
            self._timeline.after(RETRIES, self._learn, server)

    def end(self) -> None:
        """Finish what is under way, at once."""
        if self._moving is not None:
            slot, shard = self._moving
            source, target = self.primary(self.view.shard(slot)), self.primary(shard)
            while self._move_a_key(source, target, slot):
                pass
            self._hand_over(0.0)
        for each in self._failovers:
            each.end()
        for server in self.servers.values():
            server.sees_all = True
            server.migrating.clear()
            server.learn_of(self.view)


class ShardFailover(Failover):
    """
    The failover of one shard.

    :param servers: its primary, and its replica
    """

    def __init__(
        self,
        cluster: Cluster,
        network: Network,
        judge: ClusterJudge,
        servers: list[ClusterServer],
        rng: Random,
    ) -> None:
        super().__init__(network, judge, [*servers], [], rng)
        self._cluster = cluster
        servers[0].replicas = servers[1:]

    def begin(self, strike: Strike) -> None:
        """Have the primary fail, or seem to; others may serve nothing before it is replaced."""
        super().begin(strike)
        for each in self._others():
            each.sees_all = strike.number // 4 % 2 == 0

    def _others(self) -> list[ClusterServer]:
        return [each for each in self._cluster.servers.values() if each is not self.primary]

    def _promoted(self, amount: float) -> None:
        cluster, former = self._cluster, self._replica.name
        view, name = cluster.view, self.primary.name
        shards = tuple((name, former) if name in each else each for each in view.shards)
        cluster.view = replace(view, shards=shards)
        promoted = cluster.servers[name]
        promoted.learn_of(cluster.view)
        # Whoever still serves as its primary does not reach it, or would know by now.
        cluster.servers[former].replicas = []
        for each in cluster.servers.values():
            each.sees_all = True
        others = [each for each in self._others() if each.name != former]
        cluster.tell(others, amount * 0.05)

    def _demoted(self, former: RedisServer) -> None:
        """Have the former primary hear of its successor: its clients stay."""
        cluster = self._cluster
        cluster.servers[former.name].learn_of(cluster.view)
        cluster.servers[self.primary.name].replicas = [cluster.servers[former.name]]
