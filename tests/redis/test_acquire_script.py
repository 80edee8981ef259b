from collections.abc import Callable

import pytest
from redis.exceptions import ResponseError

from aiodistlock.protocol import scripts
from tests.redis.driver import (
    GRANT_TTL,
    OOM,
    QUEUE_TTL,
    TTL,
    Inbox,
    Scripts,
    record,
)

DEAD = "inbox:dead"


def test_a_free_lock_is_granted_with_fence_and_server_time(lock: Scripts) -> None:
    """GRANTED tells the fencing token and the server's time; the counter has no ttl."""
    before = lock.server_us
    code, fence, now = lock.acquire("a")
    assert code == "GRANTED"
    assert before <= fence == now <= lock.server_us
    assert lock.holder == "a"
    assert lock.counter == fence
    assert 0 < lock.remaining() <= TTL
    assert lock.remaining(lock.fence) == -1
    assert lock.command("GET", lock.key) == f"a {fence}"
    assert lock.exists() == [lock.key, lock.fence]


def test_who_only_tries_is_told_the_holder_and_its_remaining_time(lock: Scripts) -> None:
    """HELD tells remaining ms and holder, and leaves nothing behind."""
    lock.acquire("a")
    code, remaining, holder = lock.acquire("b")
    assert (code, holder) == ("HELD", "a")
    assert 0 < remaining <= TTL
    assert lock.waiters == []


def test_who_waits_is_told_the_holder_the_server_time_and_its_position(
    lock: Scripts, inbox: Inbox
) -> None:
    """QUEUED tells remaining ms, holder, server time and the position from 0."""
    lock.acquire("a")
    before = lock.server_us
    for position, token in enumerate(["b", "c", "d"]):
        code, remaining, holder, now, place = lock.acquire(token, inbox.channel)
        assert (code, holder, place) == ("QUEUED", "a", position)
        assert 0 < remaining <= TTL
        assert before <= now <= lock.server_us
    assert lock.holder == "a"
    assert lock.waiters == ["b", "c", "d"]
    assert inbox.messages() == []


@pytest.mark.parametrize("waits", [False, True])
def test_a_key_without_ttl_counts_as_held_for_ever(
    lock: Scripts, inbox: Inbox, waits: bool
) -> None:
    """A foreign SETNX lock without ttl is respected; remaining is -1."""
    lock.command("SET", lock.key, "setnx")
    code, remaining, holder, *_ = lock.acquire("a", inbox.channel if waits else "")
    assert (code, remaining, holder) == ("QUEUED" if waits else "HELD", -1, "setnx")
    assert lock.remaining() == -1


def test_an_empty_value_at_the_key_is_a_holder_too(lock: Scripts) -> None:
    """A foreign lock whose value is the empty string is respected."""
    lock.command("SET", lock.key, "")
    assert lock.acquire("a") == ("HELD", -1, "")


def test_an_unknown_script_is_known_after_its_eval(lock: Scripts) -> None:
    """The source that EVAL sends is the one whose hash EVALSHA names."""
    lock.acquire("a")
    assert lock.command("SCRIPT", "EXISTS", scripts.ACQUIRE.sha.decode()) == [1]


def test_the_holder_gets_the_same_grant_again_with_its_ttl_anew(lock: Scripts) -> None:
    """As holder: same fencing token, full ttl; the server time is the new one."""
    _, fence, first_at = lock.acquire("a", ttl=9_000)
    code, again, second_at = lock.acquire("a", ttl=TTL)
    assert (code, again) == ("GRANTED", fence)
    assert second_at > first_at
    assert lock.remaining() > 9_000
    assert lock.counter == fence


def test_a_holder_that_asks_again_is_told_its_own_fence(lock: Scripts) -> None:
    """Whatever became of the counter: the fencing token stands behind the token at the key."""
    _, fence, _ = lock.acquire("a")
    for counter in (fence + 10**6, None):
        lock.command("SET", lock.fence, counter) if counter else lock.command("DEL", lock.fence)
        assert lock.acquire("a")[:2] == ("GRANTED", fence)
        assert lock.counter == (counter or 0)


