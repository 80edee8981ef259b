"""A Redis server with a life: it stands still, restarts, forgets, refuses; its clock is own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from tests.simulation.redis.keyspace import (
    TAKE_MEMORY,
    WRITES,
    Keyspace,
    Refusal,
)
from tests.simulation.redis.lua import lua
from tests.simulation.redis.resp import Push
from tests.simulation.redis.session import Line, Session

EPOCH_US = 1_800_000_000_000_000
"""What a right clock shows when a world begins, µs."""

REFUSALS = {
    "OOM": b"OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY": b"READONLY You can't write against a read only replica.",
    "MISCONF": b"MISCONF Redis is configured to save RDB snapshots, but it is unable to persist.",
    "LOADING": b"LOADING Redis is loading the dataset in memory",
    "BUSY": b"BUSY Redis is busy running a script. You can only call SCRIPT KILL.",
}
"""What a server may say for a while instead of working."""

_AT_ANY_TIME = frozenset(b"HELLO CLIENT SUBSCRIBE AUTH SELECT".split())
"""What is answered while a server loads, or is busy."""


class Watcher(Protocol):
    """Sees what becomes of keys."""

    def before(self, server: RedisServer) -> None:
        """Look before a command or a script runs, at its instant."""
        ...

    def after(self, server: RedisServer, session: Session) -> None:
        """Look at what a connection's command has left."""
        ...

    def answered(
        self, server: RedisServer, session: Session, words: list[bytes], reply: Any
    ) -> None:
        """Look at what was asked, and answered."""
        ...


class RedisServer:
    """
    One server process after another, at one address.

    :param true_time: tells the time of the world, seconds
    :param rate: how fast its clock runs, 1.0: right
    """

    def __init__(
        self, name: str, true_time: Callable[[], float], watcher: Watcher, rate: float = 1.0
    ) -> None:
        self.name = name
        self._true_time = true_time
        self.watcher = watcher
        self._rate = rate
        self._stepped_us = 0
        self.keys = Keyspace()
        self.scripts: dict[bytes, bytes] = {}
        self.sessions: dict[Session, None] = {}
        self.subscribers: dict[bytes, dict[Session, None]] = {}
        self.lives = 0
        self.up = True
        self.frozen = False
        self.follows = False
        """Whether it is a replica."""
        self.full = False
        """Whether it has as many clients as it may have."""
        self.saying: str | None = None
        """Which of :data:`REFUSALS` it answers."""
        self._wrote = False
        self._numbers = 0
        self.acknowledge: Callable[[float, Callable[[int], object]], object] = _nobody
        """Tells, within some seconds, whether a replica or the disk has all that was written."""

    @property
    def run_id(self) -> bytes:
        """What tells one process of it from the next."""
        return hashlib.sha1(f"{self.name} {self.lives}".encode()).hexdigest().encode()

    def clock_us(self) -> int:
        """Read its clock."""
        return EPOCH_US + int(self._true_time() * self._rate * 1e6) + self._stepped_us

    def step_clock(self, seconds: float) -> None:
        """Set the clock."""
        self._stepped_us += int(seconds * 1e6)

    def accept(self, line: Line, owner: object) -> Session:
        """Begin a connection."""
        self._numbers += 1
        session = self._session(line, owner, self._numbers)
        if self.full:
            session.say(Refusal(b"ERR max number of clients reached"))
            session.hang_up()
        else:
            self.sessions[session] = None
        return session

    def _session(self, line: Line, owner: object, number: int) -> Session:
        return Session(self, line, owner, number)

    def refuses(self, command: bytes) -> Refusal | None:
        """Refuse what is asked on a connection, or not."""
        if self.saying in ("LOADING", "BUSY") and command not in _AT_ANY_TIME:
            return Refusal(REFUSALS[self.saying])
        return None

    @contextmanager
    def at_work(self, session: Session) -> Iterator[None]:
        """Let no time pass meanwhile, as for one command or one script."""
        self.keys.now_us = self.clock_us()
        self.keys.drop_what_ended()
        self._wrote = False
        self.watcher.before(self)
        yield
        self.watcher.after(self, session)

    def run(self, command: bytes, args: tuple[bytes, ...]) -> Any:
        """Run one command, of a client or of a script."""
        if command == b"PUBLISH":
            return self._publish(*args)
        if not self.keys.knows(command):
            return Refusal(b"ERR unknown command '%b'" % command)
        if command in WRITES:
            if self.follows:
                return Refusal(REFUSALS["READONLY"])
            if self.saying in ("READONLY", "MISCONF"):
                return Refusal(REFUSALS[self.saying])
            # Redis asks a script for memory until it has written anything.
            if self.saying == "OOM" and command in TAKE_MEMORY and not self._wrote:
                return Refusal(REFUSALS["OOM"])
            self._wrote = True
        return self.keys.run(command, args)

    def evaluate(self, source: bytes, keys: list[bytes], args: list[bytes]) -> Any:
        """Run a script."""
        return lua().run(source, keys, args, self.run)

    def learn(self, source: bytes) -> bytes:
        """Keep a script, and return its name."""
        sha = hashlib.sha1(source).hexdigest().encode()
        self.scripts[sha] = source
        return sha

    def _publish(self, channel: bytes, message: bytes) -> int:
        listeners = list(self.subscribers.get(channel, ()))
        for session in listeners:
            session.say(Push([b"message", channel, message]))
        return len(listeners)

    def end_sessions(self) -> None:
        """Close all connections."""
        for session in list(self.sessions):
            session.hang_up()

    def go_down(self) -> None:
        """End the process; nobody listens at its address."""
        self.up = False
        self.end_sessions()

    def come_up(self, *, keeps_data: bool) -> None:
        """Begin the next process."""
        self.up = True
        self.lives += 1
        self.scripts.clear()
        if not keeps_data:
            self.keys = Keyspace()


def _nobody(_within: float, tell: Callable[[int], object]) -> None:
    tell(0)
