"""The scripts of semaphores: what each returns, run once and twice, and what they leave."""

from collections.abc import Callable, Iterator

import pytest
import redis as redis_sync
from redis.exceptions import ResponseError

from aiodistlock.protocol import scripts
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.redis.driver import GRANT_TTL, OOM, TTL, Inbox
from tests.redis.permits import CLIENT, Permits


@pytest.fixture
def permits(client: redis_sync.Redis, namespace: str) -> Iterator[Permits]:
    """The scripts on a name that nobody uses."""
    made = Permits(client, f"{namespace}gpu")
    yield made
    made.remove()


def test_free_permits_are_granted_with_the_lowest_slots(permits: Permits) -> None:
    """GRANTED: each want is a lease of its own; they all end by the server's clock."""
    assert permits.acquire("1*1 2*2", limit=4) == ("GRANTED", {1: (0,), 2: (1, 2)}, ())
    assert permits.held == {1: (0,), 2: (1, 2)}
    assert TTL - 10_000 < permits.command("PTTL", permits.key) <= TTL
    permits.release(1)
    assert permits.acquire("3*2", limit=4)[1] == {3: (0, 3)}


def test_the_same_wants_twice_have_the_same_leases(permits: Permits) -> None:
    """As holder the same slots and fence, the ttl anew; in the queue the same place."""
    first = permits.run(scripts.ACQUIRE_PERMITS, CLIENT, "1*1", 2, 5_000, "", GRANT_TTL, 1)
    again = permits.run(scripts.ACQUIRE_PERMITS, CLIENT, "1*1", 2, TTL, "", GRANT_TTL, 1)
    assert first[2] == again[2]
    assert permits.command("PTTL", permits.key) > 10_000
    assert permits.inspect()[1][1] > 10_000


def test_what_does_not_fit_is_refused_or_queues(permits: Permits, inbox: Inbox) -> None:
    """HELD without an inbox, QUEUED with one: remaining time, holder, position."""
    permits.acquire("1*1 2*1")
    code, slots, (remaining, holder) = permits.acquire("3*1")
    assert (code, slots, holder, permits.waiters) == ("HELD", {}, f"{CLIENT}1", [])
    assert TTL - 10_000 < remaining <= TTL
    code, _, (remaining, holder, position) = permits.acquire("3*1 4*1", inbox.channel)
    assert (code, holder, position, permits.waiters) == ("QUEUED", f"{CLIENT}1", 0, [3, 4])
    assert permits.acquire("4*1", inbox.channel)[2][2] == 1
    assert permits.waiters == [3, 4]


def test_a_try_that_fails_takes_nobody_along(permits: Permits, inbox: Inbox) -> None:
    """It does not queue, and a lighter one behind it may have what is free."""
    permits.acquire("1*1")
    assert permits.acquire("2?2 3?1", inbox.channel)[:2] == ("HELD", {3: (1,)})
    assert permits.waiters == []


def test_who_queues_is_not_overtaken(permits: Permits, inbox: Inbox) -> None:
    """A heavy one at the head has all behind it wait, of the same request, too."""
    permits.acquire("1*1")
    assert permits.acquire("2*2 3*1", inbox.channel)[0] == "QUEUED"
    assert (permits.held, permits.waiters) == ({1: (0,)}, [2, 3])
    assert permits.release(1) == ("DONE", 0)
    assert (permits.held, permits.waiters) == ({2: (0, 1)}, [3])
    assert inbox.messages() == [f"0 0 0 {CLIENT}2 {permits.key}"]


def test_a_release_gives_to_as_many_as_fit(permits: Permits, inbox: Inbox) -> None:
    """DONE; each of them for its grant ttl, each is told."""
    permits.acquire("1*2")
    permits.acquire("2*1 3*1 4*1", inbox.channel)
    permits.release(1)
    assert (permits.held, permits.waiters) == ({2: (0,), 3: (1,)}, [4])
    assert inbox.grants() == [f"{CLIENT}2", f"{CLIENT}3"]
    assert permits.command("PTTL", permits.key) <= GRANT_TTL
    # Who asks learns what it has, and has its whole ttl.
    assert permits.acquire("2*1 3*1 4*1", inbox.channel)[1] == {2: (0,), 3: (1,)}
    assert permits.command("PTTL", permits.key) > GRANT_TTL


