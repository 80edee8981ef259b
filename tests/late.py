"""A request that the network keeps while its connection is given up, and brings much later."""

import asyncio
from typing import Any

from tests.proxy import Action, ChaosProxy, Do, Frame, Hold


class Straggler:
    """
    The next request of a name that comes to the proxy.

    :param proxy: it knows the names of the scripts
    :param lost_before: so many requests of the name are lost with their connections before
    """

    def __init__(self, proxy: ChaosProxy, name: str, *, lost_before: int = 0) -> None:
        self._proxy = proxy
        self._name = name
        self._arrives = asyncio.Event()
        self._lost = proxy.requests[name] + lost_before
        self._kept: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        proxy.rules.insert(0, self._rule)

    def _rule(self, frame: Frame) -> Action | None:
        if (frame.kind, frame.name) != ("request", self._name) or self._kept.done():
            return None
        if frame.number <= self._lost:
            return Do.CUT_BEFORE
        self._kept.set_result(frame.connection)
        return Hold(self._arrives)

    async def seen(self) -> None:
        """Wait until the network has the request."""
        await self._kept

    async def kept(self) -> None:
        """Wait until the network has the request, and end the client's connection then."""
        self._proxy.part(await self._kept)

    async def arrives(self) -> None:
        """Let the request arrive, and wait until the server has run it."""
        self._arrives.set()
        await self._proxy.ended(await self._kept)


async def stale(redis: Any) -> int:
    """Return how many requests a server has refused as void."""
    found = (await redis.info("errorstats")).get("errorstat_STALE", {"count": 0})
    return int(found["count"])
