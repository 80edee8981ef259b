"""Several clients that contend for one name on a quorum, and what fate does to them."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

from redis.asyncio import Redis

from aiodistlock import Backoff, Lease, LockClient, LockError
from aiodistlock.deployments.quorum.store import QuorumStore
from aiodistlock.protocol.grant_message import read_grant
from aiodistlock.waiting.engine import Engine
from tests.simulation.link import Link
from tests.simulation.server import Server

START_US = 1_800_000_000_000_000
QUARANTINE = 2.0
SECRET = b"secret"
BACKOFF = Backoff(initial=0.002, factor=2.0, cap=0.05)


@dataclass(frozen=True, kw_only=True)
class Fate:
    """
    What may happen.

    :param slow: longest usual delay of one way, seconds
    :param breaks: broken connections per second
    :param forgets: nodes that forget their scripts per second
    :param loses_data: restarts without data per second, of a minority at a time
    :param dies: clients killed per second
    :param skew: how far the clients' wall clocks are off, seconds
    :param stands: whether those clocks tell times around the last fencing token, as clocks
        do that were set back by as much as has passed
    """

    nodes: int = 5
    clients: int = 3
    ttl: float = 0.4
    slow: float = 0.003
    breaks: float = 0.0
    forgets: float = 0.0
    loses_data: float = 0.0
    dies: float = 0.0
    skew: float = 0.0
    stands: bool = False


class LocalClock:
    """A process's own clock, which runs a little fast or slow."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rate: float) -> None:
        self._loop = loop
        self._rate = rate

    def __call__(self) -> float:
        """Return its time, seconds."""
        return self._loop.time() * self._rate

    def call_later(
        self, delay: float, callback: Callable[..., object], /, *args: Any
    ) -> asyncio.TimerHandle:
        """Plan a call by the clock's own time."""
        return self._loop.call_later(delay / self._rate, callback, *args)


class Client:
    """One process: a real client over simulated links, with clocks of its own."""

    def __init__(self, world: "World", number: int) -> None:
        fate, rng, loop = world.fate, world.rng, asyncio.get_running_loop()
        rate, wrong = 1 + rng.uniform(-0.002, 0.002), rng.uniform(-fate.skew, fate.skew)
        self.clock = LocalClock(loop, rate)
        self.locks = LockClient([Redis(port=1 + node) for node in range(fate.nodes)])
        self.channel = b"inbox:%d" % number
        engine = Engine(f"client:{number}:x", self.locks.options, self.clock, rng)
        # As deployments/quorum/deployment.py does it with pipes.
        self.links = [Link(each, server, rng, world.delay) for each, server in world.servers]
        store = QuorumStore(
            self.links,
            b"%b %b" % (self.channel, SECRET),
            quarantine=QUARANTINE,
            clock=self.clock,
            wall_us=lambda: world.wall_us(wrong),
        )
        engine.on_quorum = True
        engine.start(store)
        self.engine = self.locks._engines["local"] = engine
        self.tasks = [loop.create_task(world.contend(self)) for _ in range(rng.choice((1, 4)))]

    def hear(self, message: bytes) -> None:
        """Take in a hint, as deployments/quorum/deployment.py does."""
        hint = read_grant(message, SECRET)
        assert hint is not None
        attempt = self.engine.delivery.attempt_of(hint)
        if attempt and not self.links[0].dead:
            attempt.ask_again()

    def kill(self) -> None:
        """End the process: nothing is cleaned up."""
        for link in self.links:
            link.die()
        for task in self.tasks:
            task.cancel()


