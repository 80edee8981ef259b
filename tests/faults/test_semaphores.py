"""Permits under kills and stops, lost messages and cut connections."""

import asyncio
import itertools
import random
import signal
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import LeaseLost, LockClient, Semaphore, StoreUnavailable
from aiodistlock.connection import silence
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.faults.world import EAGER, PATIENT, client, eventually, nothing_left
from tests.proxy import Action, ChaosProxy, Delay, Do, Frame, Kind, Repeat

ROOT = Path(__file__).parents[2]
LIMIT = 3
TTL = 0.6


class Hold(NamedTuple):
    """What a process said of one lease: for how long it held which slots."""

    since: float
    until: float
    slots: tuple[int, ...]
    fence: int


def holds_in(told: str) -> list[Hold]:
    """Read what a process said; its last line may have been cut off by a kill."""
    claims: dict[tuple[tuple[int, ...], int], list[float]] = defaultdict(list)
    for line in told.splitlines(keepends=True):
        words = line.split()
        if line.endswith("\n") and words[:1] == ["holds"]:
            slots = tuple(map(int, words[2].split(",")))
            claims[slots, int(words[3])].append(float(words[1]))
    return [Hold(min(at), max(at), slots, fence) for (slots, fence), at in claims.items()]


def most_at_a_time(holds: list[Hold]) -> int:
    """Return how many permits were held at a time, and check that none was held twice."""
    for one, other in itertools.combinations(sorted(holds), 2):
        if other.since <= one.until:
            assert not set(one.slots) & set(other.slots), (one, other)
    events = [(each.since, len(each.slots)) for each in holds]
    # At one instant who comes is counted before who goes.
    events += [(each.until, -len(each.slots)) for each in holds]
    now, most = 0, 0
    for _, change in sorted(events, key=lambda event: (event[0], -event[1])):
        now += change
        most = max(most, now)
    return most


class Fleet:
    """Processes that hold permits, each of which writes what it holds into a file."""

    def __init__(self, url: str, namespace: str, where: Path) -> None:
        self._args = (url, namespace, str(LIMIT), str(TTL), "0.04")
        self._where = where
        self.running: list[asyncio.subprocess.Process] = []
        self._files: list[Path] = []

    async def start(self) -> None:
        """Start another one."""
        path = self._where / f"{len(self._files)}.txt"
        self._files.append(path)
        with path.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.faults.semaphore_main", *self._args),
                stdout=file,
                cwd=ROOT,
            )
        self.running.append(process)

    def kill(self, process: asyncio.subprocess.Process) -> None:
        """Kill one."""
        with suppress(ProcessLookupError):
            process.kill()

    async def end(self) -> None:
        """Kill all that run."""
        for process in self.running:
            self.kill(process)
            await process.wait()

    def holds(self) -> list[Hold]:
        """Return what all have said."""
        return [hold for path in self._files for hold in holds_in(path.read_text())]


@pytest.mark.bounded(120)
async def test_never_more_than_the_limit_by_the_holders_own_word(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str, tmp_path: Path
) -> None:
    """Whoever is killed or stopped: no permit is held twice, and all are back in the end."""
    rng = random.Random(7)
    fleet = Fleet(redis_url, namespace, tmp_path)
    try:
        for _ in range(3):
            await fleet.start()
        for each in range(6):
            before = len(fleet.holds())

            async def more(than: int = before) -> bool:
                return len(fleet.holds()) > than + 5

            await eventually(more, True, within=30)
            process = rng.choice(fleet.running)
            if each % 2:
                fleet.kill(process)
                fleet.running.remove(process)
                await process.wait()
                await fleet.start()
            else:
                process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(2 * TTL)  # real time: its leases end, others go on
                process.send_signal(signal.SIGCONT)
    finally:
        await fleet.end()
    ended = time.monotonic()
    holds = fleet.holds()
    assert len(holds) > 30
    assert most_at_a_time(holds) <= LIMIT
    async with client(redis_url) as here:
        semaphore = here.semaphore("gpu", LIMIT, namespace=namespace, backoff=PATIENT)
        async with semaphore.hold(permits=LIMIT, timeout=30):
            # Their ttl and a second, and more for a busy machine; nobody polls so soon.
            assert time.monotonic() - ended < TTL + 1.0 + 5.0
    await nothing_left(redis, namespace)


