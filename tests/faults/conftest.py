"""What several of the fault tests put before the server."""

import pytest
import redis.asyncio as redis_asyncio

from tests.faults.world import SCRIPTS, load_scripts
from tests.proxy import ChaosProxy


@pytest.fixture
async def named(proxy: ChaosProxy, redis: redis_asyncio.Redis) -> ChaosProxy:
    """The proxy, which knows our scripts by name, before a server that has them."""
    await load_scripts(redis)
    proxy.script_names = SCRIPTS
    return proxy
