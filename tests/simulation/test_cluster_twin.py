"""The simulated cluster sends requests where a real one does, while a slot moves."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hiredis
import pytest

from aiodistlock.core.slots import slot_of
from aiodistlock.testing.discovery import LOOPBACK
from tests.deployments.cluster import Cluster, Node
from tests.simulation.redis.cluster import ClusterServer
from tests.simulation.resharding import first_view
from tests.simulation.test_redis_twin import INCOMPLETE, Command, Line, Nobody, pack

ONE = b"return redis.call('EXISTS', KEYS[1])"
PUBLISH = b"return redis.call('SPUBLISH', KEYS[1], 'told')"
BOTH = b"return redis.call('EXISTS', KEYS[1], KEYS[2])"

WHO = ("source", "target", "third", "replica")


def questions(namespace: str) -> list[list[Command]]:
    """Return what each is asked, each on a connection of its own."""
    tag = f"{{{namespace}}}".encode()
    here, there, elsewhere = tag + b"a", tag + b"b", b"{elsewhere}" + tag
    asked: list[Command] = [
        (b"GET", here),
        (b"GET", there),
        (b"GET", tag + b"c"),
        (b"EVAL", ONE, b"1", here),
        (b"EVAL", ONE, b"1", there),
        (b"EVAL", BOTH, b"2", here, there),
        (b"EVAL", BOTH, b"2", there, there),
        (b"EVAL", BOTH, b"2", here, elsewhere),
        (b"SSUBSCRIBE", tag),
        (b"EVAL", b"return 7", b"0"),
    ]
    return [
        *([each] for each in asked),
        *([(b"ASKING",), each, each] for each in asked[:-1]),
    ]


class Real:
    """A real cluster, of which a slot moves."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._key = f"{{{namespace}}}"
        source = cluster.owner(self._key)
        target, third = cluster.others(self._key)
        (replica,) = (each for each in cluster.nodes if _primary_of(each) == source.port)
        self._nodes = dict(zip(WHO, (source, target, third, replica), strict=True))

    def _connect(self, who: str) -> socket.socket:
        connection = socket.create_connection((LOOPBACK, self._nodes[who].port))
        connection.settimeout(20)
        return connection

    def ask(self, who: str, commands: list[Command]) -> list[Any]:
        """Ask one of them on a connection of its own."""
        with self._connect(who) as connection:
            connection.sendall(b"".join(map(pack, commands)))
            answers = _read(connection, lambda answers: len(answers) == len(commands))
        ports = {str(node.port): name for name, node in self._nodes.items()}
        return [_normal(each, ports) for each in answers]

    def listen(self, who: str, channel: bytes) -> Callable[[], list[Any]]:
        """Listen until the slot has left, and return what is heard until then."""
        connection = self._connect(who)
        connection.sendall(pack((b"SSUBSCRIBE", channel)))
        confirmed = _read(connection, lambda answers: bool(answers))

        def heard() -> list[Any]:
            with connection:
                return confirmed + _read(connection, lambda each: each[-1:] == [_left(channel)])

        return heard

    def begin(self) -> None:
        """Have the slot on its way."""
        self._cluster.begin_migration(self._key, self._nodes["target"])

    def move(self, key: bytes) -> None:
        """Move one key."""
        source, target = self._nodes["source"], self._nodes["target"]
        source.command("MIGRATE", LOOPBACK, target.port, key, 0, 2000)

    def end(self) -> None:
        """Have the slot be the target's."""
        self._cluster.end_migration(self._key, self._nodes["target"])


