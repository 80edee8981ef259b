"""What a seed says of a schedule: who takes part, and what befalls them when.

Swarm testing (A. Groce et al., ISSTA 2012): each schedule draws which kinds of faults there
are at all, for faults that are always there hide what needs a long time without them.
"""

from dataclasses import dataclass, field, replace
from random import Random

from tests.simulation.kinds import kinds_of
from tests.simulation.network import Weather
from tests.simulation.themes import Theme, theme_of


@dataclass(frozen=True)
class Strike:
    """
    One fault.

    :param at: true time, seconds
    :param kind: which of :data:`KINDS`
    :param aim: whom it befalls: one of :data:`AIMS`
    :param waits: whether it waits, from then on, until a lock has just changed hands
    :param amount: 0 to 1, how bad it is
    :param number: picks one where there are several
    """

    at: float
    kind: str
    aim: str
    waits: bool
    amount: float
    number: int


AIMS = ("any", "holder", "waiter")

OF_PROCESSES = ("kill", "crash", "stop", "stall", "suspend", "close", "cancel")
OF_CONNECTIONS = ("reset", "cut", "half", "silent", "hold", "block", "repeat")
OF_SERVERS = (
    "freeze",
    "restart",
    "flush scripts",
    "drop clients",
    "OOM",
    "READONLY",
    "MISCONF",
    "LOADING",
    "BUSY",
    "full",
    "forge",
)
BEYOND_PREMISES = ("empty", "flush", "forward", "back")
"""What P1 is not promised for: P2 is."""

OF_SENTINELS = ("failover",)

OF_CLUSTERS = ("move",)

OF_THEMES = (
    *("snatch", "late both ways", "forge void", "back a little", "forward a little", "evict"),
)
"""What only themes have."""

KINDS = (
    *(*OF_PROCESSES, *OF_CONNECTIONS, *OF_SERVERS),
    *(*BEYOND_PREMISES, *OF_SENTINELS, *OF_CLUSTERS, *OF_THEMES),
)


SENTINEL = "sentinel"
CLUSTER = "cluster"
DEPLOYMENTS = {"single": 1, SENTINEL: 2, CLUSTER: 4, "quorum of 3": 3, "quorum of 5": 5}
"""How many servers each has."""


@dataclass(frozen=True)
class Plan:
    """
    One schedule.

    :param until: true time at which the last fault is over, and nobody begins anew
    :param theme: what it is about (``themes.py``), if it was not drawn apart
    :param weathers: kinds of bad weather: ``spikes``, ``pieces``, ``slow``
    :param claim_window: the clients' option
    :param bodies: how long they are: ``short``, ``long``, ``mixed``
    :param extends: share of the steps of bodies in which they extend their lease
    :param slips: share of the looks at a clock behind which a process stands still
    :param busy: whether bodies begin by keeping their event loop busy
    :param look_costs: seconds that each look at a clock takes; tasks that use a lock again and
        again without an await take their time then
    :param streams: whether of the tasks of a process that take read/write locks one writes, and all
        others read
    """

    seed: int
    deployment: str = "single"
    processes: int = 3
    names: int = 1
    workers: int = 2
    until: float = 4.0
    ttls: tuple[float, ...] = (0.4,)
    lingers: tuple[float | str, ...] = (0.0,)
    kinds: tuple[str, ...] = ()
    """What half of what is done is done with, besides plain locks: keys of ``kinds.KINDS``."""
    ack: str = "local"
    """What half of the locks wait for that may have it."""
    faults: tuple[str, ...] = ()
    weathers: tuple[str, ...] = ()
    theme: str = ""
    claim_window: float = 1.0
    bodies: str = "mixed"
    extends: float = 0.05
    slips: float = 0.0
    busy: bool = False
    look_costs: float = 0.0
    streams: bool = False
    strikes: tuple[Strike, ...] = field(default=(), repr=False)

    @property
    def is_quorum(self) -> bool:
        """Whether its servers are independent nodes."""
        return self.deployment.startswith("quorum")

    @property
    def is_quick(self) -> bool:
        """Whether neither the network nor a process nor a disk is slow, but by a strike."""
        slow = {"spikes", "slow"} & {*self.weathers} or self.ack != "local"
        return not slow and not self.slips

    @property
    def only_closes(self) -> bool:
        """Whether nothing happens but that clients are closed, and tasks cancelled."""
        return self.is_quick and {*self.faults} <= {"close", "cancel"}

    @property
    def nodes(self) -> int:
        """How many servers there are."""
        return DEPLOYMENTS[self.deployment]

    def weather(self) -> Weather:
        """Return how the network is."""
        return Weather(
            usual=0.02 if "slow" in self.weathers else 0.0008,
            spikes=0.02 if "spikes" in self.weathers else 0.0,
            pieces=0.2 if "pieces" in self.weathers else 0.0,
        )

    def without(self, strikes: frozenset[int]) -> "Plan":
        """Return the same without some strikes, told by their places."""
        left = [each for at, each in enumerate(self.strikes) if at not in strikes]
        return replace(self, strikes=tuple(left))


