"""Locks reach the server as the user's client does: passwords, ACLs, TLS, sockets."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis as redis_sync
from redis.credentials import CredentialProvider

from aiodistlock import AsyncLock, Backoff, LockClient, StoreUnavailable
from aiodistlock.testing.embedded import EmbeddedRedis, TlsFiles
from tests.redis.clients import exchange, pair

PASSWORD = "correct horse"

# What the scripts run, what carries them, and what is done besides.
SCRIPTS = "+eval +evalsha +get +set +del +exists +pexpire +pttl +time"
QUEUE = "+zadd +zcard +zrange +zrank +zrem +zrevrange +zscore"
# Redis 6.2 allows all channels unless told otherwise.
NEEDED = f"resetchannels {SCRIPTS} {QUEUE} ~lock:* ~aiodistlock:*"
MESSAGES = "+publish +subscribe &aiodistlock:inbox:*"

USERS = {
    "all that is used": f"{NEEDED} {MESSAGES}",
    "no SUBSCRIBE": f"{NEEDED} +publish &aiodistlock:inbox:*",
    "no PUBLISH": f"{NEEDED} +subscribe &aiodistlock:inbox:*",
    "no channel": f"{NEEDED} +publish +subscribe",
    "no messages at all": NEEDED,
}


@pytest.fixture
def guarded(redis_binary: Path) -> EmbeddedRedis:
    """A server of the test's own that asks for a password; not started yet."""
    return EmbeddedRedis(binary=redis_binary, args=["--requirepass", PASSWORD])


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_password_is_used(guarded: EmbeddedRedis, protocol: int) -> None:
    """The connection of the locks authenticates as the user's do."""
    with guarded:
        async with pair(guarded.url, password=PASSWORD, protocol=protocol) as (one, other):
            await exchange(one, other, "lock:")


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_credential_provider_is_asked(guarded: EmbeddedRedis, protocol: int) -> None:
    """Credentials that change are asked for at each connect."""
    asked = 0

    class Provider(CredentialProvider):
        def get_credentials(self) -> tuple[str, str]:
            nonlocal asked
            asked += 1
            return "default", PASSWORD

    with guarded:
        async with pair(guarded.url, credential_provider=Provider(), protocol=protocol) as clients:
            await exchange(*clients, "lock:")
    assert asked >= 2


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("rights", USERS.values(), ids=USERS)
async def test_a_restricted_user_is_enough(
    guarded: EmbeddedRedis, rights: str, protocol: int
) -> None:
    """An ACL user with few rights has locks; without messages they poll."""
    with guarded:
        with redis_sync.Redis.from_url(guarded.url, password=PASSWORD) as admin:
            admin.execute_command("ACL", "SETUSER", "locker", "on", ">secret", *rights.split())
        async with pair(guarded.url, username="locker", password="secret", protocol=protocol) as (
            one,
            other,
        ):
            # Polls soon, where it has to.
            await exchange(one, other, "lock:", Backoff(initial=0.02, cap=0.05))


async def test_a_wrong_password_is_an_error_in_time(guarded: EmbeddedRedis) -> None:
    """Who may not in gets ``StoreUnavailable`` with the server's own words, no hang."""
    with guarded:
        async with LockClient.from_url(
            guarded.url, password="wrong", unavailable_after=0.8
        ) as client:
            with pytest.raises(StoreUnavailable, match=r"(?i)password|auth"):
                await client.lock("wallet").acquire()


async def test_a_missing_right_is_an_error_at_once(guarded: EmbeddedRedis) -> None:
    """A key outside of the user's pattern is ``StoreUnavailable``, without retries."""
    with guarded:
        with redis_sync.Redis.from_url(guarded.url, password=PASSWORD) as admin:
            admin.execute_command(
                "ACL", "SETUSER", "locker", "on", ">secret", *USERS["all that is used"].split()
            )
        async with pair(guarded.url, username="locker", password="secret") as (redis, _):
            began = asyncio.get_running_loop().time()
            with pytest.raises(StoreUnavailable, match=r"(?i)NOPERM|permission"):
                await AsyncLock(redis, "wallet", namespace="elsewhere:").acquire()
            assert asyncio.get_running_loop().time() - began < 5.0


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_unix_socket_is_used(redis_binary: Path, protocol: int) -> None:
    """A server that is reached by a unix socket serves locks."""
    with EmbeddedRedis(binary=redis_binary, unix_socket=True) as server:
        async with pair(server.url, protocol=protocol) as (one, other):
            await exchange(one, other, "lock:")


@pytest.mark.parametrize("protocol", [2, 3])
async def test_the_clients_database_is_used(embedded_redis: EmbeddedRedis, protocol: int) -> None:
    """Locks are kept in the database that the client has chosen, and wake in it."""
    async with pair(embedded_redis.url, db=3, protocol=protocol) as (one, other):
        await exchange(one, other, "lock:")
        async with AsyncLock(one, "wallet"):
            assert await other.exists("lock:wallet") == 1
            async with pair(embedded_redis.url) as (elsewhere, _):
                assert await elsewhere.exists("lock:wallet") == 0


@pytest.fixture
async def tls_port(redis_url: str, tls_files: TlsFiles) -> AsyncIterator[int]:
    """A port that speaks TLS with the run's server behind it, whatever its build."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls_files.cert, tls_files.key)
    upstream = urlsplit(redis_url)
    links: set[asyncio.Task[object]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        links.add(task)
        # Cancelled below only: asyncio's stream callback would report that as an error.
        with suppress(asyncio.CancelledError):
            server = await asyncio.open_connection(upstream.hostname, upstream.port or 6379)
            try:
                await asyncio.gather(copy(reader, server[1]), copy(server[0], writer))
            finally:
                # A copy that is cancelled before it begins closes nothing.
                server[1].close()
                writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with listener:
        yield listener.sockets[0].getsockname()[1]
    for link in links:
        link.cancel()
    await asyncio.gather(*links, return_exceptions=True)


@pytest.mark.parametrize("protocol", [2, 3])
async def test_tls_is_used(
    tls_port: int, tls_files: TlsFiles, namespace: str, protocol: int
) -> None:
    """Over an encrypted and verified connection locks work as over a plain one."""
    url = f"rediss://127.0.0.1:{tls_port}"
    async with pair(url, ssl_ca_certs=str(tls_files.ca), protocol=protocol) as (one, other):
        await exchange(one, other, namespace)


async def test_an_unknown_authority_is_refused(tls_port: int, namespace: str) -> None:
    """The locks' connection verifies the server's certificate as the client does."""
    async with LockClient.from_url(
        f"rediss://127.0.0.1:{tls_port}", unavailable_after=0.8
    ) as client:
        with pytest.raises(StoreUnavailable, match=r"(?i)certificate|ssl"):
            await client.lock("wallet", namespace=namespace).acquire()
