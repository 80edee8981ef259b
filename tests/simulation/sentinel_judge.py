"""The judge of a primary behind sentinels: which of two primaries counts, and when neither does."""

from __future__ import annotations

import math

from tests.simulation.judge import Judge
from tests.simulation.known import Name
from tests.simulation.redis.server import RedisServer
from tests.simulation.redis.session import Session


class SentinelJudge(Judge):
    """Judges P1 but while a failover is under way, and fencing tokens always."""

    primary: RedisServer
    differ = False
    """Whether a failover is under way: writes may be lost, and two may serve."""

    def primaries_differ(self) -> None:
        """Take in that a failover begins."""
        self.differ = True
        self.data_was_lost()

    def promoted(self, primary: RedisServer) -> None:
        """Take in who is the primary: from now on a lock can be had that is free there."""
        for key, name in self.keys.items():
            ends_ms = primary.keys.ends.get(key, 0) - primary.clock_us() // 1000
            name.wait.failed_over(self.now + max(0, ends_ms) / 1000)
        self.permits.promoted(primary)

    def primaries_agree(self) -> None:
        """Take in that it is over: there is one primary again."""
        self.differ = False
        self.data_was_lost()

    def data_was_lost(self) -> None:
        """Take in that a server lost data."""
        super().data_was_lost()
        self._broken_meanwhile()

    def _broken_meanwhile(self) -> None:
        if self.differ:
            self.broken_at = math.inf

    @property
    def fences_are_promised(self) -> bool:
        """Whether the clocks of successive primaries agree."""
        return not self.clock_stepped

    def clock_was_set(self, seconds: float) -> None:
        """Take in that a server's clock was stepped: its successor's was not."""
        super().clock_was_set(seconds)
        self.clock_stepped = True
        self.set_back_by += abs(seconds)  # what one clock ends soon lasts by the other's
        self._broken_meanwhile()

    def is_settled(self, _key: bytes) -> bool:
        """Tell whether one server has a key and all that belongs to it."""
        return not self.differ

    def _handed_over(
        self, name: Name, value: bytes | None, server: RedisServer, session: Session
    ) -> None:
        if not self.differ:
            super()._handed_over(name, value, server, session)

    def _granted(self, name: Name, value: bytes) -> None:
        if self.differ:  # nobody can know what the other one was told
            name.given_up.clear()
        super()._granted(name, value)

    def server(self, _key: bytes) -> RedisServer:
        """Return where a lock is."""
        return self.primary
