"""Reaching the sentinels and their master: passwords, TLS, ends of all kinds."""

import asyncio
import contextlib
import gc
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis as redis_sync

from aiodistlock import AcquireTimeout, LockClient, StoreUnavailable
from aiodistlock.testing.discovery import LOOPBACK
from aiodistlock.testing.embedded import EmbeddedRedis, TlsFiles
from tests import servers
from tests.deployments.sentinel import MASTER
from tests.faults.world import eventually
from tests.proxy import ChaosProxy, Delay


@contextlib.contextmanager
def _one_sentinel(
    binary: Path, folder: Path, *lines: str, tls: TlsFiles | None = None
) -> Iterator[tuple[EmbeddedRedis, EmbeddedRedis]]:
    """A master without replicas, and one sentinel, with more ``lines`` in its configuration."""
    config = folder / "sentinel.conf"
    args = [] if tls is None else ["--tls-replication", "yes"]
    with EmbeddedRedis(binary=binary, tls=tls) as master:
        watch = f"sentinel monitor {MASTER} {LOOPBACK} {master.port} 1"
        config.write_text("\n".join((watch, *lines)) + "\n")
        with EmbeddedRedis(
            binary=binary, args=["--sentinel", *args], config=config, tls=tls
        ) as sentinel:
            yield master, sentinel


def _url(sentinel: EmbeddedRedis, *, scheme: str = "redis", master: str = MASTER) -> str:
    return f"{scheme}+sentinel://{LOOPBACK}:{sentinel.port}/{master}"


def _let_in(sentinel: EmbeddedRedis, password: str) -> None:
    """Have a sentinel ask for a password from now on."""
    with redis_sync.from_url(sentinel.url) as client:
        client.execute_command("ACL", "SETUSER", "default", "resetpass", f">{password}")


async def _waiters(locks: LockClient) -> int:
    return len((await locks.lock("n").inspect()).waiters)


def _our_tasks() -> list[str]:
    names = (task.get_name() for task in asyncio.all_tasks())
    return [name for name in names if name.startswith("aiodistlock")]


async def test_tls_to_the_sentinel_and_to_the_master(
    redis_binary: Path, tmp_path: Path, tls_files: TlsFiles
) -> None:
    """With ``rediss+sentinel://`` both are spoken to over TLS, and both are verified."""
    if not servers.supports_tls(redis_binary):
        pytest.skip(f"{redis_binary} was built without TLS")
    with _one_sentinel(redis_binary, tmp_path, tls=tls_files) as (_, sentinel):
        url = _url(sentinel, scheme="rediss")
        for protocol in (2, 3):
            async with (
                LockClient.from_url(url, ssl_ca_certs=str(tls_files.ca), protocol=protocol) as one,
                LockClient.from_url(url, ssl_ca_certs=str(tls_files.ca), protocol=protocol) as two,
            ):
                lease = await one.lock("n").acquire()
                waiting = asyncio.create_task(two.lock("n").acquire(timeout=5))
                await eventually(partial(_waiters, one), 1)
                await lease.release()
                await (await waiting).release()
        async with LockClient.from_url(url, unavailable_after=2.0) as stranger:
            with pytest.raises(StoreUnavailable, match="certificate"):
                await stranger.lock("n").acquire(timeout=9)


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_wrong_password_of_the_sentinels_fails_at_once(
    redis_binary: Path, tmp_path: Path, protocol: int
) -> None:
    """Nobody waits for ``unavailable_after`` to learn that the sentinels refuse to talk."""
    with _one_sentinel(redis_binary, tmp_path) as (_, sentinel):
        _let_in(sentinel, "open")
        for wrong in ("", "?sentinel_password=shut"):
            async with LockClient.from_url(_url(sentinel) + wrong, protocol=protocol) as locks:
                began = time.monotonic()
                with pytest.raises(StoreUnavailable, match=f"{sentinel.port}: ") as caught:
                    await locks.lock("n").acquire()
                assert time.monotonic() - began < 5.0
                assert "shut" not in str(caught.value)
        right = _url(sentinel) + "?sentinel_password=open"
        async with LockClient.from_url(right, protocol=protocol) as locks, locks.lock("n"):
            pass


async def test_sentinels_that_must_not_tell_fail_at_once(
    redis_binary: Path, tmp_path: Path
) -> None:
    """An ACL of the sentinels that forbids the questions is told, not waited for."""
    with _one_sentinel(redis_binary, tmp_path) as (_, sentinel):
        with redis_sync.from_url(sentinel.url) as client:
            client.execute_command("ACL", "SETUSER", "default", "-sentinel")
        async with LockClient.from_url(_url(sentinel)) as locks:
            with pytest.raises(StoreUnavailable, match="no permissions"):
                async with asyncio.timeout(5):
                    await locks.lock("n").acquire()


