from collections.abc import Callable

import pytest
from redis.exceptions import ResponseError

from tests.redis.driver import TTL, Inbox, Scripts


def test_a_lease_gets_another_token_and_its_ttl(lock: Scripts) -> None:
    """DONE; a second run finds the token that it wants, and leaves it alone."""
    lock.acquire("a", ttl=5_000)
    assert lock.claim("a", "mine") == ("DONE",)
    assert lock.holder == "mine"
    assert 5_000 < lock.remaining() <= TTL
    lock.command("PEXPIRE", lock.key, 4_000)
    assert lock.claim("a", "mine") == ("GRANTED",)
    assert 0 < lock.remaining() <= 4_000


def test_a_lease_keeps_its_token_and_loses_its_ttl(lock: Scripts) -> None:
    """A ttl of 0 is none; twice the same."""
    lock.acquire("a")
    for _ in range(2):
        assert lock.claim("a", "a", 0) == ("DONE",)
        assert lock.remaining() == -1
        assert lock.holder == "a"


def test_any_text_will_do_as_a_token(lock: Scripts) -> None:
    """Spaces and line ends, and nothing at all."""
    for wanted in ("with  spaces\r\n", ""):
        lock.acquire("a")
        assert lock.claim("a", wanted) == ("DONE",)
        assert lock.holder == wanted
        lock.remove()


def test_the_counter_and_the_queue_stay(lock: Scripts, inbox: Inbox) -> None:
    """Who waits gets the lock when the claimed token releases it."""
    _, fence, _ = lock.acquire("a")
    lock.acquire("b", inbox.channel)
    lock.claim("a", "mine", 0)
    assert lock.counter == fence
    assert lock.release("mine") == ("DONE", 1)
    assert inbox.grants() == ["b"]
    assert lock.remaining() > 0


def test_a_key_that_is_gone_is_not_made_anew(lock: Scripts) -> None:
    """GONE, twice: the lease had run out, it must be acquired again."""
    lock.acquire("a")
    lock.expire()
    for _ in range(2):
        assert lock.claim("a", "mine", 0) == ("GONE",)
    assert lock.exists() == [lock.fence]


@pytest.mark.parametrize("token", ["b", "", "A", "a ", "aa"])
def test_a_wrong_token_claims_nothing(lock: Scripts, token: str) -> None:
    """Tokens are compared whole: OTHER, and nothing is touched."""
    lock.acquire("a", ttl=5_000)
    assert lock.claim(token, "mine") == ("OTHER",)
    assert lock.holder == "a"
    assert 0 < lock.remaining() <= 5_000


def test_a_wrong_type_at_the_key_is_an_error_and_is_left_alone(lock: Scripts) -> None:
    """A list at the key: WRONGTYPE."""
    lock.command("RPUSH", lock.key, "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        lock.claim("a", "mine")
    assert lock.command("LLEN", lock.key) == 1


def test_without_memory_leases_are_claimed(
    private: Scripts, out_of_memory: Callable[[], None]
) -> None:
    """A full server loses nobody's lease."""
    private.acquire("a", ttl=5_000)
    out_of_memory()
    assert private.claim("a", "mine", 0) == ("DONE",)
    assert private.holder == "mine"
    assert private.remaining() == -1
