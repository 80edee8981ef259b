"""Renewal and loss, on a clock that the test turns."""

import asyncio
import gc
import math
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from anyio import fail_after

from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import LockOptions
from aiodistlock.core.validity import deadline
from aiodistlock.core.value import token_of
from aiodistlock.leases import watchdog
from aiodistlock.leases.process_lease import Possessor, ProcessLease
from aiodistlock.leases.states import LeaseState
from aiodistlock.leases.timer_wheel import GRAIN
from aiodistlock.leases.watchdog import Watchdog
from aiodistlock.protocol.answers import (
    Failed,
    Inspected,
    InspectReply,
    NotOurs,
    Renewed,
    RenewReply,
)
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.store import Store

TTL = 9.0
DRIFT = TTL * 0.01 + 0.002


def state(lease: ProcessLease) -> LeaseState:
    """Return the state as it is now: mypy would take it for what it was."""
    return lease.state


class Bench:
    """A watchdog with a store that only takes notes, and a clock set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.calls: list[tuple[float, bytes, int, Call[RenewReply]]] = []
        self.inspected: list[tuple[LockKeys, Call[InspectReply]]] = []
        self.suspected: list[Call[Any]] = []
        self.lost: list[tuple[ProcessLease, str]] = []
        self.connection = self
        self.watchdog = Watchdog(cast(Store, self), lambda: self.now, asyncio.get_running_loop())

    def lingers(self, _lease: ProcessLease) -> bool:
        """Have no lease that lingers."""
        return False

    def on_renewal_due(self, lease: ProcessLease) -> None:
        """Have nobody wait for it."""

    def on_lost(self, lease: ProcessLease, reason: str) -> None:
        """Take note of a loss."""
        self.lost.append((lease, reason))

    def renew(
        self,
        keys: LockKeys,
        value: bytes,
        ttl_ms: int,
        on_reply: Callable[[RenewReply], object] | None = None,
        until: float = math.inf,
    ) -> Call[RenewReply]:
        """Take note of a renewal; the test answers it."""
        call = Call(on_reply)
        call.sent_at = self.now
        self.calls.append((self.now, token_of(value), ttl_ms, call))
        return call

    def inspect(self, keys: LockKeys) -> Call[InspectReply]:
        """Take note of a question; the test answers it."""
        call: Call[InspectReply] = Call()
        self.inspected.append((keys, call))
        return call

    def suspect(self, call: Call[Any]) -> None:
        """Take note of a suspicion."""
        self.suspected.append(call)

    def lease(self, token: bytes = b"t", **options: Any) -> ProcessLease:
        """Begin a lease now, and have it looked after."""
        possessor, keys = cast(Possessor, self), LockKeys("wallet", "lock:")
        options.setdefault("ttl", TTL)
        until = deadline(self.now, options["ttl"])
        lease = ProcessLease(possessor, keys, token, 1, 0, LockOptions(**options), until)
        self.watchdog.add(lease)
        return lease

    async def until(self, now: float) -> None:
        """Turn the clock on, as far as possible in steps, and let the task look."""
        while self.now < now:
            self.now = min(now, self.now + GRAIN)
            self.watchdog._tick()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    def answer(self, reply: RenewReply | None = None) -> None:
        """Answer the last renewal; by default that it was granted."""
        call = self.calls[-1][-1]
        call.finish(Renewed(call.sent_at, 0) if reply is None else reply)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A bench whose watchdog is stopped after the test."""
    bench = Bench()
    yield bench
    bench.watchdog.stop()


async def test_a_lease_is_renewed_at_a_third_of_its_ttl(bench: Bench) -> None:
    """The renewal leaves when a third is used up, and asks for the whole ttl."""
    bench.lease()
    await bench.until(1000 + TTL / 3 - DRIFT - 3 * GRAIN)
    assert bench.calls == []
    await bench.until(1000 + TTL / 3)
    ((at, token, ttl_ms, _),) = bench.calls
    assert at == pytest.approx(1000 + TTL / 3 - DRIFT, abs=2 * GRAIN)
    assert (token, ttl_ms) == (b"t", 9000)


async def test_a_renewed_lease_goes_on(bench: Bench) -> None:
    """Each answer moves the deadline on, counted from its request."""
    lease = bench.lease()
    for _ in range(5):
        before = len(bench.calls)
        while len(bench.calls) == before:
            await bench.until(bench.now + 0.1)
        sent_at = bench.calls[-1][0]
        await bench.until(bench.now + 0.5)
        bench.answer()
        assert lease.deadline == deadline(sent_at, TTL)
        assert state(lease) is LeaseState.HELD
    assert len(bench.calls) == 5
    assert bench.lost == []


