"""The watchdog against a model, on an event loop whose time passes only when it waits."""

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import LockOptions
from aiodistlock.core.validity import deadline
from aiodistlock.core.value import token_of
from aiodistlock.leases.process_lease import Possessor, ProcessLease
from aiodistlock.leases.states import LeaseEvent
from aiodistlock.leases.timer_wheel import GRAIN, TOGETHER
from aiodistlock.leases.watchdog import NAP, Watchdog
from aiodistlock.protocol.answers import Failed, NotOurs, Renewed, RenewReply
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.store import Store

ROUNDING = 1e-6

KEYS = LockKeys("wallet", "lock:")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that does not wait: it turns its clock on instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        selector: Any = self.__dict__["_selector"]
        select = selector.select

        def pass_time(timeout: float | None = None) -> Any:
            self.now += timeout or 0.0
            return select(0)

        selector.select = pass_time
        self.errors: list[BaseException] = []
        """What callbacks raised: checks of the test, mostly."""

    def time(self) -> float:
        """Return the virtual time, seconds."""
        return self.now


class World:
    """A watchdog whose every look and loss is checked, and a server as the test wants it."""

    def __init__(self, loop: VirtualLoop, answers: list[tuple[str, float]]) -> None:
        self.loop = loop
        self.suspended = 0.0
        self.answers = answers
        self.calls = 0
        self.leases: list[ProcessLease] = []
        self.lost: set[ProcessLease] = set()
        self.refused: set[ProcessLease] = set()
        self.late_until = self.slow_until = 0.0
        self.connection = self
        self.watchdog = Watchdog(cast(Store, self), self.clock, loop)
        self.added_at: dict[ProcessLease, float] = {}
        # Both check, or note, and then do as ever.
        self.watchdog._look_at = self.look_at  # type: ignore[method-assign]  # as said
        self.watchdog.add = self.add

    def clock(self) -> float:
        """Return the local instant: it goes on while the machine is suspended."""
        return self.loop.now + self.suspended

    def renew(  # the Store's
        self,
        keys: LockKeys,  # one for all
        value: bytes,
        ttl_ms: int,  # whatever the server grants
        on_reply: Callable[[RenewReply], object] | None = None,
        until: float = math.inf,  # the pipe's matter
    ) -> Call[RenewReply]:
        """Answer a renewal as the next of ``answers`` says."""
        call = Call(on_reply)
        call.sent_at = sent_at = self.clock()
        kind, after = self.answers[self.calls % len(self.answers)]
        self.calls += 1
        lease = self.leases[int(token_of(value))]

        def answer() -> None:
            if kind == "granted":
                call.finish(Renewed(sent_at, 0))
            elif kind == "refused":
                if not call.obsolete:
                    self.refused.add(lease)
                call.finish(NotOurs("gone"))
            elif kind == "failed":
                call.finish(Failed(OSError("busy"), True, sent_at))

        if after == 0.0:
            answer()
        else:
            self.loop.call_later(after, answer)
        return call

    def suspect(self, call: Call[Any]) -> None:
        """Check that a call is suspected only after it had some time to be answered."""
        assert self.clock() - call.sent_at >= GRAIN - ROUNDING

    def add(self, lease: ProcessLease) -> None:
        """Note when a lease was put in: it may be due already."""
        self.added_at[lease] = self.clock()
        self.watchdog._wheel.add(lease)

    def look_at(self, lease: ProcessLease, now: float) -> None:
        """Check that a lease is looked at in time: not late, and no more than a write early."""
        assert lease.due_at - now < TOGETHER * GRAIN + ROUNDING
        assert now <= self.latest(lease, lease.due_at) + ROUNDING
        Watchdog._look_at(self.watchdog, lease, now)

    def latest(self, lease: ProcessLease, due_at: float) -> float:
        """Return the instant until which what is due at ``due_at`` may be left alone."""
        excuses = [due_at, self.added_at[lease], self.late_until]
        if due_at <= self.slow_until:
            excuses.append(self.slow_until)
        return max(excuses)

    def lingers(self, _lease: ProcessLease) -> bool:
        """Have no lease that lingers."""
        return False

    def on_renewal_due(self, lease: ProcessLease) -> None:
        """Have nobody wait for it."""

    def on_lost(self, lease: ProcessLease, reason: str) -> None:
        """Check that a lease is lost when it must be, not before, and once."""
        assert lease not in self.lost
        self.lost.add(lease)
        now = self.clock()
        if lease not in self.refused:
            assert reason != "gone"
            over = lease.deadline if lease.ends_at is None else min(lease.deadline, lease.ends_at)
            assert over - GRAIN - ROUNDING <= now <= self.latest(lease, over) + ROUNDING

    def check(self) -> None:
        """Check that nothing is overdue, and that all leases are where they belong."""
        for error in self.loop.errors:
            raise error
        now = self.clock()
        watched = self.watchdog.leases()
        assert len(watched) == len(set(watched))
        for lease in self.leases:
            assert (lease in watched) is lease.alive
            if lease.alive:
                assert now <= self.latest(lease, lease.due_at) + ROUNDING
                assert lease.due_at <= lease.deadline
                assert lease.ends_at is None or lease.due_at <= lease.ends_at

    def begin(self, ttl: float, auto_renew: bool, max_hold: float | None) -> None:
        """Begin a lease, as a contender does."""
        options = LockOptions(ttl=ttl, auto_renew=auto_renew, max_hold=max_hold)
        until = deadline(self.clock(), ttl)
        lease = ProcessLease(
            cast(Possessor, self), KEYS, b"%d" % len(self.leases), 1, 0, options, until
        )
        self.leases.append(lease)
        self.watchdog.add(lease)
        if max_hold is not None:
            self.hand_over(lease, options)

    def hand_over(self, lease: ProcessLease, options: LockOptions) -> None:
        """Give a lease another holder, as a contender does."""
        self.watchdog.remove(lease)
        lease.go_by(options, self.clock())
        self.watchdog.add(lease)

    def release(self, lease: ProcessLease) -> None:
        """End a lease, as a contender does."""
        self.watchdog.remove(lease)
        lease.event(LeaseEvent.GIVEN_UP)
        lease.drop_renewal()

    async def do(self, action: str, number: int, seconds: float, flag: bool) -> None:
        """Do one thing of the script."""
        alive = [lease for lease in self.leases if lease.alive]
        if action == "begin":
            self.begin(max(seconds, 0.05), flag, None)
        elif action == "begin with max_hold":
            self.begin(5.0, flag, max(seconds, 0.05))
        elif action == "wait":
            await asyncio.sleep(seconds)
        elif action == "block":
            self.loop.now += seconds
            self.late_until = self.clock()
        elif action == "suspend":
            # The timer that is set does not count the time asleep.
            self.suspended += seconds
            self.slow_until = self.clock() + NAP
        elif alive:
            lease = alive[number % len(alive)]
            if action == "release":
                self.release(lease)
            elif action == "hand over" and (lease.ends_at is None or lease.renewal is None):
                max_hold = max(seconds, 0.05) if flag else None
                self.hand_over(lease, LockOptions(ttl=max(seconds, 0.05), max_hold=max_hold))
            elif action == "extend" and lease.deadline > self.clock():
                self.watchdog.renew(lease, max(seconds, 0.05))


