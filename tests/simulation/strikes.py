"""What befalls processes, connections and servers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiodistlock.protocol.grant_message import prove
from tests.simulation.network import Connection
from tests.simulation.plan import BEYOND_PREMISES, OF_CONNECTIONS, OF_SERVERS, Strike
from tests.simulation.process import Process
from tests.simulation.redis.server import REFUSALS, RedisServer
from tests.simulation.resharding import Cluster

if TYPE_CHECKING:
    from tests.simulation.world import World

QUEUE = b"aiodistlock:queue:"
VOID = b"aiodistlock:void:"

CLOCKS_A_LITTLE = {"back a little": 0.01, "forward a little": 0.5}
"""By how many seconds a clock is set at most: less than the gap between fencing tokens, and less
than leases last."""

SERVERS_IN_THEMES = ("forge void", "evict", *CLOCKS_A_LITTLE)

MOST_PROCESSES = 12
"""So many there may have been in all; one that dies is followed by another."""


class Striker:
    """Has strikes happen, and end."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: list[Strike] = []
        self._over = False
        self._snatching = 0
        """How many tasks are to be cancelled as soon as they were handed something."""
        self.struck: Counter[str] = Counter()

    def strike(self, strike: Strike) -> None:
        """Strike, or be ready to."""
        if self._over:
            return
        if strike.waits:
            self._waiting.append(strike)
        else:
            self._now(strike)

    def handed_over(self) -> None:
        """Take in that a lock has just changed hands: that is when a fault hurts most."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            # Anywhere from now until whom it concerns has heard of it.
            self._world.timeline.after(each.number % 997 / 997 * 0.002, self._now, each)

    def end(self) -> None:
        """Strike no more, and have all go on."""
        self._over = True
        if self._world.failover is not None:
            self._world.failover.end()
        for server in self._world.servers:
            server.saying = None
            server.full = server.frozen = False
            if not server.up:
                server.come_up(keeps_data=True)
            self._world.network.hosts[server.name].plan()
        for process in self._world.processes:
            process.go_on()

    def _now(self, strike: Strike) -> None:
        if self._over:
            return
        process = self._aim(strike)
        if process is None:
            return
        kind = strike.kind
        if self._world.story.told:
            self._world.story.tell("fate", f"{strike} near {process.label}")
        if kind in (*OF_SERVERS, *BEYOND_PREMISES, *SERVERS_IN_THEMES):
            self._on_server(strike)
        elif kind in (*OF_CONNECTIONS, "late both ways"):
            connections = self._world.network.open(process)
            if not connections:
                return
            self._on_connection(strike, connections[strike.number % len(connections)])
        else:
            getattr(self, f"_{kind}")(process, strike)
        self.struck[kind] += 1

    def _aim(self, strike: Strike) -> Process | None:
        """Return whom a strike befalls."""
        alive = [each for each in self._world.processes if not each.dead]
        holders = [held.process for held in self._world.judge.held_now() if not held.process.dead]
        if strike.aim == "holder" and holders:
            return holders[strike.number % len(holders)]
        if strike.aim == "waiter" and len(set(holders)) < len(alive):
            alive = [each for each in alive if each not in holders]
        return alive[strike.number % len(alive)] if alive else None

    # Processes.

    def _kill(self, process: Process, strike: Strike, *, silently: bool = False) -> None:
        process.kill(silently=silently)
        world = self._world
        if len(world.processes) < MOST_PROCESSES:
            world.timeline.after(strike.amount * 0.1, self._begin_another)

    def _begin_another(self) -> None:
        if not self._over:
            self._world.begin_process()

    def _crash(self, process: Process, strike: Strike) -> None:
        self._kill(process, strike, silently=True)

    def _stop(self, process: Process, strike: Strike) -> None:
        process.stand_still(0.02 + strike.amount * 2.5)

    def _stall(self, process: Process, strike: Strike) -> None:
        process.stand_still(strike.amount * 0.3)

    def _suspend(self, process: Process, strike: Strike) -> None:
        process.suspend(0.02 + strike.amount * 2.5)

    def _cancel(self, process: Process, strike: Strike) -> None:
        workers = self._world.workers[process]
        worker = workers[strike.number % len(workers)]
        if worker.task is not None and not worker.task.done():
            worker.task.cancel()
            process.poke()

    def _snatch(self, _process: Process, _strike: Strike) -> None:
        self._snatching += 1

    def turned(self, process: Process) -> None:
        """Cancel a task that has what it waited for, and has not run since, if one is to be."""
        if not self._snatching or self._over:
            return
        for worker in self._world.workers[process]:
            future = getattr(worker.task, "_fut_waiter", None)
            if future is not None and future.done() and not future.cancelled():
                assert worker.task is not None
                self._snatching -= 1
                worker.task.cancel()
                return

    def _failover(self, _process: Process, strike: Strike) -> None:
        assert self._world.failover is not None, "there is a replica"
        self._world.failover.begin(strike)

    def _move(self, _process: Process, strike: Strike) -> None:
        assert isinstance(self._world.failover, Cluster)
        self._world.failover.move(strike)

    def _close(self, process: Process, _strike: Strike) -> None:
        client = self._world.clients.get(process)
        if client is not None and not client._closed:
            task = process.start(self._world.close(client), "closes")
            self._world.closers.setdefault(process, []).append(task)

    # Connections.

    def _on_connection(self, strike: Strike, connection: Connection) -> None:
        timeline = self._world.timeline
        ways = (connection.out, connection.back)
        way = ways[strike.number // 256 % 2]
        kind = strike.kind
        if kind == "reset":
            connection.reset()
        elif kind == "cut":
            way.left = 1 + int(strike.amount**2 * 600)
            ends: tuple[Callable[[], None], ...] = (
                connection.reset,
                connection.reset_at_client,
                connection.silent,
            )
            way.on_cut = ends[strike.number % 3]
        elif kind == "half":
            connection.reset_at_client()
            connection.out.hold(timeline.now + strike.amount * 3)
        elif kind == "silent":
            connection.silent()
        elif kind == "repeat":
            way.repeats = True
        elif kind == "late both ways":
            connection.back.hold(timeline.now + strike.amount * 0.5)
            connection.out.hold(timeline.now + 0.2 + strike.number % 997 / 997)
        elif kind == "hold":
            way.hold(timeline.now + strike.amount * 3)
        else:
            name = connection.host.server.name
            until = timeline.now + strike.amount * 2
            self._world.network.block(connection.process, name, until)

    # Servers.

    def _on_server(self, strike: Strike) -> None:
        world = self._world
        server = world.servers[strike.number % len(world.servers)]
        timeline, judge, kind = world.timeline, world.judge, strike.kind
        for_ = strike.amount * (0.1 if strike.number % 2 else 1.5)
        if kind in REFUSALS:
            server.saying = kind
            timeline.after(for_, self._recover, server.name)
        elif kind == "full":
            server.full = True
            server.end_sessions()
            timeline.after(for_, self._recover, server.name)
        elif kind == "freeze":
            server.frozen = True
            timeline.after(for_, self._recover, server.name)
        elif kind == "forge":
            self._forge(server)
        elif kind == "forge void":
            self._forge_void(server)
        elif kind == "flush scripts":
            server.scripts.clear()
        elif kind == "drop clients":
            server.end_sessions()
        elif kind in ("restart", "empty"):
            server.go_down()
            timeline.after(for_, self._restart, server.name, kind == "restart")
        elif kind in ("flush", "evict"):
            self._forget(server, strike)
        else:
            # By hours, down to what is less than the gap between fencing tokens.
            little = strike.number % 2 == 0
            by = strike.amount * 0.002 if little else 0.01 + strike.amount**4 * 3600
            if kind in CLOCKS_A_LITTLE:
                by = strike.amount * CLOCKS_A_LITTLE[kind]
            seconds = by if kind.startswith("forward") else -by
            server.step_clock(seconds)
            judge.clock_was_set(seconds)

    def _forget(self, server: RedisServer, strike: Strike) -> None:
        """Have a server forget all it keeps, or who has one of the locks."""
        held = [key for key in self._world.judge.keys if key in server.keys.values]
        if strike.kind == "flush":
            server.keys.values.clear()
            server.keys.ends.clear()
        elif held:
            server.keys.drop(held[strike.number % len(held)])
        self._world.judge.node_lost_data(server)

    def _forge(self, server: RedisServer) -> None:
        """Have a stranger publish grants, who knows all but the waiters' secrets."""
        for key, queue in server.keys.values.items():
            if key.startswith(QUEUE) and isinstance(queue, dict):
                lock = key.removeprefix(QUEUE).strip(b"{}")
                for record in queue:
                    ttl, inbox, _, token, *_ = record.split()
                    now = server.clock_us()
                    grant = b"2 %d %d %b %b %b" % (now, now, ttl, token, lock)
                    server.run(b"PUBLISH", (inbox, prove(grant, b"guessed") + b" " + grant))

    def _forge_void(self, server: RedisServer) -> None:
        """Have a stranger note that what a client is going to send is void."""
        words = self._world.asked
        for key in words:
            if key.startswith(VOID):
                tag = int(words[-1].split()[0])
                server.keys.values[key] = b"%d" % (tag + 1000)
                server.keys.ends[key] = server.clock_us() // 1000 + 1000

    def _recover(self, name: str) -> None:
        host = self._world.network.hosts[name]
        host.server.saying = None
        host.server.frozen = host.server.full = False
        host.plan()

    def _restart(self, name: str, keeps_data: bool) -> None:
        server = self._world.network.hosts[name].server
        if server.up:
            return
        server.come_up(keeps_data=keeps_data)
        if not keeps_data:
            self._world.judge.node_lost_data(server)
