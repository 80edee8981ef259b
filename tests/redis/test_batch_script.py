"""What is asked in one call of the batch is done as if each had been asked for itself.

All returns of the scripts that may travel together are tested where they are, in a batch too.
"""

import pytest
from redis.exceptions import ResponseError

from aiodistlock.protocol import scripts
from tests.redis.driver import OOM, QUEUE_TTL, TTL, Inbox, Item, Scripts

GRANTED, QUEUED, DONE, GONE = 1, 2, 4, 5


@pytest.fixture
def batched() -> bool:
    """Here what goes together is told."""
    return False


def acquire(key: str, token: str) -> Item:
    """Try to take a lock."""
    return Item(scripts.ACQUIRE, key, token, TTL, "", 0, QUEUE_TTL)


def release(key: str, token: str) -> Item:
    """Give a lock up."""
    return Item(scripts.RELEASE, key, token, 0)


def renew(key: str, token: str) -> Item:
    """Renew a lease."""
    return Item(scripts.RENEW, key, token, TTL)


def names(lock: Scripts, count: int) -> list[str]:
    """Name further locks."""
    return [f"{lock.key}:{number}" for number in range(count)]


def test_each_has_its_answer_in_its_place(lock: Scripts, inbox: Inbox) -> None:
    """Whichever runs first, answers and numbers stand in the order of the request."""
    free, held, ours, contended = names(lock, 4)
    there = [Scripts(lock.client, key) for key in (held, ours, contended)]
    fence = max(each.acquire("me")[1] for each in there)
    there[2].acquire("waiter", inbox.channel)
    answers = lock.run_together(
        release(ours, "me"),
        acquire(free, "me"),
        renew(held, "me"),
        release(contended, "me"),
        renew(free + "r", "me"),
        tag=100,
    )
    assert [answer[1] for answer in answers] == [100, 101, 102, 103, 104]
    assert [answer[0] for answer in answers] == [DONE, GRANTED, DONE, DONE, GONE]
    assert answers[1][2] > fence
    assert answers[3][2] == 1
    assert inbox.grants() == ["waiter"]
    assert lock.command("GET", free) == f"me {answers[1][2]}"
    assert there[1].holder is None
    assert there[2].holder == "waiter"
    for key in (free, held, ours, contended):
        Scripts(lock.client, key).remove()


def test_an_error_harms_one(lock: Scripts) -> None:
    """Whatever stands at the keys of one: the others have their locks."""
    keys = names(lock, 7)
    at = [Scripts(lock.client, key) for key in keys]
    lock.command("RPUSH", at[1].key, "x")
    lock.command("HSET", at[3].key, "x", "y")
    lock.command("SET", at[5].queue, "x")
    answers = lock.run_together(*(acquire(key, "me") for key in keys))
    failed = [type(answer) is ResponseError for answer in answers]
    assert failed == [False, True, False, True, False, True, False]
    assert all(str(answers[number]).startswith("WRONGTYPE ") for number in (1, 3, 5))
    assert [each.holder for each in at[::2]] == ["me"] * 4
    for each in at:
        each.remove()


def test_all_that_acquire_together_have_one_step_of_the_counter(lock: Scripts) -> None:
    """One behind another, from the server's time or above the counter; it is at the last."""
    for ahead in (None, 500, 10**9):
        keys = names(lock, 3)
        if ahead is not None:
            lock.command("SET", lock.fence, lock.server_us + ahead)
        before = lock.counter
        fences = [answer[2] for answer in lock.run_together(*(acquire(key, "me") for key in keys))]
        assert fences == sorted(set(fences))
        assert before < fences[0]
        assert lock.counter == fences[-1] <= fences[0] + 2
        assert lock.marked == (ahead == 10**9)
        for key in keys:
            Scripts(lock.client, key).remove()


@pytest.mark.parametrize("broken", ["nan", "inf", "words", "1e15", "-5", str(2**53)])
def test_a_broken_counter_is_told_to_one_and_gone_by_for_none(lock: Scripts, broken: str) -> None:
    """The first drops it, and its client runs it again; the others go by the clock."""
    keys = names(lock, 3)
    before = lock.server_us
    lock.command("SET", lock.fence, broken)
    told, *answers = lock.run_together(*(acquire(key, "me") for key in keys))
    assert str(told).startswith("BADFENCE ")
    fences = [answer[2] for answer in answers]
    assert before < fences[0] < fences[1] <= lock.server_us
    for key in keys:
        Scripts(lock.client, key).remove()


@pytest.mark.parametrize("first", [False, True])
def test_without_memory_what_needs_it_fails_and_the_rest_is_done(
    private: Scripts, first: bool
) -> None:
    """Behind a write that needs none Redis would let a script have it: none comes behind."""
    ours, held, free = names(private, 3)
    for key in (ours, held):
        Scripts(private.client, key).acquire("me")
    private.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    private.command("CONFIG", "SET", "maxmemory", 1)
    freeing = (release(ours, "me"), renew(held, "me"))
    items = (acquire(free, "me"), *freeing) if first else (*freeing, acquire(free, "me"))
    answers = private.run_together(*items)
    got = answers.pop(0 if first else -1)
    assert isinstance(got, ResponseError)
    assert OOM in str(got)
    assert [answer[0] for answer in answers] == [DONE, DONE]
    keys = (free, ours, held)
    assert [private.command("EXISTS", key) for key in keys] == [0, 0, 1]


def test_what_is_void_is_noted_once_for_all(lock: Scripts) -> None:
    """A batch declares it, and one that is void does nothing at all."""
    keys = names(lock, 2)
    lock.run_together(*(acquire(key, "me") for key in keys), tag="100 50")
    assert lock.command("GET", lock.void) == "50"
    with pytest.raises(ResponseError, match="STALE"):
        lock.run_together(*(release(key, "me") for key in keys), tag=49)
    assert [Scripts(lock.client, key).holder for key in keys] == ["me", "me"]
    for key in keys:
        Scripts(lock.client, key).remove()
