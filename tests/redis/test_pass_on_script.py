from collections.abc import Callable

import pytest
from redis.exceptions import ResponseError

from tests.redis.driver import GRANT_TTL, OOM, QUEUE_TTL, Inbox, Scripts

DEAD = "inbox:dead"


def test_where_nobody_waits_the_lease_is_kept_and_fresh(lock: Scripts, inbox: Inbox) -> None:
    """DONE tells a new fencing token and the server time: same token, full ttl."""
    _, fence, _ = lock.acquire("a", ttl=5_000)
    for _ in range(2):
        before = lock.server_us
        code, fresh, now = lock.pass_on("a", "a2", inbox.channel)
        assert code == "DONE"
        assert fence < fresh == lock.counter
        assert before <= now <= lock.server_us
        assert lock.holder == "a"
        assert lock.remaining() > 5_000
        assert lock.exists() == [lock.key, lock.fence]
        fence = fresh
    assert inbox.messages() == []


def test_where_others_wait_the_head_is_granted_and_we_queue(
    lock: Scripts, inbox: Inbox, open_inbox: Callable[[], Inbox]
) -> None:
    """QUEUED tells the new holder and our place at the tail; a second run the same."""
    ours = open_inbox()
    _, first, _ = lock.acquire("a")
    lock.acquire("b", inbox.channel)
    lock.acquire("c", inbox.channel)
    for _ in range(2):
        before = lock.server_us
        code, remaining, holder, now, position = lock.pass_on("a", "a2", ours.channel)
        assert (code, holder, position) == ("QUEUED", "b", 1)
        assert 0 < remaining <= GRANT_TTL
        assert before <= now <= lock.server_us
        assert (lock.holder, lock.waiters) == ("b", ["c", "a2"])
        assert 0 < lock.remaining(lock.queue) <= QUEUE_TTL
    (message,) = inbox.messages()
    fence, _, ttl, token, key = message.split(" ", 4)
    assert int(fence) == lock.counter > first
    assert (int(ttl), token, key) == (GRANT_TTL, "b", lock.key)
    assert ours.messages() == []


def test_run_again_after_our_next_grant_it_answers_that_grant(lock: Scripts, inbox: Inbox) -> None:
    """GRANTED: the lock came back under the next token; same fence, ttl anew."""
    lock.acquire("a")
    lock.acquire("b", inbox.channel)
    lock.pass_on("a", "a2", inbox.channel)
    lock.release("b")
    assert lock.holder == "a2"
    counter = lock.counter
    for _ in range(2):
        lock.command("PEXPIRE", lock.key, 5_000)
        assert lock.pass_on("a", "a2", inbox.channel)[:2] == ("GRANTED", counter)
        assert lock.remaining() > 5_000
    assert lock.waiters == []
    assert inbox.grants() == ["b", "a2"]


def test_run_again_on_a_lock_that_fell_free_it_drives_the_queue(
    lock: Scripts, inbox: Inbox, open_inbox: Callable[[], Inbox]
) -> None:
    """Queued and the key free: the head is granted, be it another or ourselves."""
    ours = open_inbox()
    lock.acquire("a")
    lock.acquire("b", inbox.channel)
    lock.acquire("c", inbox.channel)
    lock.pass_on("a", "a2", ours.channel)
    lock.expire()
    code, _, holder, _, position = lock.pass_on("a", "a2", ours.channel)
    assert (code, holder, position) == ("QUEUED", "c", 0)
    assert inbox.grants() == ["b", "c"]
    lock.expire()
    code, fence, _ = lock.pass_on("a", "a2", ours.channel)
    assert (code, fence) == ("GRANTED", lock.counter)
    assert (lock.holder, lock.waiters) == ("a2", [])
    assert lock.remaining() > GRANT_TTL
    assert ours.messages() == []


def test_a_lease_that_is_gone_is_not_taken_anew(lock: Scripts, inbox: Inbox) -> None:
    """GONE, twice: nothing is written, nobody is granted, we do not queue."""
    lock.acquire("a")
    lock.acquire("b", inbox.channel)
    lock.expire()
    counter = lock.counter
    for _ in range(2):
        assert lock.pass_on("a", "a2", inbox.channel, counter + 9) == ("GONE",)
        assert (lock.holder, lock.waiters, lock.counter) == (None, ["b"], counter)
    assert inbox.messages() == []


@pytest.mark.parametrize("token", ["b", "", "A", "a ", "aa"])
def test_a_wrong_token_passes_nothing_on(lock: Scripts, inbox: Inbox, token: str) -> None:
    """Tokens are compared whole: OTHER, twice; lock, queue and counter stay."""
    _, fence, _ = lock.acquire("a", ttl=5_000)
    lock.acquire("c", inbox.channel)
    for _ in range(2):
        assert lock.pass_on(token, "z", inbox.channel, fence + 9) == ("OTHER",)
        assert (lock.holder, lock.waiters, lock.counter) == ("a", ["c"], fence)
        assert lock.remaining() <= 5_000
    assert inbox.messages() == []


