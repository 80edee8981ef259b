"""A quorum as a deployment: several Redis, one after the other in a tuple."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiodistlock.connection.inbox import Inbox
from aiodistlock.connection.opening import address_of
from aiodistlock.core.ack import Ack
from aiodistlock.core.clock import ServerClock, wall_us
from aiodistlock.deployments.deployment import Deployment, named
from aiodistlock.deployments.quorum.node_pipe import NodePipe
from aiodistlock.deployments.quorum.rounds.acquire import Acquire
from aiodistlock.deployments.quorum.store import QuorumStore
from aiodistlock.deployments.sentinel.sentinels import opener_to
from aiodistlock.deployments.single.deployment import Settings, check_client
from aiodistlock.protocol.grant_message import Grant
from aiodistlock.protocol.owner import Owner

if TYPE_CHECKING:
    from redis.asyncio import Redis


def _check(nodes: Sequence[object]) -> tuple[object, ...]:
    if not nodes:
        raise ValueError("a quorum needs at least one redis.asyncio.Redis, better 3 or 5")
    for node in nodes:
        if not hasattr(node, "connection_pool"):
            raise TypeError(
                "expected a sequence of redis.asyncio.Redis, "
                f"not one that holds a {type(node).__name__}"
            )
        check_client(node)
    if len({id(node) for node in nodes}) < len(nodes):
        raise ValueError("the same Redis client twice: each node of a quorum must be another Redis")
    return tuple(nodes)


def _place(nodes: Sequence[Redis]) -> str:
    return f"a quorum of {named([address_of(each.connection_pool) for each in nodes])}"


def _build(
    redises: Sequence[Redis], owner: Owner, channel: bytes, secret: bytes, _ack: Ack
) -> QuorumStore:
    nodes = _Nodes(owner)
    for redis in redises:
        pool = redis.connection_pool
        inbox = Inbox(opener_to(pool), channel, secret, nodes, nodes.on_hint)
        nodes.pipes.append(NodePipe(opener_to(pool), inbox, nodes))
    nodes.store = store = QuorumStore(
        nodes.pipes,
        inbox.address,
        quarantine=owner.options.quarantine,
        clock=owner.clock,
        wall_us=wall_us,
    )
    return store


class _Nodes:
    """Whom the pipes tell: one node more or less decides nothing."""

    store: QuorumStore

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self.options, self.clock, self.rng = owner.options, owner.clock, owner.rng
        self.busy, self.on_other_wire = owner.busy, owner.on_other_wire
        self.on_recall = owner.on_recall
        self.pipes: list[NodePipe] = []

    def on_connected(self) -> None:
        """Check no lease: the other nodes have it, too."""

    def on_announced(self, channel: bytes) -> None:
        """Observe nobody: there are no elections on a quorum."""

    def on_identified(self) -> None:
        """See whether that node has a vote of its own."""
        self.store.quorum.problem = duplicates(self.pipes)

    def on_listening(self) -> None:
        """Have waiters ask again once a majority is heard."""
        # Before that a release may have told those who did not hear it yet.
        if sum(pipe.heard for pipe in self.pipes) == self.store.quorum.majority:
            self._owner.on_listening()

    def on_hint(self, hint: Grant, _: ServerClock) -> None:
        """Have the waiter ask at once; a round under way is told for when it has lost."""
        asked = self._owner.on_hint(hint)
        if isinstance(asked, Acquire):
            asked.hinted = True


def duplicates(pipes: Sequence[NodePipe]) -> ValueError | None:
    """Tell which two nodes are one and the same server, if any are: it would vote twice."""
    found: dict[bytes, NodePipe] = {}
    for pipe in pipes:
        if pipe.run_id is not None:
            first = found.setdefault(pipe.run_id, pipe)
            if first is not pipe:
                return ValueError(
                    f"{first.address} and {pipe.address} are the same server; each node of a "
                    "quorum must be another Redis, on another machine"
                )
    return None


QUORUM = Deployment(
    matches=lambda source: isinstance(source, Sequence) and not isinstance(source, (str, bytes)),
    place=_place,
    build=_build,
    check=_check,
    stand_in=lambda nodes: tuple(map(Settings, nodes)),
    connectors=lambda nodes: [redis.connection_pool for redis in nodes],
)
