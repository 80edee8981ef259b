"""Memory in place of Redis, as a deployment."""

from __future__ import annotations

from aiodistlock.core.ack import Ack
from aiodistlock.deployments.deployment import Deployment
from aiodistlock.deployments.memory.connection import MemoryConnection
from aiodistlock.deployments.memory.server import MemoryServer
from aiodistlock.deployments.memory.store import MemoryStore
from aiodistlock.protocol.owner import Owner


def _build(
    server: MemoryServer, owner: Owner, channel: bytes, _secret: bytes, _ack: Ack
) -> MemoryStore:
    return MemoryStore(server, MemoryConnection(server, channel, owner))


MEMORY = Deployment(
    matches=lambda source: isinstance(source, MemoryServer),
    place=lambda _source: "memory",
    build=_build,
    clock=lambda server: server.clock,
)
