"""What a contender makes of answers that come in an unlucky order."""

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any, cast

import pytest

from aiodistlock.core.clock import ServerClock
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import ClientOptions, LockOptions
from aiodistlock.core.validity import deadline
from aiodistlock.errors import StoreUnavailable
from aiodistlock.leases.process_lease import ProcessLease
from aiodistlock.protocol.answers import Failed, Granted, Kept, NotOurs, Queued, Renewed
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.grant_message import Grant
from aiodistlock.protocol.store import Store
from aiodistlock.waiting.client_state import ClientState
from aiodistlock.waiting.contender import Contender
from aiodistlock.waiting.engine import Engine
from aiodistlock.waiting.waiters import Waiter

GONE = NotOurs("its key is gone")


class Notes:
    """A store that only takes notes: each operation is a call that the test answers."""

    stopped = False

    def __init__(self) -> None:
        self.sent: list[tuple[str, tuple[Any, ...], Call[Any]]] = []

    def __getattr__(self, operation: str) -> Any:
        def send(*args: Any, **options: Any) -> Call[Any]:
            args = (*args, *options.values())
            bound = [each for each in args if callable(each)]
            call: Call[Any] = Call(bound[0] if bound else None)
            call.sent_at = 1000.0
            self.sent.append((operation, args, call))
            return call

        return send

    @property
    def connection(self) -> "Notes":
        """Return what takes the rest down."""
        return self

    def server_clock(self, _call: Call[Any]) -> ServerClock:
        """Return a clock that nobody asks."""
        return ServerClock()

    def calls(self, operation: str) -> list[Call[Any]]:
        """Return the calls of one operation."""
        return [call for sent, _, call in self.sent if sent == operation]


class Held:
    """A local holder."""

    token, validity = "", 0.0

    def __init__(  # as MakeHolder
        self, client: ClientState[Any], lease: ProcessLease, fence: int, task: object, owner: object
    ) -> None:
        self.lease = lease
        self.fence = fence
        self.lost = ""

    def _lose(self, reason: str) -> None:
        """Take note of the loss."""
        self.lost = reason

    def _give_back(self) -> Call[Any] | None:
        """Release the lease."""
        return self.lease.possessor.release(self.lease)


class Bench:
    """One contender on such a store; the lock is passed on at each release."""

    def __init__(self) -> None:
        self.store = Notes()
        options = ClientOptions(handoff_span=0.0)
        self.engine = Engine("test", options, None, Random(1))
        self.engine.clock = lambda: 1000.0
        self.engine.start(cast(Store, self.store))
        self.contender = Contender(self.engine, LockKeys("wallet", "lock:"))
        self.futures: list[asyncio.Future[Any]] = []

    def enter(self, **options: Any) -> asyncio.Future[Any]:
        """Have a task wait."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        waiter = Waiter(future, LockOptions(**options), Held, None, None, True, None)
        self.contender.enter(waiter)
        self.futures.append(future)  # and so what they get: nobody's lease is released
        return future

    def grant(self) -> ProcessLease:
        """Answer the request under way that the lock is ours."""
        self.store.calls("acquire")[-1].finish(Granted(1, 1, 1000.0))
        lease = self.contender.process_lease
        assert lease is not None
        return lease


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A bench whose watchdog is stopped after the test."""
    bench = Bench()
    yield bench
    bench.engine.watchdog.stop()
    bench.engine.closed = True


