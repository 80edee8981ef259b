"""Wires an engine to the nodes of a quorum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from redis.asyncio.connection import ConnectionPool

from aiodistlock.core.clock import ServerClock, wall_us
from aiodistlock.engine.inbox import Grant, Inbox
from aiodistlock.engine.quorum_pipe import QuorumPipe
from aiodistlock.stores.quorum import QuorumStore
from aiodistlock.stores.rounds.acquire import Acquire

if TYPE_CHECKING:
    from aiodistlock.engine.acquire import Engine


def quorum_store(pools: Sequence[ConnectionPool], engine: Engine, channel: bytes) -> QuorumStore:
    """Build the store on the nodes that these pools connect to, one pipe each."""

    def identified() -> None:
        store.quorum.problem = duplicates(pipes)

    def listening() -> None:
        # Before that a release may have told those who did not hear it yet.
        if sum(pipe.heard for pipe in pipes) == store.quorum.majority:
            engine.on_listening()

    engine.longest_ttl = engine.options.quarantine
    pipes = [_pipe(pool, engine, channel, identified, listening) for pool in pools]
    store = QuorumStore(
        pipes,
        channel,
        fence_retention=engine.options.fence_retention,
        quarantine=engine.options.quarantine,
        clock=engine.clock,
        wall_us=wall_us,
    )
    return store


def duplicates(pipes: Sequence[QuorumPipe]) -> ValueError | None:
    """Tell which two nodes are one and the same server, if any are: it would vote twice."""
    found: dict[bytes, QuorumPipe] = {}
    for pipe in pipes:
        if pipe.run_id is not None:
            first = found.setdefault(pipe.run_id, pipe)
            if first is not pipe:
                return ValueError(
                    f"{first.address} and {pipe.address} are the same server; each node of a "
                    "quorum must be another Redis, on another machine"
                )
    return None


def _pipe(
    pool: ConnectionPool,
    engine: Engine,
    channel: bytes,
    identified: Callable[[], object],
    listening: Callable[[], object],
) -> QuorumPipe:
    def hinted(hint: Grant, _: ServerClock) -> None:
        """Have the waiter ask at once; a round under way is told for when it has lost."""
        attempt = engine.attempts.get(hint.token)
        if attempt is not None:
            if isinstance(attempt.call, Acquire):
                attempt.call.hinted = True
            attempt.ask_again()

    inbox = Inbox(
        pool,
        channel,
        on_grant=hinted,
        on_listening=listening,
        clock=engine.clock,
        rng=engine.rng,
    )
    return QuorumPipe(
        pool,
        inbox,
        on_identified=identified,
        # One node more or less decides nothing: no lease needs to be checked.
        on_connected=lambda: None,
        on_listening=listening,
        wanted=engine.busy,
        clock=engine.clock,
        rng=engine.rng,
        unavailable_after=engine.options.unavailable_after,
    )
