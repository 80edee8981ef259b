"""What a Sentinel URL means."""

from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import SSLConnection
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool

from aiodistlock import LockClient
from aiodistlock.deployments.urls import client_from_url
from aiodistlock.doctor.targets import parse


def _pool(url: str, **options: Any) -> SentinelConnectionPool:
    client = client_from_url(url, **options)
    assert isinstance(client, Redis)
    pool = client.connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    return pool


def _addresses(pool: SentinelConnectionPool) -> list[tuple[str, int]]:
    settings = [each.connection_pool.connection_kwargs for each in pool.sentinel_manager.sentinels]
    return [(each["host"], each["port"]) for each in settings]


def test_hosts_with_and_without_ports() -> None:
    """Hosts are separated by commas; the port is 26379 unless said; IPv6 in brackets."""
    pool = _pool("redis+sentinel://h1:1234,h2,[::1]:5,[2001:db8::1]/mymaster")
    assert _addresses(pool) == [("h1", 1234), ("h2", 26379), ("::1", 5), ("2001:db8::1", 26379)]
    assert pool.service_name == "mymaster"


def test_credentials_are_the_masters_and_percent_decoded() -> None:
    """User and password go to the master; the sentinels' own are parameters."""
    pool = _pool(
        "redis+sentinel://us%65r:p%40s%2Fs@h1/my%20master?db=3&socket_timeout=1.5"
        "&sentinel_username=s&sentinel_password=p%26q"
    )
    settings = pool.connection_kwargs
    assert (settings["username"], settings["password"]) == ("user", "p@s/s")
    assert (settings["db"], settings["socket_timeout"]) == (3, 1.5)
    assert pool.service_name == "my master"
    sentinel = pool.sentinel_manager.sentinels[0].connection_pool.connection_kwargs
    assert (sentinel["username"], sentinel["password"]) == ("s", "p&q")
    assert sentinel["socket_timeout"] == 1.5


def test_a_password_alone() -> None:
    """As in redis-py's URLs, ``:password@`` is for the default user."""
    settings = _pool("redis+sentinel://:secret@h1/m").connection_kwargs
    assert (settings.get("username"), settings["password"]) == (None, "secret")


def test_tls_is_for_master_and_sentinels() -> None:
    """``rediss+sentinel`` speaks TLS to both, with the same files."""
    pool = _pool("rediss+sentinel://h1/m?ssl_ca_certs=/ca.pem")
    assert issubclass(pool.connection_class, SSLConnection)
    sentinel = pool.sentinel_manager.sentinels[0].connection_pool
    assert issubclass(sentinel.connection_class, SSLConnection)
    assert pool.connection_kwargs["ssl_ca_certs"] == "/ca.pem"
    assert sentinel.connection_kwargs["ssl_ca_certs"] == "/ca.pem"


def test_options_win_over_the_url() -> None:
    """Options of the call are the caller's last word."""
    assert _pool("redis+sentinel://h1/m?db=3", db=4).connection_kwargs["db"] == 4


def test_other_schemes_are_redis_pys() -> None:
    """``redis://`` stays what it is."""
    redis = client_from_url("redis://h1:1/2")
    assert isinstance(redis, Redis)
    assert redis.connection_pool.connection_kwargs["db"] == 2


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("valkey://u:p@h1:1/2", "redis://u:p@h1:1/2"),
        ("valkeys://h1?ssl_ca_certs=/ca", "rediss://h1?ssl_ca_certs=/ca"),
        ("valkey+sentinel://h1,h2/m?db=1", "redis+sentinel://h1,h2/m?db=1"),
        ("valkeys+sentinel://h1/m", "rediss+sentinel://h1/m"),
        ("valkey+cluster://h1,h2", "redis+cluster://h1,h2"),
        ("valkeys+cluster://h1", "rediss+cluster://h1"),
    ],
)
def test_a_url_of_valkey_is_one_of_redis(theirs: str, ours: str) -> None:
    """The same client and settings; for the command line the same deployment."""

    def settings(url: str) -> tuple[object, ...]:
        client = client_from_url(url)
        if isinstance(client, RedisCluster):
            return tuple(client.nodes_manager.startup_nodes), client.connection_kwargs["password"]
        pool: Any = client.connection_pool
        kwargs = {k: v for k, v in pool.connection_kwargs.items() if isinstance(v, str | int)}
        return type(pool), pool.connection_class, kwargs, getattr(pool, "service_name", None)

    assert settings(theirs) == settings(ours)
    mine, yours = parse([theirs]), parse([ours])
    assert (mine.kind, mine.service) == (yours.kind, yours.service)
    assert [each.place for each in mine.endpoints] == [each.place for each in yours.endpoints]


@pytest.mark.parametrize(
    "url",
    [
        "valkey+nonsense://u:hunter2@h1",
        "valkeyss://u:hunter2@h1",
        "valkey:u:hunter2@h1",
        "redis+sentinel://u:hunter2@h1",
        "redis+sentinel://u:hunter2@h1/",
        "redis+sentinel://u:hunter2@h1/m/0",
        "redis+sentinel://u:hunter2@/m",
        "redis+sentinel://u:hunter2@h1,,h2/m",
        "redis+sentinel://u:hunter2@h1:99999/m",
        "redis+sentinel://u:hunter2@h1:x/m",
        "redis+sentinel://u:hunter2@::1/m",
        "redis+sentinel://u:hunter2@[::1/m",
        "redis+sentinel://u:hunter2@h\u2100/m",
        "redis+sentinel://u:hunter2@h1/m?db=x",
        "redis+nonsense://u:hunter2@h1/m",
        "redis+sentinel://u:hunter2/3@h1/m",
        "redis://u:hunter2",
        "redis+sentinel://u:hunter2",
        "redis+cluster://u:hunter2?3@h1",
        "redis://u:hunter2/3@h1",
        "redis+cluster://u:hunter2#@h1",
    ],
)
def test_a_wrong_url_says_what_is_expected_and_shows_no_password(url: str) -> None:
    """A ``ValueError`` before any I/O, safe to be logged."""
    with pytest.raises(ValueError, match=r".") as caught:
        LockClient.from_url(url)
    chain: BaseException | None = caught.value
    while chain is not None:
        assert "hunter2" not in str(chain)
        chain = chain.__context__


def test_a_replica_is_refused() -> None:
    """Sentinel's ``slave_for`` cannot keep locks: a ``TypeError`` that says what can."""
    manager = Sentinel([("h1", 1)])  # type: ignore[no-untyped-call]  # redis-py's
    with pytest.raises(TypeError, match="master_for"):
        LockClient(manager.slave_for("mymaster"))
