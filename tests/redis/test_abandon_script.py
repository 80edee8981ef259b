from collections.abc import Callable

import pytest
from redis.exceptions import ResponseError

from aiodistlock.protocol.refusals import is_transient
from tests.redis.driver import Inbox, Scripts

DEAD = "inbox:dead"


def test_a_waiter_leaves_the_queue(lock: Scripts, inbox: Inbox) -> None:
    """DONE 0: its record is gone, the others' and the holder's lease stay."""
    lock.acquire("a")
    for token in "bcd":
        lock.acquire(token, inbox.channel)
    for _ in range(2):
        assert lock.abandon("c", inbox.channel) == ("DONE", 0)
        assert (lock.holder, lock.waiters) == ("a", ["b", "d"])
    assert inbox.messages() == []


def test_the_last_waiter_leaves_no_queue(lock: Scripts, inbox: Inbox) -> None:
    """The queue goes with its last record."""
    lock.acquire("a")
    lock.acquire("b", inbox.channel)
    lock.abandon("b", inbox.channel)
    assert lock.exists() == [lock.key, lock.fence]


def test_who_cannot_leave_the_queue_is_told(private: Scripts) -> None:
    """While the server refuses to write: else the record stays, and is granted to nobody."""
    private.acquire("a")
    private.acquire("b", DEAD)
    private.command("CONFIG", "SET", "min-replicas-to-write", 1)
    with pytest.raises(ResponseError) as refused:
        private.abandon("b", DEAD)
    assert is_transient(refused.value)
    private.command("CONFIG", "SET", "min-replicas-to-write", 0)
    assert private.abandon("b", DEAD) == ("DONE", 0)
    assert private.waiters == []


@pytest.mark.parametrize("queued", [False, True])
def test_a_lock_that_was_granted_is_given_up(lock: Scripts, inbox: Inbox, queued: bool) -> None:
    """DONE 1: an acquire that won goes back; a second run has nothing to do."""
    channel = inbox.channel if queued else ""
    lock.acquire("a", channel)
    assert lock.abandon("a", channel) == ("DONE", 1)
    assert lock.exists() == [lock.fence]
    assert lock.abandon("a", channel) == ("DONE", 0)
    assert lock.exists() == [lock.fence]


def test_a_grant_that_came_meanwhile_goes_to_the_next_waiter(lock: Scripts, inbox: Inbox) -> None:
    """Granted between the request and its abandon: the next one gets it, no key is left."""
    lock.acquire("a")
    lock.acquire("b", inbox.channel)
    lock.acquire("c", inbox.channel)
    lock.release("a")
    assert lock.abandon("b", inbox.channel) == ("DONE", 1)
    assert (lock.holder, lock.waiters) == ("c", [])
    assert inbox.grants() == ["b", "c"]
    assert lock.abandon("b", inbox.channel) == ("DONE", 0)
    assert lock.holder == "c"


def test_the_next_grants_fence_is_higher(lock: Scripts, inbox: Inbox) -> None:
    """Also a grant that nobody used up has its own fencing token."""
    lock.acquire("a")
    lock.acquire("b", inbox.channel)
    counter = lock.put_clock_behind()
    lock.abandon("a")
    assert int(inbox.messages()[0].split(" ")[0]) == lock.counter > counter


def test_what_was_never_there_leaves_nothing(lock: Scripts, inbox: Inbox) -> None:
    """An acquire that never arrived: nothing to do, no key is made."""
    assert lock.abandon("a", inbox.channel) == ("DONE", 0)
    assert lock.abandon("a") == ("DONE", 0)
    assert lock.exists() == []


@pytest.mark.parametrize("token", ["b", "", "A", "a ", "aa"])
def test_a_wrong_token_gives_nothing_up(lock: Scripts, inbox: Inbox, token: str) -> None:
    """Tokens are compared whole: the holder's lease and the queue stay."""
    lock.acquire("a")
    lock.acquire("c", inbox.channel)
    assert lock.abandon(token, inbox.channel) == ("DONE", 0)
    assert (lock.holder, lock.waiters) == ("a", ["c"])


def test_dead_waiters_get_nothing(lock: Scripts, inbox: Inbox) -> None:
    """Where all other waiters are dead, the key goes and so does the queue."""
    lock.acquire("a", inbox.channel)
    lock.acquire("b", DEAD)
    assert lock.abandon("a", inbox.channel) == ("DONE", 1)
    assert lock.exists() == [lock.fence]


def test_a_wrong_type_at_the_key_is_an_error_behind_the_queue(lock: Scripts, inbox: Inbox) -> None:
    """A list at the key: WRONGTYPE, it stays; the place in the queue is given up first."""
    lock.acquire("a")
    lock.acquire("b", inbox.channel)
    lock.command("DEL", lock.key)
    lock.command("RPUSH", lock.key, "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        lock.abandon("b", inbox.channel)
    assert lock.exists() == [lock.key, lock.fence]


@pytest.mark.parametrize("queued", [False, True])
def test_without_memory_nothing_is_kept(
    private: Scripts, private_inbox: Inbox, out_of_memory: Callable[[], None], queued: bool
) -> None:
    """On a full server the lock goes, and the place in the queue."""
    channel = private_inbox.channel
    private.acquire("a")
    private.acquire("b", channel)
    private.acquire("c", channel)
    out_of_memory()
    assert private.abandon("b", channel) == ("DONE", 0)
    assert private.abandon("a", channel if queued else "") == ("DONE", 1)
    # Behind a first write that needs no memory the server allows the hand-off too.
    assert (private.holder, private.waiters) in ((None, ["c"]), ("c", []))
    assert private_inbox.grants() == ([] if private.holder is None else ["c"])
