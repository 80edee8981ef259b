"""Elections on a Cluster that changes, and behind Sentinels: observers follow."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import pytest

from aiodistlock import Leader, LockClient, Term
from aiodistlock.waiting import observation
from tests.deployments.cluster import Cluster, Node
from tests.deployments.sentinel import SentinelDeployment
from tests.deployments.world import EAGER, clients, name_on, queued

pytestmark = pytest.mark.bounded(90)


async def until(leaders: AsyncGenerator[Leader | None, None], value: str | None) -> Leader | None:
    """Observe until somebody leads who proclaims a value; ``None``: until nobody leads."""
    async with asyncio.timeout(60):
        async for leader in leaders:
            if (None if leader is None else leader.value) == value and (
                leader is None or value is not None
            ):
                return leader
    raise AssertionError("it ended")


async def test_observers_follow_a_slot_that_moves(
    growing: tuple[Cluster, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To another primary and back: changes are announced there, nobody has to poll."""
    cluster, newcomer = growing
    if cluster.sharded:
        for pause in ("POLL_EVERY", "LOOK_EVERY"):
            monkeypatch.setattr(observation, pause, 3600.0)
    home = cluster.nodes[0]
    name = name_on(cluster, home, "lock:")
    async with clients(cluster) as (here, there):
        election = here.election(name, ttl=3600.0)
        async with (
            aclosing(there.election(name, ttl=3600.0).observe()) as leaders,
            election.lead() as term,
        ):
            await until(leaders, "")
            for target in (newcomer, home):
                await asyncio.to_thread(cluster.migrate, f"lock:{name}", target)
                await term.proclaim(f"at {target.port}")
                await until(leaders, f"at {target.port}")


async def test_who_waits_in_a_slot_already_hears_announcements_there_as_well(
    cluster: Cluster, cluster_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A candidate that begins to observe: its slot was listened to before, for grants."""
    if not cluster.sharded:
        pytest.skip("no sharded channels before Redis 7: nobody queues")
    for pause in ("POLL_EVERY", "LOOK_EVERY"):
        monkeypatch.setattr(observation, pause, 3600.0)
    async with clients(cluster) as (here, there):
        ours, theirs = (
            each.election("e", value="a", ttl=3600.0, namespace=cluster_namespace)
            for each in (here, there)
        )
        async with ours.lead() as term:
            waiting = asyncio.create_task(theirs.run(lambda _term: asyncio.sleep(0)))
            await queued(cluster, here.lock("e", namespace=cluster_namespace))
            async with aclosing(theirs.observe()) as leaders:
                await until(leaders, "a")
                await term.proclaim("b")
                await until(leaders, "b")
        await waiting


async def test_a_channel_that_is_refused_costs_no_lock_its_messages(
    cluster: Cluster, cluster_namespace: str
) -> None:
    """Observers poll; grants are heard as before."""
    if not cluster.sharded:
        pytest.skip("these commands are those of Redis 7")
    rights = (
        "on >secret resetchannels +@all ~t:* ~aiodistlock:* &aiodistlock:inbox:* -@dangerous "
        "+cluster|slots +command|info"
    )
    for node in cluster.nodes:
        node.command("ACL", "SETUSER", "locks", "reset", *rights.split())
    try:
        async with clients(cluster, username="locks", password="secret") as (here, there):
            election = there.election("n", namespace=cluster_namespace, ttl=60)
            async with aclosing(election.observe()) as leaders:
                await until(leaders, None)
                async with here.election(
                    "n", value="x", namespace=cluster_namespace, ttl=60
                ).lead():
                    await until(leaders, "x")
            connection = there._engine("n").connection
            assert connection.inboxes.sharded  # type: ignore[attr-defined]  # it is a cluster's
            assert not connection.hear_leaders(election._lock._keys)  # type: ignore[attr-defined]
    finally:
        for node in cluster.nodes:
            node.command("ACL", "DELUSER", "locks")


@pytest.mark.parametrize("protocol", [2, 3])
async def test_somebody_leads_and_is_seen_behind_a_failover(
    sentinels: SentinelDeployment, protocol: int
) -> None:
    """At the new primary, under a higher term, whether or not the lease has survived."""
    terms: list[int] = []
    url = sentinels.url

    async def main(term: Term) -> None:
        terms.append(term.fencing_token)
        await asyncio.sleep(3600)

    async with (
        LockClient.from_url(url, protocol=protocol) as here,
        LockClient.from_url(url, protocol=protocol) as there,
        aclosing(there.election("e", ttl=2.0).observe()) as leaders,
    ):
        running = asyncio.create_task(
            here.election("e", value="x", ttl=2.0, backoff=EAGER).run(main)
        )
        await until(leaders, "x")
        former = sentinels.master
        former.kill()
        await sentinels.failed_over(former)
        async with asyncio.timeout(60):
            while (leader := await there.election("e").leader(timeout=20)) is None:
                await asyncio.sleep(0.05)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await until(leaders, None)
    assert terms == sorted(set(terms))
    assert leader.term in terms