def test_released_twice_is_gone(permits: Permits) -> None:
    """GONE, also where it was over; nothing of others is touched."""
    permits.acquire("1*1 2*1")
    lease = permits.lease(1)
    assert permits.release(1) == ("DONE", 0)
    assert permits.run(scripts.RELEASE_PERMITS, lease, 0) == ("GONE",)
    assert permits.held == {2: (1,)}
    permits.expire(2)
    assert permits.release(2) == ("GONE",)
    assert permits.command("EXISTS", permits.key) == 0


def test_a_release_reports_the_fencing_tokens_that_were_used(permits: Permits) -> None:
    """The counter is lifted to it."""
    permits.acquire("1*1")
    highest = int(permits.lease(1).split(" ")[1]) + 500_000_000
    permits.release(1, highest)
    assert int(permits.command("GET", permits.fence)) == highest


def test_a_renewal_is_of_one_lease(permits: Permits) -> None:
    """DONE and how many wait; another one's end stays."""
    permits.acquire("1*1 2*1", ttl=5_000)
    assert permits.renew(1) == ("DONE", 0)
    assert permits.renew(1) == ("DONE", 0)
    leases = permits.inspect()[1]
    left = {each.split(" ")[0]: ms for each, ms in zip(leases[::2], leases[1::2], strict=True)}
    assert left[f"{CLIENT}2"] <= 5_000
    assert left[f"{CLIENT}1"] > 5_000
    assert permits.command("PTTL", permits.key) > 5_000


def test_alone_a_renewal_only_puts_the_end_off(permits: Permits, inbox: Inbox) -> None:
    """It needs the key only, and makes nothing."""
    permits.acquire("1*2", ttl=5_000)
    permits.acquire("2*1", inbox.channel)
    assert permits.renew_alone(1) == ("DONE", 1)
    assert permits.inspect()[1][1] > 5_000
    assert permits.renew_alone(1, 300) == ("DONE", 1)
    assert permits.inspect()[1][1] > 5_000
    permits.command("DEL", permits.queue, permits.fence)
    assert permits.renew_alone(1) == ("DONE", 0)
    assert permits.command("EXISTS", permits.key, permits.queue, permits.fence) == 1
    permits.expire(1)
    assert permits.renew_alone(1) == ("GONE",)


def test_alone_a_release_serves_where_all_is_here(permits: Permits, inbox: Inbox) -> None:
    """Else it only gives up: who waits polls."""
    permits.acquire("1*2")
    permits.acquire("2*1", inbox.channel)
    assert permits.release_alone(1) == ("DONE", 0)
    assert (permits.held, inbox.grants()) == ({2: (0,)}, [f"{CLIENT}2"])
    permits.acquire("3*2", inbox.channel)
    permits.command("DEL", permits.fence)
    assert permits.release_alone(2) == ("DONE", 0)
    assert permits.release_alone(2) == ("GONE",)
    assert (permits.held, permits.waiters) == ({}, [3])


def test_what_is_over_is_not_renewed(permits: Permits) -> None:
    """GONE: somebody else may have its slot by now, or not yet."""
    permits.acquire("1*1")
    permits.expire(1)
    assert permits.renew(1) == ("GONE",)
    assert permits.renew(9) == ("GONE",)


def test_whoever_asks_gives_what_is_over_to_the_first(permits: Permits, inbox: Inbox) -> None:
    """The permits of a crashed holder go on in the order of the queue."""
    permits.acquire("1*1 2*1")
    permits.acquire("3*1", inbox.channel)
    permits.expire(1)
    permits.expire(2)
    assert permits.acquire("4*1", inbox.channel)[:2] == ("GRANTED", {4: (1,)})
    assert permits.held == {3: (0,), 4: (1,)}
    assert inbox.grants() == [f"{CLIENT}3"]


