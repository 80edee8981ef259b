"""The judge of a cluster: where a lock is, while slots move and shards fail over."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from aiodistlock.core.slots import slot_of
from tests.simulation.known import Name
from tests.simulation.redis.cluster import ClusterServer
from tests.simulation.redis.server import RedisServer
from tests.simulation.sentinel_judge import SentinelJudge

if TYPE_CHECKING:
    from tests.simulation.resharding import Cluster


class ClusterJudge(SentinelJudge):
    """Judges P1 but while a failover is under way, and fencing tokens always."""

    cluster: Cluster

    def _keys_at(self, server: RedisServer) -> Iterable[tuple[bytes, Name]]:
        assert isinstance(server, ClusterServer)
        return [each for each in self.keys.items() if server.serves(slot_of(each[0]))]

    def _take_in_queue(self, name: Name, queue: object) -> None:
        if self.cluster.is_moving(slot_of(name.queue_key)):
            name.queue.clear()  # it may be here, and the lock there
        else:
            super()._take_in_queue(name, queue)

    def _server(self, key: bytes) -> RedisServer:
        return self.cluster.holder(key)
