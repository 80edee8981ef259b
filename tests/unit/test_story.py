"""How the answer to a release ends a story."""

import pytest

from aiodistlock import Lost, Released
from aiodistlock.events.story import Story
from aiodistlock.protocol.answers import Done, Failed, NotOurs, ReleaseReply
from aiodistlock.protocol.call import Call
from tests.stories import Told

GONE = NotOurs("its key is gone")


@pytest.mark.parametrize("early", [False, True], ids=["later", "at once"])
@pytest.mark.parametrize(
    ("reply", "resent", "whole"),
    [
        (Done(), False, "WAR"),
        (GONE, False, "WAL"),
        (GONE, True, "WAR"),
        (Failed(ConnectionError("x"), True, 0.0), False, "WAR"),
    ],
    ids=["done", "not ours", "not ours, sent again", "failed"],
)
async def test_a_release_ends_by_its_answer(
    reply: ReleaseReply, resent: bool, whole: str, early: bool
) -> None:
    """A refusal is a loss, unless an earlier copy of the request may have been the release."""
    told = Told()
    now = 5.0
    story = Story((told,), "n", None, lambda: now)
    now = 7.0
    story.acquired(1)
    now = 8.0
    call: Call[ReleaseReply] = Call()
    call.resent = resent
    if early:
        call.finish(reply)
    story.released(call)
    # Answered when it is over: how long it was held does not count the answer's way.
    now = 20.0
    call.finish(reply)
    story.lost("too late")
    assert told.stories == [whole]
    end = told.events[-1]
    assert isinstance(end, Lost | Released)
    assert end.held == 1.0


def test_the_lag_of_a_renewal_counts_from_the_first_that_was_due() -> None:
    """One that was refused for a passing reason, and sent again, came later still."""
    told: list[object] = []
    now = 0.0
    story = Story((told.append,), "n", None, lambda: now)
    story.acquired(1)
    story.renewal_due(3.0)
    story.renewal_due(5.0)
    now = 6.0
    story.renewed(0)
    story.renewal_due(9.0)
    now = 9.5
    story.renewed(0)
    assert [event.lag for event in told[2:]] == [3.0, 0.5]  # type: ignore[attr-defined]  # Renewed


def test_a_renewal_is_not_due_before_the_lease() -> None:
    """A claim window, and a lease that was shortened, end before a third of the ttl is left."""
    told: list[object] = []
    now = 100.0
    story = Story((told.append,), "n", None, lambda: now)
    story.acquired(1)
    story.renewal_due(94.3)  # handed over for 1 s, of a ttl of 10 s
    now = 100.5
    story.renewed(0)
    story.renewal_due(94.0)  # extended to 0.3 s only
    now = 100.75
    story.renewed(0)
    assert [event.lag for event in told[2:]] == [0.5, 0.25]  # type: ignore[attr-defined]  # Renewed


def test_a_renewal_of_the_former_holder_is_due_from_the_hand_off() -> None:
    """Its answer is told of the lease that goes on, with the time that this one waited."""
    told: list[object] = []
    now = 0.0
    story = Story((told.append,), "n", None, lambda: now)
    now = 5.0
    story.acquired(1, handed_over=True)
    now = 5.25
    story.renewed(0)
    assert told[-1].lag == 0.25  # type: ignore[attr-defined]  # Renewed
