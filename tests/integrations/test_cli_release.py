"""``aiodistlock release --force``: the old holder is out, and its token is outdated."""

import asyncio
import re
from pathlib import Path

import anyio
import pytest

from aiodistlock import LeaseLost, LockClient
from tests.integrations.doctor_command import Start
from tests.integrations.lock_command import Done, Seen, command, ended, refused, started, until


@pytest.fixture
def seen(redis_url: str, namespace: str) -> Seen:
    """The lock of the test, as Redis has it."""
    return Seen(redis_url, "job", namespace)


async def release(url: str, namespace: str, *args: str) -> Done:
    """Run the command beside what this loop holds."""
    line = ("release", "job", "--namespace", namespace, *args)
    return await anyio.to_thread.run_sync(command, url, *line)


async def test_the_holder_loses_the_lock_and_its_token(redis_url: str, namespace: str) -> None:
    """It hears of it at its next renewal; the next token is above all that it may have used."""
    async with LockClient.from_url(redis_url) as locks:
        lock = locks.lock("job", namespace=namespace, ttl=3.0)
        lease = await lock.acquire()
        done = await release(redis_url, namespace, "--force", "--yes")
        assert done.returncode == 0
        assert lease.token in done.stderr
        assert "is free" in done.stdout
        assert await lease.wait_lost()
        with pytest.raises(LeaseLost):
            await lease.release()
        async with lock as newer:
            raised = int(done.stdout.split()[-1])
            assert newer.fencing_token > raised > lease.fencing_token + 1000


async def test_the_next_waiter_gets_it(redis_url: str, namespace: str) -> None:
    """Told at once, with a token above the old holder's; the answer says who it is."""
    async with LockClient.from_url(redis_url) as ours, LockClient.from_url(redis_url) as others:
        lease = await ours.lock("job", namespace=namespace).acquire()
        lock = others.lock("job", namespace=namespace)

        async def wait_for_it() -> None:
            async with lock as newer:
                assert newer.fencing_token > lease.fencing_token + 1000
                assert str(newer.fencing_token) in (await told)

        async def taken() -> str:
            while not (await lock.inspect()).waiters:
                await anyio.sleep(0.01)  # nobody tells of a waiter
            return (await release(redis_url, namespace, "--force", "--yes")).stdout

        told = asyncio.ensure_future(taken())
        await wait_for_it()
        assert "passed on" in await told
        assert await lease.wait_lost()


def test_a_stuck_run_is_ended(redis_url: str, namespace: str, seen: Seen, tmp_path: Path) -> None:
    """Its command gets SIGTERM, its status is 70."""
    line = f"touch {tmp_path}/runs; exec sleep 1000"
    at = ("--namespace", namespace)
    with started(redis_url, "run", "job", *at, "--ttl", "1.5", "--", "sh", "-c", line) as process:
        until((tmp_path / "runs").exists, "it runs")
        assert command(redis_url, "release", "job", *at, "--force", "--yes").returncode == 0
        done = ended(process)
    assert "lost" in refused(done, 70)


def test_only_by_force_and_only_with_a_yes(redis_url: str, namespace: str, seen: Seen) -> None:
    """Without --force it says why; without a terminal it does not ask; nothing is changed."""
    seen.ask("SET", seen.keys.key, "somebody", "PX", 30_000)
    before = seen.fence
    try:
        at = ("release", "job", "--namespace", namespace)
        assert "--force" in refused(command(redis_url, *at), 2)
        assert "--yes" in refused(command(redis_url, *at, "--force"), 2)
        assert (seen.holder, seen.fence) == (b"somebody", before)
    finally:
        seen.ask("DEL", seen.keys.key)


def test_nobodys_lock_is_left_alone(redis_url: str, namespace: str, seen: Seen) -> None:
    """Status 1, and no fencing token is issued."""
    before = seen.fence
    done = command(redis_url, "release", "job", "--namespace", namespace, "--force", "--yes")
    assert (done.returncode, done.stdout) == (1, "")
    assert "nobody holds" in done.stderr
    assert seen.fence == before


def test_any_token_can_be_taken_from(redis_url: str, namespace: str, seen: Seen) -> None:
    """Other libraries' tokens are bytes, and need be no text."""
    seen.ask("SET", seen.keys.key, b"\xff\x1b[2J", "PX", 30_000)
    done = command(redis_url, "release", "job", "--namespace", namespace, "--force", "--yes")
    assert done.returncode == 0
    assert r"\xff\x1b[2J" in done.stderr
    assert seen.holder is None


async def test_on_a_quorum_a_majority_is_taken_and_raised(start: Start) -> None:
    """With a node down, too; the waiter asks again, and gets a token above the old one."""
    nodes = [start() for _ in range(3)]
    urls = [node.url for node in nodes]
    async with LockClient.from_url(urls) as ours, LockClient.from_url(urls) as others:
        # The first lease of all wants all nodes: then their being empty is no loss.
        await (await ours.lock("job").acquire()).release()
        nodes[0].kill()
        lease = await ours.lock("job", ttl=2.0).acquire()
        done = await release(" ".join(urls), "lock:", "--force", "--yes")
        assert done.returncode == 0, done
        assert re.search(r"node 1 +does not answer", done.stderr)
        raised = int(done.stdout.split()[-1])
        async with others.lock("job", timeout=5.0) as newer:
            assert newer.fencing_token > raised > lease.fencing_token + 1000
            assert await lease.wait_lost()
