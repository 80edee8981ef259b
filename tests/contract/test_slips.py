"""A process that stands still behind a look at its clock begins and goes on with nothing over."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import anyio

from aiodistlock import Lease, LeaseLost, LockClient
from aiodistlock.testing import ManualClock

TTL = 10.0


class SlippingClock(ManualClock):
    """
    Goes on behind one of its readings, as if the machine gave its process no time.

    :ivar readings_left: until then; negative: it goes on no more
    :param slip: by how many seconds
    """

    def __init__(self, slip: float) -> None:
        super().__init__()
        self._slip = slip
        self.readings_left = -1
        self.read = 0.0

    def __call__(self) -> float:
        """Return its time, seconds."""
        self.read = super().__call__()
        if self.readings_left >= 0:
            self.readings_left -= 1
            if self.readings_left < 0:
                self._now += self._slip
        return self.read

    def knows_valid(self, leases: Sequence[Lease]) -> bool:
        """Tell whether all were valid when anything looked last."""
        return all(each._process_lease.validity_at(self.read) > 0.0 for each in leases)


async def test_several_names_are_begun_by_one_look() -> None:
    """The first name is over by the look at the second, which was not long ago acquired."""
    for place in range(1000):
        clock = SlippingClock(7.0)
        async with LockClient.in_memory(clock=clock) as locks:
            theirs = await locks.lock("b", ttl=60.0).acquire()
            entering = asyncio.create_task(_enter(clock, locks))
            await clock.advance(4.0)
            assert await locks.lock("a").locked()
            clock.readings_left = place
            await theirs.release()
            with anyio.fail_after(30):
                assert await entering, f"behind {place} readings"
            if clock.readings_left >= 0:
                return
    raise AssertionError("it looks at its clock without end")


async def _enter(clock: SlippingClock, locks: LockClient) -> bool:
    known = False
    with suppress(LeaseLost):  # after the slip
        async with locks.together("a", "b", ttl=TTL, auto_renew=False) as leases:
            known = clock.knows_valid(leases)
    return known


async def test_a_lease_that_lingered_is_begun_by_one_look() -> None:
    """Also by a lock with other options than those with which it was acquired."""
    used_again = 0
    for place in range(1000):
        clock = SlippingClock(2 * TTL)
        async with LockClient.in_memory(clock=clock) as locks:
            one = locks.lock("a", ttl=TTL, linger=5.0)
            other = locks.lock("a", ttl=TTL, linger=4.0)
            for _ in range(2):
                first = await one.acquire()
                await first.release()
            clock.readings_left = place
            lease = await other.acquire()
            assert clock.knows_valid([lease]), f"behind {place} readings"
            used_again += lease.token == first.token
            with suppress(LeaseLost):  # after the slip
                await lease.release()
            if clock.readings_left >= 0:
                assert used_again
                return
    raise AssertionError("it looks at its clock without end")


async def test_a_loss_is_found_as_soon_as_the_process_goes_on() -> None:
    """Also where it stood still while it planned when to look: no nap passes by then."""
    for place in range(1000):
        clock = SlippingClock(2 * TTL)
        async with LockClient.in_memory(clock=clock) as locks:
            body = asyncio.create_task(_wait_in_body(locks))
            await clock.advance(TTL / 2)
            assert await locks.lock("a").locked()
            clock.readings_left = place
            await clock.advance(1.0)
            if clock.readings_left >= 0:
                body.cancel()
                return
            await clock.advance(0.0)
            with anyio.fail_after(30):
                assert await body == "lost", f"behind {place} readings"
    raise AssertionError("it looks at its clock without end")


async def _wait_in_body(locks: LockClient) -> str:
    with suppress(LeaseLost):
        async with locks.lock("a", ttl=TTL, auto_renew=False).hold():
            await asyncio.Event().wait()
    return "lost"
