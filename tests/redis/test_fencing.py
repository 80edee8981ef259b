"""Fencing tokens rise strictly, per name, whatever happens to the counter or the clock."""

from collections.abc import Callable

import pytest

from aiodistlock.core.fencing import MAX_LOCAL_HANDOFFS, local_fence, report
from tests.redis.driver import GAP, RETENTION, Inbox, Scripts, assert_rising, fence_of

DEAD = "inbox:dead"


def test_fences_rise_over_releases_expiry_and_deletion(lock: Scripts) -> None:
    """However a lease ends, the next one's token is higher."""
    fences = []
    ends: list[Callable[[str], object]] = [
        lock.release,
        lock.abandon,
        lambda _: lock.expire(),
        lambda _: lock.command("DEL", lock.key),
    ]
    for number in range(12):
        fences.append(fence_of(lock, f"a{number}"))
        ends[number % 4](f"a{number}")
    assert_rising(fences)


def test_fences_rise_over_a_deleted_counter(lock: Scripts) -> None:
    """The server's clock covers the loss of the counter, while held and while free."""
    fences = []
    for number in range(10):
        fences.append(fence_of(lock, f"a{number}"))
        if number % 2:
            lock.release(f"a{number}")
            lock.command("DEL", lock.fence)
        else:
            lock.command("DEL", lock.fence)
            lock.release(f"a{number}")
    assert_rising(fences)


def test_fences_rise_over_flushall(private: Scripts) -> None:
    """FLUSHALL takes key, counter and queue; the clock goes on."""
    fences = []
    for number in range(10):
        fences.append(fence_of(private, f"a{number}"))
        private.command("FLUSHALL")
    assert_rising(fences)


def test_fences_rise_over_handoffs_of_all_kinds(lock: Scripts, inbox: Inbox) -> None:
    """Grants by reply, by message, kept by pass_on, given up by abandon: one sequence."""
    fences = [fence_of(lock, "a")]
    lock.acquire("b", inbox.channel)
    lock.release("a")
    lock.acquire("c", inbox.channel)
    lock.pass_on("b", "b2", inbox.channel)
    lock.abandon("c", inbox.channel)
    fences += [int(message.split(" ")[0]) for message in inbox.messages()]
    assert lock.holder == "b2"
    fences.append(lock.pass_on("b2", "b3", inbox.channel)[1])
    lock.release("b2")
    fences.append(fence_of(lock, "d"))
    assert len(fences) == 6
    assert_rising(fences)


def test_the_counter_is_kept_for_the_retention_from_each_lease(lock: Scripts) -> None:
    """Each lease gives the counter its whole retention again, which outlives the lease."""
    for number in range(2):
        fence_of(lock, f"a{number}")
        assert lock.remaining(lock.fence) > RETENTION - 60_000
        lock.release(f"a{number}")
        lock.command("PEXPIRE", lock.fence, 60_000)
    assert lock.remaining(lock.fence) <= 60_000


def test_in_normal_operation_the_fence_is_the_servers_time(lock: Scripts, inbox: Inbox) -> None:
    """Never ahead of the clock, so that FLUSHALL cannot turn it back."""
    for number in range(50):
        code, fence, now = lock.acquire(f"a{number}")
        assert (code, fence) == ("GRANTED", now)
        lock.release(f"a{number}")


def test_dead_waiters_do_not_make_the_counter_outrun_the_clock(lock: Scripts) -> None:
    """A lease over a queue of the dead takes one token, not one beyond the clock."""
    lock.acquire("a")
    lock.acquire("b", DEAD)
    lock.expire()
    _, fence, now = lock.acquire("c")
    assert fence == now
    lock.acquire("d", DEAD)
    _, fence, now = lock.pass_on("c", "c2", DEAD)
    assert fence == now


def test_reported_handoffs_are_below_the_next_fence(lock: Scripts) -> None:
    """What release and pass_on report is used up, whatever the clock says."""
    counter = lock.put_clock_behind()
    _, fence, now = lock.acquire("a")
    assert fence > counter
    highest = local_fence(fence, 300)
    _, fresh, _ = lock.pass_on("a", "a2", DEAD, report(fence, 300, now))
    assert fresh > highest
    lock.release("a", report(fresh, MAX_LOCAL_HANDOFFS, now))
    assert fence_of(lock, "b") > local_fence(fresh, MAX_LOCAL_HANDOFFS)


@pytest.mark.parametrize("driver", ["newcomer", "waiter", "try over the dead", "pass_on again"])
def test_handoffs_that_nobody_reported_are_below_the_next_fence(
    lock: Scripts, inbox: Inbox, driver: str
) -> None:
    """A holder that died may have used up the GAP: whoever follows starts above it."""
    lock.put_clock_behind()
    fence = fence_of(lock, "a")
    if driver == "waiter":
        lock.acquire("b", inbox.channel)
    elif driver == "try over the dead":
        lock.acquire("b", DEAD)
    elif driver == "pass_on again":
        lock.acquire("b", inbox.channel)
        lock.pass_on("a", "a2", inbox.channel)
        fence = int(inbox.messages()[0].split(" ")[0])
    lock.expire()
    if driver == "pass_on again":
        code, following, _ = lock.pass_on("a", "a2", inbox.channel)
        assert code == "GRANTED"
    else:
        lock.acquire("c")
        following = lock.counter
    assert following > local_fence(fence, MAX_LOCAL_HANDOFFS)


def test_the_gap_is_what_the_client_may_use() -> None:
    """The prelude's GAP covers the most local hand-offs that the client makes."""
    assert GAP == MAX_LOCAL_HANDOFFS


@pytest.mark.parametrize("how", ["release", "pass_on"])
def test_a_counter_ahead_of_the_clock_comes_back_to_it(
    lock: Scripts, inbox: Inbox, how: str
) -> None:
    """Leases that end in order add one token each, so the clock overtakes them soon."""
    lock.put_clock_behind(by_us=2_000_000)
    _, fence, now = lock.acquire("a")
    ahead = fence - now
    for _ in range(100):
        if how == "release":
            lock.release("a", report(fence, 0, now))
            _, fence, now = lock.acquire("a")
        else:
            _, fence, now = lock.pass_on("a", "a2", inbox.channel, report(fence, 0, now))
    assert 0 <= fence - now < ahead


def test_the_gap_is_due_again_for_the_next_lease(lock: Scripts) -> None:
    """That one holder reported says nothing about the one behind it."""
    lock.put_clock_behind()
    _, fence, now = lock.acquire("a")
    lock.release("a", report(fence, 5, now))
    assert lock.counter == fence + 5
    following = fence_of(lock, "b")
    assert following == fence + 6
    lock.expire()
    assert fence_of(lock, "c") > local_fence(following, MAX_LOCAL_HANDOFFS)


def test_integers_come_back_exact_up_to_2_to_the_53(lock: Scripts, inbox: Inbox) -> None:
    """No digit is lost in replies, counter, messages and inspection."""
    top = 2**53 - GAP - 4
    lock.command("SET", lock.fence, top)
    _, fence, _ = lock.acquire("a")
    assert fence == lock.counter == lock.inspect()[3] == top + 1 + GAP == 2**53 - 3
    lock.acquire("b", inbox.channel)
    lock.release("a", fence + 1)
    assert int(inbox.messages()[0].split(" ")[0]) == lock.counter == 2**53 - 1
