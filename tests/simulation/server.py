"""A server without connections: runs the real scripts, with a clock of its own."""

import hashlib
from collections.abc import Callable
from typing import Any

from tests.simulation.redis.keyspace import Keyspace, Refusal
from tests.simulation.redis.lua import lua

Publish = Callable[[bytes, bytes], int]


class Server:
    """
    As much of Redis as scripts see.

    :param clock_us: its wall clock, µs
    :param publish: delivers a message, and tells how many heard it
    """

    def __init__(self, clock_us: Callable[[], int], publish: Publish) -> None:
        self.clock_us = clock_us
        self.publish = publish
        self.known: set[bytes] = set()
        self.lose_data()

    def lose_data(self) -> None:
        """Restart without data."""
        self.keys = Keyspace()
        self.values: dict[bytes, Any] = self.keys.values
        self.known.clear()

    def run(self, source: bytes, keys: list[bytes], args: list[bytes]) -> list[Any]:
        """Run a script whole, as nothing else runs meanwhile."""
        self.known.add(hashlib.sha1(source, usedforsecurity=False).digest())
        self.keys.now_us = self.clock_us()
        self.keys.drop_what_ended()
        answer = lua().run(source, keys, args, self._call)
        if isinstance(answer, Refusal):
            return [answer.text]
        assert isinstance(answer, list)
        return answer

    def _call(self, command: bytes, args: tuple[bytes, ...]) -> Any:
        return self.publish(*args) if command == b"PUBLISH" else self.keys.run(command, args)

    def knows(self, source: bytes) -> bool:
        """Tell whether EVALSHA would do."""
        return hashlib.sha1(source, usedforsecurity=False).digest() in self.known

    def delete(self, key: bytes) -> int:
        """Drop a key."""
        return self.keys.drop(key)
