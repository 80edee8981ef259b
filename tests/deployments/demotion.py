"""One endpoint before two servers, the second of which is promoted while clients are connected."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import redis.asyncio as redis_asyncio

from aiodistlock.testing.discovery import LOOPBACK
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.faults.world import eventually
from tests.proxy import ChaosProxy

_ARGS = ["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0", "--hz", "50"]


class Endpoint:
    """
    A name that leads to ``former``, and after :meth:`promote` to ``present``.

    :param proxy: what the name leads through
    """

    def __init__(self, proxy: ChaosProxy, former: EmbeddedRedis, present: EmbeddedRedis) -> None:
        self.proxy = proxy
        self.former = former
        self.present = present

    @property
    def url(self) -> str:
        """What clients connect to."""
        return self.proxy.url

    async def promote(self, *, leads: bool = True) -> None:
        """
        Make ``present`` the master, with all data; connections to the former one stay open.

        :param leads: whether the name leads there already
        """
        await self.has_all()
        await _ask(self.present, "REPLICAOF", "NO", "ONE")
        if leads:
            self.proxy.lead_to(self.present.url)
        await _ask(self.former, "REPLICAOF", LOOPBACK, self.present.port)

    async def has_all(self) -> None:
        """Wait until ``present`` has what was written to ``former``."""
        await eventually(lambda: _ask(self.former, "WAIT", 1, 1000), 1, within=15.0)


@contextlib.asynccontextmanager
async def endpoint(binary: Path) -> AsyncIterator[Endpoint]:
    """Start both servers, and wait until the second has what the first has."""
    with (
        EmbeddedRedis(binary=binary, args=_ARGS) as former,
        EmbeddedRedis(
            binary=binary, args=[*_ARGS, "--replicaof", LOOPBACK, str(former.port)]
        ) as present,
    ):
        async with ChaosProxy.before(former.url) as proxy:
            place = Endpoint(proxy, former, present)
            await place.has_all()
            yield place


async def _ask(server: EmbeddedRedis, *command: Any) -> Any:
    async with redis_asyncio.from_url(server.url) as redis:
        if command[0] == "WAIT":
            await redis.incr("written")
        return await redis.execute_command(*command)  # type: ignore[no-untyped-call, unused-ignore]