async def test_all_that_are_due_leave_together(bench: Bench) -> None:
    """Leases begun together are renewed in one go, by one task."""
    leases = [bench.lease(b"%d" % n) for n in range(50)]
    tasks = [task for task in asyncio.all_tasks() if "watchdog" in task.get_name()]
    assert len(tasks) == 1
    await bench.until(1000 + TTL / 3)
    assert sorted(int(token) for _, token, _, _ in bench.calls) == list(range(50))
    assert len({at for at, _, _, _ in bench.calls}) == 1
    assert all(lease.renewal is not None for lease in leases)


async def test_renewals_under_way_give_the_garbage_collector_little_to_do(bench: Bench) -> None:
    """Two objects each, the call and what takes its answer in, beside the test's own note."""
    leases = [bench.lease(b"%d" % n) for n in range(100)]
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for lease in leases:
            bench.watchdog.renew(lease)
        objects = len(gc.get_objects()) - before
    finally:
        gc.enable()
    assert objects < len(leases) * 3 + 10


async def test_silence_is_suspicious_and_not_yet_a_loss(bench: Bench) -> None:
    """An unanswered renewal makes the lease uncertain; its answer makes it held again."""
    lease = bench.lease()
    await bench.until(1000 + TTL * 0.6)
    assert state(lease) is LeaseState.UNCERTAIN
    assert bench.lost == []
    assert bench.suspected[0] is bench.calls[0][-1]
    bench.answer()
    assert state(lease) is LeaseState.HELD
    assert lease.deadline == deadline(bench.calls[0][0], TTL)
    await bench.until(1000 + TTL)
    assert bench.lost == []


async def test_silence_until_the_deadline_is_a_loss(bench: Bench) -> None:
    """At its deadline a lease is lost though a renewal is still in flight."""
    lease = bench.lease()
    await bench.until(lease.deadline - 2 * GRAIN)
    assert bench.lost == []
    assert lease.renewal is not None
    assert not lease.renewal.done
    await bench.until(lease.deadline)
    ((lost, reason),) = bench.lost
    assert lost is lease
    assert "not renewed" in reason
    assert state(lease) is LeaseState.LOST
    # An answer that comes too late revives nothing.
    bench.answer()
    assert state(lease) is LeaseState.LOST
    await bench.until(lease.deadline + TTL)
    assert len(bench.lost) == 1


async def test_losses_are_counted_for_a_minute(bench: Bench) -> None:
    """And forgotten then, whether or not there are more."""
    for later in (0.0, 30.0):
        bench.now = 1000.0 + later
        bench.watchdog.refused(bench.lease(), "said the test")
    assert bench.watchdog.lost_lately() == 2
    bench.now = 1061.0
    assert bench.watchdog.lost_lately() == 1
    bench.watchdog.refused(bench.lease(), "said the test")
    assert len(bench.watchdog.lost_at) == 2
    bench.now = 1200.0
    assert bench.watchdog.lost_lately() == 0


async def test_a_refusal_is_a_loss_at_once(bench: Bench) -> None:
    """When the server says that the lease is not ours, nobody waits for the deadline."""
    lease = bench.lease()
    await bench.until(1000 + TTL / 3)
    bench.answer(NotOurs("another token is at its key"))
    assert bench.lost == [(lease, "another token is at its key")]
    assert state(lease) is LeaseState.LOST
    await bench.until(1000 + 2 * TTL)
    assert len(bench.calls) == len(bench.lost) == 1


async def test_an_error_is_followed_by_another_try(bench: Bench) -> None:
    """An error decides nothing: it is tried again soon, until the deadline."""
    lease = bench.lease()
    await bench.until(1000 + TTL / 3)
    for count in (2, 3):
        bench.answer(Failed(OSError("busy"), True, bench.now))
        assert lease.alive
        await bench.until(bench.now + TTL / 6 + 2 * GRAIN)
        assert len(bench.calls) == count
    bench.answer()
    assert lease.deadline == deadline(bench.calls[-1][0], TTL)
    assert bench.lost == []


async def test_errors_until_the_deadline_are_a_loss(bench: Bench) -> None:
    """A server that answers nothing but errors keeps no lease alive."""
    lease = bench.lease()
    answered = 0
    while not bench.lost:
        await bench.until(bench.now + 0.05)
        if len(bench.calls) > answered:
            answered += 1
            bench.answer(Failed(OSError("busy"), True, bench.now))
        assert bench.now <= lease.deadline + 0.1
    assert answered > 3


