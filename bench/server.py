"""The servers under test: an embedded Redis, and an etcd where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.error import URLError
from urllib.request import urlopen

from redis import Redis

from aiodistlock.testing.discovery import free_port
from aiodistlock.testing.embedded import EmbeddedRedis


@dataclass(frozen=True)
class Reading:
    """What the server has done so far: CPU seconds, and calls by command."""

    cpu: float
    calls: dict[str, int]

    def requests_since(self, before: Reading, commands: Sequence[str]) -> int:
        """Return how many calls of these commands there were in between."""
        return sum(self.calls.get(each, 0) - before.calls.get(each, 0) for each in commands)


class BenchServer:
    """
    A private Redis that keeps nothing on disk.

    :param args: further arguments of the server
    """

    def __init__(self, args: Sequence[str] = ()) -> None:
        self._embedded = EmbeddedRedis(args=args)
        self.redis: Redis

    def __enter__(self) -> Self:
        self._embedded.start()
        self.redis = Redis.from_url(self.url)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.redis.close()
        self._embedded.stop()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return self._embedded.url

    @property
    def port(self) -> int:
        """The TCP port."""
        return self._embedded.port

    @property
    def version(self) -> str:
        """The server's version."""
        return self._embedded.version

    def clear(self) -> None:
        """Forget all data; the scripts stay."""
        self.redis.flushall()

    def kill(self) -> None:
        """End the server as a crash would."""
        self._embedded.kill()

    def freeze(self) -> None:
        """Freeze the server: connections stay, answers do not come."""
        self._embedded.freeze()

    def read(self) -> Reading:
        """Read the server's counters."""
        cpu: dict[str, Any] = self.redis.info("cpu")
        found: dict[str, Any] = self.redis.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): each["calls"] for name, each in found.items()}
        return Reading(cpu["used_cpu_user"] + cpu["used_cpu_sys"], calls)

    @contextmanager
    def pinned(self, core: int | None) -> Iterator[None]:
        """Keep the server's threads on one core for a while; ``None`` changes nothing."""
        if core is None or not hasattr(os, "sched_setaffinity"):
            yield
            return
        threads = [int(each) for each in os.listdir(f"/proc/{self._embedded.pid}/task")]
        before = os.sched_getaffinity(self._embedded.pid)
        for thread in threads:
            os.sched_setaffinity(thread, {core})
        try:
            yield
        finally:
            for thread in threads:
                os.sched_setaffinity(thread, before)


class BenchEtcd:
    """A private etcd of one member, with its defaults: it syncs every write to disk."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="aiodistlock-etcd-")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        peers = f"http://127.0.0.1:{free_port()}"
        self._process = subprocess.Popen(
            [
                "etcd",
                f"--data-dir={self._folder}",
                f"--listen-client-urls={self.url}",
                f"--advertise-client-urls={self.url}",
                f"--listen-peer-urls={peers}",
                f"--initial-advertise-peer-urls={peers}",
                f"--initial-cluster=default={peers}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._wait_until_healthy()
        except BaseException:
            self._stop()
            raise
        return self

    def _wait_until_healthy(self, within: float = 15.0) -> None:
        until = time.monotonic() + within
        while time.monotonic() < until:
            try:
                # The address is the one made above.
                with urlopen(f"{self.url}/health", timeout=1) as reply:  # noqa: S310
                    if b"true" in reply.read():
                        return
            except (URLError, OSError):
                time.sleep(0.1)
        raise TimeoutError(f"etcd did not get healthy within {within:g} s")

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)
