"""The judge of a cluster: where a lock is, while slots move and shards fail over."""

from __future__ import annotations

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

    def serves(self, server: RedisServer, key: bytes) -> bool:
        """Tell whether a server serves a key, by its own view."""
        assert isinstance(server, ClusterServer)
        return server.serves(slot_of(key))

    def is_settled(self, key: bytes) -> bool:
        """Tell whether one server has a key and all that belongs to it."""
        return super().is_settled(key) and not self.cluster.is_moving(slot_of(key))

    def _take_in_queue(self, name: Name, queue: object) -> None:
        if self.cluster.is_moving(slot_of(name.queue_key)):
            name.queue.clear()  # it may be here, and the lock there
        else:
            super()._take_in_queue(name, queue)

    def server(self, key: bytes) -> RedisServer:
        """Return where a lock is."""
        return self.cluster.holder(key)
