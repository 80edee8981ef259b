import pytest
from redis.exceptions import ResponseError

from tests.redis.driver import TTL, Inbox, Scripts, record


def test_a_free_lock_has_no_holder(lock: Scripts) -> None:
    """Free: empty holder, remaining -2, fence 0, nobody waits; nothing is written."""
    for _ in range(2):
        assert lock.inspect() == ("DONE", "", -2, 0, [])
    assert lock.exists() == []


def test_a_held_lock_tells_holder_remaining_time_fence_and_queue(
    lock: Scripts, inbox: Inbox
) -> None:
    """All that is known, with the queue's records in the order of arrival."""
    _, fence, _ = lock.acquire("a")
    for token in "zbm":
        lock.acquire(token, inbox.channel)
    code, holder, remaining, counter, records = lock.inspect()
    assert (code, holder, counter) == ("DONE", "a", fence)
    assert 0 < remaining <= TTL
    assert records == [record(inbox.channel, token) for token in "zbm"]


def test_nothing_is_changed(lock: Scripts, inbox: Inbox) -> None:
    """Read only: no ttl is touched, no dead waiter dropped, nobody granted."""
    lock.acquire("a")
    lock.acquire("b", inbox.channel)
    lock.acquire("c", "inbox:dead")
    lock.expire()
    lock.command("PEXPIRE", lock.queue, 9_000)
    assert lock.inspect()[1] == ""
    assert lock.waiters == ["b", "c"]
    assert lock.remaining(lock.queue) <= 9_000
    assert inbox.messages() == []


def test_a_key_without_ttl_has_remaining_minus_one(lock: Scripts) -> None:
    """A foreign SETNX lock is shown as one without an end."""
    lock.command("SET", lock.key, "setnx")
    assert lock.inspect() == ("DONE", "setnx", -1, 0, [])


def test_after_a_release_there_is_no_fence(lock: Scripts) -> None:
    """Nothing is left of the name."""
    lock.acquire("a")
    lock.release("a")
    assert lock.inspect() == ("DONE", "", -2, 0, [])


@pytest.mark.parametrize("which", ["key", "queue"])
def test_a_wrong_type_is_an_error(lock: Scripts, which: str) -> None:
    """Something else at one of the keys: WRONGTYPE, and it is left alone."""
    wrong = getattr(lock, which)
    lock.command("HSET", wrong, "x", "y")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        lock.inspect()
    assert lock.exists() == [wrong]


def test_a_full_server_still_tells(private: Scripts) -> None:
    """Inspecting needs no memory."""
    _, fence, _ = private.acquire("a")
    private.inspect()
    private.command("CONFIG", "SET", "maxmemory", 1)
    assert private.inspect()[3] == fence
