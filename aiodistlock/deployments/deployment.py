"""A row of the table of deployments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from aiodistlock.connection.opening import Connector
from aiodistlock.core.ack import Ack
from aiodistlock.core.clock import ClockWithTimers
from aiodistlock.protocol.owner import Owner
from aiodistlock.protocol.store import Store

_MOST = 3
"""So many nodes are named; a cluster may have hundreds."""


class Deployment(NamedTuple):
    """
    One kind of place to keep locks; each function gets the place first.

    :ivar matches: tells whether a place is of this kind
    :ivar place: says where that is, for people; never with a password
    :ivar build: builds a store there for an owner, which hears its grants on a channel, and
        knows them by a secret; with what its leases wait for
    :ivar check: checks what a user passes, and returns it as it is kept
    :ivar stand_in: returns what the user's client object is set to, without the object
    :ivar connectors: returns what makes connections there, one of each setting
    :ivar clock: returns the clock of the place itself, ``None``: the machine's
    :ivar acknowledges: whether there are replicas, or a disk, of one server to ask
    """

    matches: Callable[[Any], bool]
    place: Callable[[Any], str]
    build: Callable[[Any, Owner, bytes, bytes, Ack], Store]
    check: Callable[[Any], Any] = lambda source: source
    stand_in: Callable[[Any], Any] = lambda source: source
    connectors: Callable[[Any], Sequence[Connector]] = lambda _source: ()
    clock: Callable[[Any], ClockWithTimers | None] = lambda _source: None
    acknowledges: bool = False


def named(addresses: Sequence[str]) -> str:
    """Name the first of several addresses, for people."""
    rest = len(addresses) - _MOST
    return ", ".join(addresses[:_MOST]) + (f" and {rest} more" if rest > 0 else "")
