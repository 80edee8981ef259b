from collections.abc import Callable

import pytest
from redis.exceptions import RedisError, ResponseError

from aiodistlock.core.fencing import MAX_LOCAL_HANDOFFS
from aiodistlock.protocol.answers import HeldByOther, Taken
from aiodistlock.protocol.operations import read_force_release
from tests.redis.driver import GAP, GRANT_TTL, OOM, Inbox, Scripts, fence_of

DEAD = "inbox:dead"


def test_without_waiters_the_key_goes_and_the_counter_rises(lock: Scripts) -> None:
    """DONE, nobody: the counter is above all that the holder may use; a second run says GONE."""
    fence = fence_of(lock, "a")
    code, raised, passed_to = lock.force_release("a")
    assert (code, passed_to) == ("DONE", "")
    assert lock.counter == raised > fence + MAX_LOCAL_HANDOFFS
    assert lock.exists() == [lock.fence]
    assert lock.force_release("a") == ("GONE",)
    assert lock.counter == raised
    assert fence_of(lock, "b") > raised


def test_a_waiter_gets_the_lock_with_the_raised_fence(lock: Scripts, inbox: Inbox) -> None:
    """DONE, its token: it is told as by a release; a second run says OTHER, touching nothing."""
    fence = fence_of(lock, "a")
    lock.acquire("b", inbox.channel)
    lock.acquire("c", inbox.channel)
    code, raised, passed_to = lock.force_release("a")
    assert (code, passed_to) == ("DONE", "b")
    assert raised > fence + MAX_LOCAL_HANDOFFS
    told, _, ttl, token, key = inbox.messages()[0].split(" ", 4)
    assert (int(told), int(ttl), token, key) == (raised, GRANT_TTL, "b", lock.key)
    assert (lock.holder, lock.waiters, lock.counter) == ("b", ["c"], raised)
    assert 0 < lock.remaining() <= GRANT_TTL
    assert lock.force_release("a") == ("OTHER", "b")
    assert (lock.holder, lock.waiters, lock.counter) == ("b", ["c"], raised)
    assert inbox.messages() == []


@pytest.mark.parametrize("token", ["b", "", "A", "a ", "aa"])
def test_only_the_holder_that_was_named_loses_the_lock(
    lock: Scripts, inbox: Inbox, token: str
) -> None:
    """OTHER, and who holds it: lock, queue and counter stay."""
    fence = fence_of(lock, "a")
    lock.acquire("c", inbox.channel)
    assert lock.force_release(token) == ("OTHER", "a")
    assert (lock.holder, lock.waiters, lock.counter) == ("a", ["c"], fence)
    assert inbox.messages() == []


def test_a_free_lock_is_left_alone(lock: Scripts) -> None:
    """GONE, and nothing is made."""
    assert lock.force_release("a") == ("GONE",)
    assert lock.exists() == []


def test_the_holder_is_refused_from_then_on(lock: Scripts) -> None:
    """It cannot renew, extend, pass on or release what was taken."""
    lock.acquire("a")
    lock.force_release("a")
    assert lock.renew("a") == ("GONE",)
    assert lock.pass_on("a", "a2", DEAD) == ("GONE",)
    assert lock.release("a") == ("GONE",)


def test_dead_waiters_get_nothing(lock: Scripts) -> None:
    """Where nobody listens the key goes, and the counter is raised once."""
    lock.acquire("a")
    lock.acquire("b", DEAD)
    lock.acquire("c", DEAD)
    code, raised, passed_to = lock.force_release("a")
    assert (code, passed_to, lock.counter) == ("DONE", "", raised)
    assert lock.exists() == [lock.fence]


def test_the_fence_rises_where_the_clock_is_behind(lock: Scripts) -> None:
    """By the gap, and one."""
    lock.acquire("a")
    counter = lock.put_clock_behind()
    assert lock.force_release("a") == ("DONE", counter + GAP + 1, "")


def test_the_fence_rises_where_the_counter_was_lost(lock: Scripts) -> None:
    """A flushed counter is made anew, by the clock."""
    fence = fence_of(lock, "a")
    lock.command("DEL", lock.fence)
    _, raised, _ = lock.force_release("a")
    assert lock.counter == raised > fence


def test_a_foreign_holder_without_ttl_can_be_taken_from(lock: Scripts) -> None:
    """What another library left for ever goes as well."""
    lock.command("SET", lock.key, "somebody's")
    assert lock.force_release("somebody's")[0] == "DONE"
    assert lock.exists() == [lock.fence]


@pytest.mark.parametrize("companion", ["key", "fence"])
def test_a_wrong_type_is_an_error_and_nothing_is_done(lock: Scripts, companion: str) -> None:
    """WRONGTYPE at the key or the counter: the lock stays."""
    fence_of(lock, "a")
    key = getattr(lock, companion)
    lock.command("DEL", key)
    lock.command("HSET", key, "x", "y")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        lock.force_release("a")
    assert companion == "key" or lock.holder == "a"


def test_a_queue_of_another_type_does_not_keep_the_lock(lock: Scripts) -> None:
    """Nobody can wait in it: the fence rises, and the key goes."""
    fence = fence_of(lock, "a")
    lock.command("HSET", lock.queue, "x", "y")
    code, raised, next_holder = lock.force_release("a")
    assert (code, next_holder) == ("DONE", "")
    assert raised == lock.counter >= fence + GAP
    assert lock.holder is None


@pytest.mark.parametrize("waited_for", [False, True])
def test_without_memory_the_lock_stays(
    private: Scripts, private_inbox: Inbox, out_of_memory: Callable[[], None], waited_for: bool
) -> None:
    """A lock whose fence cannot be raised is not taken: the old holder could still write."""
    fence = fence_of(private, "a")
    if waited_for:
        private.acquire("b", private_inbox.channel)
    out_of_memory()
    with pytest.raises(RedisError, match=OOM):
        private.force_release("a")
    assert (private.holder, private.counter) == ("a", fence)
    assert private.waiters == (["b"] if waited_for else [])


def test_each_reply_is_decoded() -> None:
    """Numbers do not travel beyond the store."""
    assert read_force_release([4, 0, 7, b""], 0.0) == Taken(7, None)
    assert read_force_release([4, 0, 7, b"b"], 0.0) == Taken(7, "b")
    assert read_force_release([5, 0], 0.0) == HeldByOther(None)
    assert read_force_release([6, 0, b"b"], 0.0) == HeldByOther("b")