async def test_a_wrong_password_of_the_master_fails_at_once(
    redis_binary: Path, tmp_path: Path
) -> None:
    """So it is with the master's; the sentinels' one is no substitute."""
    with _one_sentinel(redis_binary, tmp_path, f"sentinel auth-pass {MASTER} open") as (
        master,
        sentinel,
    ):
        with redis_sync.from_url(master.url) as client:
            client.execute_command("CONFIG", "SET", "requirepass", "open")
        for wrong in ("", "?password=shut"):
            async with LockClient.from_url(_url(sentinel) + wrong) as locks:
                began = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    await locks.lock("n").acquire()
                assert time.monotonic() - began < 5.0
        async with LockClient.from_url(_url(sentinel) + "?password=open") as locks, locks.lock("n"):
            pass


async def test_an_unknown_master_is_named(redis_binary: Path, tmp_path: Path) -> None:
    """It may be made known yet: so tried until ``unavailable_after``, and then told."""
    with _one_sentinel(redis_binary, tmp_path) as (master, sentinel):
        url = _url(sentinel, master="typo")
        async with LockClient.from_url(url, unavailable_after=0.8) as locks:
            with pytest.raises(StoreUnavailable, match=r"'typo'.*No such master"):
                await locks.lock("n").acquire(timeout=10)
            with redis_sync.from_url(sentinel.url) as client:
                client.execute_command("SENTINEL", "MONITOR", "typo", LOOPBACK, master.port, 1)
            async with locks.lock("n").hold(timeout=5):
                pass


async def test_silent_sentinels_are_no_reason_to_wait_longer(
    redis_binary: Path, tmp_path: Path
) -> None:
    """With all of them frozen ``unavailable_after`` and ``timeout`` hold."""
    with _one_sentinel(redis_binary, tmp_path) as (_, sentinel):
        sentinel.freeze()
        async with LockClient.from_url(_url(sentinel), unavailable_after=0.8) as locks:
            began = time.monotonic()
            with pytest.raises(AcquireTimeout):
                await locks.lock("n").acquire(timeout=0.1)
            with pytest.raises(StoreUnavailable):
                await locks.lock("n").acquire(timeout=10)
            assert time.monotonic() - began < 1.9  # one question may take 2 s


async def test_a_sentinel_far_away_is_given_time_for_each_round_trip(
    redis_binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handshake does not use up the time that the answer may take."""
    monkeypatch.setattr("aiodistlock.deployments.sentinel.sentinel_connection.ASK_WITHIN", 1.25)
    with _one_sentinel(redis_binary, tmp_path) as (_, sentinel):
        async with ChaosProxy(LOOPBACK, sentinel.port) as proxy:
            # Four replies to the handshake, and two to the question.
            proxy.rules.append(lambda frame: Delay(0.25) if frame.kind == "reply" else None)
            url = f"redis+sentinel://{LOOPBACK}:{proxy.port}/{MASTER}"
            async with LockClient.from_url(url) as locks, locks.lock("n", timeout=10):
                pass


@pytest.mark.bounded(90)
@pytest.mark.parametrize(("protocol", "encrypted"), [(2, False), (3, False), (3, True)])
async def test_closed_at_whatever_instant_of_connecting_nothing_is_left(
    redis_binary: Path, tmp_path: Path, tls_files: TlsFiles, protocol: int, encrypted: bool
) -> None:
    """No task outlives ``aclose``, not even for a turn; nor does a connection, for long."""
    if encrypted and not servers.supports_tls(redis_binary):
        pytest.skip(f"{redis_binary} was built without TLS")
    tls = tls_files if encrypted else None
    options: dict[str, Any] = {"ssl_ca_certs": str(tls_files.ca)} if encrypted else {}
    with _one_sentinel(redis_binary, tmp_path, tls=tls) as (master, sentinel):
        url = _url(sentinel, scheme="rediss" if encrypted else "redis")

        async def connections() -> list[int]:
            counts = []
            for server in (master, sentinel):
                with redis_sync.from_url(server.url, **options) as client:
                    names = [each["name"] for each in client.client_list()]
                    counts.append(sum(not name.startswith("sentinel-") for name in names))
            return counts

        before = [1, 1]  # whoever counts
        assert await connections() == before
        for turns in range(60):
            locks = LockClient.from_url(url, protocol=protocol, **options)
            task = asyncio.create_task(locks.lock("n").acquire())
            for _ in range(turns):
                await asyncio.sleep(0)
            await locks.aclose()
            assert _our_tasks() == []
            await asyncio.wait([task])
            task.exception()
        gc.collect()
        await eventually(connections, before)


def test_the_end_of_the_loop_ends_whoever_asks_the_sentinels(
    redis_binary: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """``asyncio.run`` cancels all tasks: the lease is released, no task is destroyed."""
    with _one_sentinel(redis_binary, tmp_path) as (master, sentinel):

        async def hold(locks: LockClient) -> None:
            async with locks.lock("n"):
                await asyncio.sleep(60)

        async def main(turns: int) -> None:
            locks = LockClient.from_url(_url(sentinel))
            holding = asyncio.create_task(hold(locks))
            for _ in range(turns):
                await asyncio.sleep(0)
            assert not holding.done()

        for turns in (0, 1, 5, 20, 60, 200, 1000):
            began = time.monotonic()
            asyncio.run(main(turns))
            assert time.monotonic() - began < 10.0
        gc.collect()
        with redis_sync.from_url(master.url) as client:
            assert client.exists("lock:n") == 0
    assert [record for record in caplog.records if record.name == "asyncio"] == []
