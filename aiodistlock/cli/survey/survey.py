"""Looks at the locks of a deployment: SCAN for their names, then a pipeline for each batch."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import anyio
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import ResponseError

from aiodistlock.cli.connection import reaching, redis_clients
from aiodistlock.console.errors import EXIT_UNAVAILABLE, CommandError
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.mark import Mark, read_mark
from aiodistlock.core.permits import read_lease
from aiodistlock.core.value import READERS, read_value
from aiodistlock.deployments.quorum.votes import majority

from .names import matches, name_of, scan_pattern
from .state import LockState, PermitState, Waiter, added_up

_BATCH = 500

# See prelude.lua.
_RECORD = re.compile(rb"\d+ \S+ \S+ (?P<token>\S+)(?: \d+ \d+)?")

T = TypeVar("T")


class Survey:
    """
    Looks at locks on one Redis, on all primaries of a Cluster, or on a quorum.

    :param clients: one of redis-py, or one for each node of a quorum
    """

    def __init__(self, clients: Sequence[Redis | RedisCluster], namespace: str) -> None:
        self._clients = clients
        self._namespace = namespace
        self.silent: dict[int, str] = {}
        """Nodes of a quorum that did not answer the last time, and why."""

    @property
    def size(self) -> int:
        """How many nodes decide."""
        return len(self._clients)

    async def names(self, pattern: str = "*") -> list[str]:
        """
        Return the names of all locks that match, in order.

        :raises CommandError: if too few nodes answer
        """
        match = scan_pattern(self._namespace, pattern)

        async def scan(client: Redis | RedisCluster) -> set[str]:
            found = set()
            # SCAN, never KEYS; a RedisCluster's asks all of its primaries.
            async for key in client.scan_iter(match=match, count=1000):
                name = name_of(key, self._namespace)
                if name is not None and matches(name, pattern):
                    found.add(name)
            return found

        return sorted(set().union(*(await self.of_all(scan)).values()))

    async def look(self, names: Iterable[str]) -> list[LockState]:
        """
        Return what a majority says of these locks, in their order.

        :raises CommandError: if too few nodes answer
        """
        seen = await self.look_at_each(names)
        return [added_up(self.size, states) for states in zip(*seen.values(), strict=True)]

    async def look_at_each(self, names: Iterable[str]) -> dict[int, list[LockState]]:
        """
        Return what each node says of these locks, in their order.

        :raises CommandError: if too few nodes answer
        """
        keys = [LockKeys(name, self._namespace) for name in names]

        async def look(client: Redis | RedisCluster) -> list[LockState]:
            now = await _server_time(client)
            states = []
            for start in range(0, len(keys), _BATCH):
                states += await _look(client, keys[start : start + _BATCH], now)
            return states

        return await self.of_all(look)

    async def beside(self, name: str) -> tuple[Mark | None, str | None]:
        """
        Return what stands beside a name: its last window, and what its leader proclaims.

        On a quorum there is neither.

        :raises CommandError: if Redis does not answer
        """
        if self.size > 1:
            return None, None
        keys = LockKeys(name, self._namespace)
        wanted = [keys.key, keys.done, keys.proclamation]
        found = (await self.of_all(lambda client: _get(client, wanted)))[0]
        holder, mark, proclamation = (each if isinstance(each, bytes) else b"" for each in found)
        leads = bool(holder) and proclamation.startswith(holder + b" ")
        text = proclamation.removeprefix(holder + b" ").decode(errors="replace") if leads else None
        return read_mark(mark), text

    async def fences(self, names: Iterable[str]) -> list[int]:
        """
        Return the fencing token of each name's present lease, 0 where there is none.

        :raises CommandError: if too few nodes answer
        """
        keys = [LockKeys(name, self._namespace).key for name in names]

        async def look(client: Redis | RedisCluster) -> list[int]:
            values = await _get(client, keys)
            held = await _permits(client, keys, values, 0)  # those that are over, too
            return [
                read_value(value).fence if isinstance(value, bytes) else _latest(held.get(key, ()))
                for key, value in zip(keys, values, strict=True)
            ]

        seen = await self.of_all(look)
        return [max(each) for each in zip(*seen.values(), strict=True)]

    async def of_all(self, ask: Callable[[Redis | RedisCluster], Awaitable[T]]) -> dict[int, T]:
        """
        Ask all nodes at once, and return the answers of those that gave one.

        :raises CommandError: if they are no majority
        """
        if self.size == 1:
            with reaching():
                return {0: await ask(self._clients[0])}
        answers: dict[int, T] = {}
        self.silent = {}

        async def one(number: int, client: Redis | RedisCluster) -> None:
            try:
                with reaching():
                    answers[number] = await ask(client)
            except CommandError as error:
                self.silent[number] = str(error)

        async with anyio.create_task_group() as tasks:
            for number, client in enumerate(self._clients):
                tasks.start_soon(one, number, client)
        if len(answers) < majority(self.size):
            told = "; ".join(f"node {n + 1}: {why}" for n, why in sorted(self.silent.items()))
            raise CommandError(
                f"{len(self.silent)} of {self.size} nodes do not answer: {told}", EXIT_UNAVAILABLE
            )
        return dict(sorted(answers.items()))


@asynccontextmanager
async def open_survey(urls: Sequence[str], namespace: str, timeout: float) -> AsyncIterator[Survey]:
    """Open a survey of a deployment, and close its connections."""
    async with redis_clients(urls, timeout) as clients:
        yield Survey(clients, namespace)


async def _server_time(client: Redis | RedisCluster) -> int:
    """Return the server's time in µs; on a Cluster that of one of its primaries."""
    told: Any = await client.time()
    seconds, rest = next(iter(told.values())) if isinstance(told, dict) else told
    return int(seconds) * 1_000_000 + int(rest)


