"""What was learned of a deployment, before anybody judges it.

Whatever could not be learned is missing (an empty mapping, ``None``), and the reason
is kept: a managed Redis forbids much, and a node may stop answering half-way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from aiodistlock.protocol.refusals import error_code


class Kind(StrEnum):
    """What the locks are kept on."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"
    QUORUM = "quorum"


@dataclass(frozen=True, slots=True)
class ClockReading:
    """How far a node's clock is ahead of this host's, give or take ``error``; seconds."""

    ahead: float
    error: float


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """Times of some PINGs, seconds."""

    p50: float
    p99: float
    count: int


@dataclass(frozen=True, slots=True)
class Denial:
    """
    What a node refused to do for us.

    :param what: what was tried, such as ``"EVALSHA"`` or ``"script release"``
    :param why: the server's words
    :param passing: whether it may go away by itself (busy, loading, no memory)
    """

    what: str
    why: str
    passing: bool = False

    @property
    def code(self) -> str:
        """The word in capitals with which the server's answer begins."""
        return error_code(Exception(self.why))


@dataclass(frozen=True, slots=True)
class Marker:
    """
    Whether a node of a quorum counts as having its data.

    :param remaining: seconds for which it gives no vote yet; 0: it votes; ``None``: there
        is no marker, so that time begins when a client asks for the first vote
    """

    remaining: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """
    What locks cost a node; ``None``: unknown.

    :param scripts: how many it runs a second, whosever
    :param in_scripts: share of the time that it spends in them, 1: all of it
    :param core: share of a core that its main thread takes, whatever for
    :param listeners: clients of locks that listen for grants
    :param locks: keys of locks and their companions, about
    :param memory: bytes that these take, about
    """

    scripts: float | None = None
    in_scripts: float | None = None
    core: float | None = None
    listeners: int | None = None
    locks: int | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """
    One Redis.

    :param place: where it is, as shown to the user: never with a password
    :param error: why it could not be asked, or not to the end; ``None`` if it could
    :param remedy: what to do about that, if it is anything particular
    :param info: the fields of INFO
    :param hello: the fields of HELLO, which answers where INFO is forbidden
    :param settings: what CONFIG GET told
    :param refused: commands that it would not answer, with the server's words
    :param denials: what it would not do of all that locks need; ``None``: not tried
    :param marker: in a quorum, whether it votes; ``None``: unknown
    :param counter_ahead: by how many seconds a fence counter is ahead of the clock (below 0:
        behind it, as it should be); ``None``: there is none, or it may not be read
    :param resp3: whether it speaks RESP3; ``None``: unknown
    :param cost: what locks cost it; ``None``: not measured
    """

    place: str
    error: str | None = None
    remedy: str = ""
    info: Mapping[str, str] = field(default_factory=dict)
    hello: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    denials: Sequence[Denial] | None = None
    marker: Marker | None = None
    counter_ahead: float | None = None
    user: str | None = None
    resp3: bool | None = None
    clock: ClockReading | None = None
    round_trips: RoundTrips | None = None
    cost: Cost | None = None

    @property
    def nothing_learned(self) -> str | None:
        """Why nothing is known of it, and what to do; ``None`` if something is."""
        if self.error is None or self.info or self.hello:
            return None
        return f"{self.error}: {self.remedy}" if self.remedy else self.error

    @property
    def version(self) -> tuple[int, ...]:
        """The Redis version whose commands it has; empty if unknown."""
        # Valkey says 7.2.4 here, which is what it is compatible with.
        told = self.info.get("redis_version") or self.hello.get("version", "")
        return tuple(int(part) for part in told.split(".")[:3] if part.isdecimal())

    @property
    def product(self) -> str:
        """What it calls itself, with its own version."""
        name = self.info.get("server_name") or self.hello.get("server", "redis")
        version = self.info.get(f"{name}_version") or self.info.get("redis_version")
        return f"{name.capitalize()} {version or self.hello.get('version', '?')}"

    @property
    def is_replica(self) -> bool:
        """Whether it copies another Redis."""
        return "slave" in (self.info.get("role"), self.hello.get("role")) or (
            self.hello.get("role") == "replica"
        )

    @property
    def primary(self) -> str:
        """What a replica copies."""
        return f"{self.info.get('master_host', '?')}:{self.info.get('master_port', '?')}"

    @property
    def in_cluster(self) -> bool:
        """Whether it is part of a Redis Cluster."""
        return self.info.get("cluster_enabled") == "1" or self.hello.get("mode") == "cluster"

    @property
    def is_sentinel(self) -> bool:
        """Whether it is no Redis to take locks, but one that watches them."""
        # INFO's field has a name of its own in Valkey.
        return "sentinel" in (self.info.get("redis_mode"), self.hello.get("mode"))

    @property
    def replicas(self) -> int:
        """How many replicas are connected to it."""
        return self.count("connected_slaves")

    def count(self, field_name: str) -> int:
        """Return a field of INFO that is a number, 0 if it is missing."""
        return _whole(self.info.get(field_name)) or 0

    def setting(self, name: str) -> str | None:
        """Return a setting, from CONFIG GET or else from INFO; ``None`` if unknown."""
        if name in self.settings:
            return self.settings[name]
        if name == "appendonly" and "aof_enabled" in self.info:
            return "yes" if self.info["aof_enabled"] == "1" else "no"
        return self.info.get(_IN_INFO.get(name, ""))

    def number(self, name: str) -> int | None:
        """Return a setting that is a number; ``None`` if unknown."""
        return _whole(self.setting(name))


