"""What is done once a window, by processes that are killed, and whose clocks are wrong."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import LockError, Ran, Run, StoreUnavailable
from tests.faults import once_main
from tests.faults.world import SCRIPTS, client, eventually, load_scripts, nothing_left
from tests.proxy import ChaosProxy, Do, on

ROOT = Path(__file__).parents[2]

WINDOWS = int(os.environ.get("ONCE_WINDOWS", "6"))
"""How many windows the fleet does; by hand more."""

TTL = float(os.environ.get("ONCE_TTL", "2.0"))
SKEWS = (-10.0, 0.0, 10.0)


class Host:
    """One process of the fleet."""

    def __init__(self, process: asyncio.subprocess.Process, told: asyncio.Queue["Told"]) -> None:
        self.process = process
        self._told = told
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := (await self.process.stdout.readline()).decode().split():
            if len(line) == 3:  # a line of one that was killed may be cut
                self._told.put_nowait((self, line[0], int(line[1]), int(line[2])))

    def ask(self, word: str, window: int) -> None:
        """Have it do something; who is killed does nothing."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(f"{word} {window}\n".encode())

    async def kill(self) -> None:
        """End it by SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        await self._reading


Told = tuple[Host, str, int, int]


class Fleet:
    """Three hosts whose clocks are wrong, and what they tell."""

    def __init__(self, url: str, namespace: str) -> None:
        self._url, self._namespace = url, namespace
        self.told: asyncio.Queue[Told] = asyncio.Queue()
        self.hosts: dict[Host, float] = {}

    async def start(self, skew: float) -> Host:
        """Start a host."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.faults.once_main", self._url, self._namespace, str(TTL),
            str(skew), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        host = Host(process, self.told)
        self.hosts[host] = skew
        return host

    async def replace(self, host: Host) -> Host:
        """Kill a host, and start another in its place."""
        await host.kill()
        return await self.start(self.hosts.pop(host))

    async def do(self, window: int, *, kill: bool) -> tuple[int, float]:
        """
        Have all do a window; who begins it first is killed, if that is wished.

        Return how often it ran to its end, and how long a killed one was not followed.
        """
        asked = set(self.hosts)
        for host in asked:
            host.ask("run", window)
        ends, killed_at, pause, fences = 0, 0.0, 0.0, []
        while asked:
            host, word, of, fence = await self.told.get()
            if of != window or host not in self.hosts:
                continue
            if word == "begun":
                fences.append(fence)
                if killed_at and not pause:
                    pause = time.monotonic() - killed_at
                if kill and not killed_at:
                    asked.discard(host)
                    # From before it, as it may be dead at once.
                    killed_at = time.monotonic()
                    new = await self.replace(host)
                    asked.add(new)
                    new.ask("run", window)
                    for each in self.hosts:
                        each.ask("go", window)
                elif not kill or host in self.hosts:
                    for each in self.hosts:
                        each.ask("go", window)
            elif word != "lost":
                ends += word == "ran"
                asked.discard(host)
        assert fences == sorted(set(fences)), "each run has a higher fencing token"
        assert len(fences) > kill
        return ends, pause


@pytest.fixture
async def fleet(redis_url: str, redis: redis_asyncio.Redis, namespace: str) -> AsyncIterator[Fleet]:
    """A fleet whose hosts and mark are gone afterwards."""
    fleet = Fleet(redis_url, namespace)
    try:
        for skew in SKEWS:
            await fleet.start(skew)
        yield fleet
    finally:
        for host in list(fleet.hosts):
            await host.kill()
        await redis.delete(f"aiodistlock:done:{{{namespace}job}}", f"{namespace}job")
        await redis.delete(f"aiodistlock:queue:{{{namespace}job}}")


