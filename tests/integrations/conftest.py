"""Fixtures: servers and applications set up as a test needs them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi import FastAPI

from aiodistlock import LockClient
from aiodistlock.integrations.fastapi import setup_locks
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.integrations.doctor_command import Start


@pytest.fixture
def start(redis_binary: Path) -> Iterator[Start]:
    """Servers of the test's own."""
    with ExitStack() as stack:
        yield lambda *args: stack.enter_context(EmbeddedRedis(binary=redis_binary, args=args))


@pytest.fixture
async def elsewhere(redis_url: str) -> AsyncIterator[LockClient]:
    """Another process that wants the same locks."""
    async with LockClient.from_url(redis_url) as client:
        yield client


@pytest.fixture
def app(redis_url: str) -> FastAPI:
    """An application that was set up."""
    made = FastAPI()
    setup_locks(made, redis_url)
    return made
