"""A world: processes, servers and a network between, and what befalls them."""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any
from weakref import finalize

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from aiodistlock import LockClient
from aiodistlock.core.value import READERS
from aiodistlock.protocol import scripts
from tests.simulation.cluster_judge import ClusterJudge
from tests.simulation.failover import Failover
from tests.simulation.inside import Inside
from tests.simulation.judge import Judge
from tests.simulation.known import Violation
from tests.simulation.leaders import LOOKS_WITHIN
from tests.simulation.network import Network
from tests.simulation.plan import CLUSTER, SENTINEL, Plan
from tests.simulation.process import Process
from tests.simulation.quorum_judge import QUARANTINE, QuorumJudge
from tests.simulation.redis.cluster import PORT, ClusterServer
from tests.simulation.redis.sentinel import SERVICE, SentinelServer
from tests.simulation.redis.server import REFUSALS, RedisServer
from tests.simulation.redis.session import Session
from tests.simulation.resharding import Cluster, first_view
from tests.simulation.sentinel_judge import SentinelJudge
from tests.simulation.story import Story
from tests.simulation.strikes import Striker
from tests.simulation.timeline import Timeline
from tests.simulation.uses.election import Observer
from tests.simulation.worker import Worker

SETTLES_WITHIN = 45.0
"""Seconds, at most, until all who are alive have what they wait for, once all is well again."""

NOTICED_WITHIN = 12.0
"""Seconds within which a client notices that its connection is dead, and has made another one."""

LEFT_FOR = 35.0
"""Seconds after which nothing may be left of those who died: a queue outlives them by 30."""

VOID = b"aiodistlock:void:"

MARK = b"aiodistlock:done:"
VERSION = b"aiodistlock:version:"

PROCLAIMED = b"aiodistlock:leader:"

STAYS = (b"aiodistlock:fence", VOID, MARK, VERSION, b"aiodistlock:marker")
"""What stays on a server, by docs/design.md."""


@dataclass(frozen=True)
class Outcome:
    """What came of a schedule."""

    plan: Plan
    violations: tuple[Violation, ...]
    events: int
    seconds: float
    """Simulated."""
    holds: int
    kinds: Counter[str]
    """How many leases of each kind of lock there were."""
    struck: Counter[str]
    """How many strikes of each kind there were."""
    rows: Counter[str] = field(default_factory=Counter)
    """How often rows of the state tables were reached, if that was counted."""