async def test_a_lease_that_is_not_renewed_ends_at_its_deadline(bench: Bench) -> None:
    """With ``auto_renew=False`` there is no renewal, and a loss in time."""
    lease = bench.lease(auto_renew=False)
    await bench.until(lease.deadline - 2 * GRAIN)
    assert bench.lost == []
    await bench.until(lease.deadline)
    assert [lost for lost, _ in bench.lost] == [lease]
    assert bench.calls == []


async def test_max_hold_ends_a_lease_that_could_be_renewed(bench: Bench) -> None:
    """At ``max_hold`` a lease is lost, renewed or not, and says why."""
    lease = bench.lease()
    bench.watchdog.remove(lease)
    lease.ends_at = bench.now + TTL * 1.5
    lease.plan()
    bench.watchdog.add(lease)
    while bench.now < lease.ends_at - 3 * GRAIN:
        await bench.until(bench.now + GRAIN)
        if bench.calls and not bench.calls[-1][-1].done:
            bench.answer()
    assert bench.lost == []
    await bench.until(lease.ends_at)
    assert bench.lost == [(lease, "max_hold is over")]


async def test_a_removed_lease_is_left_alone(bench: Bench) -> None:
    """A released lease is neither renewed nor reported."""
    lease = bench.lease()
    bench.watchdog.remove(lease)
    assert bench.watchdog.leases() == []
    await bench.until(1000 + 2 * TTL)
    assert (bench.calls, bench.lost) == ([], [])


async def test_where_nobody_has_a_lease_no_timer_runs_until_the_next_one_comes(
    bench: Bench,
) -> None:
    """An idle process is not woken for nothing, and the next lease is renewed in time."""

    def sleeping() -> bool:
        return bench.watchdog._timer is None

    bench.watchdog.remove(bench.lease())
    assert not sleeping()
    await bench.until(bench.now + TTL)
    assert sleeping()
    due_at = bench.lease().due_at
    assert not sleeping()
    await bench.until(bench.now + TTL / 2)
    assert [at for at, *_ in bench.calls] == [pytest.approx(due_at, abs=0.03)]


async def test_a_new_server_has_all_leases_checked(bench: Bench) -> None:
    """After a reconnect each lease is renewed at once, if it is not being renewed."""
    bench.lease(b"one")
    bench.lease(b"two")
    bench.watchdog.recheck()
    bench.watchdog.recheck()
    assert sorted(token for _, token, _, _ in bench.calls) == [b"one", b"two"]


@pytest.mark.parametrize("holder", ["by hand", "another", None])
async def test_a_new_server_is_only_asked_about_a_lease_that_is_not_renewed(
    bench: Bench, holder: str | None
) -> None:
    """It is not prolonged; but lost at once if it is not there."""
    lease = bench.lease(b"by hand", auto_renew=False)
    until = lease.deadline
    bench.watchdog.recheck()
    assert bench.calls == []
    ((keys, call),) = bench.inspected
    assert keys.name == "wallet"
    call.finish(Inspected(holder, 1.0, 1, ()))
    assert [lost for lost, _ in bench.lost] == ([] if holder == "by hand" else [lease])
    assert lease.deadline == until


@pytest.mark.parametrize("auto_renew", [True, False])
async def test_a_check_that_a_starting_server_refuses_is_repeated(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, auto_renew: bool
) -> None:
    """It has shown nothing; a refusal for good, or a lease that is over, ends it."""
    monkeypatch.setattr(watchdog, "CHECK_AGAIN", 0.0)
    lease = bench.lease(ttl=600.0, auto_renew=auto_renew)

    def checks() -> list[Call[Any]]:
        return [call for *_, call in (bench.calls if auto_renew else bench.inspected)]

    async def refused(*, transient: bool) -> int:
        checks()[-1].finish(Failed(ConnectionError("CLUSTERDOWN"), transient, bench.now))
        await asyncio.sleep(0.01)
        return len(checks())

    bench.watchdog.recheck()
    assert await refused(transient=True) == 2
    assert await refused(transient=True) == 3
    assert await refused(transient=False) == 3
    bench.watchdog.recheck()
    bench.watchdog.refused(lease, "gone")
    assert await refused(transient=True) == 4


async def test_the_release_of_a_lost_lease_is_not_given_up_at_its_deadline(bench: Bench) -> None:
    """A renewal that nobody confirmed may have prolonged it at the server."""
    lease = bench.lease()
    assert lease.matters_until == lease.deadline
    await bench.until(lease.deadline)
    assert [lost for lost, _ in bench.lost] == [lease]
    assert lease.matters_until == bench.now + TTL