def test_a_waiter_that_asks_again_keeps_its_place(lock: Scripts, inbox: Inbox) -> None:
    """Queued already: same place, no second record, and the queue's ttl anew."""
    lock.acquire("a")
    for token in "bcd":
        lock.acquire(token, inbox.channel)
    lock.command("PEXPIRE", lock.queue, 1_000)
    assert lock.acquire("b", inbox.channel)[4] == 0
    assert lock.acquire("c", inbox.channel)[4] == 1
    assert lock.waiters == ["b", "c", "d"]
    assert 1_000 < lock.remaining(lock.queue) <= QUEUE_TTL


def test_the_queue_and_its_records_have_bounds(lock: Scripts, inbox: Inbox) -> None:
    """A record names grant ttl, inbox and token; the queue expires by itself."""
    lock.acquire("a")
    lock.acquire("b", inbox.channel)
    assert lock.command("ZRANGE", lock.queue, 0, -1) == [record(inbox.channel, "b")]
    assert 0 < lock.remaining(lock.queue) <= QUEUE_TTL


def test_the_queue_keeps_the_order_of_arrival_though_the_clock_is_set_back(
    lock: Scripts, inbox: Inbox
) -> None:
    """Behind an arrival in the future, or in the same microsecond, order is kept."""
    lock.acquire("a")
    future = lock.server_us + 100_000_000
    lock.command("ZADD", lock.queue, future, record(inbox.channel, "z"))
    for position, token in enumerate("ybxA2"):
        assert lock.acquire(token, inbox.channel)[4] == position + 1
    assert lock.waiters == ["z", *"ybxA2"]


def test_nobody_overtakes_the_queue_of_a_dead_holder(
    lock: Scripts, open_inbox: Callable[[], Inbox]
) -> None:
    """Who asks when the key is free but others wait, grants the head and queues."""
    first, late = open_inbox(), open_inbox()
    lock.acquire("a")
    lock.acquire("b", first.channel)
    lock.expire()
    code, remaining, holder, _, position = lock.acquire("c", late.channel)
    assert (code, holder, position) == ("QUEUED", "b", 0)
    assert 0 < remaining <= GRANT_TTL
    assert first.grants() == ["b"]
    assert late.grants() == []
    assert lock.waiters == ["c"]


def test_who_only_tries_drives_the_queue_without_joining_it(lock: Scripts, inbox: Inbox) -> None:
    """A try on a free key with waiters grants the head and answers HELD."""
    lock.acquire("a")
    lock.acquire("b", inbox.channel)
    lock.expire()
    code, _, holder = lock.acquire("c")
    assert (code, holder) == ("HELD", "b")
    assert inbox.grants() == ["b"]
    assert lock.exists() == [lock.key, lock.fence]


def test_a_head_that_asks_again_takes_the_free_lock_without_a_message(
    lock: Scripts, inbox: Inbox
) -> None:
    """The waiter whose turn it is gets its grant by the reply, with its whole ttl."""
    lock.acquire("a")
    lock.acquire("b", inbox.channel)
    lock.expire()
    code, fence, _ = lock.acquire("b", inbox.channel)
    assert (code, fence) == ("GRANTED", lock.counter)
    assert lock.holder == "b"
    assert lock.remaining() > GRANT_TTL
    assert lock.waiters == []
    assert inbox.messages() == []


def test_a_waiter_that_lost_its_inbox_keeps_its_turn_by_asking(lock: Scripts) -> None:
    """Asking without an inbox, a queued waiter is still the next when the key is free."""
    lock.acquire("a")
    lock.acquire("b", DEAD)
    assert lock.acquire("b")[0] == "HELD"
    assert lock.waiters == ["b"]
    lock.expire()
    assert lock.acquire("b")[0] == "GRANTED"
    assert lock.exists() == [lock.key, lock.fence]