def _whole(told: str | None) -> int | None:
    """Read a number; what only resembles a Redis may tell something else."""
    return int(told) if told is not None and told.isdecimal() else None


_IN_INFO = {
    "maxmemory": "maxmemory",
    "maxmemory-policy": "maxmemory_policy",
    "maxclients": "maxclients",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SentinelFacts:
    """
    One Sentinel, and what it thinks of the primary.

    :param error: why it could not be asked; ``None`` if it could
    :param primary: the address that it names as primary; ``None`` if unknown
    :param master: the fields of SENTINEL MASTER
    :param quorum: what SENTINEL CKQUORUM answered; ``None`` if it was refused
    :param quorum_problem: why no quorum can be reached; ``None`` if it can
    """

    place: str
    error: str | None = None
    primary: str | None = None
    master: Mapping[str, str] = field(default_factory=dict)
    quorum_problem: str | None = None

    @property
    def nothing_learned(self) -> str | None:
        """Why nothing is known of it; ``None`` if something is."""
        return self.error

    def number(self, name: str) -> int:
        """Return a field that is a number, 0 if it is missing."""
        return _whole(self.master.get(name)) or 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFacts:
    """
    A Redis Cluster as its nodes tell of it.

    :param info: the fields of CLUSTER INFO, of the node that was asked first
    :param replicas: addresses of the replicas of each primary, both as ``host:port``
    :param failing: nodes that the others cannot reach
    """

    info: Mapping[str, str]
    replicas: Mapping[str, Sequence[str]]
    failing: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """
    All that was learned.

    :param nodes: those that take locks: the Redis, the primary or primaries, or the
        nodes of the quorum
    :param replicas: those that may take over from them
    :param plain: whether the user gave the URL of one node where more than that node
        takes locks
    """

    kind: Kind
    nodes: Sequence[NodeFacts]
    replicas: Sequence[NodeFacts] = ()
    sentinels: Sequence[SentinelFacts] = ()
    cluster: ClusterFacts | None = None
    plain: bool = False

    @property
    def asked(self) -> list[NodeFacts]:
        """Every Redis that answered."""
        return [node for node in (*self.nodes, *self.replicas) if node.error is None]
