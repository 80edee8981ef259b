"""A server of a Redis Cluster: which slots it serves, by its own view, and where it sends others.

What it does with keys follows ``getNodeByQuery`` of Redis 7: a slot that is on its way is served
by its source as long as all keys of a request are there, and by its target for who was sent there
for once; a request of which some are here and some are there has to be tried again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiodistlock.core.slots import SLOTS, slot_of
from tests.simulation.redis.keyspace import OK, Refusal
from tests.simulation.redis.resp import Push
from tests.simulation.redis.server import RedisServer, Watcher
from tests.simulation.redis.session import Line, Session

PORT = 6379

CROSSSLOT = Refusal(b"CROSSSLOT Keys in request don't hash to the same slot")
TRYAGAIN = Refusal(b"TRYAGAIN Multiple keys request during rehashing of slot")
CLUSTERDOWN = Refusal(b"CLUSTERDOWN The cluster is down")

_SHARDED = frozenset((b"SSUBSCRIBE", b"SUNSUBSCRIBE", b"SPUBLISH"))


@dataclass(frozen=True)
class View:
    """
    Who is who in a cluster, as somebody sees it.

    :ivar shards: of each shard its primary, and its replicas behind
    :ivar moved: slots that are not where they were at first, and their shards
    """

    shards: tuple[tuple[str, ...], ...]
    moved: dict[int, int] = field(default_factory=dict)

    def shard(self, slot: int) -> int:
        """Return the shard that has a slot."""
        return self.moved.get(slot, ((slot + 1) * len(self.shards) - 1) // SLOTS)

    def owner(self, slot: int) -> str:
        """Return the primary that serves a slot."""
        return self.shards[self.shard(slot)][0]

    def ranges(self) -> list[list[Any]]:
        """Return it as ``CLUSTER SLOTS`` does."""
        count = len(self.shards)
        begins = {SLOTS * shard // count for shard in range(count)}
        begins |= {begin for slot in self.moved for begin in (slot, slot + 1) if begin < SLOTS}
        ordered = sorted(begins)
        return [
            [first, behind - 1, *([each.encode(), PORT, each.encode()] for each in names)]
            for first, behind in zip(ordered, [*ordered[1:], SLOTS], strict=True)
            for names in [self.shards[self.shard(first)]]
        ]


class ClusterServer(RedisServer):
    """
    One of them.

    :param view: what it knows of all
    :ivar importing: slots that are on their way here
    :ivar migrating: slots that are on their way from here, and whereto
    """

    def __init__(
        self,
        name: str,
        true_time: Callable[[], float],
        watcher: Watcher,
        view: View,
    ) -> None:
        super().__init__(name, true_time, watcher)
        self.view = view
        self.importing: set[int] = set()
        self.migrating: dict[int, str] = {}
        self.replicas: list[ClusterServer] = []
        """Whom it tells what is published, besides its own clients."""
        self.sees_all = True
        """Whether it sees that all slots are served."""

    def _session(self, line: Line, owner: object, number: int) -> Session:
        return ClusterSession(self, line, owner, number)

    def serves(self, slot: int) -> bool:
        """Tell whether it may run what concerns a slot."""
        return self.view.owner(slot) == self.name or slot in self.importing

    def learn_of(self, view: View) -> None:
        """Take in a view; who hears of a slot that leaves is told that it hears no more."""
        former, self.view = self.view, view
        for channel in list(self.subscribers):
            slot = slot_of(channel)
            left = former.owner(slot) != view.owner(slot)
            if left and self.name in former.shards[former.shard(slot)]:
                self._unsubscribe_all(channel)

    def _unsubscribe_all(self, channel: bytes) -> None:
        for session in self.subscribers.pop(channel):
            session.channels.discard(channel)
            session.say(Push([b"sunsubscribe", channel, len(session.channels)]))

    def redirects(self, command: bytes, words: list[bytes], *, asked: bool) -> Refusal | None:
        """
        Say where a request belongs, if not here and now.

        :param asked: whether it was sent here for once
        """
        keys = _keys_in(command, words)
        if not keys:
            return None
        slots = {slot_of(each) for each in keys}
        if not self.sees_all:
            return CLUSTERDOWN
        if len(slots) > 1:
            return CROSSSLOT
        (slot,) = slots
        self.keys.now_us = self.clock_us()
        self.keys.drop_what_ended()
        missing = sum(each not in self.keys.values for each in keys)
        missing *= command not in _SHARDED
        if self.view.owner(slot) == self.name:
            if missing and slot in self.migrating:
                where = self.migrating[slot].encode()
                return TRYAGAIN if missing < len(keys) else _refer(b"ASK", slot, where)
            return None
        if asked and slot in self.importing:
            return TRYAGAIN if missing and len({*keys}) > 1 else None
        if command in _SHARDED and self.name in self.view.shards[self.view.shard(slot)]:
            return None  # a replica lets subscribe
        return _refer(b"MOVED", slot, self.view.owner(slot).encode())

    def run(self, command: bytes, args: tuple[bytes, ...]) -> Any:
        """Run one command, of a client or of a script."""
        return (
            self._publish_sharded(*args) if command == b"SPUBLISH" else super().run(command, args)
        )

    def _publish_sharded(self, channel: bytes, message: bytes) -> int:
        for server in (self, *self.replicas):
            listeners = list(server.subscribers.get(channel, ()))
            for session in listeners if server.up else ():
                session.say(Push([b"smessage", channel, message]))
        return len(self.subscribers.get(channel, ()))


def _refer(word: bytes, slot: int, where: bytes) -> Refusal:
    return Refusal(b"%b %d %b:%d" % (word, slot, where, PORT))


def _keys_in(command: bytes, words: list[bytes]) -> list[bytes]:
    if command in (b"EVAL", b"EVALSHA"):
        return words[3 : 3 + int(words[2])]
    if command in (b"SSUBSCRIBE", b"SUNSUBSCRIBE", b"DEL", b"EXISTS"):
        return words[1:]
    if command in (b"GET", b"SET", b"SPUBLISH"):
        return words[1:2]
    return []


class ClusterSession(Session):
    """Runs what arrives on one connection to a server of a cluster."""

    server: ClusterServer

    def __init__(self, server: ClusterServer, line: Line, owner: object, number: int) -> None:
        super().__init__(server, line, owner, number)
        self._asked = False
        self._commands |= {
            b"CLUSTER": self._cluster,
            b"COMMAND": lambda *_words: [[b"spublish", 3]],
            b"ASKING": self._asking,
            b"SSUBSCRIBE": self._ssubscribe,
            b"SUNSUBSCRIBE": self._sunsubscribe,
        }

    def _run(self, words: list[bytes]) -> Any:
        command, asked = words[0].upper(), self._asked
        self._asked = False
        refusal = self.server.refuses(command)
        return refusal or self.server.redirects(command, words, asked=asked) or super()._run(words)

    def _asking(self) -> Any:
        self._asked = True
        return OK

    def _cluster(self, command: bytes) -> Any:
        assert command.upper() == b"SLOTS", command
        return self.server.view.ranges()

    def _ssubscribe(self, *channels: bytes) -> Any:
        return self._subscribe(*channels, word=b"ssubscribe")

    def _sunsubscribe(self, *channels: bytes) -> Any:
        for channel in channels:
            self.channels.discard(channel)
            self.server.subscribers.get(channel, {}).pop(self, None)
            self.say(Push([b"sunsubscribe", channel, len(self.channels)]))
        return self.NO_REPLY