class World:
    """Runs one plan."""

    def __init__(self, plan: Plan, *, told: bool = False) -> None:
        self._finalizers = set(finalize._registry)  # type: ignore[attr-defined]  # as below
        self.plan = plan
        self.rng = Random(f"{plan.seed}:world")
        self.timeline = Timeline()
        self.story = Story(lambda: self.timeline.now, told=told)
        names = [f"n{number}" for number in range(plan.names)]
        self.judge = _judge_of(plan)(self.timeline, plan, names, self.story)
        self.network = Network(self.timeline, plan.weather(), plan.seed)
        self.servers = [self._server(f"redis{number}") for number in range(plan.nodes)]
        self.judge.servers = self.servers
        self.failover: Failover | Cluster | None = None
        if isinstance(self.judge, ClusterJudge):
            members = [each for each in self.servers if isinstance(each, ClusterServer)]
            self.failover = Cluster(self.network, self.judge, members, self.rng)
        elif isinstance(self.judge, SentinelJudge):
            self.failover = self._behind_sentinels(self.judge)
        self.processes = self.judge.processes
        self.workers: dict[Process, list[Worker]] = {}
        self.clients: dict[Process, LockClient] = {}
        self.closers: dict[Process, list[asyncio.Task[None]]] = {}
        """Tasks that close the client of a process, while its others use it."""
        self.observers: dict[Process, list[Observer]] = {}
        self.observing: dict[Process, list[asyncio.Task[None]]] = {}
        """Their tasks, which end with their client."""
        self.mains: dict[Process, asyncio.Task[None]] = {}
        self.striker = Striker(self)
        self.judge.struck = self.striker.struck.total
        self.inside = Inside()
        self.ending = False
        self.asked: list[bytes] = []
        """What was asked last, of any server."""
        self.must_clean_up: list[bytes] = []
        for _ in range(plan.processes):
            self.begin_process()

    def _behind_sentinels(self, judge: SentinelJudge) -> Failover:
        names = [f"sentinel{number}" for number in range(3)]
        sentinels = [
            SentinelServer(name, lambda: self.timeline.now, self.servers[0].name) for name in names
        ]
        for each in sentinels:
            self.network.add(each)
        return Failover(self.network, judge, self.servers, sentinels, self.rng)

    def _redises(self, protocol: int) -> list[Any]:
        """Make client objects: one for each node, of a cluster, or of what sentinels name."""
        if self.plan.deployment == CLUSTER:
            nodes = [ClusterNode(each.name, PORT) for each in self.servers]
            return [RedisCluster(startup_nodes=nodes, protocol=protocol)]
        if self.failover is None:
            return [Redis(host=each.name, protocol=protocol) for each in self.servers]
        hosts = [(name, 26379) for name in self.network.hosts if name.startswith("sentinel")]
        sentinel: Any = Sentinel(hosts, sentinel_kwargs={"protocol": protocol})  # type: ignore[no-untyped-call]  # redis-py's
        return [sentinel.master_for(SERVICE, protocol=protocol)]

    def _redis_py(self, protocol: int) -> Any:
        """Make a client of redis-py's own, which asks each thing once."""
        options: dict[str, Any] = {"protocol": protocol, "socket_timeout": 1.0}
        options |= {"socket_connect_timeout": 1.0, "retry": Retry(NoBackoff(), 0)}
        return Redis(host=self.servers[0].name, **options)

    def _server(self, name: str) -> RedisServer:
        # The clocks of successive primaries agree: what is lost in a failover the clock covers.
        if self.plan.deployment == CLUSTER:
            view = first_view([f"redis{number}" for number in range(self.plan.nodes)])
            server: RedisServer = ClusterServer(name, lambda: self.timeline.now, self, view)
        else:
            rate = 1 if self.plan.deployment == SENTINEL else 1 + self.rng.uniform(-0.003, 0.003)
            server = RedisServer(name, lambda: self.timeline.now, self, rate)
        self.network.add(server)
        server.acknowledge = self._write_to_disk
        if self.plan.busy:  # a claim that has to be sent again comes behind what a body does
            for script in vars(scripts).values():
                if isinstance(script, scripts.Script):
                    server.learn(script.source)
                    server.learn(script.sharded.source)
        return server

    def _write_to_disk(self, within: float, tell: Callable[[int], object]) -> None:
        """Have a disk take its time."""
        takes = 0.001 if self.rng.random() < 0.7 else self.rng.uniform(0.0, 1.2)
        self.timeline.after(min(takes, within), tell, int(takes < within))

    def before(self, server: RedisServer) -> None:
        """Look before a request runs."""
        self.judge.before(server)

    def answered(
        self, server: RedisServer, session: Session, words: list[bytes], reply: Any
    ) -> None:
        """Look at what was asked, and answered."""
        self.asked = words
        if self.story.told:
            assert isinstance(session.owner, Process)
            self.story.request(server.name, session.owner, words, reply)

    def after(self, server: RedisServer, session: Session) -> None:
        """Look at what a request has left."""
        changes = self.judge.handed_over
        self.judge.after(server, session)
        if self.failover is not None:
            self.failover.written(server)
        if self.judge.handed_over > changes:
            self.judge.look_at_all()
            self.striker.handed_over()

    def _after_turn(self, process: Process) -> None:
        if process.loop.failures:
            failure = process.loop.failures.pop()
            what = f"{process.label}: {failure.get('message')}: {failure.get('exception')!r}"
            self.judge.note("loop", what)
        client = self.clients.get(process)
        if client is not None:
            for what in self.inside.look(client, was_suspended=process.was_suspended):
                self.judge.note("inside", f"{process.label}: {what}")
            self.striker.turned(process)
        self.judge.look_at_all()

    def begin_process(self) -> Process:
        """Begin a process."""
        number = len(self.processes)
        rng = Random(f"{self.plan.seed}:process {number}")
        process = Process(
            number,
            self.timeline,
            self.network,
            rng,
            rate=1 + rng.uniform(-0.003, 0.003),
            turn=rng.choice((10e-6, 50e-6, 1e-3)),
            after_turn=self._after_turn,
            slips=self.plan.slips,
            look_costs=self.plan.look_costs,
        )
        self.processes.append(process)
        self.workers[process] = [
            Worker(process, self.judge, self.plan, each) for each in range(self.plan.workers)
        ]
        self.mains[process] = process.start(self._main(process), "main")
        return process

    async def _main(self, process: Process) -> None:
        """Be a process: one client after the other, and tasks that use it."""
        protocol = process.rng.choice((2, 3, 3))
        while not self._is_ending():
            redises = self._redises(protocol)
            process.patience = patience = process.rng.choice((0.5, 5.0, 30.0, 30.0))
            client = self.clients[process] = LockClient(
                redises if len(redises) > 1 else redises[0],
                label=process.label,
                unavailable_after=patience,
                claim_window=self.plan.claim_window,
                quarantine=QUARANTINE,
            )
            if "redis-py" in self.plan.kinds:
                process.redis_py = self._redis_py(protocol)
            async with client:
                await self._work(process, client)
                if self._is_ending() and not client._closed:
                    await asyncio.sleep(NOTICED_WITHIN)
                    self._note_who_must_clean_up(client, patience)
                    await self._look_at_observers(process, client)
            await asyncio.gather(*self.observing.pop(process, ()))
            await asyncio.gather(*self.closers.pop(process, ()), return_exceptions=True)
            for redis in redises:
                await redis.aclose()
            if process.redis_py is not None:
                await process.redis_py.aclose()
        self._look_for_leaks(process)

    async def _work(self, process: Process, client: LockClient) -> None:
        """Have all tasks of a process use a client until they are told to stop."""
        workers = self.workers[process]
        tasks = [
            process.loop.create_task(each.run(client), name=f"worker {number}")
            for number, each in enumerate(workers)
        ]
        if "election" in self.plan.kinds:
            rng = Random(f"{self.plan.seed}:{process.label}:observers")
            names = [name for name in self.judge.names if rng.random() < 0.7]
            self.observers[process] = [Observer(process, self.judge, each, rng) for each in names]
            self.observing[process] = [
                process.loop.create_task(each.run(client), name="observer")
                for each in self.observers[process]
            ]
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled() and task.exception() is not None:
                raise task.exception() or AssertionError
        await asyncio.gather(*(task for each in workers for task in each.tasks_beside))

    async def _look_at_observers(self, process: Process, client: LockClient) -> None:
        """See what observers know when nobody has led for long."""
        observers = self.observers.get(process, ())
        if observers:
            await asyncio.sleep(LOOKS_WITHIN)
        for each in observers:
            if not client._closed:
                self.judge.look_at_end(each)

    async def close(self, client: LockClient) -> None:
        """Close a client while it is used; where all is well else, it leaves nothing."""
        prefixes = [engine.token_prefix for engine in client._engines.values()]
        first = not client._closed
        # What was lost keeps others out until its body has ended, or its ttl.
        lost = {token for engine in client._engines.values() for token in engine.let_go}
        await client.aclose()
        if not first or not self.plan.only_closes:
            return
        for server in self.servers:
            for key, value in server.keys.values.items():
                texts = list(value) if isinstance(value, dict) else [value]
                # A group is named after its first reader, who may have left.
                texts = [text for text in texts if not text.startswith(READERS.encode())]
                texts = [text for text in texts if text.split(b" ")[0] not in lost]
                tells = any(own in text for own in prefixes for text in texts)
                if tells and not key.startswith(STAYS):
                    self.judge.note("left", f"{key!r} has {texts!r} of a client that was closed")

    def _is_ending(self) -> bool:
        return self.ending

    def _note_who_must_clean_up(self, client: LockClient, patience: float) -> None:
        """Take down a client that is about to be closed while all is well."""
        # Who gives up on a server sooner than faults end leaves to the ttl what it asked for.
        # Of a quorum a minority may be out of reach, and keep what it has until it expires.
        away = len(self.servers) > 1 and self.striker.struck.total() > 0
        if patience > SETTLES_WITHIN / 2 and not away:
            engines = client._engines.values()
            self.must_clean_up += [engine.token_prefix for engine in engines]

    def _look_for_leaks(self, process: Process) -> None:
        """See that a client that was closed left nothing in its process."""
        here = asyncio.current_task()
        tasks = [each.get_name() for each in asyncio.all_tasks() if each is not here]
        if tasks:
            self.judge.note("leak", f"{process.label}: tasks {sorted(tasks)}")
        if process.ends:
            self.judge.note("leak", f"{process.label}: {len(process.ends)} connections")

    def run(self) -> Outcome:
        """Let all of it happen."""
        plan, timeline, judge = self.plan, self.timeline, self.judge
        try:
            self._happen()
        except Exception as error:  # noqa: BLE001  # whatever a world raises is told with its seed
            where = traceback.extract_tb(error.__traceback__)[-4:]
            judge.note("raised", f"{error!r} in {', '.join(map(str, where))}")
        return Outcome(
            plan,
            tuple(judge.violations),
            timeline.count,
            timeline.now,
            judge.holds,
            judge.holds_of,
            self.striker.struck,
        )

    def _happen(self) -> None:
        plan, timeline, judge = self.plan, self.timeline, self.judge
        for strike in plan.strikes:
            timeline.at(strike.at, self.striker.strike, strike)
        self._go_on(plan.until)
        self._end()
        self._go_on(timeline.now + SETTLES_WITHIN, self._all_ended)
        if not judge.violations:
            judge.look_at_history()
        if not judge.violations and judge.set_back_by < 1.0:
            self._judge_the_end()

    def _go_on(self, until: float, enough: Callable[[], bool] = lambda: False) -> None:
        while not self.judge.violations and not enough() and self.timeline.step(until):
            pass

    def _all_ended(self) -> bool:
        return all(each.dead or self.mains[each].done() for each in self.processes)

    def _end(self) -> None:
        """Have all be well from now on, and everybody come to an end."""
        self.ending = True
        self.striker.end()
        self.network.clear_up()
        for workers in self.workers.values():
            for worker in workers:
                worker.stopping = True

    def _judge_the_end(self) -> None:
        judge, timeline = self.judge, self.timeline
        for process in self.processes:
            if process.dead:
                continue
            main = self.mains[process]
            if not main.done():
                doing = [each.doing for each in self.workers[process]]
                judge.note("stuck", f"{process.label} has not ended: {doing}")
            elif main.exception() is not None:
                judge.note("raised", f"{process.label}: {main.exception()!r}")
        self._look_for_what_is_left(alive=True)
        timeline.step(timeline.now + LEFT_FOR)
        timeline.now += LEFT_FOR
        self._look_for_what_is_left(alive=False)

    def _look_for_what_is_left(self, *, alive: bool) -> None:
        """
        See that servers keep nothing.

        :param alive: of those who came to their end while all was well
        """
        ours = self.must_clean_up
        # Nobody asks again to take back what was proclaimed: it counts for nothing.
        refused = any(self.striker.struck[each] for each in REFUSALS)
        served = {each.token for name in self.judge.names.values() for each in name.grants}
        for server in self.servers:
            server.keys.now_us = server.clock_us()
            server.keys.drop_what_ended()
            for key, value in server.keys.values.items():
                if key.startswith((VOID, MARK, VERSION)) and key not in server.keys.ends:
                    self.judge.note("left", f"{key!r} stays for ever")
                if key.startswith(STAYS) or (refused and alive and key.startswith(PROCLAIMED)):
                    continue
                texts = list(value) if isinstance(value, dict) else [value]
                if alive:
                    texts = [
                        text
                        for text in texts
                        if any(text.startswith(own) or b" " + own in text for own in ours)
                        # A request that was slower than the grant it had asked for before may
                        # queue again whoever was served: it gives back what it gets then.
                        and not (isinstance(value, dict) and text.split()[-1] in served)
                    ]
                if texts:
                    self.judge.note("left", f"{key!r} has {texts!r}")

    def bury(self) -> None:
        """Have nothing of it run any more."""
        for process in self.processes:
            process.bury()
        # They keep engines for as long as their clients live, and these, here, the whole world.
        for each in list(finalize._registry.keys() - self._finalizers):  # type: ignore[attr-defined]  # Python's own
            each.detach()
        for left in (self.workers, self.clients, self.mains, self.closers, self.observing):
            left.clear()


def _judge_of(plan: Plan) -> type[Judge]:
    if plan.is_quorum:
        return QuorumJudge
    if plan.deployment == CLUSTER:
        return ClusterJudge
    return SentinelJudge if plan.deployment == SENTINEL else Judge


def run(plan: Plan) -> Outcome:
    """Run a plan, within :func:`~tests.simulation.patches.deterministic`."""
    world = World(plan)
    try:
        return world.run()
    finally:
        world.bury()
        del world
        gc.collect()


def tell(plan: Plan) -> tuple[Outcome, list[str]]:
    """Run a plan, and tell what happened; within the same."""
    world = World(plan, told=True)
    logger = logging.getLogger("aiodistlock")
    level = logger.level
    logger.addHandler(world.story)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        return world.run(), world.story.lines
    finally:
        logger.propagate = True
        logger.setLevel(level)
        logger.removeHandler(world.story)
        world.bury()
