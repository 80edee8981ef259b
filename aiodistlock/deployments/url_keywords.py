"""Options of a connection by URL as keyword arguments, for type checkers and editors.

Those of redis-py's ``Redis.from_url`` and ``RedisCluster.from_url``; what each does stands
there.  Whoever needs another one builds the client object, and passes that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from ssl import TLSVersion, VerifyFlags, VerifyMode
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from redis.asyncio.retry import Retry
    from redis.credentials import CredentialProvider


class ConnectionKeywords(TypedDict, total=False):
    """Options of a connection: redis-py's, and of Sentinel URLs the sentinels' credentials."""

    db: int
    username: str | None
    password: str | None
    credential_provider: CredentialProvider | None
    client_name: str | None
    protocol: int | None
    max_connections: int
    health_check_interval: float
    redis_connect_func: Callable[[Any], Awaitable[None] | None] | None
    retry: Retry | None
    retry_on_error: list[type[Exception]]
    retry_on_timeout: bool
    encoding: str
    encoding_errors: str
    decode_responses: bool
    socket_timeout: float | None
    socket_connect_timeout: float | None
    socket_read_size: int
    socket_keepalive: bool
    socket_keepalive_options: Mapping[int, int | bytes] | None
    ssl_ca_certs: str | None
    ssl_ca_data: str | None
    ssl_ca_path: str | None
    ssl_cert_reqs: str | VerifyMode
    ssl_certfile: str | None
    ssl_check_hostname: bool
    ssl_ciphers: str | None
    ssl_exclude_verify_flags: list[VerifyFlags] | None
    ssl_include_verify_flags: list[VerifyFlags] | None
    ssl_keyfile: str | None
    ssl_min_version: TLSVersion | None
    ssl_password: str | None
    sentinel_username: str
    sentinel_password: str
