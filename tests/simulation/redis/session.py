"""One connection as the server sees it: what is asked on it, and what it subscribes to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import hiredis

from tests.simulation.redis.keyspace import OK, Refusal, Status
from tests.simulation.redis.resp import Push, encode

if TYPE_CHECKING:
    from tests.simulation.redis.server import RedisServer

_INCOMPLETE = object()


class Line(Protocol):
    """The server's end of a connection."""

    def send(self, data: bytes) -> None:
        """Send to the client."""
        ...

    def hang_up(self) -> None:
        """Close the connection."""
        ...


class Session:
    """
    Runs what arrives on one connection.

    :param owner: which process is at the other end, for whoever judges
    """

    NO_REPLY = _INCOMPLETE
    """Of what is answered by pushes."""

    def __init__(self, server: RedisServer, line: Line, owner: object, number: int) -> None:
        self.server = server
        self.owner = owner
        self.number = number
        self.resp3 = False
        self.channels: set[bytes] = set()
        self.over = False
        self._waits = False
        """Whether nothing more is run before an acknowledgement has come."""
        self._line = line
        self._reader = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._commands: dict[bytes, Callable[..., Any]] = {
            b"HELLO": self._hello,
            b"CLIENT": self._client,
            b"SUBSCRIBE": self._subscribe,
            b"PING": lambda: Status(b"PONG"),
            b"SELECT": lambda _number: OK,
            b"INFO": self._info,
            b"ROLE": self._role,
            b"SCRIPT": self._script,
            b"WAIT": self._wait,
            b"WAITAOF": self._wait_for_disk,
            b"EVALSHA": self._evalsha,
            b"EVAL": self._eval,
        }

    def receive(self, data: bytes) -> None:
        """Take in bytes, and run each whole command."""
        self._reader.feed(data)
        self._go_on()

    def _go_on(self) -> None:
        while not self.over and not self._waits:
            words = self._reader.gets()
            if words is _INCOMPLETE:
                return
            reply = self._run(words)
            self.server.watcher.answered(self.server, self, words, reply)
            self._answer(reply)

    def _answer(self, reply: Any) -> None:
        if reply is not self.NO_REPLY:
            self.say(reply)

    def say(self, reply: Any) -> None:
        """Send a reply, or what was published."""
        if not self.over:
            self._line.send(encode(reply, resp3=self.resp3))

    def _run(self, words: list[bytes]) -> Any:
        server, command = self.server, words[0].upper()
        refusal = server.refuses(command)
        if refusal is not None:
            return refusal
        run = self._commands.get(command)
        if run is not None:
            return run(*words[1:])
        with server.at_work(self):
            return server.run(command, tuple(words[1:]))

    def _hello(self, version: bytes = b"2", *_rest: bytes) -> Any:
        self.resp3 = version == b"3"
        return {
            b"server": b"redis",
            b"version": b"7.0.15",
            b"proto": 3 if self.resp3 else 2,
            b"id": self.number,
            b"mode": b"standalone",
            b"role": b"master",
            b"modules": [],
        }

    def _client(self, command: bytes, *_rest: bytes) -> Any:
        if command.upper() in (b"SETNAME", b"SETINFO", b"NO-EVICT"):
            return OK
        return Refusal(b"ERR unknown subcommand '%b'. Try CLIENT HELP." % command)

    def _subscribe(self, *channels: bytes, word: bytes = b"subscribe") -> Any:
        for channel in channels:
            self.channels.add(channel)
            self.server.subscribers.setdefault(channel, {})[self] = None
            self.say(Push([word, channel, len(self.channels)]))
        return self.NO_REPLY

    def _role(self) -> list[Any]:
        if self.server.follows:
            return [b"slave", b"primary", 6379, b"connected", 0]
        return [b"master", 0, []]

    def _info(self, *_sections: bytes) -> bytes:
        return b"# Server\r\nredis_version:7.0.15\r\nrun_id:%b\r\n" % self.server.run_id

    def _script(self, command: bytes, *rest: bytes) -> Any:
        if command.upper() == b"LOAD":
            return self.server.learn(rest[0])
        assert command.upper() == b"FLUSH", command
        self.server.scripts.clear()
        return OK

    def _eval(self, source: bytes, *rest: bytes) -> Any:
        self.server.learn(source)
        return self._evaluate(source, rest)

    def _evalsha(self, sha: bytes, *rest: bytes) -> Any:
        source = self.server.scripts.get(sha.lower())
        if source is None:
            return Refusal(b"NOSCRIPT No matching script. Please use EVAL.")
        return self._evaluate(source, rest)

    def _wait(self, replicas: bytes, within_ms: bytes) -> Any:
        if self.server.follows:
            return Refusal(b"ERR WAIT cannot be used with replica instances.")
        self._waits = True
        self.server.acknowledge(int(within_ms) / 1000, self._acknowledged)
        return self.NO_REPLY

    def _wait_for_disk(self, _local: bytes, _replicas: bytes, within_ms: bytes) -> Any:
        self._waits = True
        self.server.acknowledge(int(within_ms) / 1000, lambda count: self._acknowledged([count, 0]))
        return self.NO_REPLY

    def _acknowledged(self, reply: Any) -> None:
        self._waits = False
        self.say(reply)
        self._go_on()

    def _evaluate(self, source: bytes, rest: tuple[bytes, ...]) -> Any:
        keys = int(rest[0])
        with self.server.at_work(self):
            return self.server.evaluate(source, list(rest[1 : 1 + keys]), list(rest[1 + keys :]))

    def end(self) -> None:
        """Take in that the connection is over."""
        if self.over:
            return
        self.over = True
        self.server.sessions.pop(self, None)
        for channel in self.channels:
            self.server.subscribers.get(channel, {}).pop(self, None)

    def hang_up(self) -> None:
        """Close the connection."""
        if not self.over:
            self.end()
            self._line.hang_up()
