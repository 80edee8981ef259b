"""``aiodistlock release NAME --force``: takes a lock from its holder.

The holder may live: it goes on until its next renewal is refused.  So the fencing token
is raised with it, above all that the holder may have used, and who checks tokens refuses
its writes once they have seen a newer one.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, NoReturn

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import ResponseError
from rich.console import Console

from aiodistlock.console.errors import EXIT_UNAVAILABLE, EXIT_USAGE, CommandError
from aiodistlock.core.escaping import quoted, shown
from aiodistlock.core.fencing import MAX_LOCAL_HANDOFFS
from aiodistlock.core.keys import LockKeys, fence_key, void_key
from aiodistlock.deployments.quorum.votes import majority
from aiodistlock.protocol.answers import Taken, Unvoted
from aiodistlock.protocol.call import R
from aiodistlock.protocol.operations import Operations
from aiodistlock.protocol.redis_call import RedisCall
from aiodistlock.protocol.scripts import ON_CLUSTER, ON_ONE

from .connection import check_keys, reaching, redis_clients
from .survey.report import show
from .survey.run import Where
from .survey.state import Holder, LockState, added_up
from .survey.survey import Survey, open_survey

_NO_FORCE = (
    "a lock is given up by its holder, or by its ttl if that died; to take {name!r} from a "
    "holder that may be alive, use --force: its fencing token is raised, and only who checks "
    "the token is safe from the holder's late writes"
)


def run(at: Where, name: str, *, force: bool, yes: bool) -> int:
    """
    Show who holds the lock, ask, and take it; return the exit status.

    :raises CommandError: if it is not to be forced, nobody can be asked, nobody holds the
        lock, or Redis is unavailable
    """
    keys = check_keys(name, at.namespace)
    if not force:
        raise CommandError(_NO_FORCE.format(name=name), EXIT_USAGE)
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CommandError("there is no terminal to ask on: repeat with --yes", EXIT_USAGE)
    each, nodes = asyncio.run(_look(at, name))
    state = added_up(nodes, list(each.values()))
    show(Console(stderr=True, highlight=False), state, each, nodes)
    if state.permits:
        raise CommandError(
            f"{quoted(name)} is a semaphore, whose permits are not taken: those of a holder that "
            "died are back when its lease is over",
            1,
        )
    if state.holder is None:
        raise CommandError(f"nobody holds {quoted(name)}: there is nothing to release", 1)
    # Between two loops: in one, Ctrl-C would wait for the answer.
    if not yes and not _agreed(f"Take {shown(name)} from {shown(Holder.of(state.holder))}?"):
        print("aiodistlock: nothing was changed", file=sys.stderr)
        return 1
    asyncio.run(_release(at, keys, state))
    return 0


def _agreed(question: str) -> bool:
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


async def _look(at: Where, name: str) -> tuple[dict[int, LockState], int]:
    async with open_survey(at.urls, at.namespace, at.timeout) as survey:
        seen = await survey.look_at_each([name])
        return {node: states[0] for node, states in seen.items()}, survey.size


async def _release(at: Where, keys: LockKeys, state: LockState) -> None:
    assert state.holder is not None, "the user was shown a holder"
    async with redis_clients(at.urls, at.timeout) as clients:
        if len(clients) == 1:
            await take(clients[0], keys, state.holder)
        else:
            await _take_from_majority(keys, state, Survey(clients, at.namespace))


async def take(client: Redis | RedisCluster, keys: LockKeys, holder: str) -> None:
    """
    Take a lock from its holder, and tell what came of it.

    :param holder: the token that the user was shown
    :raises CommandError: if somebody else holds it by now, or Redis is unavailable
    """
    with reaching():
        taken = await _run(client, _operations(client).force_release(keys, _encoded(holder)))
    if not isinstance(taken, Taken):
        _report_other(keys, taken.holder)
    if taken.passed_to is None:
        told = f"{shown(keys.name)} is free; its next lease has a fencing token above {taken.fence}"
    else:
        told = (
            f"{shown(keys.name)} has passed on to {shown(Holder.of(taken.passed_to))}, "
            f"with fencing token {taken.fence}"
        )
    print(told)


def _encoded(token: str) -> bytes:
    # As the survey has decoded it.
    return token.encode(errors="surrogateescape")


def _report_other(keys: LockKeys, holder: str | None) -> NoReturn:
    now = "nobody holds it" if holder is None else f"{shown(Holder.of(holder))} holds it"
    raise CommandError(f"{quoted(keys.name)} has changed hands meanwhile, now {now}; left alone", 1)


def _operations(client: Redis | RedisCluster) -> Operations:
    # The inboxes of a Cluster's waiters are sharded channels.
    own = ON_CLUSTER if isinstance(client, RedisCluster) else ON_ONE
    return Operations(own, by_slot=own is ON_CLUSTER)


async def _run(client: Redis | RedisCluster, call: RedisCall[R]) -> R:
    run: Any = client.eval
    # Nothing is void of a sender with one request.
    request = (call.script.source, *call.operands(void_key("release", call.keys.slot)))
    try:
        return call.decode(await run(*request), 0.0)
    except ResponseError as error:
        told = str(error)
        if not told.startswith("BADFENCE"):
            raise
        print(f"aiodistlock: a fence counter was broken: {shown(told[9:])}", file=sys.stderr)
        return call.decode(await run(*request), 0.0)


async def _take_from_majority(keys: LockKeys, state: LockState, survey: Survey) -> None:
    """
    Take back the holder's votes, on every node, and lift the counters with them.

    There is no queue across nodes, so nobody is given the lock: those who wait get a hint.
    """
    assert state.holder is not None
    token = _encoded(state.holder)
    highest = max(time.time_ns() // 1000, (state.fence or 0) + MAX_LOCAL_HANDOFFS + 1)

    async def take(client: Redis | RedisCluster) -> bool:
        # The channel is nobody's: only who leaves a queue must name its own.
        call = Operations(by_slot=True).unvote(keys, token, highest, b"aiodistlock:none")
        unvoted = await _run(client, call)
        return isinstance(unvoted, Unvoted) and unvoted.refusal is None

    # At once: a renewal that comes between two nodes would heal the first.
    taken = sum((await survey.of_all(take)).values())
    if taken == 0:
        _report_other(keys, None)
    # A node without memory gives its vote up, but keeps its counter as it was.
    counters = await survey.of_all(lambda client: client.get(fence_key(keys.slot)))
    raised = sum(int((each or b"0").split()[0]) >= highest for each in counters.values())
    states = [each[0] for each in (await survey.look_at_each([keys.name])).values()]
    if raised < majority(survey.size) or added_up(survey.size, states).holder == state.holder:
        raise CommandError(
            f"{taken} of {survey.size} votes were taken back, and the fencing token was raised "
            f"on {raised} nodes, which is not enough: try again",
            EXIT_UNAVAILABLE,
        )
    print(f"{shown(keys.name)} is free; its next lease has a fencing token above {highest}")
