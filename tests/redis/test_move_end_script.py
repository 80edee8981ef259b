from collections.abc import Callable

import pytest
from redis.exceptions import ResponseError

from tests.redis.driver import TTL, Inbox, Scripts


def end_of(lock: Scripts) -> int:
    """Return when the lease of "a" ends, as the script tells."""
    code, end = lock.move_end("a")
    assert code == "HELD"
    return int(end)


def test_the_end_is_told_by_the_servers_clock(lock: Scripts) -> None:
    """From 0 is nowhere, so nothing moves."""
    before = lock.server_us // 1000
    lock.acquire("a")
    assert before + TTL - 2 <= end_of(lock) <= lock.server_us // 1000 + TTL + 2
    assert 0 < lock.remaining() <= TTL


def test_the_end_is_moved_once_however_often_it_is_asked(lock: Scripts) -> None:
    """DONE, and then GRANTED without a further move."""
    lock.acquire("a", ttl=5_000)
    end = end_of(lock)
    for expected in ("DONE", "GRANTED", "GRANTED"):
        code, moved = lock.move_end("a", end, 10_000)
        assert code == expected
        assert abs(moved - end - 10_000) <= 2
        assert 10_000 < lock.remaining() <= 15_000


def test_the_end_may_come_closer(lock: Scripts) -> None:
    """Negative time is taken away; more than there is ends the lease."""
    lock.acquire("a")
    end = end_of(lock)
    assert lock.move_end("a", end, -20_000)[0] == "DONE"
    assert 0 < lock.remaining() <= 10_000
    assert lock.move_end("a", end - 20_000, -20_000)[0] == "DONE"
    assert lock.holder is None


def test_the_end_may_be_set_anew_wherever_it_is(lock: Scripts) -> None:
    """From 0 by some time is from now: DONE, and DONE again; no time, or less, ends it."""
    lock.acquire("a")
    for _ in range(2):
        before = lock.server_us // 1000
        code, end = lock.move_end("a", 0, 5_000)
        assert code == "DONE"
        assert before + 5_000 <= end <= lock.server_us // 1000 + 5_000
        assert 0 < lock.remaining() <= 5_000
    assert lock.move_end("a", 0, -1)[0] == "DONE"
    assert lock.holder is None


def test_an_end_that_moved_meanwhile_stays(lock: Scripts) -> None:
    """HELD tells where it is now, for the next try."""
    lock.acquire("a", ttl=5_000)
    end = end_of(lock)
    assert lock.move_end("a", end, 1_000)[0] == "DONE"
    code, now = lock.move_end("a", end, 10_000)
    assert code == "HELD"
    assert abs(now - end - 1_000) <= 2
    assert 0 < lock.remaining() <= 6_000


def test_a_lease_without_ttl_has_no_end(lock: Scripts) -> None:
    """HELD, -1: and it gets none."""
    lock.command("SET", lock.key, "a")
    assert lock.move_end("a") == ("HELD", -1)
    assert lock.move_end("a", lock.server_us // 1000, 1_000) == ("HELD", -1)
    assert lock.move_end("a", 0, 1_000) == ("HELD", -1)
    assert lock.remaining() == -1


def test_the_counter_and_the_queue_stay(lock: Scripts, inbox: Inbox) -> None:
    """As with a renewal."""
    _, fence, _ = lock.acquire("a")
    lock.acquire("b", inbox.channel)
    lock.move_end("a", end_of(lock), 1_000)
    assert lock.counter == fence
    assert lock.waiters == ["b"]


def test_a_key_that_is_gone_is_not_made_anew(lock: Scripts) -> None:
    """GONE, twice."""
    lock.acquire("a")
    end = end_of(lock)
    lock.expire()
    for _ in range(2):
        assert lock.move_end("a", end, 1_000) == ("GONE",)
    assert lock.exists() == [lock.fence]


@pytest.mark.parametrize("token", ["b", "", "A", "a ", "aa"])
def test_a_wrong_token_moves_nothing(lock: Scripts, token: str) -> None:
    """Tokens are compared whole: OTHER, also to the question."""
    lock.acquire("a", ttl=5_000)
    end = end_of(lock)
    assert lock.move_end(token) == lock.move_end(token, end, 10_000) == ("OTHER",)
    assert lock.move_end(token, 0, 10_000) == ("OTHER",)
    assert 0 < lock.remaining() <= 5_000


def test_a_wrong_type_at_the_key_is_an_error_and_is_left_alone(lock: Scripts) -> None:
    """A list at the key: WRONGTYPE, and it gets no ttl."""
    lock.command("RPUSH", lock.key, "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        lock.move_end("a")
    assert lock.remaining() == -1


def test_without_memory_ends_are_moved(private: Scripts, out_of_memory: Callable[[], None]) -> None:
    """A full server loses nobody's lease."""
    private.acquire("a", ttl=5_000)
    end = end_of(private)
    out_of_memory()
    assert private.move_end("a", end, 10_000)[0] == "DONE"
    assert private.remaining() > 10_000
