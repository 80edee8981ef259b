"""``aiodistlock doctor`` measures what locks cost a real server, idle and busy."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import anyio

from aiodistlock import LockClient
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.integrations.doctor_command import DURABLE, Start, client, examined, form_cluster, level

SLOW = "local n = 0 for i = 1, 500000 do n = n + i end return n"
"""Some milliseconds of the server's time."""


@contextmanager
def scripts_all_the_time(server: EmbeddedRedis) -> Iterator[None]:
    """Have the server run one script behind the other: who asks something else waits its turn."""
    enough, begun = threading.Event(), threading.Semaphore(0)

    def work() -> None:
        with client(server, socket_timeout=60) as redis:
            while not enough.is_set():
                pipe = redis.pipeline(transaction=False)
                for _ in range(10):
                    pipe.eval(SLOW, 0)
                pipe.execute()
                begun.release()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for each in threads:
        each.start()
    for _ in threads:
        begun.acquire()
    try:
        yield
    finally:
        enough.set()
        for each in threads:
            each.join()


async def test_locks_and_listeners_are_counted(start: Start) -> None:
    """Keys of this namespace and their companions, about; processes that wait; no scripts."""
    server = start(*DURABLE)
    with client(server) as redis:
        redis.mset({f"cart:{n}": "x" for n in range(300)})
    async with LockClient.from_url(server.url) as holding, LockClient.from_url(server.url) as other:
        leases = [await holding.lock(f"wallet:{n}").acquire() for n in range(20)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other.lock("wallet:1").acquire)
            with client(server) as redis:
                while not redis.exists("aiodistlock:queue:{lock:wallet:1}"):
                    await anyio.sleep(0.01)
                report = await anyio.to_thread.run_sync(partial(examined, server.url))
            tasks.cancel_scope.cancel()
        for lease in leases:
            await lease.release()
    assert level(report, "cost") == "ok"
    cost = report["nodes"][0]["cost"]
    assert (cost["scripts"], cost["core"]) == (None, None)  # --sample 0
    # (The doctor's own counter may be there, and what was void.)
    assert 22 <= cost["locks"] <= 25
    assert 50 * cost["locks"] < cost["memory"] < 2_000 * cost["locks"]
    assert cost["listeners"] >= 1


async def test_permits_and_readers_are_counted_as_locks_are(start: Start) -> None:
    """And nothing is wrong with them: all that they have is what locks may have."""
    server = start(*DURABLE)
    async with LockClient.from_url(server.url) as locks:
        reading = locks.rwlock("doc").read()
        async with locks.semaphore("gpu", 4).hold(permits=2), reading:
            report = await anyio.to_thread.run_sync(partial(examined, server.url))
            # The permits, the group, who reads, and which version; and the fence counter.
            with client(server) as redis:
                keys = set(redis.scan_iter())
    assert keys >= {
        *(b"lock:gpu", b"lock:doc", b"aiodistlock:fence"),
        *(b"aiodistlock:readers:{lock:doc}", b"aiodistlock:version:{lock:doc}"),
    }
    cost = report["nodes"][0]["cost"]
    assert 5 <= cost["locks"] <= 7
    assert cost["memory"] > 50 * cost["locks"]
    assert not {"danger", "warning"} & {each["level"] for each in report["findings"]}


def test_a_server_that_runs_scripts_only_is_told_to_be_spread(start: Start) -> None:
    """Scripts, whosever, take most of the time: it is time for a Cluster."""
    server = start(*DURABLE)
    with scripts_all_the_time(server):
        report = examined(server.url, "--sample", "1", "--timeout", "60")
    cost = report["nodes"][0]["cost"]
    assert cost["scripts"] > 0
    assert cost["in_scripts"] > 0.5
    assert level(report, "cost") == "warning"
    (finding,) = (each for each in report["findings"] if each["check"] == "cost")
    assert "it is time for a Cluster" in finding["advice"]


def test_the_doctors_own_scripts_do_not_count(start: Start) -> None:
    """A server that nobody uses has none."""
    server = start(*DURABLE)
    (node,) = examined(server.url, "--sample", "0.2")["nodes"]
    assert (node["cost"]["scripts"], node["cost"]["in_scripts"]) == (0, 0)
    assert node["cost"]["core"] is not None


def test_what_may_not_be_asked_is_left_out(start: Start) -> None:
    """Without INFO, SCAN, MEMORY and PUBSUB nothing is said of cost, and all else is."""
    server = start(*DURABLE)
    with client(server) as redis:
        denied = ["-info", "-scan", "-memory", "-pubsub", "-dbsize"]
        redis.execute_command("ACL", "SETUSER", "default", *denied)
        report = examined(server.url, "--sample", "0.1")
        assert level(report, "permissions") == "ok"
        assert not [each for each in report["findings"] if each["check"] == "cost"]
        assert set(report["nodes"][0]["cost"].values()) == {None}
        # Keys that are known without their weight.
        redis.execute_command("ACL", "SETUSER", "default", "+scan", "+dbsize")
        report = examined(server.url, "--sample", "0.1")
        cost = report["nodes"][0]["cost"]
        assert (cost["locks"] is None, cost["memory"]) == (False, None)


def test_a_node_of_a_cluster_is_asked_for_sharded_channels(start: Start) -> None:
    """Those who listen for grants there count; before Redis 7 nobody does."""
    server = start("--cluster-enabled", "yes", *DURABLE)
    form_cluster([server])
    with client(server, protocol=2) as redis:
        version = int(redis.info("server")["redis_version"].split(".")[0])
        inbox = redis.pubsub()
        listen = "SSUBSCRIBE" if version >= 7 else "SUBSCRIBE"
        inbox.execute_command(listen, "aiodistlock:inbox:somebody:{x}")
        (node,) = examined(server.url)["nodes"]
        assert node["cost"]["listeners"] == 1
        inbox.close()
