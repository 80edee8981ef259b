from collections.abc import Callable

import pytest
from redis.exceptions import ResponseError

from tests.redis.driver import GAP, GRANT_TTL, Inbox, Scripts

DEAD = "inbox:dead"


def test_without_waiters_the_key_goes(lock: Scripts) -> None:
    """DONE 0: key and queue are gone, the counter stays; a second run says GONE."""
    lock.acquire("a")
    assert lock.release("a") == ("DONE", 0)
    assert lock.exists() == [lock.fence]
    assert lock.release("a") == ("GONE",)
    assert lock.exists() == [lock.fence]


def test_with_a_waiter_the_lock_passes_to_it(lock: Scripts, inbox: Inbox) -> None:
    """DONE 1: the waiter holds the lock; a second run says OTHER, touching nothing."""
    lock.acquire("a")
    lock.acquire("b", inbox.channel)
    assert lock.release("a") == ("DONE", 1)
    assert inbox.grants() == ["b"]
    counter = lock.counter
    lock.command("PEXPIRE", lock.key, 9_000)
    assert lock.release("a", counter + 50) == ("OTHER",)
    assert (lock.holder, lock.counter) == ("b", counter)
    assert 0 < lock.remaining() <= 9_000
    assert inbox.messages() == []


@pytest.mark.parametrize("token", ["b", "", "A", "a ", "aa"])
def test_a_wrong_token_releases_nothing(lock: Scripts, inbox: Inbox, token: str) -> None:
    """Tokens are compared whole: OTHER, and lock, queue and counter stay."""
    lock.acquire("a")
    lock.acquire("c", inbox.channel)
    counter = lock.counter
    assert lock.release(token, counter + 50) == ("OTHER",)
    assert (lock.holder, lock.waiters, lock.counter) == ("a", ["c"], counter)
    assert inbox.messages() == []


@pytest.mark.parametrize("way", ["release", "release_alone"])
def test_a_lease_that_was_kept_unheard_is_released(lock: Scripts, way: str) -> None:
    """Another fencing token stands at the key: the token, of one lease only, decides."""
    token, other = "host:1:0123abcd:1", "host:1:0123abcd:2"
    lock.acquire(token)
    value = lock.value(token)
    assert lock.pass_on(token, other, DEAD)[0] == "DONE"
    assert lock.value(token) != value
    released = getattr(lock, way)
    assert released(value.replace(token, other)) == ("OTHER",)
    assert released(value) == ("DONE", 0)


@pytest.mark.parametrize(("mine", "theirs"), [("job 5", "job 7"), ("job:1:0:1 5", "job:1:0:1 7")])
def test_a_token_that_its_user_chose_is_compared_whole(
    lock: Scripts, mine: str, theirs: str
) -> None:
    """Whatever it ends with."""
    lock.command("SET", lock.key, theirs)
    assert lock.release(mine) == ("OTHER",)


def test_who_was_lost_does_not_grant_the_lock_to_waiters(lock: Scripts, inbox: Inbox) -> None:
    """GONE touches neither queue nor counter, also if others wait."""
    lock.acquire("a")
    lock.acquire("b", inbox.channel)
    lock.expire()
    counter = lock.counter
    assert lock.release("a", counter + 50) == ("GONE",)
    assert (lock.holder, lock.waiters, lock.counter) == (None, ["b"], counter)
    assert inbox.messages() == []


def test_the_grant_says_all_that_the_waiter_must_know(lock: Scripts, inbox: Inbox) -> None:
    """The message is "<fence> <server time in us> <ttl in ms> <token> <key>"."""
    _, first_fence, _ = lock.acquire("a")
    lock.acquire("b", inbox.channel)
    before = lock.server_us
    lock.release("a")
    fence, granted_at, ttl, token, key = inbox.messages()[0].split(" ", 4)
    assert int(fence) == lock.counter > first_fence
    assert before <= int(granted_at) <= lock.server_us
    assert (int(ttl), token, key) == (GRANT_TTL, "b", lock.key)
    assert 0 < lock.remaining() <= GRANT_TTL
    assert lock.acquire("b", inbox.channel)[:2] == ("GRANTED", int(fence))
    assert lock.remaining() > GRANT_TTL


def test_a_key_with_spaces_comes_back_whole(lock: Scripts, inbox: Inbox, namespace: str) -> None:
    """The key is the last part of the message: it may hold spaces."""
    spaced = Scripts(lock.client, f"{namespace}a b  c")
    spaced.acquire("a")
    spaced.acquire("b", inbox.channel)
    spaced.release("a")
    assert inbox.messages()[0].split(" ", 4)[4] == spaced.key
    spaced.remove()


def test_waiters_are_served_in_the_order_of_their_arrival(
    lock: Scripts, open_inbox: Callable[[], Inbox]
) -> None:
    """First come, first served, over processes and whatever the tokens are."""
    inboxes = [open_inbox() for _ in range(3)]
    order = ["m", "z", "a", "y", "b", "x"]
    lock.acquire("first")
    for number, token in enumerate(order):
        lock.acquire(token, inboxes[number % 3].channel)
    holder = "first"
    for number, token in enumerate(order):
        assert lock.release(holder) == ("DONE", 1)
        assert (lock.holder, lock.waiters) == (token, order[number + 1 :])
        assert [inbox.grants() for inbox in inboxes].index([token]) == number % 3
        holder = token
    assert lock.release(holder) == ("DONE", 0)
    assert lock.exists() == [lock.fence]