def test_the_first_who_asks_needs_no_message(permits: Permits, inbox: Inbox) -> None:
    """Its answer says what it has."""
    permits.acquire("1*2")
    permits.acquire("3*1", inbox.channel)
    permits.expire(1)
    assert permits.acquire("3*1", inbox.channel)[:2] == ("GRANTED", {3: (0,)})
    assert inbox.messages() == []


def test_a_dead_waiter_is_passed_over(permits: Permits, inbox: Inbox) -> None:
    """Whose inbox nobody hears gets nothing, and has nobody wait."""
    permits.acquire("1*2")
    permits.acquire("2*1 3*1", "nobody")
    permits.release(1)
    assert permits.command("EXISTS", permits.key, permits.queue) == 0
    permits.acquire("1*2")
    inbox.close()
    permits.acquire("4*1", inbox.channel)
    inbox.open()
    permits.acquire("4*1 5*1", inbox.channel)
    permits.release(1)
    assert permits.held == {4: (0,), 5: (1,)}


def test_a_dead_waiter_that_does_not_fit_is_passed_over(permits: Permits, inbox: Inbox) -> None:
    """Or it would have all others wait until so many are free."""
    permits.acquire("1*1")
    permits.acquire("2*2", "nobody")
    assert permits.acquire("3*1", inbox.channel)[:2] == ("GRANTED", {3: (1,)})
    assert permits.waiters == []


def test_a_live_waiter_that_does_not_fit_is_left_alone(
    permits: Permits, inbox: Inbox, open_inbox: Callable[[], Inbox]
) -> None:
    """Whoever comes behind it waits."""
    permits.acquire("1*1")
    permits.acquire("2*2", inbox.channel)
    assert permits.acquire("3*1", open_inbox().channel)[0] == "QUEUED"
    assert permits.acquire("4?1")[0] == "HELD"
    assert permits.waiters == [2, 3]


def test_each_is_judged_by_its_own_limit(permits: Permits, inbox: Inbox) -> None:
    """None is revoked; who goes by the lower one waits until there is room below it."""
    permits.acquire("1*1 2*1 3*1", limit=3)
    assert permits.acquire("4*1", inbox.channel, limit=1)[0] == "QUEUED"
    permits.release(2)
    permits.release(1)
    assert permits.held == {3: (2,)}
    permits.release(3)
    assert permits.held == {4: (0,)}
    assert permits.acquire("5*1", limit=1)[0] == "HELD"
    assert permits.acquire("5*1", limit=2)[1] == {5: (1,)}


def test_abandoned_leaves_the_queue_and_gives_up(permits: Permits, inbox: Inbox) -> None:
    """DONE and how many were ours; what fits then goes to the next.  Twice: nothing to do."""
    permits.acquire("1*1 2*2", inbox.channel)
    permits.acquire("3*1", inbox.channel)
    assert permits.waiters == [2, 3]
    assert permits.abandon("2*2", inbox.channel) == ("DONE", 0)
    assert (permits.held, permits.waiters) == ({1: (0,), 3: (1,)}, [])
    assert permits.abandon("3*1 1*1", inbox.channel) == ("DONE", 2)
    assert permits.abandon("3*1 1*1", inbox.channel) == ("DONE", 0)
    assert permits.command("EXISTS", permits.key, permits.queue) == 0


def test_a_record_that_is_none_goes(permits: Permits, inbox: Inbox) -> None:
    """Of a lock's waiter, or of one that wants more than its limit."""
    permits.acquire("1*2")
    permits.command("ZADD", permits.queue, 1, "1000 inbox secret token")
    permits.command("ZADD", permits.queue, 2, f"1000 {inbox.channel} secret token 3 2")
    permits.acquire("2*1", inbox.channel)
    assert permits.waiters == [2]