@pytest.mark.bounded(60 + 20 * WINDOWS)
async def test_a_fleet_does_each_window_to_its_end_once(fleet: Fleet) -> None:
    """Three hosts whose clocks are 10 s apart; every third run is killed, and taken over."""
    pauses = []
    with anyio.fail_after(40 + 20 * WINDOWS):
        for window in range(1, WINDOWS + 1):
            ends, pause = await fleet.do(window, kill=window % 3 == 0)
            assert ends == 1, window
            if window % 3 == 0:
                pauses.append(pause)
    assert len(pauses) == WINDOWS // 3
    # The promise is ttl + 1 s; what a machine under load adds is not its matter.
    assert max(pauses) < TTL + 10.0


@pytest.mark.parametrize("skew", [-86_400.0, 86_400.0])
async def test_the_hosts_clock_tells_no_window(
    redis_url: str,
    redis: redis_asyncio.Redis,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    skew: float,
) -> None:
    """It is a day off, and the window is the server's."""
    for name in ("time", "time_ns"):
        monkeypatch.setattr(time, name, getattr(time, name))  # to have it back afterwards
    once_main.set_wall_clock(skew)
    every = timedelta(minutes=10)
    async with client(redis_url) as here:
        once = here.once("job", every=every, namespace=namespace)
        before = (await redis.time())[0]

        async def window(run: Run) -> float:
            return run.window.timestamp()

        outcome = await once.run(window)
    after = (await redis.time())[0]
    assert isinstance(outcome, Ran)
    assert before - before % 600 <= outcome.value <= after
    assert outcome.value % 600 == 0
    await redis.delete(once._keys.done)


async def test_an_end_that_redis_does_not_confirm_is_told(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """``StoreUnavailable``, though the work is done: somebody may repeat the window."""
    proxy = ChaosProxy.before(redis_url)
    proxy.script_names = SCRIPTS
    async with proxy, client(proxy.url, unavailable_after=1.0) as here:
        await load_scripts(redis)
        once = here.once("job", ttl=1.0, namespace=namespace)
        ended = []

        async def job(_run: Run) -> None:
            proxy.rules = [on("request", "MARK", Do.BLACK_HOLE)]
            ended.append(True)

        with anyio.fail_after(30), pytest.raises(StoreUnavailable):
            await once.run(job, window=1)
        assert ended
        proxy.rules = []
    assert await redis.get(once._keys.done) is None
    await nothing_left(redis, namespace)


async def test_a_late_copy_of_an_unheard_end_is_not_taken_for_done(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """The request is lost, the lease ends, and then the copy comes: no mark, so it is lost."""
    proxy = ChaosProxy.before(redis_url)
    proxy.script_names = SCRIPTS
    async with proxy, client(proxy.url) as here:
        await load_scripts(redis)
        once = here.once("job", ttl=20.0, namespace=namespace)

        async def job(_run: Run) -> None:
            proxy.rules = [on("request", "MARK", Do.CUT_BEFORE, number=1)]
            await redis.delete(once._keys.key)

        with anyio.fail_after(30), pytest.raises(LockError, match="gone"):
            await once.run(job, window=1)
    assert await redis.get(once._keys.done) is None


@asynccontextmanager
async def in_a_child() -> AsyncIterator[bool]:
    """Fork; tell whether this is the child, which ends with the block."""
    pid = os.fork()
    try:
        yield pid == 0
    finally:
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)  # noqa: ASYNC222 - the child ends without us


async def test_a_child_process_does_not_end_its_parents_run(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """``check`` says so there; the parent's run goes on, and ends."""
    reads, writes = os.pipe()
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(client(redis_url))
        once = here.once("job", namespace=namespace)

        async def job(run: Run) -> None:
            async with in_a_child() as child:
                if child:
                    try:
                        run.check()
                    except LockError as error:
                        os.write(writes, type(error).__name__.encode())
            run.check()

        outcome = await once.run(job, window=1)
    assert os.read(reads, 100) == b"LockError"
    for each in (reads, writes):
        os.close(each)
    assert isinstance(outcome, Ran)
    await eventually(lambda: redis.delete(once._keys.done), 1)
