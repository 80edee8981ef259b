"""Renewals and releases for the key alone: of its companions what is here is used."""

import pytest

from tests.redis.driver import GAP, Inbox, Scripts


def test_where_all_is_here_the_lock_passes_to_a_waiter(lock: Scripts, inbox: Inbox) -> None:
    """As an ordinary release: the slot may have arrived meanwhile."""
    lock.acquire("a")
    lock.acquire("b", inbox.channel)
    reported = lock.counter + 10 * GAP
    assert lock.release_alone("a", reported) == ("DONE", 1)
    assert inbox.grants() == ["b"]
    assert lock.holder == "b"
    assert lock.counter > reported


def test_without_waiters_the_key_goes_and_the_counter_is_told(lock: Scripts) -> None:
    """Nothing but the report is left; a second run says GONE."""
    lock.acquire("a")
    reported = lock.counter + 10 * GAP
    assert lock.release_alone("a", reported) == ("DONE", 0)
    assert (lock.exists(), lock.counter) == ([lock.fence], reported)
    assert lock.release_alone("a") == ("GONE",)


def test_without_the_counter_nobody_is_granted_anything(lock: Scripts, inbox: Inbox) -> None:
    """It is on its way here: made anew it would be in the way, and might go back."""
    lock.acquire("a")
    lock.acquire("b", inbox.channel)
    lock.command("DEL", lock.fence)
    assert lock.release_alone("a", 10**15) == ("DONE", 0)
    assert inbox.messages() == []
    assert lock.exists() == [lock.queue]


def test_a_renewal_needs_the_key_only(lock: Scripts, inbox: Inbox) -> None:
    """It tells of waiters where the queue is here, and makes nothing."""
    lock.acquire("a", ttl=5_000)
    lock.acquire("b", inbox.channel)
    assert lock.renew_alone("a", 20_000) == ("DONE", 1)
    assert lock.remaining() > 5_000
    lock.command("DEL", lock.fence, lock.queue)
    assert lock.renew_alone("a") == ("DONE", 0)
    assert lock.exists() == [lock.key]


def test_a_renewal_never_shortens(lock: Scripts) -> None:
    """It may come late, and what tells so may be elsewhere; but a key without an end gets one."""
    lock.acquire("a", ttl=20_000)
    assert lock.renew_alone("a", 300) == ("DONE", 0)
    assert 15_000 < lock.remaining() <= 20_000
    lock.command("PERSIST", lock.key)
    assert lock.renew_alone("a", 300) == ("DONE", 0)
    assert 0 <= lock.remaining() <= 300


@pytest.mark.parametrize("operation", ["renew_alone", "release_alone"])
def test_what_is_not_ours_stays_as_it_is(lock: Scripts, operation: str) -> None:
    """OTHER, and GONE where there is nothing."""
    lock.acquire("a", ttl=5_000)
    counter = lock.counter
    assert getattr(lock, operation)("b") == ("OTHER",)
    assert (lock.holder, lock.counter) == ("a", counter)
    assert lock.remaining() <= 5_000
    lock.command("DEL", lock.key)
    assert getattr(lock, operation)("a") == ("GONE",)
    assert lock.exists() == [lock.fence]
