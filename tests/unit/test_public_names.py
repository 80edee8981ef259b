"""What is public, and that it is documented."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

import aiodistlock

PUBLIC = [
    "Abandoned",
    "AcquireTimeout",
    "Acquired",
    "AsyncLock",
    "Backoff",
    "Candidacy",
    "ClientHealth",
    "Election",
    "HandedOver",
    "Hold",
    "Leader",
    "Lease",
    "LeaseLost",
    "LingerCounts",
    "Lingered",
    "Listener",
    "LockClient",
    "LockError",
    "LockEvent",
    "LockInfo",
    "Lost",
    "NotHeld",
    "Once",
    "PermitInfo",
    "Ran",
    "ReadWriteLease",
    "ReadWriteLock",
    "Released",
    "Renewed",
    "Run",
    "Semaphore",
    "SemaphoreHold",
    "SemaphoreInfo",
    "SemaphoreLease",
    "Side",
    "Skipped",
    "StoreUnavailable",
    "Term",
    "Together",
    "Unavailable",
    "Waiting",
    "add_listener",
    "locked",
    "remove_listener",
]


def test_all_is_exact() -> None:
    """Nothing becomes public, or ceases to be, by accident."""
    assert aiodistlock.__all__ == PUBLIC == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_documented(name: str) -> None:
    """Each public name is there and has a docstring of a first line that fits."""
    doc = inspect.getdoc(getattr(aiodistlock, name))
    assert doc is not None
    assert len(doc.splitlines()[0]) <= 88


def _coroutines() -> Iterator[tuple[str, Any]]:
    for name in PUBLIC:
        owner = getattr(aiodistlock, name)
        if not inspect.isclass(owner) or issubclass(owner, BaseException):
            continue
        for key, value in vars(owner).items():
            if not key.startswith("_") and inspect.iscoroutinefunction(value):
                yield f"{name}.{key}", value


# Waits for an event in memory and cannot fail.
RAISES_NOTHING = {"Lease.wait_lost"}


@pytest.mark.parametrize(("name", "function"), list(_coroutines()))
def test_a_public_coroutine_lists_what_it_raises(name: str, function: Any) -> None:
    """Each public coroutine documents its errors, each with its condition."""
    doc = inspect.getdoc(function) or ""
    raised = re.findall(r":raises (\w+): \w+", doc)
    assert bool(raised) is (name not in RAISES_NOTHING)
    known = {*PUBLIC, "ValueError", "TypeError"}
    assert set(raised) <= known


def test_the_lock_documents_each_option() -> None:
    """Every option of the lock has its line, durations with their unit."""
    doc = inspect.getdoc(aiodistlock.AsyncLock) or ""
    for name in inspect.signature(aiodistlock.AsyncLock).parameters:
        assert f":param {name}:" in doc
    for name in ("ttl", "timeout", "max_hold"):
        line = re.search(rf":param {name}:((?:.|\n)*?)(?=:param)", doc)
        assert line is not None
        assert "second" in line[1]