@pytest.mark.parametrize("waits", [False, True])
def test_dead_waiters_are_dropped(lock: Scripts, inbox: Inbox, waits: bool) -> None:
    """Where all before it are dead, the one that asks gets the lock."""
    lock.acquire("a")
    lock.acquire("b", DEAD)
    lock.acquire("c", DEAD)
    lock.expire()
    code, fence, _ = lock.acquire("d", inbox.channel if waits else "")
    assert (code, fence) == ("GRANTED", lock.counter)
    assert lock.holder == "d"
    assert lock.remaining() > GRANT_TTL
    assert lock.exists() == [lock.key, lock.fence]
    assert inbox.messages() == []


@pytest.mark.parametrize("waits", [False, True])
def test_a_wrong_type_at_the_key_is_an_error_and_is_left_alone(
    lock: Scripts, inbox: Inbox, waits: bool
) -> None:
    """A list at the key: WRONGTYPE, and nothing else is written."""
    lock.command("RPUSH", lock.key, "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        lock.acquire("a", inbox.channel if waits else "")
    assert lock.command("LRANGE", lock.key, 0, -1) == ["x"]
    assert lock.exists() == [lock.key]


def test_a_wrong_type_at_the_fence_key_is_an_error_before_possession(lock: Scripts) -> None:
    """The write that takes possession comes last: no fence, no lock."""
    lock.command("RPUSH", lock.fence, "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        lock.acquire("a")
    assert lock.exists() == [lock.fence]


@pytest.mark.parametrize("held", [False, True])
def test_a_wrong_type_at_the_queue_key_is_an_error_before_possession(
    lock: Scripts, inbox: Inbox, held: bool
) -> None:
    """A string at the queue: WRONGTYPE for who has to look at it, and nothing is taken."""
    if held:
        lock.acquire("a")
    lock.command("SET", lock.queue, "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        lock.acquire("b", inbox.channel)
    assert lock.holder == ("a" if held else None)
    assert lock.command("GET", lock.queue) == "x"


@pytest.mark.parametrize("waits", [False, True])
def test_without_memory_a_free_lock_is_not_taken(
    private: Scripts, private_inbox: Inbox, out_of_memory: Callable[[], None], waits: bool
) -> None:
    """A clear OOM error, and nothing half done: no key, no counter, no queue entry."""
    out_of_memory()
    with pytest.raises(ResponseError, match=OOM):
        private.acquire("a", private_inbox.channel if waits else "")
    assert private.exists() == []


def test_without_memory_nobody_queues(
    private: Scripts, private_inbox: Inbox, out_of_memory: Callable[[], None]
) -> None:
    """A new waiter gets OOM and no place; one that is queued already keeps its own."""
    private.acquire("a")
    private.acquire("b", private_inbox.channel)
    out_of_memory()
    with pytest.raises(ResponseError, match=OOM):
        private.acquire("c", private_inbox.channel)
    assert private.waiters == ["b"]
    assert private.acquire("b", private_inbox.channel)[4] == 0
    assert private.acquire("c")[0] == "HELD"
    assert private.acquire("a")[0] == "GRANTED_BEFORE_OTHERS"


def test_without_memory_a_dead_holders_queue_stays_as_it_is(
    private: Scripts, private_inbox: Inbox, out_of_memory: Callable[[], None]
) -> None:
    """Driving the queue fails before anybody is dropped from it or granted."""
    private.acquire("a")
    private.acquire("b", private_inbox.channel)
    private.expire()
    counter = private.counter
    out_of_memory()
    for token, channel in [("c", private_inbox.channel), ("d", "")]:
        with pytest.raises(ResponseError, match=OOM):
            private.acquire(token, channel)
    assert (private.holder, private.waiters, private.counter) == (None, ["b"], counter)
    assert private_inbox.messages() == []
    private.command("CONFIG", "SET", "maxmemory", 0)
    assert private.acquire("b", private_inbox.channel)[0] == "GRANTED"