async def _look(
    client: Redis | RedisCluster, batch: Sequence[LockKeys], now: int
) -> list[LockState]:
    # No MULTI: on a Cluster it could not span the names of a batch.
    pipeline = client.pipeline(transaction=False)
    for keys in batch:
        pipeline.get(keys.key)
        pipeline.pttl(keys.key)
        pipeline.zrange(keys.queue, 0, -1, withscores=True)
    replies = await pipeline.execute(raise_on_error=False)
    held = await _permits(client, [keys.key for keys in batch], replies[::3], now)
    states = [
        _state(keys.name, replies[3 * n : 3 * n + 3], now, held.get(keys.key, ()))
        for n, keys in enumerate(batch)
    ]
    return await _with_readers(client, batch, states, now)


async def _permits(
    client: Redis | RedisCluster, keys: Sequence[bytes], values: Sequence[Any], now: int
) -> dict[bytes, tuple[PermitState, ...]]:
    """Return the leases of permits, of those keys at which no string was found."""
    pairs = zip(keys, values, strict=True)
    asked = [key for key, value in pairs if isinstance(value, Exception)]
    if not asked:
        return {}
    pipeline = client.pipeline(transaction=False)
    for key in asked:
        pipeline.zrange(key, 0, -1, withscores=True)
    replies = await pipeline.execute(raise_on_error=False)
    return {
        key: tuple(sorted(_leases(found, now), key=lambda lease: lease.slots))
        for key, found in zip(asked, replies, strict=True)
        if isinstance(found, list)
    }


def _leases(found: Iterable[tuple[bytes, float]], now: int) -> Iterator[PermitState]:
    for member, ends_at in found:
        read = read_lease(member)
        if read is not None and now < ends_at < math.inf:
            token, fence, slots = read
            yield PermitState(_text(token), slots, fence, (int(ends_at) - now) / 1e6)


def _latest(leases: Iterable[PermitState]) -> int:
    """Return the fencing token of the lease that began last, 0 where there is none."""
    return max((lease.fence for lease in leases), default=0)


async def _with_readers(
    client: Redis | RedisCluster, batch: Sequence[LockKeys], states: list[LockState], now: int
) -> list[LockState]:
    """Ask who reads, of those names that readers hold."""
    read = [n for n, state in enumerate(states) if (state.holder or "").startswith(READERS)]
    if not read:
        return states
    pipeline = client.pipeline(transaction=False)
    for n in read:
        pipeline.zrange(batch[n].readers, 0, -1, withscores=True)
    replies = await pipeline.execute(raise_on_error=False)
    for n, reply in zip(read, replies, strict=True):
        if not isinstance(reply, Exception):
            readers = tuple(_text(token) for token, ends in reply if ends > now)
            states[n] = replace(states[n], readers=readers)
    return states


async def _get(client: Redis | RedisCluster, keys: Sequence[bytes]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.get(key)
    return list(await pipeline.execute(raise_on_error=False))


def _state(
    name: str, replies: Sequence[Any], now: int, permits: tuple[PermitState, ...]
) -> LockState:
    for reply in replies:
        # A key of another type is something else than a lock, and is passed over.
        if isinstance(reply, Exception) and "WRONGTYPE" not in str(reply):
            raise reply
    value, remaining, records = (
        None if isinstance(reply, ResponseError) else reply for reply in replies
    )
    waiters = tuple(_waiters(records or (), now))
    if value is None:
        fence = _latest(permits) or None
        return LockState(name, waiters=waiters, fence=fence, permits=permits)
    held = read_value(value)
    return LockState(
        name=name,
        holder=_text(held.token),
        ttl=remaining / 1000 if remaining and remaining >= 0 else None,
        fence=held.fence or None,
        waiters=waiters,
        votes=1,
        may_linger=held.may_linger,
    )


def _waiters(records: Iterable[tuple[bytes, float]], now: int) -> Iterator[Waiter]:
    for record, arrived in records:
        found = _RECORD.fullmatch(record)
        # Anything else in a sorted set of that name is no waiter of ours.
        if found is not None and 0 <= arrived < math.inf:
            yield Waiter(_text(found["token"]), max(0.0, (now - int(arrived)) / 1e6))


def _text(token: bytes) -> str:
    # Other libraries' tokens are any bytes: `release` must find the very same again.
    return token.decode(errors="surrogateescape")
