"""What a deployment needs of whoever waits and holds there, and what it tells them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Protocol

from aiodistlock.core.clock import Clock, ServerClock
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import ClientOptions
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.grant_message import (
    Grant,
    OtherWire,
    Recall,
    read_grant,
    read_recall,
)


class PipeOwner(Protocol):
    """
    Whom a connection tells, and by whose options and clock it goes.

    It may be asked and told from callbacks of the event loop, and does not raise.
    """

    @property
    def options(self) -> ClientOptions:
        """What the user set for the client."""
        ...

    @property
    def clock(self) -> Clock:
        """What leases and pauses go by."""
        ...

    @property
    def rng(self) -> Random:
        """Jitters pauses."""
        ...

    def on_connected(self) -> None:
        """Take note of a connection: its server may be another one than before."""
        ...

    def on_listening(self) -> None:
        """Take note that grants are heard from now on; some may have been missed."""
        ...

    def on_recall(self, recall: Recall) -> None:
        """Take note that somebody waits for a lease that lingers, or may."""
        ...

    def on_announced(self, channel: bytes) -> None:
        """Take note that there is another leader, or may be; or that announcements are heard."""
        ...

    def on_other_wire(self, other: OtherWire) -> None:
        """Take note that somebody here was told something that is not understood."""
        ...

    def busy(self) -> bool:
        """Whether anybody holds or waits, so that a lost connection is missed."""
        ...


OnGrant = Callable[[Grant, ServerClock], object]
"""Takes a grant that arrived by message, and the clock of the server that sent it."""


def deliver(
    message: bytes, secret: bytes, owner: PipeOwner, on_grant: OnGrant, server_clock: ServerClock
) -> None:
    """
    Tell what a message in an inbox says; nothing, if no script wrote it.

    :param secret: of the inbox, which proves a grant
    :param server_clock: of the server that sent it
    """
    recall = read_recall(message)
    if recall is not None:
        owner.on_recall(recall)
        return
    try:
        grant = read_grant(message, secret)
    except OtherWire as other:
        owner.on_other_wire(other)
        return
    if grant is not None:
        on_grant(grant, server_clock)


class Owner(PipeOwner, Protocol):
    """Whom a deployment tells; see ``waiting/engine.py``."""

    @property
    def on_grant(self) -> OnGrant:
        """Takes each grant."""
        ...

    @property
    def on_unacknowledged_grant(self) -> OnGrant:
        """Takes one of which the replicas or the disk may know nothing yet."""
        ...

    @property
    def on_hint(self) -> Callable[[Grant], Call[Any] | None]:
        """Takes the hint that a lock became free; returns what was asked for it last."""
        ...

    def on_moved(self, moved: Callable[[LockKeys], bool]) -> None:
        """Take note that another server has the keys of which ``moved`` says so."""
        ...

    def waited_for(self) -> Sequence[LockKeys]:
        """Return the keys that are waited for."""
        ...