def test_the_judge_finds_two_on_one_slot_and_one_too_many() -> None:
    """What it is for."""
    assert most_at_a_time([Hold(1, 2, (0,), 1), Hold(1.5, 3, (1, 2), 2)]) == 3
    assert most_at_a_time([Hold(1, 2, (0,), 1), Hold(2.5, 3, (0,), 2)]) == 1
    with pytest.raises(AssertionError):
        most_at_a_time([Hold(1, 2, (0,), 1), Hold(1.5, 3, (0,), 2)])


@pytest.fixture
async def clients(redis_url: str) -> AsyncIterator[list[LockClient]]:
    """Three clients, as three processes would have them."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(client(redis_url)) for _ in range(3)]


async def test_the_first_fifty_of_many_tasks_cost_three_requests(
    named: ChaosProxy, namespace: str
) -> None:
    """One request for many local waiters; whoever comes next has a permit in memory."""
    inside, asked, gate = 0, 0, asyncio.Event()

    async def hold(semaphore: Semaphore) -> None:
        nonlocal inside, asked
        async with semaphore:
            inside += 1
            if inside == 50:
                asked = named.requests["ACQUIRE_PERMITS"]
            await gate.wait()

    async with client(named.url) as here:
        async with here.semaphore("warm", 1, namespace=namespace):
            pass
        named.frames.clear()
        named.requests.clear()
        semaphore = here.semaphore("gpu", 50, ttl=60.0, namespace=namespace)
        async with asyncio.TaskGroup() as group:
            for _ in range(64):
                group.create_task(hold(semaphore))

            async def held() -> int:
                return inside

            await eventually(held, 50, within=20)
            assert 1 <= asked <= 3
            gate.set()
        assert inside == 64


@pytest.mark.parametrize("count", [1, 2])
async def test_a_crashed_holders_permits_go_to_who_waits(
    clients: list[LockClient], redis: redis_asyncio.Redis, namespace: str, count: int
) -> None:
    """When its lease is over, though nobody polls; those of the others stay."""
    one, two, three = clients
    crashing = one.semaphore("gpu", 2, ttl=1.0, namespace=namespace)
    staying = two.semaphore("gpu", 2, ttl=30.0, namespace=namespace)
    waiting = three.semaphore("gpu", 2, ttl=30.0, namespace=namespace, backoff=PATIENT)
    lost = [await crashing.acquire() for _ in range(count)]
    others = [await staying.acquire() for _ in range(2 - count)]
    tasks = [asyncio.create_task(waiting.acquire()) for _ in range(count)]

    async def queued() -> int:
        return len((await staying.inspect()).waiters)

    await eventually(queued, count)
    one._engine("gpu").stop()  # as a crash: nothing is released
    crashed = time.monotonic()
    with anyio.fail_after(30):
        leases = await asyncio.gather(*tasks)
    assert time.monotonic() - crashed < 1.0 + 1.0 + 5.0  # more than it promises: a busy machine
    for lease in (*leases, *others):
        lease.check()
        await lease.release()
    del lost
    await nothing_left(redis, namespace)


async def test_permits_given_to_who_has_left_go_on_at_once(
    clients: list[LockClient], redis: redis_asyncio.Redis, redis_url: str, namespace: str
) -> None:
    """A failover may lose that a waiter has left: its process hears of permits, and gives them."""
    one, two, _ = clients
    async with client(redis_url, claim_window=30.0) as three:
        first, left, last = (
            each.semaphore("gpu", 1, ttl=30.0, namespace=namespace, backoff=PATIENT)
            for each in (one, three, two)
        )
        lease = await first.acquire()
        leaving = asyncio.create_task(left.acquire())

        async def queued() -> int:
            return len((await first.inspect()).waiters)

        await eventually(queued, 1)
        queue = first._keys.queue
        before: Any = await redis.zrange(queue, 0, -1, withscores=True)
        leaving.cancel()
        await eventually(queued, 0)
        await redis.zadd(queue, dict(before))  # as it is where its leaving is not known
        await lease.release()
        with anyio.fail_after(20):  # less than what has left would have had it for
            await (await last.acquire()).release()
    await nothing_left(redis, namespace)


ACTIONS: dict[str, Action] = {
    "cut-before": Do.CUT_BEFORE,
    "cut-after": Do.CUT_AFTER,
    "delayed": Delay(0.02),
    "repeated": Repeat(2),
    "dropped": Do.DROP,
}


class Strike:
    """A rule for the number-th frame of a kind, among those about permits."""

    def __init__(self, kind: Kind, number: int, action: Action) -> None:
        self._kind, self._left, self._action = kind, number, action
        self.hit = False

    def __call__(self, frame: Frame) -> Action | None:
        """Strike that one."""
        ours = frame.name.endswith("_PERMITS") or frame.name == "MESSAGE"
        if frame.kind != self._kind or not ours:
            return None
        if isinstance(self._action, Repeat) and frame.name == "RELEASE_PERMITS":
            return None  # TCP repeats no request: "gone" would be a true answer
        self._left -= 1
        if self._left != -1:
            return None
        self.hit = True
        return self._action


async def _contend(here: Semaphore, there: Semaphore) -> None:
    """Two processes want more than there is, in light and heavy leases."""
    held: set[int] = set()

    async def hold(semaphore: Semaphore, permits: int) -> None:
        with suppress(LeaseLost):
            async with semaphore.hold(permits=permits) as lease:
                assert not held & set(lease.slots)
                held.update(lease.slots)
                try:
                    await asyncio.sleep(0)
                    lease.check()
                finally:
                    held.difference_update(lease.slots)

    async with asyncio.TaskGroup() as group:
        for permits in (1, 2, 1):
            group.create_task(hold(here, permits))
            group.create_task(hold(there, permits))


@pytest.mark.bounded(120)
@pytest.mark.parametrize("protocol", [3, 2])
@pytest.mark.parametrize("kind", ["request", "reply", "push"])
@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())
async def test_whatever_happens_to_any_frame_no_permit_is_lost(  # noqa: PLR0917  # fixtures
    named: ChaosProxy,
    redis: redis_asyncio.Redis,
    namespace: str,
    protocol: int,
    kind: Kind,
    action: Action,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each operation has the effect of one: never more than the limit, and nothing stays."""
    monkeypatch.setattr(silence, "ANSWER_WITHIN", 0.2)
    async with AsyncExitStack() as stack:
        here, there = [
            await stack.enter_async_context(client(named.url, protocol=protocol, handoff_span=0.0))
            for _ in range(2)
        ]

        def semaphore(source: LockClient, number: int) -> Semaphore:
            return source.semaphore(f"n{number}", 2, ttl=20.0, namespace=namespace, backoff=EAGER)

        await _contend(semaphore(here, -1), semaphore(there, -1))
        for number in itertools.count():
            strike = Strike(kind, number, action)
            named.rules = [strike]
            with anyio.fail_after(60):
                await _contend(semaphore(here, number), semaphore(there, number))
            named.rules = []
            if not strike.hit:
                break
        await nothing_left(redis, namespace)