def test_dead_waiters_are_dropped_and_the_lease_kept(lock: Scripts, inbox: Inbox) -> None:
    """DONE where nobody of the queue is alive: the key names us again, with full ttl."""
    _, fence, _ = lock.acquire("a", ttl=5_000)
    lock.acquire("b", DEAD)
    lock.acquire("c", DEAD)
    code, fresh, _ = lock.pass_on("a", "a2", inbox.channel)
    assert (code, lock.holder) == ("DONE", "a")
    assert fence < fresh == lock.counter
    assert lock.remaining() > GRANT_TTL
    assert lock.exists() == [lock.key, lock.fence]


def test_dead_waiters_are_skipped(lock: Scripts, inbox: Inbox) -> None:
    """The first that listens gets the lock; we queue behind those who are left."""
    lock.acquire("a")
    for token, channel in [("b", DEAD), ("c", inbox.channel), ("d", DEAD)]:
        lock.acquire(token, channel)
    code, _, holder, _, position = lock.pass_on("a", "a2", inbox.channel)
    assert (code, holder, position) == ("QUEUED", "c", 1)
    assert lock.waiters == ["d", "a2"]


def test_two_processes_take_turns(lock: Scripts, inbox: Inbox) -> None:
    """Passing on again and again, each gets the lock every other time."""
    lock.acquire("a0")
    lock.acquire("b0", inbox.channel)
    holders = []
    for turn in range(1, 5):
        for process in "ab":
            code, *_ = lock.pass_on(f"{process}{turn - 1}", f"{process}{turn}", inbox.channel)
            assert code == "QUEUED"
            holders.append(lock.holder)
    assert holders == ["b0", "a1", "b1", "a2", "b2", "a3", "b3", "a4"]
    assert inbox.grants() == holders


def test_the_fresh_fence_is_above_what_local_handoffs_used(lock: Scripts, inbox: Inbox) -> None:
    """Kept: the new token is higher than the highest one reported."""
    _, fence, _ = lock.acquire("a")
    highest = fence + 50_000_000
    assert lock.pass_on("a", "a2", inbox.channel, highest)[1] == lock.counter > highest


def test_the_next_waiters_fence_is_above_what_local_handoffs_used(
    lock: Scripts, inbox: Inbox
) -> None:
    """Passed on: the waiter's token is higher than the highest one reported."""
    _, fence, _ = lock.acquire("a")
    lock.acquire("b", inbox.channel)
    highest = fence + 50_000_000
    lock.pass_on("a", "a2", inbox.channel, highest)
    assert int(inbox.messages()[0].split(" ")[0]) == lock.counter > highest


def test_a_grant_whose_counter_was_deleted_answers_its_own_fence(
    lock: Scripts, inbox: Inbox
) -> None:
    """GRANTED without a counter: the fencing token stands behind the token at the key."""
    lock.acquire("a")
    lock.acquire("b", inbox.channel)
    lock.pass_on("a", "a2", inbox.channel)
    lock.release("b")
    granted = lock.counter
    lock.command("DEL", lock.fence)
    assert lock.pass_on("a", "a2", inbox.channel)[:2] == ("GRANTED", granted)


@pytest.mark.parametrize("which", ["key", "fence", "queue"])
def test_a_wrong_type_is_an_error_and_changes_nothing(
    lock: Scripts, inbox: Inbox, which: str
) -> None:
    """WRONGTYPE before anything is written: the lease and the queue stay."""
    lock.acquire("a", ttl=5_000)
    lock.acquire("b", inbox.channel)
    wrong = getattr(lock, which)
    lock.command("DEL", wrong)
    lock.command("HSET", wrong, "x", "y")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        lock.pass_on("a", "a2", inbox.channel)
    if which != "key":
        assert lock.holder == "a"
        assert 0 < lock.remaining() <= 5_000
    if which != "queue":
        assert lock.waiters == ["b"]
    assert lock.command("HGETALL", wrong) == {b"x": b"y"}
    assert inbox.messages() == []


@pytest.mark.parametrize("contended", [False, True])
def test_without_memory_the_lock_stays_ours(
    private: Scripts, private_inbox: Inbox, out_of_memory: Callable[[], None], contended: bool
) -> None:
    """A clear OOM error; lease, queue and counter are as before, and release works."""
    _, fence, _ = private.acquire("a", ttl=5_000)
    if contended:
        private.acquire("b", private_inbox.channel)
    out_of_memory()
    with pytest.raises(ResponseError, match=OOM):
        private.pass_on("a", "a2", private_inbox.channel, fence + 3)
    assert (private.holder, private.counter) == ("a", fence)
    assert private.waiters == (["b"] if contended else [])
    assert 0 < private.remaining() <= 5_000
    assert private_inbox.messages() == []
    assert private.release("a", fence + 3) == ("DONE", 0)
