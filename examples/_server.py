"""The Redis that an example runs on: named by its reader, or embedded."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from aiodistlock.testing import EmbeddedRedis


@contextmanager
def redis_url() -> Iterator[str]:
    """Give the URL in the first argument or ``REDIS_URL``, else a server of our own's."""
    url = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("REDIS_URL")
    if url:
        yield url
        return
    with EmbeddedRedis() as server:
        yield server.url
