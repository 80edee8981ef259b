"""What a task does with a name, for each kind of lock that there is besides plain ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from tests.simulation.uses.election import elect
from tests.simulation.uses.once import do_once
from tests.simulation.uses.readwrite import read_or_write
from tests.simulation.uses.redis_py import lock_with_redis_py
from tests.simulation.uses.semaphore import take_permits
from tests.simulation.uses.together import take_together

if TYPE_CHECKING:
    from aiodistlock import LockClient
    from tests.simulation.worker import Worker

USES: dict[str, Callable[[Worker, LockClient, str], Awaitable[object]]] = {
    "once": do_once,
    "election": elect,
    "rwlock": read_or_write,
    "semaphore": take_permits,
    "together": take_together,
    "redis-py": lock_with_redis_py,
}
"""By the keys of :data:`~tests.simulation.kinds.KINDS`."""
