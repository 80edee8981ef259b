"""Each node of a cluster has a clock of its own."""

import asyncio
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from aiodistlock import Lease
from tests.deployments.cluster import Cluster
from tests.deployments.world import PATIENT, clients, name_on, queued
from tests.redis.shifted import build_shim

SHIFT = 1_000
"""Seconds that the clock of the first node is ahead."""


@pytest.fixture
def askew(redis_binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster of two primaries whose clocks differ."""
    shim = build_shim(tmp_path)
    shift = tmp_path / "shift"
    shift.write_bytes(struct.pack("qq", SHIFT, 0))
    with ExitStack() as stack:

        def before(number: int) -> None:
            if number == 0:
                monkeypatch.setenv("CLOCK_SHIFT", str(shift))
                monkeypatch.setenv("LD_PRELOAD", str(shim))
            else:
                monkeypatch.delenv("LD_PRELOAD")
                monkeypatch.delenv("CLOCK_SHIFT")

        cluster = Cluster(redis_binary, stack, shards=2, replicas=0, before=before)
        shown = int(cluster.nodes[0].command("TIME")[0])
        if abs(shown - SHIFT - time.time()) > 10:
            pytest.skip(f"{redis_binary} ignores LD_PRELOAD: its clock cannot be set")
        yield cluster


@pytest.mark.parametrize("late", [0, 1], ids=["its clock is ahead", "its clock is right"])
async def test_a_grant_is_dated_by_the_clock_of_its_own_node(askew: Cluster, late: int) -> None:
    """A grant read late is not taken for fresh because another node's clock was seen last."""
    if not askew.sharded:
        pytest.skip("no sharded channels before Redis 7: nobody is granted by message")
    names = [name_on(askew, node, "lock:") for node in askew.nodes]
    # Without renewal the grant has the whole ttl, and no claim sets the deadline right.
    options: dict[str, Any] = {"ttl": 10.0, "auto_renew": False, "backoff": PATIENT}
    async with clients(askew) as (here, there):
        for name in names:
            # The servers know the scripts: a request takes one round trip from now on.
            await (await here.lock(name, **options).acquire()).release()
        leases = {name: await here.lock(name, **options).acquire() for name in names}

        async def wait(name: str) -> tuple[float, Lease]:
            lease = await there.lock(name, **options).acquire()
            return lease.validity, lease

        # The node whose clock is seen last is the other one.
        order = [names[late], names[1 - late]]
        waiting = {}
        for name in order:
            waiting[name] = asyncio.create_task(wait(name))
            await queued(askew, here.lock(name))
        releasing = asyncio.create_task(leases[names[late]].release())
        for _ in range(3):
            await asyncio.sleep(0)  # the request is on its way
        # A process that is stopped for a while, as far as the message can tell.
        time.sleep(1.0)
        await releasing
        validity, granted = await waiting[names[late]]
        assert 6.0 < validity < 9.0
        await granted.release()
        await leases[names[1 - late]].release()
        _, granted = await waiting[names[1 - late]]
        await granted.release()