@contextmanager
def virtual_loop() -> Iterator[VirtualLoop]:
    """An event loop that leaves nothing."""
    loop = VirtualLoop()
    loop.set_exception_handler(lambda _, context: loop.errors.append(context["exception"]))
    try:
        yield loop
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
            loop.run_until_complete(asyncio.wait([task]))
        loop.close()


SOME_SECONDS = st.sampled_from([0.0, 0.003, 0.01, 0.05, 0.1, 0.24, 0.26, 1.0, 1.7, 5.0, 30.0])
SECONDS = SOME_SECONDS | st.floats(0.0, 4.0)
ACTIONS = st.tuples(
    st.sampled_from(
        [
            *("begin", "begin", "begin with max_hold", "wait", "wait", "wait", "block"),
            *("suspend", "release", "hand over", "extend"),
        ]
    ),
    st.integers(0, 5),
    SECONDS,
    st.booleans(),
)
ANSWERS = st.tuples(
    st.sampled_from(["granted", "granted", "granted", "refused", "failed", "silence"]),
    st.sampled_from([0.0, 0.001, 0.02, 0.3]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTIONS, min_size=1, max_size=30), st.lists(ANSWERS, min_size=1, max_size=6))
@example([("begin with max_hold", 0, 0.337, True), ("wait", 0, 1.0, True)], [("granted", 0.001)])
@example(
    [("begin", 0, 5.0, True), ("hand over", 0, 0.05, False), ("extend", 0, 2.0, False)],
    [("granted", 0.001)],
)
def test_every_lease_is_looked_at_in_time(
    script: list[tuple[str, int, float, bool]], answers: list[tuple[str, float]]
) -> None:
    """Each look comes at its ``due_at``, each loss by the deadline, whatever happened before."""

    async def run() -> None:
        world = World(loop, answers)
        for action in script:
            await world.do(*action)
            for _ in range(4):
                await asyncio.sleep(0)
            world.check()
        world.answers = [("silence", 0.0)]
        await asyncio.sleep(100.0)
        world.check()
        assert not any(lease.alive for lease in world.leases)
        world.watchdog.stop()

    with virtual_loop() as loop:
        loop.run_until_complete(run())