class World:
    """Runs the clients, and checks each lease as it begins."""

    def __init__(self, fate: Fate, rng: Random) -> None:
        self.fate, self.rng = fate, rng
        self.loop = asyncio.get_running_loop()
        self.servers = list(enumerate(self._server() for _ in range(fate.nodes)))
        self.lost_at: dict[int, float] = {}
        self.clients: dict[bytes, Client] = {}
        self.held: list[tuple[Client, Lease]] = []
        self.killed: list[tuple[Client, float]] = []
        self.fences: list[int] = []
        self.tokens: list[str] = []
        self.problems: list[str] = []
        for _ in range(fate.clients):
            self._start_client()

    def wall_us(self, wrong: float = 0.0) -> int:
        """Return the time of a wall clock, µs."""
        if self.fate.stands and self.fences and self.rng.random() < 0.7:
            near = self.rng.choice((3, 1_500))
            return self.fences[-1] + self.rng.randint(-near, near)
        return START_US + int((self.loop.time() + wrong) * 1e6)

    def _server(self) -> Server:
        rate, wrong = 1 + self.rng.uniform(-0.002, 0.002), self.rng.uniform(-3, 3)

        def clock_us() -> int:
            return START_US + int((self.loop.time() * rate + wrong) * 1e6)

        return Server(clock_us, self._publish)

    def _publish(self, channel: bytes, message: bytes) -> int:
        client = self.clients.get(channel)
        if client is None or self.rng.random() < 0.1:
            return 0
        if self.rng.random() < 0.9:
            self.loop.call_later(self.delay(), client.hear, message)
        return 1

    def _start_client(self) -> None:
        number = len(self.clients) + len(self.killed)
        client = Client(self, number)
        self.clients[client.channel] = client

    def delay(self) -> float:
        """Draw how long a message takes; a few take very long."""
        slow = self.fate.slow if self.rng.random() < 0.97 else 0.3
        return self.rng.uniform(0.0002, slow)

    async def contend(self, client: Client) -> None:
        """Take the lock again and again, by all ways."""
        lock = client.locks.lock("a", ttl=self.fate.ttl, backoff=BACKOFF)
        while True:
            await asyncio.sleep(self.rng.uniform(0, 0.01))
            with suppress(LockError):
                timeout = self.rng.choice((None, 0.0, 0.02, 0.3, 5.0))
                lease = await self._bounded(lock.acquire(timeout=timeout))
                if lease is not None:
                    await self._hold(client, lease)

    async def _bounded(self, acquire: Awaitable[Lease]) -> Lease | None:
        """Acquire, sometimes to be cancelled at any instant."""
        if self.rng.random() < 0.8:
            return await acquire
        with suppress(TimeoutError):
            async with asyncio.timeout(self.rng.uniform(0, 0.05)):
                return await acquire
        return None

    async def _hold(self, client: Client, lease: Lease) -> None:
        self._check(client, lease)
        try:
            longest = self.rng.choice((0.0, 0.001, 0.05, 2 * self.fate.ttl))
            await asyncio.sleep(self.rng.uniform(0, longest))
            if self.rng.random() < 0.1:
                await lease.extend(self.rng.uniform(0.06, self.fate.ttl))
        finally:
            await lease.release()

    def _check(self, client: Client, lease: Lease) -> None:
        self.held = [(whose, each) for whose, each in self.held if each.is_held]
        others = [each.token for _, each in self.held]
        others += [whose.channel.decode() for whose, until in self.killed if whose.clock() < until]
        if lease.is_held and others:
            self.problems.append(f"{lease.token} besides {others}")
        if self.fences and lease.fencing_token <= self.fences[-1]:
            self.problems.append(f"{lease.token}: {lease.fencing_token} after {self.fences[-1]}")
        self.fences.append(lease.fencing_token)
        self.tokens.append(lease.token)
        self.held.append((client, lease))

    async def run(self, seconds: float) -> None:
        """Let fate have its way, then end."""
        fate, rng = self.fate, self.rng
        chances: list[tuple[float, Callable[[], Any]]] = [
            (fate.breaks, self._break),
            (fate.forgets, self._forget),
            (fate.loses_data, self._lose_data),
            (fate.dies, self._kill),
        ]
        until = self.loop.time() + seconds
        while self.loop.time() < until and not self.problems:
            await asyncio.sleep(0.05)
            for per_second, strike in chances:
                if rng.random() < per_second * 0.05:
                    strike()
        for client in self.clients.values():
            client.kill()
            client.engine.stop()

    def _break(self) -> None:
        client = self.rng.choice(list(self.clients.values()))
        self.rng.choice(client.links).break_(self.rng.choice((0.001, 0.1, 1.0)))

    def _forget(self) -> None:
        known = self.rng.choice(self.servers)[1].known
        known -= set(self.rng.sample(sorted(known), len(known) // 2))

    def _lose_data(self) -> None:
        """A minority at a time: a node counts again after the quarantine."""
        now = self.loop.time()
        recent = {node for node, at in self.lost_at.items() if now < at + 2 * QUARANTINE}
        node, server = self.rng.choice(self.servers)
        if len(recent | {node}) <= (self.fate.nodes - 1) // 2:
            self.lost_at[node] = now
            server.lose_data()

    def _kill(self) -> None:
        # Half of the time whoever holds the lock, if somebody does.
        holders = [whose.channel for whose, lease in self.held if lease.is_held]
        alive = [each for each in holders if each in self.clients]
        channel = self.rng.choice(alive if self.rng.random() < 0.5 and alive else [*self.clients])
        client = self.clients[channel]
        deadlines = [lease.deadline for lease in client.engine.watchdog.leases() if lease.alive]
        client.kill()
        del self.clients[channel]
        # What it holds by its own clock bars the others still.
        self.killed.append((client, max(deadlines, default=0.0)))
        self._start_client()