async def test_a_jump_of_the_clock_loses_what_is_over(bench: Bench) -> None:
    """After the machine has slept past a deadline, the lease is lost and not renewed."""
    lease = bench.lease()
    bench.now += 10 * TTL
    bench.watchdog._tick()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [lost for lost, _ in bench.lost] == [lease]
    assert bench.calls == []


async def test_a_machine_that_slept_does_not_have_the_watchdog_sleep_on(bench: Bench) -> None:
    """The loop's clock stood still, so by that the lease is due for renewal much later."""
    lease = bench.lease(ttl=600.0)
    for _ in range(3):
        await asyncio.sleep(0)  # its task has begun, and planned
    bench.now += 6000.0
    with fail_after(20.0):
        while not bench.lost:
            await asyncio.sleep(0.01)
    assert [lost for lost, _ in bench.lost] == [lease]


@pytest.mark.parametrize("ttl", [0.05, 0.2, 1.0, 60.0])
async def test_each_ttl_leaves_room_for_several_tries(bench: Bench, ttl: float) -> None:
    """Between renewal and deadline a server that errs is asked again, at any ttl."""
    bench.lease(ttl=ttl)
    answered = 0
    while not bench.lost:
        assert bench.now < 1000 + 2 * ttl
        await bench.until(bench.now + GRAIN)
        if len(bench.calls) > answered:
            answered = len(bench.calls)
            bench.answer(Failed(OSError("busy"), True, bench.now))
    assert 2 <= answered <= 60


async def test_a_lost_leases_renewal_is_not_sent_again(bench: Bench) -> None:
    """After a reconnect it would revive a key that nobody holds any more."""
    bench.lease()
    await bench.until(1000 + TTL / 3)
    ((*_, call),) = bench.calls
    assert not call.obsolete
    await bench.until(1000 + TTL)
    assert bench.lost
    assert call.obsolete


async def test_a_lease_is_not_renewed_right_before_its_max_hold_ends(bench: Bench) -> None:
    """It is looked at then, and not together with renewals that are due a little later."""
    lease = bench.lease()
    bench.watchdog.remove(lease)
    lease.go_by(LockOptions(ttl=TTL, max_hold=1.0 + 2.5 * GRAIN), bench.now)
    bench.watchdog.add(lease)
    await bench.until(1001 + 4 * GRAIN)
    assert bench.lost == [(lease, "max_hold is over")]
    assert bench.calls == []


@pytest.mark.parametrize("left", [TTL / 2, TTL - DRIFT / 2, TTL, TTL + 1.0, 60.0])
async def test_a_renewal_under_way_leaves_no_deadline_that_it_cuts_short(
    bench: Bench, left: float
) -> None:
    """Whatever was left before, the server may let it last for what was asked, less drift."""
    lease = bench.lease()
    lease.confirm(bench.now + left)
    bench.watchdog.recheck()
    ((_, _, ttl_ms, _),) = bench.calls
    assert ttl_ms >= 1000 * TTL
    assert lease.deadline <= bench.now + left
    assert lease.deadline <= deadline(bench.now, ttl_ms / 1000)


async def test_an_answer_does_not_lengthen_a_lease_that_a_later_renewal_shortens(
    bench: Bench,
) -> None:
    """The later one is on its way, and runs behind what this answer granted."""
    lease = bench.lease()
    former = bench.watchdog.renew(lease, 60.0)
    latest = bench.watchdog.renew(lease, 2.0)
    former.finish(Renewed(bench.now, 0))
    assert lease.deadline == deadline(bench.now, 2.0)
    assert lease.renewal is latest


async def test_what_is_passed_on_is_not_looked_after_again(bench: Bench) -> None:
    """An answer that was under way for longer than the latest renewal prolongs nothing any more."""
    lease = bench.lease()
    former = bench.watchdog.renew(lease)
    bench.watchdog.renew(lease, 2.0)
    bench.watchdog.remove(lease)
    lease.drop_renewal()
    former.finish(Renewed(bench.now, 0))
    assert bench.watchdog.leases() == []
    assert lease.deadline == deadline(bench.now, 2.0)


async def test_a_renewal_answered_behind_the_latest_may_have_run_behind_it(bench: Bench) -> None:
    """Its ttl may be what the server has: the lease is relied on no longer, and renewed."""
    lease = bench.lease()
    former = bench.watchdog.renew(lease)
    bench.watchdog.renew(lease, 60.0)
    bench.answer()
    assert lease.deadline > bench.now + 50.0
    former.finish(Renewed(bench.now, 0))
    assert lease.deadline == bench.now + TTL - DRIFT
    sent = len(bench.calls)
    await bench.until(bench.now + TTL / 3)
    assert len(bench.calls) == sent + 1
