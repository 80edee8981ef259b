"""How long waiters let pass until they ask again."""

from random import Random

import pytest

from aiodistlock.core.backoff import Backoff
from aiodistlock.waiting.pauses import FEW, LATE, MAX_PAUSE, TURN, pause

BACKOFF = Backoff()

FAR = (FEW, 30, 300, 3000, 30_000)


@pytest.mark.parametrize("place", [*range(FEW), *FAR])
@pytest.mark.parametrize("remaining", [0.0, 0.05, 1.0, 9.0])
def test_whoever_asks_last_asks_soon_after_the_holders_lease(place: int, remaining: float) -> None:
    """Though all before it are dead: within half of the second that is promised."""
    rng = Random(1)
    for tries in range(12):
        for _ in range(50):
            found = pause(BACKOFF.delay(tries, rng), remaining, place, -1.0, rng)
            assert 0.0 < found <= remaining + (LATE if place >= FEW else 0.01)


@pytest.mark.parametrize("place", FAR)
def test_a_grant_that_is_not_claimed_yet_is_no_reason_to_ask_sooner(place: int) -> None:
    """Not where many turns come before ours; but behind a few frozen ones each costs a moment."""
    rng = Random(1)
    found = [pause(1.0, 0.9, place, 9.0, rng) for _ in range(200)]
    assert max(found) <= min(9.0, 0.9 + TURN * place) + LATE
    assert place < 100 or max(found) > 2 * 0.9 + LATE


@pytest.mark.parametrize("place", range(FEW))
def test_the_first_few_keep_to_the_backoff_and_to_the_holders_lease(place: int) -> None:
    """They watch on behalf of all, also over a holder whose lease has no end."""
    rng = Random(1)
    assert pause(0.3, None, place, 9.0, rng) == 0.3
    assert pause(0.3, 5.0, place, 9.0, rng) == 0.3
    assert 0.1 < pause(0.3, 0.1, place, 9.0, rng) <= 0.11


@pytest.mark.parametrize("remaining", [None, 3600.0])
@pytest.mark.parametrize("place", [0, *FAR])
def test_nobody_lets_the_queue_expire(place: int, remaining: float | None) -> None:
    """Whatever pauses the user wants."""
    rng = Random(1)
    assert max(pause(3600.0, remaining, place, -1.0, rng) for _ in range(99)) <= MAX_PAUSE


def asks(crowd: int, seconds: float, claimed: float) -> tuple[int, float]:
    """Return how often a crowd asks in a time, all having come at once, and the longest lull."""
    rng, at = Random(1), []
    for place in range(crowd):
        now, tries = 0.0, 0
        while (now := now + pause(BACKOFF.delay(tries, rng), claimed, place, -1.0, rng)) < seconds:
            at.append(now)
            tries += 1
    at.sort()
    return len(at), max(later - at[i] for i, later in enumerate(at[1:]))


def test_a_thousand_ask_little_more_often_than_a_hundred() -> None:
    """In five seconds behind one holder; and never is there nobody who asks for long."""
    found = {crowd: asks(crowd, 5.0, 30.0) for crowd in (10, 100, 1000, 10_000)}
    numbers = [number for number, _ in found.values()]
    # ln n: as much more from each to the next.
    assert numbers[1] < 7 * numbers[0]
    assert numbers[2] < 2.5 * numbers[1]
    assert numbers[3] < 1.7 * numbers[2]
    assert max(lull for crowd, (_, lull) in found.items() if crowd > 10) < 0.3
    assert 4 * numbers[2] < 1000 * 5


@pytest.mark.parametrize("pace", [0.0005, 0.002, 0.01])
@pytest.mark.parametrize("crowd", [10, 100, 1000, 5000])
def test_a_wait_takes_few_requests_however_many_wait_and_at_whatever_pace(
    crowd: int, pace: float
) -> None:
    """From the tail to the head: hardly one, and one more for each ttl that it lasts."""
    rng, asked, waits = Random(1), 0, 100
    for _ in range(waits):
        place, now, tries = crowd, 0.0, 0
        while True:
            now += pause(BACKOFF.delay(tries, rng), 10.0, place, 9.0, rng)
            place = crowd - int(now / pace)
            if place < 0:
                break
            tries += 1
            asked += 1
    assert asked / waits <= 0.6 + crowd * pace / 8


@pytest.mark.parametrize("pace", [0.004, 0.006, 0.008])
def test_thousands_ask_hardly_more_often_than_they_must(pace: float) -> None:
    """Each once in the holder's ttl and a second: all before it may have died with the holder."""
    rng, crowd, ttl, asked, waits = Random(1), 5000, 10.0, 0, 200
    for _ in range(waits):
        place, now, tries = crowd, 0.0, 0
        while place >= 0:
            # Claimed by now, or not yet: as it happens to be seen.
            remaining = rng.choice((1.0, ttl))
            now += pause(BACKOFF.delay(tries, rng), remaining, place, ttl - 0.01, rng)
            place = crowd - int(now / pace)
            tries += 1
        asked += tries - 1  # the last comes after its turn
    must = crowd * pace / (ttl + 1.0)
    assert asked / waits <= 1.2 * must
