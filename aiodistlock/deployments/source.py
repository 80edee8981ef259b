"""What locks may be kept on: a table with a row for each deployment."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Union, cast

from aiodistlock.core.ack import parse_ack
from aiodistlock.core.clock import ClockWithTimers
from aiodistlock.deployments.cluster.deployment import CLUSTER
from aiodistlock.deployments.deployment import Deployment
from aiodistlock.deployments.memory.deployment import MEMORY
from aiodistlock.deployments.memory.server import MemoryServer
from aiodistlock.deployments.quorum.deployment import QUORUM
from aiodistlock.deployments.single.deployment import SINGLE
from aiodistlock.protocol.owner import Owner
from aiodistlock.protocol.store import Store

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

Source = Union["Redis", "RedisCluster", "tuple[Redis, ...]", MemoryServer]
"""Where locks are kept, as it is after :func:`check`."""

DEPLOYMENTS = (MEMORY, QUORUM, CLUSTER, SINGLE)
"""The first that matches counts."""


def _of(source: object) -> Deployment:
    """Return the row of a source."""
    for deployment in DEPLOYMENTS:
        if deployment.matches(source):
            return deployment
    raise TypeError(
        "expected a redis.asyncio.Redis or RedisCluster (or valkey-py's), a sequence of "
        f"independent Redis, or a LockClient, not {type(source).__name__}"
    )


def check(source: object) -> Source:
    """
    Check what a user passes as the place where locks are kept.

    :raises TypeError: saying what is expected, if it cannot be used
    :raises ValueError: for a sequence that is empty, or has a client object twice
    """
    return cast("Source", _of(source).check(source))


def stand_in(source: Source) -> Any:
    """Return what a user's client object, or several, are set to, without the objects."""
    return _of(source).stand_in(source)


def place_of(source: object) -> str:
    """Return where locks are kept, in a few words."""
    return _of(source).place(source)


def try_settings(source: Source) -> None:
    """
    Make connections that are never opened, so that a wrong option is told before any I/O.

    :raises TypeError: as redis-py does, for an option that it does not know
    :raises redis.exceptions.RedisError: as redis-py does, for values that it cannot use
    """
    for connector in _of(source).connectors(source):
        connector.make_connection()


def ack_problem(source: Source, ack: object) -> str | None:
    """Return why a lock's durability level cannot be had where it is kept, if it cannot."""
    if ack == "local" or _of(source).acknowledges:
        return None
    kind = "a quorum" if is_quorum(source) else type(source).__name__
    return (
        f"ack={ack!r} needs one Redis (or one behind Sentinel); "
        f"a lock on {kind} takes ack='local' only"
    )


def clock_of(source: Source) -> ClockWithTimers | None:
    """Return the clock of the place itself, ``None``: the machine's."""
    return _of(source).clock(source)


def is_quorum(source: Source) -> bool:
    """Tell whether it is several nodes, of which a majority decides."""
    return _of(source) is QUORUM


def build(source: Source, owner: Owner, client_id: str, ack: str = "local") -> Store:
    """
    Build a store for whoever waits and holds there, in the running event loop.

    :param client_id: where grants are heard is named after it; no other client has it
    :param ack: what its leases wait for, so that those of other levels need not
    """
    channel = f"aiodistlock:inbox:{client_id}".encode()
    secret = secrets.token_urlsafe(12).encode()
    return _of(source).build(source, owner, channel, secret, parse_ack(ack))
