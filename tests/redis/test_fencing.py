"""Fencing tokens rise strictly, per name, whatever happens to the counter or the clock."""

from collections.abc import Callable

import pytest

from aiodistlock.core.fencing import MAX_LOCAL_HANDOFFS, covered, local_fence, report
from tests.redis.driver import BEHIND, GAP, Inbox, Scripts, assert_rising, fence_of

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


def test_no_name_leaves_anything_behind(private: Scripts) -> None:
    """After thousands of names, locked once each, there is one key: the counter, without a ttl."""
    client = private.client
    fences = []
    for number in range(3_000):
        lock = Scripts(client, f"lock:{number}")
        lock.fence = private.fence
        fences.append(fence_of(lock, "a"))
        lock.release("a")
    assert client.keys() == [private.fence.encode()]
    assert private.remaining(private.fence) == -1
    assert_rising(fences)


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
    for ahead in (0, GAP // 2, GAP):
        lock.put_clock_behind(by_us=ahead)
        fence = fence_of(lock, "a")
        highest = local_fence(fence, MAX_LOCAL_HANDOFFS)
        _, fresh, _ = lock.pass_on("a", "a2", DEAD, report(fence, MAX_LOCAL_HANDOFFS))
        assert fresh > highest
        lock.release("a", report(fresh, MAX_LOCAL_HANDOFFS))
        assert fence_of(lock, "b") > local_fence(fresh, MAX_LOCAL_HANDOFFS)
        lock.remove()


def test_a_tick_of_a_coarse_clock_is_no_step_back(lock: Scripts) -> None:
    """Within the gap tokens follow each other, without a mark, and hand-offs are covered."""
    lock.put_clock_behind(by_us=10**9)
    lock.command("SET", lock.fence, lock.server_us + GAP)
    _, fence, now = lock.acquire("a")
    assert (covered(fence, now), lock.marked) == (True, False)


@pytest.mark.parametrize("driver", ["newcomer", "waiter", "try over the dead", "force"])
def test_where_the_clock_is_found_behind_the_gap_is_added_once(
    lock: Scripts, inbox: Inbox, driver: str
) -> None:
    """Above all that was used before and not reported; then one by one, without hand-offs."""
    fence_of(lock, "a")
    counter = lock.put_clock_behind()
    if driver == "waiter":
        lock.acquire("b", inbox.channel)
        lock.release("a")
    elif driver == "force":
        lock.force_release("a")
    else:
        if driver == "try over the dead":
            lock.acquire("b", DEAD)
        lock.expire()
        lock.acquire("c")
    assert lock.marked
    first = lock.counter
    assert counter + MAX_LOCAL_HANDOFFS < first <= counter + MAX_LOCAL_HANDOFFS + 2
    for token in ("d", "e", "f"):
        lock.expire()
        _, fence, now = lock.acquire(token)
        assert not covered(fence, now)
    assert (lock.counter, lock.marked) == (first + 3, True)


def test_a_mark_goes_when_the_clock_has_caught_up(lock: Scripts) -> None:
    """Then hand-offs are covered again, and another step back adds the gap again."""
    lock.put_clock_behind()
    fence_of(lock, "a")
    assert lock.marked
    lock.expire()
    lock.command("SET", lock.fence, f"{lock.server_us + GAP // 2}{BEHIND}")
    _, fence, now = lock.acquire("b")
    assert (covered(fence, now), lock.marked) == (True, False)
    lock.expire()
    counter = lock.put_clock_behind()
    assert fence_of(lock, "c") == counter + 1 + GAP


def test_the_gap_is_what_the_client_may_use() -> None:
    """The prelude's GAP covers the most local hand-offs that the client makes."""
    assert GAP == MAX_LOCAL_HANDOFFS


@pytest.mark.parametrize("how", ["release", "pass_on"])
def test_a_counter_ahead_of_the_clock_comes_back_to_it(
    lock: Scripts, inbox: Inbox, how: str
) -> None:
    """Leases add one token each, so the clock overtakes them soon."""
    lock.put_clock_behind(by_us=2_000_000)
    _, fence, now = lock.acquire("a")
    ahead = fence - now
    for _ in range(100):
        if how == "release":
            lock.release("a")
            _, fence, now = lock.acquire("a")
        else:
            _, fence, now = lock.pass_on("a", "a2", inbox.channel)
    assert 0 <= fence - now < ahead


def test_integers_come_back_exact_up_to_2_to_the_53(lock: Scripts, inbox: Inbox) -> None:
    """No digit is lost in replies, counter, messages and inspection."""
    top = 2**53 - 15_001  # beyond 2**53 - 10,000 there is no room for what follows
    lock.command("SET", lock.fence, top)
    _, fence, _ = lock.acquire("a")
    assert fence == lock.counter == lock.inspect()[3] == top + 1 + GAP
    lock.acquire("b", inbox.channel)
    lock.release("a")
    assert int(inbox.messages()[0].split(" ")[0]) == lock.counter == fence + 1
