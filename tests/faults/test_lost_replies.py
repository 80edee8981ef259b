"""Frames that are lost, late or repeated: every operation has the effect of exactly one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import Any, Literal, cast

import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import AsyncLock, Lease, LockClient, Ran, Run, Skipped
from aiodistlock.connection import silence
from aiodistlock.core.mark import read_mark
from tests.faults.world import (
    EAGER,
    SCRIPTS,
    client,
    eventually,
    load_scripts,
    nothing_left,
    waiters,
)
from tests.proxy import Action, ChaosProxy, Delay, Do, Frame, Kind, Repeat

TTL = 20.0


@dataclass
class Line:
    """Two clients behind one proxy that does something to a single frame."""

    proxy: ChaosProxy
    redis: redis_asyncio.Redis
    namespace: str
    here: LockClient
    there: LockClient
    name: str
    protocol: int
    fences: list[int] = field(default_factory=list)

    def lock(self, source: LockClient) -> AsyncLock:
        """Build a lock that makes up quickly for what is lost."""
        return source.lock(self.name, ttl=TTL, namespace=self.namespace, backoff=EAGER)

    async def holds(self, lease: Lease) -> None:
        """Check that Redis has this lease, and that its fencing token is above the former."""
        lease.check()
        assert await self.redis.get(f"{self.namespace}{self.name}") == lease._process_lease.value
        self.fences.append(lease.fencing_token)

    async def release(self, lease: Lease) -> None:
        """Release, and check that the token is not at the key any more."""
        await lease.release()
        assert await self.redis.get(f"{self.namespace}{self.name}") != lease._process_lease.value


Scenario = Callable[[Line], Awaitable[None]]


async def alone(line: Line) -> None:
    """acquire, extend, release, and again."""
    for _ in range(2):
        lease = await line.lock(line.here).acquire()
        await line.holds(lease)
        await lease.extend(50.0)
        left = await line.redis.pttl(f"{line.namespace}{line.name}")
        assert 30_000 < left <= 50_000
        await line.release(lease)


async def contended(line: Line) -> None:
    """Two processes hand over to each other, twice."""
    lease = await line.lock(line.here).acquire()
    await line.holds(lease)
    for source in (line.there, line.here):
        waiting = asyncio.create_task(line.lock(source).acquire())
        await _queued(line, waiting)
        await line.release(lease)
        lease = await waiting
        await line.holds(lease)
    await line.release(lease)


async def passed_on(line: Line) -> None:
    """A process with three tasks passes the lock on, gets it back, and keeps it once."""
    first = await line.lock(line.here).acquire()
    await line.holds(first)

    async def hold(source: LockClient) -> None:
        lease = await line.lock(source).acquire()
        await line.holds(lease)
        await lease.release()

    ours = [asyncio.create_task(hold(line.here)) for _ in range(2)]
    theirs = asyncio.create_task(line.lock(line.there).acquire())
    await _queued(line, theirs)
    await first.release()  # passes on: the span is 0
    # In whatever order: a waiter whose connection was cut loses its place.
    lease = await theirs
    await line.holds(lease)
    await line.release(lease)
    await asyncio.gather(*ours)


async def _done_once(line: Line, on_crash: Literal["retry", "skip"]) -> None:
    runs: list[Run] = []

    async def note(run: Run) -> None:
        runs.append(run)
        line.fences.append(run.fencing_token)

    jobs = [
        source.once(line.name, ttl=TTL, on_crash=on_crash, namespace=line.namespace)
        for source in (line.here, line.there)
    ]
    outcomes = await asyncio.gather(*(job.run(note, window=1) for job in jobs))
    assert {type(each) for each in outcomes} == {Ran, Skipped}
    assert [run.window.timestamp() for run in runs] == [1]
    mark = read_mark(cast(bytes, await line.redis.getdel(jobs[0]._keys.done)))
    assert mark is not None
    assert (mark.window_us, mark.done) == (1_000_000, True)


async def done_once(line: Line) -> None:
    """Two processes want the same window: it is done by one of them, once."""
    await _done_once(line, "retry")


async def begun_once(line: Line) -> None:
    """The same, marked at the start as well."""
    await _done_once(line, "skip")


async def read_and_written(line: Line) -> None:
    """Two read, one of them writes, reads on, and then the other one writes."""
    # No grant is over while the machine is busy: what is lost of it is asked for again.
    url = line.proxy.url
    options: dict[str, Any] = {"protocol": line.protocol, "claim_window": TTL}
    async with client(url, **options) as here, client(url, **options) as there:
        await _read_and_write(line, here, there)


async def _read_and_write(line: Line, here: LockClient, there: LockClient) -> None:
    ours, theirs = (
        each.rwlock(line.name, ttl=TTL, namespace=line.namespace, backoff=EAGER)
        for each in (here, there)
    )
    group = f"aiodistlock:readers:{{{line.namespace}{line.name}}}"
    one, other = await ours.upgradeable().acquire(), await theirs.read().acquire()
    assert await line.redis.zcard(group) == 2
    assert other.fencing_token == one.fencing_token
    upgrading = asyncio.create_task(one.upgrade())
    await asyncio.sleep(0)
    await other.release()
    await upgrading
    await line.holds(one)
    await one.downgrade()
    other = await theirs.read().acquire()
    assert other.fencing_token == one.fencing_token
    assert await line.redis.zcard(group) == 2
    writing = asyncio.create_task(theirs.write().acquire())
    await _queued(line, writing)
    await one.release()
    await other.release()
    writer = await writing
    await line.holds(writer)
    await line.release(writer)


SCENARIOS = [alone, contended, passed_on, done_once, begun_once, read_and_written]


async def _queued(line: Line, waiting: asyncio.Task[Lease]) -> None:
    async def is_queued() -> bool:
        return waiting.done() or await waiters(line.redis, line.namespace, line.name) == 1

    await eventually(is_queued, True, within=5)
    assert not waiting.done(), "somebody else holds the lock"


def once(kind: Kind, number: int, action: Action) -> Callable[[Frame], Action | None]:
    """Make a rule for the number-th frame of a kind, among those of our scripts."""
    numbers: Iterator[int] = count()

    def rule(frame: Frame) -> Action | None:
        ours = frame.name in SCRIPTS.values() or frame.name == "MESSAGE"
        if frame.kind != kind or not ours:
            return None
        if isinstance(action, Repeat) and (kind, frame.name) == ("request", "RELEASE"):
            # TCP repeats no request behind our back: "gone" would be a true answer.
            return None
        return action if next(numbers) == number else None

    return rule


@asynccontextmanager
async def line_to(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str, protocol: int
) -> AsyncIterator[Line]:
    """Open two clients behind a proxy, with connections and scripts warm."""
    proxy = ChaosProxy.before(redis_url)
    proxy.script_names = SCRIPTS
    async with proxy:
        here, there = (client(proxy.url, protocol=protocol, handoff_span=0.0) for _ in range(2))
        line = Line(proxy, redis, namespace, here, there, "n0", protocol)
        try:
            await load_scripts(redis)
            await contended(line)
            line.fences.clear()
            yield line
        finally:
            await here.aclose()
            await there.aclose()


async def play(line: Line, scenario: Scenario, rule: Callable[[Frame], Action | None]) -> None:
    """Play a scenario under a rule, and check what it leaves."""
    line.name = f"n{int(line.name[1:]) + 1}"
    line.fences.clear()
    line.proxy.rules = [rule]
    await scenario(line)
    line.proxy.rules = []
    assert all(low < high for low, high in pairwise(line.fences)), line.fences


@pytest.fixture(params=[3, 2], ids=["resp3", "resp2"])
async def line(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str, request: pytest.FixtureRequest
) -> AsyncIterator[Line]:
    """Two clients behind a proxy."""
    async with line_to(redis_url, redis, namespace, request.param) as line:
        yield line


ACTIONS: dict[str, Action] = {
    "cut-before": Do.CUT_BEFORE,
    "cut-after": Do.CUT_AFTER,
    "delayed": Delay(0.02),
    "repeated": Repeat(2),
    "dropped": Do.DROP,
}


@pytest.mark.bounded(60)
@pytest.mark.parametrize("kind", ["request", "reply", "push"])
@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
async def test_whatever_happens_to_any_frame_each_operation_has_the_effect_of_one(
    line: Line,
    scenario: Scenario,
    kind: Kind,
    action: Action,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fencing tokens rise strictly, only the holder's token is at the key, none stays."""
    # Silence on an open connection is found after five seconds: too long for a sweep.
    monkeypatch.setattr(silence, "ANSWER_WITHIN", 0.04)
    for number in count():
        hit = False
        rule = once(kind, number, action)

        def noting(frame: Frame, rule: Callable[[Frame], Action | None] = rule) -> Action | None:
            nonlocal hit
            decided = rule(frame)
            hit = hit or decided is not None
            return decided

        await play(line, scenario, noting)
        if not hit:
            break
    await nothing_left(line.redis, line.namespace)
    assert number >= (0 if kind == "push" else 4), "the sweep met the frames"
