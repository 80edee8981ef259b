"""Fencing tokens rise strictly across random majorities, as the nodes issue them.

The nodes are a model; ``tests/redis/test_quorum_scripts.py`` checks that the scripts do
the same.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

import pytest

from aiodistlock.deployments.quorum.votes import Proposer, agree, majority

LEASES = 10_000
NODES = 5
QUARANTINE_US = 60_000_000
SKEW_US = 5_000_000
"""How far the clients' wall clocks are apart."""


@dataclass
class Node:
    """The fence counter of one name on one node."""

    counter: int = 0
    trusted_at: int = 0


@dataclass
class World:
    """Nodes, and clients with clocks of their own; time passes between the leases."""

    rng: Random
    loses_data: bool
    now_us: int = 1_800_000_000_000_000
    nodes: list[Node] = field(default_factory=lambda: [Node() for _ in range(NODES)])
    clients: list[tuple[int, Proposer]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clients = [(self.rng.randint(-SKEW_US, SKEW_US), Proposer()) for _ in range(4)]

    def pass_time(self) -> None:
        """Let up to 20 s pass, or hardly any; perhaps a node comes up without data."""
        self.now_us += self.rng.choice((1, 300, 20_000_000))
        down = any(node.trusted_at > self.now_us for node in self.nodes)
        if self.loses_data and not down and self.rng.random() < 0.05:
            lost = self.rng.choice(self.nodes)
            lost.counter, lost.trusted_at = 0, self.now_us + QUARANTINE_US

    def voters(self) -> list[int]:
        """Return a random majority of the nodes that count, or more than that."""
        counting = [n for n, node in enumerate(self.nodes) if node.trusted_at <= self.now_us]
        size = self.rng.randint(majority(NODES), len(counting))
        return self.rng.sample(counting, size)


def issue(world: World) -> int:
    """Issue a token as the library does."""
    skew, proposer = world.rng.choice(world.clients)
    proposed = proposer.propose(world.now_us + skew)
    issued = {}
    for voter in world.voters():
        node = world.nodes[voter]
        node.counter = issued[voter] = max(proposed, node.counter + 1)
    deciding = dict(list(issued.items())[: majority(NODES)])
    fence, behind = agree(deciding)
    if fence != proposed:
        proposer.observe(proposed, fence)
    missing = majority(NODES) - (len(deciding) - len(behind))
    for voter in world.rng.sample(behind, max(0, missing)):
        world.nodes[voter].counter = max(world.nodes[voter].counter, fence)
    return fence


def maximum_of_counters(world: World) -> int:
    """The mutant: each node counts for itself, and the highest count is the token."""
    fences = []
    for voter in world.voters():
        world.nodes[voter].counter += 1
        fences.append(world.nodes[voter].counter)
    return max(fences)


def not_written_back(world: World) -> int:
    """The mutant: the highest token is taken, but only the node that issued it knows it."""
    skew, _ = world.rng.choice(world.clients)
    fences = []
    for voter in world.voters()[: majority(NODES)]:
        node = world.nodes[voter]
        node.counter = max(world.now_us + skew, node.counter + 1)
        fences.append(node.counter)
    return max(fences)


def tokens(issue: Callable[[World], int], seed: int, *, loses_data: bool) -> list[int]:
    """Issue so many tokens, one after another."""
    world = World(Random(seed), loses_data)
    found = []
    for _ in range(LEASES):
        world.pass_time()
        found.append(issue(world))
    return found


def rise(found: list[int]) -> bool:
    """Tell whether each token is higher than the one before."""
    return all(one < other for one, other in pairwise(found))


@pytest.mark.parametrize("loses_data", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_tokens_rise_strictly(seed: int, loses_data: bool) -> None:
    """10,000 random majorities, clocks 10 s apart, with and without a node that loses data."""
    found = tokens(issue, seed, loses_data=loses_data)
    assert rise(found)
    assert found[-1] < 2**53


@pytest.mark.parametrize("mutant", [maximum_of_counters, not_written_back])
def test_the_test_catches(mutant: Callable[[World], int]) -> None:
    """The simpler ways do not rise, which this test notices at once."""
    assert not rise(tokens(mutant, 0, loses_data=False)[:100])


def test_a_client_behind_follows_by_at_most_a_second() -> None:
    """A client whose clock is slow learns from what it sees, but not a wrong clock's year."""
    proposer = Proposer()
    proposer.observe(1_000, 1_500)
    assert proposer.propose(2_000) == 2_500
    proposer.observe(2_500, 10**15)
    assert proposer.propose(3_000) == 3_000 + Proposer.MOST_AHEAD
