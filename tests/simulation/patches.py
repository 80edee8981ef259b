"""What the library draws or reads that a world must draw and tell: secrets, pids, clocks.

It has seams for the rest: its clock is the one that a deployment names, its randomness an
object, its connections those of the running loop.
"""

import asyncio
import gc
import logging
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from aiodistlock import engines
from aiodistlock.connection import exchange, numbering
from aiodistlock.deployments import source
from aiodistlock.deployments.quorum import deployment as quorum
from aiodistlock.deployments.sentinel import sentinel_connection
from aiodistlock.leases.process_lease import ProcessLease
from aiodistlock.protocol import wake
from aiodistlock.waiting import hand_off
from tests.simulation.process import Process
from tests.simulation.process_loop import ProcessLoop
from tests.simulation.redis.server import EPOCH_US


def _process() -> Process:
    assert Process.current is not None, "only a process asks"
    return Process.current


def _secrets() -> SimpleNamespace:
    return SimpleNamespace(
        token_hex=lambda size: _process().rng.randbytes(size).hex(),
        token_urlsafe=lambda size: _process().rng.randbytes(size).hex(),
        randbits=lambda size: _process().rng.getrandbits(size),
    )


def _wall_us() -> int:
    process = _process()
    return EPOCH_US + int(process.wall() * 1e6)


def _run_of(kind: Any) -> object:
    # A plain loop, as asyncio's own that it is made of.
    return asyncio.BaseEventLoop.run_forever if kind is ProcessLoop else None


def _hash(lease: ProcessLease) -> int:
    # By its address, leases would come in another order in each run.
    return zlib.crc32(lease.token)


def _dropped(client: Any, lease: ProcessLease, *_rest: object) -> None:
    # Nobody forgets a lease here: rule 5 of section 8 would have it given back.
    if Process.current is not None and lease.alive and not client.closed:
        Process.current.loop.failures.append({"message": f"{lease.value!r} was forgotten"})


@contextmanager
def deterministic() -> Iterator[None]:
    """Have the library draw and read what the process gives whose turn it is."""
    with ExitStack() as stack:
        for module in (engines, numbering, source):
            stack.enter_context(patch.object(module, "secrets", _secrets()))
        pid = SimpleNamespace(getpid=lambda: 1000 + _process().number)
        stack.enter_context(patch.object(engines, "os", pid))
        stack.enter_context(patch.object(source, "clock_of", lambda _source: _process()))
        for other in (exchange, sentinel_connection):
            stack.enter_context(patch.object(other, "local_clock", lambda: _process().clock()))
        stack.enter_context(patch.object(quorum, "wall_us", _wall_us))
        stack.enter_context(patch.object(wake, "_run_of", _run_of))
        stack.enter_context(patch.object(hand_off, "dropped", _dropped))
        stack.enter_context(patch.object(ProcessLease, "__hash__", _hash))
        loggers = [logging.getLogger(name) for name in ("aiodistlock", "asyncio")]
        levels = [each.level for each in loggers]
        for each in loggers:
            each.setLevel(logging.CRITICAL + 1)
        # What is collected, and when, must not depend on what ran before.
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            yield
        finally:
            gc.enable()
            gc.unfreeze()
            for each, level in zip(loggers, levels, strict=True):
                each.setLevel(level)
