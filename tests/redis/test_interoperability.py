"""Clients that lock by plain ``SET key token NX PX`` on the same key."""

import pytest
import redis as redis_sync
from redis.exceptions import LockNotOwnedError

from tests.redis.driver import TTL, Inbox, Scripts


def test_a_plain_set_nx_lock_and_this_one_exclude_each_other(lock: Scripts) -> None:
    """``SET key token NX PX`` is refused while we hold, and we while it holds."""
    assert lock.command("SET", lock.key, "plain", "NX", "PX", TTL)
    assert lock.acquire("a")[0] == "HELD"
    assert lock.release("a") == ("OTHER",)
    lock.command("DEL", lock.key)
    assert lock.acquire("a")[0] == "GRANTED"
    assert not lock.command("SET", lock.key, "plain", "NX", "PX", TTL)


def test_redis_pys_lock_and_this_one_exclude_each_other(
    lock: Scripts, client: redis_sync.Redis
) -> None:
    """A service can migrate from redis-py's Lock one process at a time."""
    theirs = client.lock(lock.key, timeout=TTL / 1000, blocking=False)
    assert theirs.acquire()
    assert lock.acquire("a")[0] == "HELD"
    theirs.release()
    assert lock.acquire("a")[0] == "GRANTED"
    assert not theirs.acquire()
    lock.release("a")
    assert theirs.acquire()
    lock.expire()
    lock.acquire("a")
    with pytest.raises(LockNotOwnedError):
        theirs.release()
    assert lock.holder == "a"


def test_waiters_behind_a_foreign_lock_get_their_turn_by_asking(
    lock: Scripts, client: redis_sync.Redis, inbox: Inbox
) -> None:
    """redis-py's Lock hands nothing over: who asks first serves the head of the queue."""
    theirs = client.lock(lock.key, timeout=TTL / 1000, blocking=False)
    assert theirs.acquire()
    lock.acquire("a", inbox.channel)
    lock.acquire("b", inbox.channel)
    theirs.release()
    assert lock.acquire("b", inbox.channel)[2] == "a"
    assert inbox.grants() == ["a"]
    lock.abandon("b", inbox.channel)