@pytest.mark.bounded(60)
async def test_cut_connections_keep_nobody_from_getting_on(
    proxy: ChaosProxy, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """Whatever was under way is sent again, or its lease is acquired again."""

    async def cut(*behind: LockClient) -> None:
        while True:
            await asyncio.sleep(0.02)  # real time: some requests get through
            if all(each.health().connected for each in behind):
                await proxy.cut()

    async with client(proxy.url) as one, client(proxy.url) as two:
        here, there = (
            each.semaphore("gpu", 2, namespace=namespace, backoff=EAGER) for each in (one, two)
        )
        cutting = asyncio.create_task(cut(one, two))
        for _ in range(10):
            await _contend(here, there)
        cutting.cancel()
    await nothing_left(redis, namespace, within=15.0)


async def test_without_memory_who_waits_is_told_and_who_holds_goes_on(
    embedded_redis: EmbeddedRedis,
) -> None:
    """``StoreUnavailable`` names it; leases are renewed and given back."""
    async with (
        client(embedded_redis.url, unavailable_after=0.5) as here,
        redis_asyncio.from_url(embedded_redis.url) as redis,
    ):
        semaphore = here.semaphore("gpu", 2, ttl=0.6)
        async with semaphore as lease:
            await redis.config_set("maxmemory", "1")
            with anyio.fail_after(30), pytest.raises(StoreUnavailable, match="OOM"):
                await semaphore.acquire()
            await asyncio.sleep(0.7)  # longer than the ttl: renewed without memory
            lease.check()
        await redis.config_set("maxmemory", "0")
        assert (await semaphore.inspect()).leases == ()