LINGERS: tuple[tuple[float | str, ...], ...] = (
    *((0.0,), (0.0, 0.05), (0.02, 0.3), (5.0,)),
    *(("auto",), (0.0, "auto", 0.3)),
)


ACKS = {"single": "fsync", SENTINEL: "replicas:1"}


def draw(seed: int, deployment: str = "single") -> Plan:
    """Draw a plan."""
    rng = Random(f"{seed}:plan")
    rate = rng.choice((1.0, 4.0, 12.0))
    pool = [*OF_PROCESSES, *OF_CONNECTIONS, *OF_SERVERS]
    kinds = rng.sample(pool, rng.choice((0, 1, 2, 3, 5, 8)))
    if deployment == SENTINEL and rng.random() < 0.8:
        kinds += OF_SENTINELS * rng.choice((1, 3))
    if deployment == CLUSTER:
        kinds += Random(f"{seed}:cluster").choice(
            ((), OF_CLUSTERS, OF_CLUSTERS * 3, OF_SENTINELS, OF_SENTINELS * 2 + OF_CLUSTERS)
        )
    if rng.random() < 0.25:
        kinds += rng.sample(BEYOND_PREMISES, rng.choice((1, 2)))
    until = rng.choice((0.8, 1.2, 2.5))
    short = rng.choice((0.06, 0.15, 0.4))
    strikes = []
    at = rng.expovariate(rate)
    while kinds and at < until:
        strikes.append(
            Strike(
                at,
                rng.choice(kinds),
                rng.choice(AIMS),
                rng.random() < 0.5,
                rng.random(),
                rng.randrange(1 << 16),
            )
        )
        at += rng.expovariate(rate)
    plan = Plan(
        seed,
        deployment,
        processes=rng.choice((2, 2, 3, 3, 4)),
        names=rng.choice((1, 1, 2, 6)),
        workers=rng.choice((1, 1, 2, 2, 3, 8)),
        until=until,
        ttls=rng.choice(((short,), (short, 1.5), (1.5,), (0.4, 1.0))),
        faults=tuple(sorted({*kinds})),
        weathers=tuple(each for each in ("spikes", "pieces", "slow") if rng.random() < 0.3),
        strikes=tuple(strikes),
        # Drawn apart, so that the rest of each schedule stays what it was.
        lingers=Random(f"{seed}:lingers").choice(LINGERS),
        ack=ACKS.get(deployment, "local") if Random(f"{seed}:ack").random() < 0.25 else "local",
    )
    plan = replace(plan, kinds=kinds_of(seed, deployment, plan.names, plan.faults))
    theme = theme_of(seed, deployment)
    return plan if theme is None else _on(plan, *theme)


def _on(plan: Plan, name: str, theme: Theme) -> Plan:
    """Have a schedule be about something."""
    rng = Random(f"{plan.seed}:{name}")
    strikes: list[Strike] = []
    at = rng.expovariate(theme.rate)
    until = theme.until or plan.until
    while theme.faults and at < until:
        waits = rng.random() < theme.waits
        strikes += [
            Strike(
                at,
                rng.choice(theme.faults),
                rng.choice(theme.aims),
                waits,
                rng.random() ** theme.power,
                rng.randrange(1 << 16),
            )
            for _ in range(rng.choice(theme.at_a_time))
        ]
        at += rng.expovariate(theme.rate)
    names, faults = theme.names or plan.names, tuple(sorted({*theme.faults}))
    kinds = theme.kinds
    if kinds is None:
        kinds = kinds_of(plan.seed, plan.deployment, names, faults)
    return replace(
        plan,
        theme=name,
        names=names,
        kinds=kinds,
        until=until,
        workers=rng.choice(theme.workers or (plan.workers,)),
        ttls=plan.ttls if theme.ttls is None else rng.choice((theme.ttls, theme.ttls[:1])),
        lingers=plan.lingers if theme.lingers is None else theme.lingers,
        faults=faults,
        weathers=plan.weathers if theme.weathers is None else theme.weathers,
        claim_window=theme.claim_window or plan.claim_window,
        bodies=theme.bodies,
        extends=theme.extends,
        slips=theme.slips,
        busy=theme.busy,
        look_costs=theme.look_costs,
        streams=theme.streams,
        strikes=tuple(strikes),
    )
