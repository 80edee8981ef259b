"""Whatever the network, the nodes and the clocks do: one holder at a time, and tokens rise."""

import asyncio
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.simulation.loop import SimulatedLoop
from tests.simulation.quorum_world import Fate, World

seeds = st.integers(0, 2**32)
often = st.sampled_from((0.0, 5.0, 30.0))


def live(fate: Fate, seed: int, seconds: float = 6.0) -> World:
    """Run a world to its end."""

    async def run() -> World:
        world = World(fate, Random(seed))
        await world.run(seconds)
        # Shielded clean-up ends within 0.25 s, and then nothing is left.
        await asyncio.sleep(0.5)
        return world

    loop = SimulatedLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        world = runner.run(run())
    assert loop.failures == []
    return world


def fates(**chosen: st.SearchStrategy[object]) -> st.SearchStrategy[Fate]:
    """Draw what may happen: anything that the lock must bear."""
    usual: dict[str, st.SearchStrategy[object]] = {
        "nodes": st.sampled_from((1, 2, 3, 4, 5)),
        "clients": st.integers(2, 4),
        "ttl": st.sampled_from((0.06, 0.4, 1.5)),
        "slow": st.sampled_from((0.003, 0.02, 0.05)),
        "breaks": often,
        "forgets": often,
        "dies": st.sampled_from((0.0, 2.0, 10.0)),
    }
    return st.builds(Fate, **(usual | chosen))


bounded = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@bounded
@given(fates(skew=st.just(3.0), stands=st.booleans()), seeds)
def test_leases_never_overlap_and_tokens_rise_whatever_the_clients_clocks_tell(
    fate: Fate, seed: int
) -> None:
    """Messages late, lost, twice and out of order; clients killed; wall clocks that stand."""
    assert live(fate, seed).problems == []


@bounded
@given(fates(skew=st.sampled_from((0.0, 0.3)), loses_data=st.just(1.0)), seeds)
def test_leases_never_overlap_and_tokens_rise_though_a_minority_forgets(
    fate: Fate, seed: int
) -> None:
    """The same, and nodes restart without their data, a minority within a quarantine."""
    assert live(fate, seed).problems == []


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 5])
def test_where_nothing_fails_everybody_gets_the_lock(nodes: int) -> None:
    """The simulation is of locks that are taken: often, and by all clients."""
    world = live(Fate(nodes=nodes, clients=4), seed=1, seconds=20.0)
    assert world.problems == []
    assert len(world.fences) > 40
    assert len({token.rsplit(":", 1)[0] for token in world.tokens}) == 4
