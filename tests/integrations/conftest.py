"""Fixtures: servers set up as a test needs them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from aiodistlock.testing.embedded import EmbeddedRedis
from tests.integrations.doctor_command import Start


@pytest.fixture
def start(redis_binary: Path) -> Iterator[Start]:
    """Servers of the test's own."""
    with ExitStack() as stack:
        yield lambda *args: stack.enter_context(EmbeddedRedis(binary=redis_binary, args=args))
