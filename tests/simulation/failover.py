"""A primary and its replica behind sentinels: replication that is late, and failovers.

A failover takes the last state that reached the replica, so what was written since is lost.
The former primary may be dead, frozen, or alive and serving whoever has not heard of it; when it
hears of its successor it becomes a replica, drops its clients, and refuses to write.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.network import Network
from tests.simulation.redis.sentinel import SentinelServer
from tests.simulation.redis.server import RedisServer
from tests.simulation.sentinel_judge import SentinelJudge

if TYPE_CHECKING:
    from tests.simulation.plan import Strike

_State = tuple[dict[bytes, bytes | dict[bytes, float]], dict[bytes, int]]

KEEPS_UP = 0.003
"""Seconds that a replica may be late for the shortest of leases to be acknowledged in time."""


class Failover:
    """
    Keeps a replica up to date, lately, and promotes it.

    :param servers: the primary, and its replica
    """

    def __init__(
        self,
        network: Network,
        judge: SentinelJudge,
        servers: list[RedisServer],
        sentinels: list[SentinelServer],
        rng: Random,
    ) -> None:
        self._network = network
        self._timeline = network.timeline
        self._judge = judge
        self._sentinels = sentinels
        self._lag = rng.choice((0.0003, KEEPS_UP, 0.05))
        self.primary, self._replica = servers
        self._replica.follows = True
        self._states: deque[tuple[float, _State]] = deque()
        self._epoch = 0
        self.under_way = False
        self._replicated_until = math.inf
        """When the primary stopped telling its replica what is written."""
        judge.primary = self.primary
        for each in servers:
            each.acknowledge = partial(self._acknowledge, each)

    def _acknowledge(
        self, server: RedisServer, within: float, tell: Callable[[int], object]
    ) -> None:
        """Tell when the replica has all that was written, if that is in time."""
        now = self._timeline.now
        has_all_at = self._states[-1][0] + self._lag if self._states else now
        if server is self.primary and has_all_at <= now + within:
            self._timeline.at(has_all_at, lambda: tell(int(server is self.primary)))
        else:
            self._timeline.after(within, tell, 0)

    def written(self, server: RedisServer) -> None:
        """Take down what the primary has, to be had by the replica later."""
        if server is not self.primary:
            return
        keys = server.keys
        values = {
            key: dict(value) if isinstance(value, dict) else value
            for key, value in keys.values.items()
        }
        self._states.append((self._timeline.now, (values, dict(keys.ends))))
        while len(self._states) > 1 and self._states[1][0] <= self._timeline.now - self._lag:
            self._states.popleft()

    def begin(self, strike: Strike) -> None:
        """Have the primary fail, or seem to; the sentinels promote the replica after a while."""
        if self.under_way:
            return
        self.under_way = True
        former = self.primary
        way = strike.number % 3
        self._replicated_until = math.inf if way == 2 else self._timeline.now
        if way == 0:
            former.go_down()
        elif way == 1:
            former.frozen = True
        for sentinel in self._sentinels:
            sentinel.down = True
        self._judge.primaries_differ()
        self._timeline.after(0.1 + strike.amount * 0.5, self._promote, former, strike.amount)

    def _promote(self, former: RedisServer, amount: float) -> None:
        if not self.under_way:
            return
        self._epoch += 1
        at = min(self._timeline.now, self._replicated_until) - self._lag
        state: _State = next(
            (each for when, each in reversed(self._states) if when <= at), ({}, {})
        )
        self._states.clear()
        self.primary, self._replica = self._replica, former
        keys = self.primary.keys
        keys.values.clear()
        keys.ends.clear()
        keys.values.update(state[0])
        keys.ends.update(state[1])
        self.primary.follows = False
        self._judge.primary = self.primary
        self._judge.promoted(self.primary)
        self._promoted(amount)
        self._timeline.after(amount * 1.5, self._demote, former)

    def _promoted(self, amount: float) -> None:
        """Have it known, by one after the other, that there is another primary."""
        for number, sentinel in enumerate(self._sentinels):
            self._timeline.after(
                number * amount * 0.05, sentinel.learn_of, self.primary.name, self._epoch
            )

    def _demote(self, former: RedisServer) -> None:
        """Have the former primary hear of its successor."""
        if not self.under_way:
            return
        self.under_way = False
        if not former.up:
            former.come_up(keeps_data=False)
        former.frozen = False
        former.follows = True
        former.keys.values.clear()
        former.keys.ends.clear()
        self._demoted(former)
        self._network.hosts[former.name].plan()
        self._judge.promoted(self.primary)
        self._judge.primaries_agree()

    def _demoted(self, former: RedisServer) -> None:
        """Have it let go of its clients."""
        former.end_sessions()

    def end(self) -> None:
        """Finish what is under way, at once, and have the replica keep up."""
        # Else nobody ever leads whose lease is too short for it to be acknowledged, and who
        # goes on trying for as long as that is so does not come to an end.
        self._lag = min(self._lag, KEEPS_UP)
        if not self.under_way:
            return
        if not self._replica.follows:  # promoted: the former one does not know yet
            self._demote(self._replica)
            return
        self.under_way = False
        for sentinel in self._sentinels:
            sentinel.learn_of(self.primary.name, self._epoch)
        self._judge.primaries_agree()