class Simulated:
    """A simulated cluster, of which a slot moves."""

    def __init__(self, namespace: str) -> None:
        self._slot = slot_of(f"{{{namespace}}}".encode())
        names = [f"redis{number}" for number in range(6)]
        self._view = view = first_view(names)
        servers = {each: ClusterServer(each, lambda: 0.0, Nobody(), view) for each in names}
        shard = view.shard(self._slot)
        self._target = (shard + 1) % 3
        (source, replica), (target, _), (third, _) = (
            view.shards[(shard + at) % 3] for at in range(3)
        )
        servers[source].replicas = [servers[replica]]
        self._servers = {
            who: servers[name]
            for who, name in zip(WHO, (source, target, third, replica), strict=True)
        }

    def ask(self, who: str, commands: list[Command]) -> list[Any]:
        """Ask one of them on a connection of its own."""
        line = Line()
        session = self._servers[who].accept(line, None)
        session.receive(b"".join(map(pack, commands)))
        session.end()
        names = {f"{server.name}:6379": who for who, server in self._servers.items()}
        return [_normal(each, names) for each in line.answers()]

    def listen(self, who: str, channel: bytes) -> Callable[[], list[Any]]:
        """Listen until the slot has left, and return what is heard until then."""
        line = Line()
        self._servers[who].accept(line, None).receive(pack((b"SSUBSCRIBE", channel)))
        return line.answers

    def begin(self) -> None:
        """Have the slot on its way."""
        self._servers["source"].migrating[self._slot] = self._servers["target"].name
        self._servers["target"].importing.add(self._slot)

    def move(self, key: bytes) -> None:
        """Move one key."""
        source, target = self._servers["source"].keys, self._servers["target"].keys
        target.values[key] = source.values.pop(key)

    def end(self) -> None:
        """Have the slot be the target's."""
        view = replace(self._view, moved={self._slot: self._target})
        for each in self._servers.values():
            each.learn_of(view)
        self._servers["target"].importing.clear()
        self._servers["source"].migrating.clear()


def _read(connection: socket.socket, enough: Callable[[list[Any]], bool]) -> list[Any]:
    reader = hiredis.Reader(notEnoughData=INCOMPLETE)
    answers: list[Any] = []
    while not enough(answers):
        answer = reader.gets()
        if answer is INCOMPLETE:
            reader.feed(connection.recv(1 << 16))
        else:
            answers.append(answer)
    return answers


def _left(channel: bytes) -> list[Any]:
    """Return what tells that nothing more will be heard."""
    return [b"sunsubscribe", channel, 0]


def _primary_of(node: Node) -> int | None:
    role = node.command("ROLE")
    return int(role[2]) if role[0] == b"slave" else None


def _normal(answer: Any, names: dict[str, str]) -> Any:
    if not isinstance(answer, Exception):
        return answer
    word, *rest = str(answer).split(" ")
    if word not in ("MOVED", "ASK"):
        return word
    where = rest[-1]
    return word, rest[0], names.get(where, names.get(where.rpartition(":")[2], where))


def test_both_send_requests_to_the_same_servers(cluster: Cluster, cluster_namespace: str) -> None:
    """Whoever is asked, in each state of a slot on its way; and a listener hears the same."""
    if not cluster.sharded:
        pytest.skip("before Redis 7 a request of which some keys are here was sent on (ASK)")
    tag = f"{{{cluster_namespace}}}".encode()
    deployments = (Real(cluster, cluster_namespace), Simulated(cluster_namespace))

    def alike(step: str, who: tuple[str, ...] = WHO) -> None:
        for each in who:
            for asked in questions(cluster_namespace):
                there, here = (deployment.ask(each, asked) for deployment in deployments)
                assert here == there, (step, each, asked)

    def all_do(what: Callable[[Real | Simulated], object]) -> list[Any]:
        return [what(deployment) for deployment in deployments]

    listening = [
        all_do(lambda deployment, who=who: deployment.listen(who, tag))  # type: ignore[misc]
        for who in ("source", "replica")
    ]
    counts = all_do(lambda each: each.ask("source", [(b"EVAL", PUBLISH, b"1", tag)]))
    assert counts == [[1], [1]]
    all_do(lambda each: each.ask("source", [(b"SET", tag + end, b"1") for end in (b"a", b"b")]))
    alike("whole")
    all_do(lambda each: each.begin())
    alike("on its way")
    all_do(lambda each: each.move(tag + b"b"))
    alike("one key there")
    all_do(lambda each: each.move(tag + b"a"))
    alike("all keys there")
    all_do(lambda each: each.end())
    alike("moved", WHO[:-1])  # a replica hears of it later
    for real, simulated in listening:
        heard = simulated()
        assert heard[-1] == _left(tag)
        assert real() == heard
    all_do(lambda each: each.ask("target", [(b"DEL", tag + b"a", tag + b"b")]))