ANSWERS = {
    "not ours": GONE,
    "kept": Kept(5, 5, 1000.0),
    "granted": Granted(5, 5, 1000.0),
    "queued": Queued("other", 1.0, 1, 1, 1000.0),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_a_loss_while_the_lock_is_passed_on_starts_no_second_attempt(
    bench: Bench, answer: Any
) -> None:
    """An earlier renewal that is refused ends the lease; the answer tells how to go on."""
    first, second = bench.enter(), bench.enter()
    lease = bench.grant()
    earlier = bench.engine.watchdog.renew(lease)
    bench.engine.watchdog.renew(lease, 20.0)  # as by ``extend``, before that is answered
    first.result()._give_back()
    (passing_on,) = bench.store.calls("pass_on")
    (attempt,) = bench.engine.attempts.values()
    earlier.finish(GONE)
    assert [*bench.engine.attempts.values()] == [attempt]

    passing_on.finish(answer)
    if isinstance(answer, Kept):
        # The lease is over for us: not revived, but given up and asked for anew.
        assert len(bench.store.calls("release")) == 1
    if isinstance(answer, Queued):
        assert [*bench.engine.attempts.values()] == [attempt]
        attempt.cancel_timer()
        return
    if not isinstance(answer, Granted):
        bench.grant()
    assert second.result().lease.alive
    assert bench.engine.watchdog.leases() == [second.result().lease]
    assert bench.engine.attempts == {}


async def test_max_hold_ends_with_its_holder_when_the_lock_is_kept(bench: Bench) -> None:
    """Kept because no other process waits, the lease is the next holder's, without bound."""
    first, second = bench.enter(max_hold=5.0), bench.enter()
    lease = bench.grant()
    first.result()._give_back()
    (passing_on,) = bench.store.calls("pass_on")
    passing_on.finish(Kept(5, 5, 1000.0))
    assert second.result().lease is lease
    assert lease.ends_at is None
    assert lease.due_at == lease.deadline - lease.options.renewed_before
    bench.engine.watchdog.remove(lease)
    assert bench.engine.watchdog.leases() == []


async def test_max_hold_ends_with_its_holder_when_the_lease_is_renewed(bench: Bench) -> None:
    """While it is renewed for the next holder, the former one's bound does not end it."""
    bench.engine.options = ClientOptions(handoff_span=60.0)
    first, second = bench.enter(max_hold=2.007), bench.enter(ttl=30.0)
    lease = bench.grant()
    bench.engine.watchdog._wheel._sort()  # as once the task has looked
    first.result()._give_back()
    (renewal,) = bench.store.calls("renew")
    assert lease.ends_at is None
    renewal.finish(Renewed(1000.0, 0))
    assert second.result().lease is lease
    assert lease.ends_at is None
    bench.engine.watchdog.remove(lease)
    assert bench.engine.watchdog.leases() == []


async def test_a_grant_that_overtakes_the_reply_is_asked_for_behind_that(bench: Bench) -> None:
    """Who needs an acknowledgement asks for its grant at once, not after a pause."""
    bench.enter()
    (token,) = bench.engine.attempts
    grant = Grant(1, 1, 1.0, token, b"lock:wallet")
    (asked,) = bench.store.calls("acquire")
    bench.engine.delivery.on_unacknowledged_grant(grant, ServerClock())
    assert bench.store.calls("acquire") == [asked]
    asked.finish(Queued("other", 1.0, 1, 1, 1000.0))
    _, again = bench.store.calls("acquire")
    bench.engine.delivery.on_unacknowledged_grant(grant, ServerClock())
    again.finish(Granted(1, 1, 1000.0))
    assert bench.engine.attempts == {}
    assert len(bench.store.calls("acquire")) == 2


OTHERS = [b"lock:other", b"wallet", b"{lock:wallet}", b"lock:wallet "]


@pytest.mark.parametrize("key", OTHERS)
@pytest.mark.parametrize("acknowledged", [True, False])
async def test_a_grant_of_another_key_is_refused_and_given_back(
    bench: Bench, key: bytes, acknowledged: bool
) -> None:
    """Though it names the token of an attempt: that goes on, and asks."""
    waiting = bench.enter()
    (token,) = bench.engine.attempts
    (asked,) = bench.store.calls("acquire")
    asked.finish(Queued("other", 1.0, 1, 1_000_000_000, 1000.0))
    delivery, clock = bench.engine.delivery, ServerClock()
    clock.observe(1_000_000_000, 1000.0)
    deliver = delivery.on_grant if acknowledged else delivery.on_unacknowledged_grant
    deliver(Grant(1, 1_000_000_000, 1.0, token, key), clock)
    assert not waiting.done()
    assert len(bench.store.calls("abandon")) == 1
    assert len(bench.store.calls("acquire")) == 2
    assert [*bench.engine.attempts] == [token]
    if acknowledged:
        deliver(Grant(1, 1_000_000_000, 1.0, token, b"lock:wallet"), clock)
        assert waiting.done()


@pytest.mark.parametrize(
    ("options", "longest"), [({}, 1.0), ({"ttl": 0.5}, 0.5), ({"auto_renew": False}, 10.0)]
)
@pytest.mark.parametrize("ahead", [0.0, 0.001, 5.0, 1e9])
async def test_a_grant_is_relied_on_for_no_longer_than_was_asked_for(
    bench: Bench, options: dict[str, Any], longest: float, ahead: float
) -> None:
    """Whatever ttl it says; and one that comes from the future is not relied on at all."""
    waiting = bench.enter(**options)
    (token,) = bench.engine.attempts
    (asked,) = bench.store.calls("acquire")
    asked.finish(Queued("other", 1.0, 1, 1_000_000_000, 1000.0))
    clock = ServerClock()
    clock.observe(1_000_000_000, 1000.0)
    server_us = 1_000_000_000 + int(ahead * 1e6)
    bench.engine.delivery.on_grant(Grant(7, server_us, 86_400.0, token, b"lock:wallet"), clock)
    if ahead > 1:
        assert not waiting.done()
        assert len(bench.store.calls("acquire")) == 2
    else:
        assert waiting.result().lease.deadline <= 1000.0 + longest


@pytest.mark.parametrize(("ttl", "claims"), [(10.0, 1), (1.0, 0)])
async def test_a_grant_that_is_shorter_than_its_lease_is_claimed_at_once(
    bench: Bench, ttl: float, claims: int
) -> None:
    """Its body may keep the loop busy for longer than the claim window."""
    waiting = bench.enter(ttl=ttl)
    (token,) = bench.engine.attempts
    clock = ServerClock()
    clock.observe(1_000_000_000, 1000.0)
    grant = Grant(7, 1_000_000_000, 1.0, token, b"lock:wallet")
    bench.engine.delivery.on_grant(grant, clock)
    assert waiting.done()
    assert len(bench.store.calls("renew")) == claims


async def test_a_grant_to_one_who_has_left_is_given_back(bench: Bench) -> None:
    """That it left may be lost with its server; what we hold already is not given back."""
    waiting = bench.enter()
    (token,) = bench.engine.attempts
    waiting.cancel()
    bench.contender.leave()
    assert len(bench.store.calls("abandon")) == 1
    grant = Grant(7, 1_000_000_000, 1.0, token, b"lock:wallet")
    bench.engine.delivery.on_grant(grant, ServerClock())
    (_, left), (_, given_back) = (
        (sent, args[1]) for sent, args, _ in bench.store.sent if sent == "abandon"
    )
    assert left == given_back == token

    bench.enter()
    held = Grant(7, 1_000_000_000, 1.0, bench.grant().token, b"lock:wallet")
    bench.engine.delivery.on_grant(held, ServerClock())
    assert len(bench.store.calls("abandon")) == 2


async def test_a_deadline_counts_from_before_the_request(bench: Bench) -> None:
    """Not from when its answer is read."""
    bench.enter(ttl=10.0)
    bench.engine.clock = lambda: 1004.0
    assert bench.grant().deadline == deadline(1000.0, 10.0)


async def test_the_servers_clock_is_known_by_when_it_was_asked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By when the answer is read, a grant would seem to begin later than it did."""
    clock = ServerClock()
    monkeypatch.setattr(Notes, "server_clock", lambda *_: clock)
    bench.enter()
    bench.engine.clock = lambda: 1004.0
    (asked,) = bench.store.calls("acquire")
    asked.finish(Queued("other", 1.0, 1, 1_000_000_000, 1000.0))
    assert clock.earliest(1_001_000_000) == 1001.0


async def test_a_grants_deadline_counts_from_when_it_was_granted(bench: Bench) -> None:
    """Not from when its message is read."""
    waiting = bench.enter()
    (token,) = bench.engine.attempts
    clock = ServerClock()
    clock.observe(1_000_000_000, 1000.0)
    bench.engine.clock = lambda: 1000.75
    grant = Grant(7, 1_000_250_000, 1.0, token, b"lock:wallet")
    bench.engine.delivery.on_grant(grant, clock)
    assert waiting.result().lease.deadline == deadline(1000.25, 1.0)


async def test_a_lease_that_is_being_passed_on_is_nobodys_to_renew(bench: Bench) -> None:
    """It may be another's already."""
    first, _ = bench.enter(), bench.enter()
    bench.grant()
    first.result()._give_back()
    assert len(bench.store.calls("pass_on")) == 1
    assert bench.engine.watchdog.leases() == []


async def test_a_lease_renewed_for_the_next_holder_has_the_next_fencing_token(
    bench: Bench,
) -> None:
    """As any that is handed over here."""
    bench.engine.options = ClientOptions(handoff_span=60.0)
    first, second = bench.enter(), bench.enter(ttl=30.0)
    bench.grant()
    first.result()._give_back()
    (renewal,) = bench.store.calls("renew")
    renewal.finish(Renewed(1000.0, 0))
    assert [each.result().fence for each in (first, second)] == [1, 2]
    bench.engine.watchdog.remove(second.result().lease)


async def test_a_lease_renewed_for_one_who_leaves_meanwhile_is_given_up(bench: Bench) -> None:
    """Nobody wants it any more, and others wait for it elsewhere."""
    bench.engine.options = ClientOptions(handoff_span=60.0)
    first, second = bench.enter(), bench.enter(ttl=30.0)
    bench.grant()
    first.result()._give_back()
    assert len(bench.store.calls("renew")) == 1
    second.cancel()
    bench.contender.leave()
    assert len(bench.store.calls("release")) == 1
    assert bench.engine.watchdog.leases() == []


@pytest.mark.parametrize("transient", [True, False])
async def test_an_attempt_ends_when_all_have_given_up(bench: Bench, *, transient: bool) -> None:
    """What it may have got or queued for is undone, and it asks no more."""
    waiting = bench.enter()
    for _ in range(2):
        bench.store.calls("acquire")[-1].finish(Failed(OSError("none"), transient, 1000.0))
        if waiting.done():
            break
        (attempt,) = bench.engine.attempts.values()
        attempt.cancel_timer()
        bench.engine.clock = lambda: 1000.0 + ClientOptions().unavailable_after
        attempt.ask_again()
    assert isinstance(waiting.exception(), StoreUnavailable)
    assert bench.engine.attempts == {}
    assert len(bench.store.calls("abandon")) == 1


async def test_whoever_waits_asks_again_when_the_holders_lease_must_be_over(bench: Bench) -> None:
    """Its grant may be lost, or the holder dead."""
    bench.enter()
    bench.store.calls("acquire")[-1].finish(Queued("other", 0.5, 1, 1, 1000.0))
    (attempt,) = bench.engine.attempts.values()
    timer = cast(asyncio.TimerHandle, attempt.timer)
    assert timer.when() < asyncio.get_running_loop().time() + 0.5 + 1.0
    attempt.cancel_timer()
