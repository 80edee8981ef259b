"""When a lease is due, as the wheel has it."""

from typing import cast

from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import LockOptions
from aiodistlock.leases.process_lease import Possessor, ProcessLease
from aiodistlock.leases.timer_wheel import GRAIN, TOGETHER, TimerWheel


def _lease(due_at: float, left: float = 10.0) -> ProcessLease:
    """Make a lease that is due at an instant, and over ``left`` seconds later."""
    possessor, keys = cast(Possessor, None), LockKeys("wallet", "lock:")
    lease = ProcessLease(possessor, keys, b"t", 1, 0, LockOptions(), due_at + left)
    lease.look_at(due_at)
    return lease


def _wheel() -> TimerWheel:
    return TimerWheel(lambda: None)


def test_what_became_due_meanwhile_is_taken_out_at_once() -> None:
    """After a blocked loop nothing waits a turn longer because it was not sorted in yet."""
    wheel = _wheel()
    wheel.looks_at = 1000.0
    wheel.add(lease := _lease(1000.5))
    assert list(wheel) == [lease]
    assert list(wheel.due(1001.0)) == [lease]
    assert list(wheel) == []


def test_renewals_that_are_due_soon_after_another_leave_together() -> None:
    """Those of a few steps are one write, unless little time is left for it."""
    wheel, late = _wheel(), TOGETHER * GRAIN - GRAIN / 2
    wheel.add(one := _lease(1000.0))
    wheel.add(two := _lease(1000.0 + late))
    wheel.add(short := _lease(1000.0 + late, left=0.1))
    assert set(wheel.due(1000.0)) == {one, two}
    assert list(wheel.due(1000.0 + late)) == [short]


def test_the_end_of_max_hold_is_not_brought_forward() -> None:
    """It sends nothing that could leave with others, and looked at early it is not over."""
    wheel, late = _wheel(), TOGETHER * GRAIN - GRAIN / 2
    lease = _lease(1000.0 + late)
    lease.ends_at = lease.due_at
    wheel.add(lease)
    assert list(wheel.due(1000.0)) == []
    assert list(wheel.due(lease.due_at)) == [lease]


def test_a_lease_is_taken_out_wherever_it_is() -> None:
    """Sorted in or not, alone in its step or not; and it can come back."""
    wheel = _wheel()
    wheel.looks_at = 1000.0
    sooner, later, beside = _lease(999.0), _lease(1001.0), _lease(999.0)
    for lease in (sooner, later, beside):
        wheel.add(lease)
    for lease in (sooner, later, beside):
        wheel.remove(lease)
        wheel.remove(lease)  # harmless
        assert lease not in list(wheel)
    wheel.add(sooner)
    assert wheel.next_at() <= sooner.due_at
    assert list(wheel.due(1000.0)) == [sooner]
