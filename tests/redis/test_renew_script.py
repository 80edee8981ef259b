from collections.abc import Callable

import pytest
from redis.exceptions import ResponseError

from tests.redis.driver import TTL, Inbox, Scripts


def test_the_remaining_time_is_set_to_ttl(lock: Scripts) -> None:
    """DONE tells the number of waiters; ttl is absolute, so a second run is harmless."""
    lock.acquire("a", ttl=5_000)
    for _ in range(2):
        assert lock.renew("a", TTL) == ("DONE", 0)
        assert 5_000 < lock.remaining() <= TTL
    assert lock.renew("a", 3_000) == ("DONE", 0)
    assert 0 < lock.remaining() <= 3_000
    assert lock.holder == "a"


def test_the_number_of_waiters_is_told(lock: Scripts, inbox: Inbox) -> None:
    """The third value counts the queue."""
    lock.acquire("a")
    lock.acquire("b", inbox.channel)
    lock.acquire("c", inbox.channel)
    assert lock.renew("a") == ("DONE", 2)
    assert lock.waiters == ["b", "c"]


def test_the_fence_is_as_it_was(lock: Scripts) -> None:
    """A renewal changes neither what stands at the key nor the counter."""
    _, fence, _ = lock.acquire("a")
    assert lock.renew("a") == ("DONE", 0)
    assert lock.command("GET", lock.key) == f"a {fence}"
    assert lock.counter == fence


def test_a_key_that_is_gone_is_not_made_anew(lock: Scripts) -> None:
    """GONE, twice; nothing is written."""
    assert lock.renew("a") == ("GONE",)
    lock.acquire("a")
    lock.expire()
    assert lock.renew("a") == ("GONE",)
    assert lock.renew("a") == ("GONE",)
    assert lock.exists() == [lock.fence]


@pytest.mark.parametrize("token", ["b", "", "A", "a ", "aa"])
def test_a_wrong_token_renews_nothing(lock: Scripts, token: str) -> None:
    """Tokens are compared whole: OTHER, and no ttl is touched."""
    lock.acquire("a", ttl=5_000)
    lock.command("PEXPIRE", lock.fence, TTL)
    assert lock.renew(token, TTL) == ("OTHER",)
    assert 0 < lock.remaining() <= 5_000
    assert lock.remaining(lock.fence) <= TTL


def test_a_foreign_lock_without_ttl_gets_none(lock: Scripts) -> None:
    """OTHER for a SETNX lock, which stays without a ttl."""
    lock.command("SET", lock.key, "setnx")
    assert lock.renew("a") == ("OTHER",)
    assert lock.remaining() == -1


def test_a_wrong_type_at_the_key_is_an_error_and_is_left_alone(lock: Scripts) -> None:
    """A list at the key: WRONGTYPE, and it gets no ttl."""
    lock.command("RPUSH", lock.key, "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        lock.renew("a")
    assert lock.remaining() == -1


def test_without_memory_leases_are_renewed(
    private: Scripts, private_inbox: Inbox, out_of_memory: Callable[[], None]
) -> None:
    """A full server loses nobody's lease."""
    private.acquire("a", ttl=5_000)
    private.acquire("b", private_inbox.channel)
    out_of_memory()
    assert private.renew("a", TTL) == ("DONE", 1)
    assert private.remaining() > 5_000
