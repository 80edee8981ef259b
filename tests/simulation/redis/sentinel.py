"""A sentinel: says which server is the primary, as far as it knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.simulation.redis.keyspace import Refusal
from tests.simulation.redis.server import RedisServer
from tests.simulation.redis.session import Session

SERVICE = "main"
"""By which sentinels and clients know the primary."""

PORT = b"6379"


class _Nobody:
    """Watches nothing: a sentinel keeps no locks."""

    def before(self, server: RedisServer) -> None:
        """Look at nothing."""

    def after(self, server: RedisServer, session: Session) -> None:
        """Look at nothing."""

    def answered(
        self, server: RedisServer, session: Session, words: list[bytes], reply: Any
    ) -> None:
        """Look at nothing."""


class SentinelServer(RedisServer):
    """
    One sentinel.

    :param primary: name of the first primary
    """

    def __init__(self, name: str, true_time: Callable[[], float], primary: str) -> None:
        super().__init__(name, true_time, _Nobody())
        self.primary = primary
        self.epoch = 0
        self.down = False
        """Whether it takes the primary for down."""

    def learn_of(self, primary: str, epoch: int) -> None:
        """Take in who is the primary now."""
        self.primary, self.epoch, self.down = primary, epoch, False

    def run(self, command: bytes, args: tuple[bytes, ...]) -> Any:
        """Answer what clients ask a sentinel."""
        if command != b"SENTINEL":
            return Refusal(b"ERR unknown command '%b'" % command)
        address = self.primary.encode()
        if args[0].upper() == b"GET-MASTER-ADDR-BY-NAME":
            return [address, PORT]
        flags = b"master,s_down,o_down" if self.down else b"master"
        state = (b"name", SERVICE.encode(), b"ip", address, b"port", PORT, b"flags", flags)
        return [*state, b"config-epoch", b"%d" % self.epoch]
