"""One deployment on real servers, and real client processes, for as long as asked."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random

from aiodistlock.core.clock import local_clock
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.soak.clients import Clients
from tests.soak.grounds import Ground, command, ground
from tests.soak.history import History
from tests.soak.judge import Violation, violations

CLIENTS = 4

STORY_OF = 2.0
"""Seconds before and behind a violation that its story is about."""

GONE_WITHIN = 10.0
"""Seconds after which no lock is held, when all who took them have ended or were killed."""

FOR_EVER, IS_GONE = -1, -2
"""What PTTL says."""

STAYS = (b"aiodistlock:fence", b"aiodistlock:marker")
"""What stays on a server, by docs/design.md."""


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    deployment: str
    history: History
    violations: list[Violation]

    @property
    def vacuous(self) -> bool:
        """Whether it shows nothing: hardly any lease, or not a fault."""
        return len(self.history.holds) < 20 or not self.history.strikes

    def __str__(self) -> str:
        history = self.history
        struck = ", ".join(f"{kind} {count}" for kind, count in sorted(history.strikes.items()))
        return (
            f"{self.deployment}: {len(history.holds):,} leases, {history.refused:,} stale writes "
            f"refused, {len(self.violations)} violations{', VACUOUS' * self.vacuous}\n  {struck}"
        )

    def story(self) -> list[str]:
        """Tell what was wrong first, and all around it."""
        worst = self.violations[0]
        lines = self.history.story + [(each.began_at, str(each)) for each in self.history.holds]
        lines += [(each.at, f"{each.rule.upper()}: {each.what}") for each in self.violations]
        return [
            f"{at - worst.at:+9.4f}  {what}"
            for at, what in sorted(lines)
            if abs(at - worst.at) < STORY_OF
        ]


async def soak(
    deployment: str,
    binary: Path,
    seconds: float,
    progress: Callable[[History], None] = lambda _: None,
) -> Outcome:
    """
    Run clients on a deployment, and have all kinds of faults befall both.

    :param progress: called four times a second
    """
    history = History()
    namespace = f"soak:{secrets.token_hex(4)}:"
    async with AsyncExitStack() as stack:
        servers = await ground(deployment, binary, history, namespace, stack)
        clients = Clients(servers.urls, namespace, CLIENTS, history)
        await stack.enter_async_context(clients)
        over_at = local_clock() + seconds

        async def go_on(strike: Callable[[], Awaitable[None]]) -> None:
            while (left := over_at - local_clock()) > 0.0:
                await asyncio.sleep(min(left, 3.0 * Random().random()))
                await strike()

        async def strike_servers() -> None:
            kind = Random().choice(sorted(servers.strikes))
            history.strikes[kind] += 1
            history.tell(local_clock(), f"servers: {kind}")
            await servers.strikes[kind]()
            history.tell(local_clock(), f"servers: {kind} is over")

        async def show() -> None:
            while local_clock() < over_at:
                progress(history)
                await asyncio.sleep(0.25)

        async with asyncio.TaskGroup() as tasks:
            for each in (go_on(clients.strike), go_on(strike_servers), show()):
                tasks.create_task(each)
        await clients.end()
        await _see_that_nothing_is_left(servers, history)
    return Outcome(deployment, history, violations(history))


async def _see_that_nothing_is_left(servers: Ground, history: History) -> None:
    """See that no lock is held any more, and that what is there has an end."""
    give_up_at = local_clock() + GONE_WITHIN
    while left := await asyncio.to_thread(_left, servers):
        if local_clock() > give_up_at:
            history.wrong += [(local_clock(), each) for each in left]
            return
        await asyncio.sleep(0.1)


def _left(servers: Ground) -> list[str]:
    return [text for each in servers.servers for text in _left_at(each)]


def _left_at(server: EmbeddedRedis) -> list[str]:
    if command(server, "ROLE")[0] != b"master":
        return []
    keys = [each for each in command(server, "KEYS", "*") if not each.startswith(STAYS)]
    ends = {each: command(server, "PTTL", each) for each in keys}
    return [
        f"{key!r} is left at {server.url}, for {end} ms"
        for key, end in ends.items()
        # Who was killed stays in a queue for a while, and what is void is noted for longer.
        if end == FOR_EVER or (end != IS_GONE and not key.startswith(b"aiodistlock:"))
    ]
