from collections.abc import Callable

import pytest
from redis.exceptions import ResponseError

from tests.redis.driver import MARK_TTL, OOM, Inbox, Scripts

WINDOW = 1_700_000_000_000_000


def mark_of(lock: Scripts) -> list[str]:
    """Return the words of the mark; the value is two of them."""
    return str(lock.command("GET", lock.mark)).split()


def test_a_good_end_marks_the_window_and_gives_the_lock_up(lock: Scripts) -> None:
    """DONE 0: the mark names window, time and value, and lasts as long as it is to."""
    _, fence, _ = lock.acquire("a")
    before = lock.server_us
    assert lock.finish("a", WINDOW) == ("DONE", 0)
    window, state, at, token, its_fence = mark_of(lock)
    assert (window, state, token, its_fence) == (str(WINDOW), "done", "a", str(fence))
    assert before <= int(at) <= lock.server_us
    assert MARK_TTL - 20_000 < lock.remaining(lock.mark) <= MARK_TTL
    assert lock.exists() == [lock.fence]


def test_a_good_end_passes_the_lock_on(lock: Scripts, inbox: Inbox) -> None:
    """DONE 1: the waiter holds it, and is told."""
    lock.acquire("a")
    lock.acquire("b", inbox.channel)
    assert lock.finish("a", WINDOW) == ("DONE", 1)
    assert (lock.holder, inbox.grants()) == ("b", ["b"])


def test_twice_finds_its_own_mark(lock: Scripts, inbox: Inbox) -> None:
    """DONE, and nothing to do: whoever holds the lock by then keeps it."""
    lock.acquire("a")
    value = lock.value("a")
    assert lock.finish(value, WINDOW) == ("DONE", 0)
    mark = mark_of(lock)
    assert lock.finish(value, WINDOW) == ("DONE", 0)
    lock.acquire("b")
    lock.acquire("c", inbox.channel)
    assert lock.finish(value, WINDOW) == ("DONE", 0)
    assert (lock.holder, lock.waiters, mark_of(lock)) == ("b", ["c"], mark)


def test_a_second_copy_that_is_late_leaves_a_later_window(lock: Scripts) -> None:
    """DONE: the next one has done that meanwhile, so the first copy has run, or it is no matter."""
    lock.acquire("a")
    value = lock.value("a")
    lock.finish(value, WINDOW)
    lock.acquire("b")
    lock.finish("b", WINDOW + 1)
    mark = mark_of(lock)
    assert lock.finish(value, WINDOW) == ("DONE", 0)
    assert mark_of(lock) == mark


@pytest.mark.parametrize("state", ["begin", "finish"])
def test_who_lost_the_lease_marks_nothing(lock: Scripts, state: str) -> None:
    """GONE, or OTHER: also if the same window was done by another since."""
    mark = getattr(lock, state)
    lock.acquire("a")
    value = lock.value("a")
    lock.expire()
    assert mark(value, WINDOW) == ("GONE",)
    assert lock.command("GET", lock.mark) is None
    lock.acquire("b")
    assert mark(value, WINDOW) == ("OTHER",)
    assert lock.command("GET", lock.mark) is None
    lock.finish("b", WINDOW)
    done = mark_of(lock)
    assert mark(value, WINDOW) == ("GONE",)
    lock.acquire("c")
    assert mark(value, WINDOW) == ("OTHER",)
    assert (lock.holder, mark_of(lock)) == ("c", done)


def test_what_is_to_be_done_at_most_once_is_marked_at_its_start(lock: Scripts) -> None:
    """DONE, twice as well: the lock stays, and the good end makes it done."""
    lock.acquire("a")
    for _ in range(2):
        assert lock.begin("a", WINDOW) == ("DONE", 0)
        assert mark_of(lock)[:2] == [str(WINDOW), "begun"]
    assert lock.holder == "a"
    assert lock.finish("a", WINDOW) == ("DONE", 0)
    assert mark_of(lock)[:2] == [str(WINDOW), "done"]


