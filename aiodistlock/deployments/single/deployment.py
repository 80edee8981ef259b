"""One Redis as a deployment, at an address of its own or wherever Sentinels say."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from aiodistlock.connection.inbox import Inbox
from aiodistlock.connection.opening import address_of
from aiodistlock.connection.pipe import Pipe
from aiodistlock.core.ack import Ack
from aiodistlock.deployments.deployment import Deployment, named
from aiodistlock.deployments.durable.pipe import DurablePipe
from aiodistlock.deployments.durable.store import Barrier, DurableStore
from aiodistlock.deployments.sentinel.sentinels import opener_to
from aiodistlock.deployments.single.store import SingleStore
from aiodistlock.protocol.operations import Operations
from aiodistlock.protocol.owner import Owner
from aiodistlock.protocol.store import Store

if TYPE_CHECKING:
    from redis.asyncio import Redis


class Settings:
    """Stands for a user's client in its shared LockClient: the pool, not the object."""

    def __init__(self, redis: Redis) -> None:
        self.connection_pool = redis.connection_pool

    async def aclose(self) -> None:
        """Nothing is ours to close."""


def check_client(client: Any) -> Any:
    """
    Check a client object of whatever deployment.

    :raises TypeError: saying what is expected, if it cannot be used
    """
    pool = getattr(client, "connection_pool", None)
    if not getattr(pool, "is_master", True):
        raise TypeError("expected Sentinel's master_for(...): replicas cannot keep locks")
    if not inspect.iscoroutinefunction(getattr(client, "aclose", None)):
        raise TypeError("expected a client of redis.asyncio, not a blocking one of redis")
    return client


def _place(redis: Redis) -> str:
    pool: Any = redis.connection_pool
    sentinels = getattr(pool, "sentinel_manager", None)
    place = address_of(pool)
    if sentinels is not None:
        asked = [address_of(each.connection_pool) for each in sentinels.sentinels]
        place = f"{pool.service_name!r} of the Sentinels {named(asked)}"
    database = pool.connection_kwargs.get("db")
    return f"{place}, database {database}" if database else place


def _build(redis: Redis, owner: Owner, channel: bytes, secret: bytes, ack: Ack) -> Store:
    pool = redis.connection_pool
    on_grant = owner.on_unacknowledged_grant if ack.waits else owner.on_grant
    inbox = Inbox(opener_to(pool), channel, secret, owner, on_grant)
    if not ack.waits:
        return SingleStore(Pipe(opener_to(pool), inbox, owner), inbox, Operations())
    barrier = Barrier(ack, owner.clock)
    pipe = DurablePipe(opener_to(pool), inbox, owner, barrier)
    return DurableStore(pipe, inbox, Operations(), barrier)


SINGLE = Deployment(
    matches=lambda source: hasattr(source, "connection_pool"),
    place=_place,
    build=_build,
    check=check_client,
    stand_in=Settings,
    connectors=lambda redis: (redis.connection_pool,),
    acknowledges=True,
)
