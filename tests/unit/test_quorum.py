"""What the answers of independent nodes add up to, enumerated."""

from itertools import product

import pytest

from aiodistlock.deployments.quorum.votes import (
    LEAST_LIMIT,
    Sighting,
    Verdict,
    agree,
    all_new,
    limit,
    majority,
    seen_by_majority,
    verdict,
)

SIZES = range(1, 8)


@pytest.mark.parametrize("nodes", SIZES)
def test_two_majorities_share_a_node(nodes: int) -> None:
    """A majority is more than half, and no more than that."""
    assert 2 * majority(nodes) > nodes
    assert 2 * (majority(nodes) - 1) <= nodes


@pytest.mark.parametrize("nodes", SIZES)
def test_every_sequence_of_votes_is_decided_as_soon_as_it_can_be(nodes: int) -> None:
    """For each order of all votes: the verdict comes with the vote that settles it, and stays.

    The definition: won if every way of voting on has a majority, lost if none has.
    """
    for votes in product((True, False), repeat=nodes):
        for given in range(nodes + 1):
            cast, pending = votes[:given], nodes - given
            found = verdict(nodes, cast.count(True), cast.count(False))
            outcomes = {cast.count(True) + more > nodes / 2 for more in range(pending + 1)}
            expected = Verdict.UNDECIDED
            if len(outcomes) == 1:
                expected = Verdict.WON if outcomes == {True} else Verdict.LOST
            assert found is expected, (votes, given)
        assert verdict(nodes, votes.count(True), votes.count(False)) is not Verdict.UNDECIDED


@pytest.mark.parametrize(("nodes", "against"), [(4, 2), (2, 1), (6, 3)])
def test_half_against_decides_an_even_number(nodes: int, against: int) -> None:
    """A split vote ends at once: no majority can come of it."""
    assert verdict(nodes, 0, against) is Verdict.LOST
    assert verdict(nodes, nodes - against, against) is Verdict.LOST


@pytest.mark.parametrize(("ttl", "expected"), [(0.05, 0.05), (1.0, 0.05), (10.0, 0.5)])
def test_a_round_waits_for_a_twentieth_of_the_ttl(ttl: float, expected: float) -> None:
    """The limit is 5 % of the ttl, but not less than a pause of the event loop."""
    assert limit(ttl) == pytest.approx(max(expected, LEAST_LIMIT))


def test_the_highest_token_is_agreed_on() -> None:
    """The agreed token is the highest, and whoever is below is named."""
    assert agree({0: 7, 2: 7, 4: 7}) == (7, ())
    assert agree({0: 7, 2: 9, 4: 8}) == (9, (0, 4))


def test_the_holder_is_whom_a_majority_may_name() -> None:
    """A holder that a majority cannot name means that the vote was split."""
    one, other = Sighting("one", 3.0), Sighting("other", 5.0)
    assert seen_by_majority(5, 0, [one, one, other, one]) == one
    assert seen_by_majority(5, 2, [one]) == one
    assert seen_by_majority(5, 1, [one]) is None
    assert seen_by_majority(5, 0, [one, one, other, other]) is None
    assert seen_by_majority(3, 3, []) is None
    assert seen_by_majority(3, 0, [one, Sighting("one", 4.0)]) == Sighting("one", 4.0)
    assert seen_by_majority(3, 0, [one, Sighting("one", None)]) == Sighting("one", None)


def test_a_deployment_is_new_if_all_nodes_are() -> None:
    """One node that has its data, or lost it a while ago, or is silent: not brand-new."""
    assert all_new(3, {0: 0.0, 1: 0.2, 2: 0.0}, within=1.0)
    assert not all_new(3, {0: 0.0, 1: 0.2}, within=1.0)
    assert not all_new(3, {0: 0.0, 1: 0.2, 2: 1.5}, within=1.0)