def test_a_key_of_another_type_is_left_alone(permits: Permits) -> None:
    """A lock's value, and a sorted set of something else: WRONGTYPE, untouched."""
    permits.command("SET", permits.key, "token 1")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        permits.acquire("1*1")
    assert permits.command("GET", permits.key) == "token 1"
    permits.command("DEL", permits.key)
    permits.command("ZADD", permits.key, 1, "something")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        permits.acquire("1*1")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        permits.abandon("1*1", "inbox")
    assert permits.command("ZRANGE", permits.key, 0, -1) == ["something"]


def test_what_is_void_touches_nothing(permits: Permits, inbox: Inbox) -> None:
    """STALE: a request of a connection that was given up, behind what was sent again."""
    permits.acquire("1*1")
    lease = permits.lease(1)
    permits.run(scripts.RENEW_PERMITS, lease, TTL, number=100, void=99)
    address = f"{inbox.channel} secret"
    late = [
        (scripts.ACQUIRE_PERMITS, (CLIENT, "2*1", 2, TTL, address, GRANT_TTL, 1000)),
        (scripts.RELEASE_PERMITS, (lease, 0)),
        (scripts.RENEW_PERMITS, (lease, 1)),
        (scripts.ABANDON_PERMITS, (CLIENT, "1*1", 2, address, GRANT_TTL)),
    ]
    for script, args in late:
        with pytest.raises(ResponseError, match="STALE"):
            permits.run(script, *args, number=99)
    assert permits.held == {1: (0,)}
    leases = permits.run(scripts.INSPECT_PERMITS, permits.void, number=101)[1]
    assert leases[1] > TTL - 10_000


def test_a_broken_counter_is_mended(permits: Permits) -> None:
    """The error has the client send the request again; then the time is the fencing token."""
    permits.command("SET", permits.fence, "nonsense")
    with pytest.raises(ResponseError, match="BADFENCE"):
        permits.acquire("1*1")
    assert permits.acquire("1*1")[0] == "GRANTED"


def test_inspect_tells_and_changes_nothing(permits: Permits, inbox: Inbox) -> None:
    """Leases in the order of their ends, without what is over, and the records."""
    permits.acquire("1*1 2*1")
    permits.acquire("3*1", inbox.channel)
    permits.expire(2)
    code, leases, records = permits.inspect()
    assert (code, leases[0], len(leases)) == ("DONE", permits.lease(1), 2)
    assert records == [f"{GRANT_TTL} {inbox.channel} secret {CLIENT}3 1 2"]
    assert len(permits.held) == 2


def test_without_memory_nothing_is_given_and_all_can_be_given_up(
    embedded_redis: EmbeddedRedis,
) -> None:
    """An acquisition is refused as a whole; renewals and releases go through."""
    with redis_sync.Redis.from_url(embedded_redis.url) as client:
        permits = Permits(client, "lock:gpu")
        permits.acquire("1*1")
        with Inbox(client) as inbox:
            permits.command("CONFIG", "SET", "maxmemory", 1)
            for wants in ("2*1", "2?1", "2*2"):
                with pytest.raises(ResponseError, match=OOM):
                    permits.acquire(wants, inbox.channel)
            assert (sorted(permits.held), permits.waiters) == ([1], [])
            assert permits.renew(1) == ("DONE", 0)
            permits.command("CONFIG", "SET", "maxmemory", 0)
            permits.acquire("2*1 3*1", inbox.channel)
            permits.command("CONFIG", "SET", "maxmemory", 1)
            assert permits.release(1) == ("DONE", 0)
            assert permits.release(2) == ("DONE", 0)
            assert not permits.held.keys() & {1, 2}
            permits.command("CONFIG", "SET", "maxmemory", 0)
            assert permits.acquire("3*1", inbox.channel)[0] == "GRANTED"