def test_a_dead_waiter_is_skipped(lock: Scripts, inbox: Inbox) -> None:
    """Who does not listen any more is dropped; the first that does gets the lock."""
    _, fence, _ = lock.acquire("a")
    for token, channel in [("b", DEAD), ("c", DEAD), ("d", inbox.channel), ("e", DEAD)]:
        lock.acquire(token, channel)
    assert lock.release("a") == ("DONE", 1)
    assert (lock.holder, lock.waiters) == ("d", ["e"])
    (message,) = inbox.messages()
    assert int(message.split(" ")[0]) == lock.counter > fence


def test_a_waiter_whose_process_died_meanwhile_is_skipped(
    lock: Scripts, inbox: Inbox, open_inbox: Callable[[], Inbox]
) -> None:
    """Being heard counts at the hand-off, not when queueing."""
    dies = open_inbox()
    lock.acquire("a")
    lock.acquire("b", dies.channel)
    lock.acquire("c", inbox.channel)
    dies.close()
    assert lock.release("a") == ("DONE", 1)
    assert (lock.holder, inbox.grants()) == ("c", ["c"])


def test_where_all_waiters_are_dead_the_key_goes(lock: Scripts) -> None:
    """DONE 0, and no key names a dead waiter."""
    lock.acquire("a")
    lock.acquire("b", DEAD)
    lock.acquire("c", DEAD)
    assert lock.release("a") == ("DONE", 0)
    assert lock.exists() == [lock.fence]


def test_reported_local_handoffs_lift_the_counter(lock: Scripts) -> None:
    """The counter is lifted to the highest token used, and has no ttl."""
    _, fence, _ = lock.acquire("a")
    highest = fence + 50_000_000
    assert lock.release("a", highest) == ("DONE", 0)
    assert lock.counter == highest
    assert lock.remaining(lock.fence) == -1


def test_a_report_never_lowers_the_counter(lock: Scripts) -> None:
    """A report below the counter changes nothing."""
    _, fence, _ = lock.acquire("a")
    lock.release("a", fence - 1_000)
    assert lock.counter == fence


def test_nothing_to_report_leaves_the_counter_alone(lock: Scripts) -> None:
    """0 says that the counter is up to date."""
    _, fence, _ = lock.acquire("a")
    lock.release("a")
    assert lock.counter == fence


def test_a_report_survives_the_loss_of_the_counter(lock: Scripts) -> None:
    """Where the counter is gone, the report makes it anew."""
    _, fence, _ = lock.acquire("a")
    lock.command("DEL", lock.fence)
    lock.release("a", fence + 7)
    assert lock.counter == fence + 7
    assert lock.remaining(lock.fence) == -1


def test_the_next_waiters_fence_is_above_the_report(lock: Scripts, inbox: Inbox) -> None:
    """A hand-off counts from the highest token used, not only from the counter."""
    _, fence, _ = lock.acquire("a")
    lock.acquire("b", inbox.channel)
    highest = fence + GAP  # perhaps above the clock
    lock.command("SET", lock.fence, highest - 1)
    lock.release("a", highest)
    assert int(inbox.messages()[0].split(" ")[0]) == lock.counter > highest


def test_a_wrong_type_at_the_key_is_an_error_and_is_left_alone(lock: Scripts) -> None:
    """A list at the key: WRONGTYPE, and nothing else is written."""
    lock.command("RPUSH", lock.key, "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        lock.release("a", 5)
    assert lock.exists() == [lock.key]


def test_a_wrong_type_at_a_companion_key_does_not_keep_the_lock(
    lock: Scripts, inbox: Inbox
) -> None:
    """The lock must go, whatever hinders the report or the hand-off; waiters then ask."""
    lock.acquire("a")
    lock.acquire("b", inbox.channel)
    lock.command("DEL", lock.fence)
    lock.command("RPUSH", lock.fence, "x")
    assert lock.release("a", 5) == ("DONE", 0)
    assert (lock.holder, lock.waiters) == (None, ["b"])
    lock.remove()
    lock.acquire("a")
    lock.command("SET", lock.queue, "x")
    assert lock.release("a") == ("DONE", 0)
    assert lock.holder is None


def test_without_memory_the_lock_goes_all_the_same(
    private: Scripts, out_of_memory: Callable[[], None]
) -> None:
    """A full server never keeps a lock that its holder gave up."""
    _, fence, _ = private.acquire("a")
    out_of_memory()
    assert private.release("a", fence + 5) == ("DONE", 0)
    assert private.exists() == [private.fence]
    assert private.release("a") == ("GONE",)


def test_without_memory_no_waiter_loses_its_place(
    private: Scripts, private_inbox: Inbox, out_of_memory: Callable[[], None]
) -> None:
    """The lock is free; either a waiter holds it by a grant, or all keep their places."""
    _, fence, _ = private.acquire("a")
    private.acquire("b", private_inbox.channel)
    private.acquire("c", private_inbox.channel)
    out_of_memory()
    assert private.release("a", fence + 5) == ("DONE", 0)
    assert (private.holder, private.waiters) == (None, ["b", "c"])
    assert private.counter == fence
    assert private_inbox.messages() == []
    private.command("CONFIG", "SET", "maxmemory", 0)
    assert private.acquire("c", private_inbox.channel)[2] == "b"
    assert private_inbox.grants() == ["b"]
    assert private.counter > fence + 5
