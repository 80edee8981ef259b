"""The option ``ack``: its values, and where it can be had."""

from typing import Any

import pytest

from aiodistlock import AsyncLock, LockClient
from aiodistlock.core.ack import Ack, parse_ack
from aiodistlock.core.clock import local_clock
from aiodistlock.core.options import LockOptions
from aiodistlock.deployments.durable.store import Barrier

LEVELS = {"local": Ack(), "replicas:1": Ack(1), "replicas:12": Ack(12), "fsync": Ack(fsync=True)}

WRONG: list[Any] = [
    "",
    "Local",
    "replicas",
    "replicas:",
    "replicas:0",
    "replicas:-1",
    "replicas:1.5",
]
WRONG += ["replicas:01", "replicas:1000", "replicas: 1", "fsync:1", None, 1, b"local", True]


@pytest.mark.parametrize(("text", "ack"), LEVELS.items())
def test_each_level_is_read(text: str, ack: Ack) -> None:
    """``local``, ``replicas:N`` and ``fsync`` mean what they say."""
    assert parse_ack(text) == ack
    assert LockOptions(ack=text).ack == text


@pytest.mark.parametrize("wrong", WRONG)
def test_anything_else_is_refused(wrong: Any) -> None:
    """A ``ValueError`` names the levels there are."""
    with pytest.raises(ValueError, match="'local', 'replicas:N'"):
        LockOptions(ack=wrong)


@pytest.mark.parametrize("ack", ["replicas:1", "fsync"])
def test_memory_has_neither_replicas_nor_a_disk(ack: str) -> None:
    """Where nothing can be acknowledged the lock is refused, before any I/O."""
    locks = LockClient.in_memory()
    with pytest.raises(ValueError, match=f"ack='{ack}' needs one Redis"):
        AsyncLock(locks, "n", ack=ack)


def test_the_wait_is_bounded_by_the_shortest_lease_in_use() -> None:
    """A quarter of it, at most 1 s (2 s for the disk), and never 0, which is no bound."""
    now = [100.0]
    barrier = Barrier(Ack(2), lambda: now[0])
    assert barrier.command() == ((b"WAIT", 2, 1000), 1.0)
    barrier.note(60_000)
    barrier.note(400)
    assert barrier.command()[0] == (b"WAIT", 2, 100)
    now[0] += 0.5  # unless it was renewed, that lease is over
    assert barrier.command()[0] == (b"WAIT", 2, 1000)
    assert Barrier(Ack(fsync=True), local_clock).command()[0] == (b"WAITAOF", 1, 0, 2000)
    assert Ack(1).within_ms(2) == 1