@pytest.mark.parametrize("window", [WINDOW, WINDOW - 1, 0])
@pytest.mark.parametrize("end", ["begin", "finish"])
def test_what_another_has_begun_or_done_is_not_begun(lock: Scripts, end: str, window: int) -> None:
    """HELD, and the mark, which stays; at it or below."""
    lock.acquire("a")
    getattr(lock, end)("a", WINDOW)
    lock.expire()
    mark = lock.command("GET", lock.mark)
    lock.acquire("b")
    assert lock.begin("b", window) == ("HELD", mark)
    assert (lock.holder, lock.command("GET", lock.mark)) == ("b", mark)
    assert lock.begin("b", WINDOW + 1) == ("DONE", 0)
    assert mark_of(lock)[0] == str(WINDOW + 1)


@pytest.mark.parametrize("window", [WINDOW, WINDOW - 1])
def test_a_mark_never_goes_down(lock: Scripts, window: int) -> None:
    """What a holder has done all the same, and only a clock or a failover lets it, is given up."""
    lock.acquire("a")
    lock.finish("a", WINDOW)
    mark = mark_of(lock)
    lock.acquire("b")
    assert lock.finish("b", window) == ("DONE", 0)
    assert (lock.holder, mark_of(lock)) == (None, mark)


def test_a_name_is_kept_under_a_token_that_is_nobodys(lock: Scripts, inbox: Inbox) -> None:
    """Up to the server time that was said: no late renewal or release is of it."""
    lock.acquire("a")
    value = lock.value("a")
    lock.acquire("b", inbox.channel)
    assert lock.finish("a", WINDOW, lock.server_us + 9_000_000) == ("DONE", 0)
    assert lock.command("GET", lock.key) == f"kept:{value}"
    assert 0 < lock.remaining() <= 9_000
    assert (lock.waiters, inbox.messages()) == (["b"], [])
    assert lock.finish(value, WINDOW, lock.server_us + 99_000_000) == ("DONE", 0)
    assert lock.renew(value) == lock.release(value) == ("OTHER",)
    assert 0 < lock.remaining() <= 9_000


def test_what_took_long_enough_keeps_nothing(lock: Scripts) -> None:
    """A time that is over: given up, as if none had been said."""
    lock.acquire("a")
    assert lock.finish("a", WINDOW, lock.server_us) == ("DONE", 0)
    assert lock.holder is None


@pytest.mark.parametrize(
    "written", ["SET words", "SET -5_done_1_a", "RPUSH 1", "SET 1e99_done_1_a"]
)
def test_what_is_no_mark_counts_as_none(lock: Scripts, written: str) -> None:
    """And is written over."""
    verb, value = written.replace("_", " ").split(" ", 1)
    lock.command(verb, lock.mark, value)
    lock.acquire("a")
    assert lock.begin("a", WINDOW) == ("DONE", 0)
    assert lock.finish("a", WINDOW) == ("DONE", 0)
    assert mark_of(lock)[:2] == [str(WINDOW), "done"]


def test_without_memory_nothing_is_half_done(
    private: Scripts, private_inbox: Inbox, out_of_memory: Callable[[], None]
) -> None:
    """A clear error: no mark, and the lock is still ours, to try again."""
    private.acquire("a")
    private.acquire("b", private_inbox.channel)
    out_of_memory()
    for mark in (private.begin, private.finish):
        with pytest.raises(ResponseError, match=OOM):
            mark("a", WINDOW)
    assert (private.holder, private.command("GET", private.mark)) == ("a", None)
    private.command("CONFIG", "SET", "maxmemory", 0)
    assert private.finish("a", WINDOW) == ("DONE", 1)


def test_a_look_tells_time_holder_and_mark(lock: Scripts) -> None:
    """Empty where there is none; it changes nothing."""
    before = lock.server_us
    code, now, value, mark = lock.look()
    assert (code, value, mark) == ("DONE", "", "")
    assert before <= now <= lock.server_us
    lock.acquire("a")
    lock.begin("a", WINDOW)
    assert lock.look()[2:] == (lock.value("a"), lock.command("GET", lock.mark))
    lock.finish("a", WINDOW)
    assert lock.look()[2:] == ("", lock.command("GET", lock.mark))
    assert lock.exists() == [lock.fence]


def test_a_look_passes_over_what_is_no_mark(lock: Scripts) -> None:
    """A list: as if there were nothing."""
    lock.command("RPUSH", lock.mark, 1)
    assert lock.look()[2:] == ("", "")
