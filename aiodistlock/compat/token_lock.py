"""A lock whose possession is a token at a key, and nothing else.

The engine waits for it: in the queue, woken by grants, cancellable.  Once it is ours,
nothing in this process looks after it: it lasts for its ttl, or for ever, and whoever has
the token may release it, from another object, task or thread.

What the engine grants is a lease with a ttl and a token of its own.  Where another token
or no ttl is wanted, that lease is short and is claimed at once by a second request.  So a
process that dies between grant and claim does not hold a lock without ttl for ever; and
two that were given the same token by their users still exclude each other.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiodistlock.core.backoff import Backoff
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import MAX_SECONDS, MIN_TTL, LockOptions, lock_options, to_ms
from aiodistlock.deployments.single.store import SingleStore
from aiodistlock.engines import shared_engines
from aiodistlock.errors import AcquireTimeout, StoreUnavailable
from aiodistlock.leases.process_lease import ProcessLease
from aiodistlock.protocol.answers import (
    Claimed,
    ClaimReply,
    Ends,
    Failed,
    MoveEndReply,
    NotOurs,
    ReleaseReply,
)
from aiodistlock.protocol.await_answer import answer
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.cleanup import confirmed
from aiodistlock.waiting.acquire import acquire
from aiodistlock.waiting.client_state import ClientState
from aiodistlock.waiting.contender import Contender
from aiodistlock.waiting.engine import Engine

if TYPE_CHECKING:
    from redis.asyncio import Redis

CLAIM_WITHIN = 2.0
"""Length of a lease that is to be claimed, seconds: what a frozen waiter costs others."""

ANSWER_WITHIN = 1.0
"""Seconds that Redis has for a first answer after the caller's own time is over."""

_BACKOFF = Backoff()


class Possession:
    """A token that possesses a lock; to the engine, the holder of what it granted."""

    __slots__ = ("__weakref__", "_client", "_lease", "key_token")

    def __init__(
        self,
        client: ClientState[Any],
        process_lease: ProcessLease,
        _fence: int,
        _task: asyncio.Task[Any] | None,
        _owner: object,
    ) -> None:
        self._client = client
        self._lease = process_lease
        self.key_token = process_lease.value
        """What stands at the key: whoever has it may release the lock."""
        # From the grant on, not from when the task runs: what else arrives in the same
        # read must find that the token is somebody's.
        client.let_go[process_lease.token] = self
        client.all_watched = False

    @property
    def token(self) -> str:
        """What the engine put at the key."""
        return self._lease.token.decode()

    @property
    def validity(self) -> float:
        """Seconds left of what the engine granted."""
        return max(0.0, self._lease.deadline - self._client.clock())

    def _lose(self, _reason: str) -> None:
        """Do nothing: who releases or extends by the token will be told."""

    def _give_back(self) -> Call[Any] | None:
        """Release it unused: its task was cancelled in the turn of the grant."""
        return self._lease.possessor.release(self._lease)

    def let_go(self) -> None:
        """Have the engine look after it no longer."""
        self._lease.possessor.let_go(self._lease)
        if self._lease.story is not None:
            # Whoever has the token ends it, perhaps another process, perhaps nobody: for
            # listeners it ends here, or it never would.
            self._lease.story.released()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """
    What a caller wants to possess.

    :param token: what to put at the key; ``None``: the engine's own token
    :param ttl: seconds; ``None``: for ever
    :param poll_every: seconds between requests while a foreign client holds the lock
    """

    token: bytes | None
    ttl: float | None
    poll_every: float
    ttl_ms: int = field(init=False)
    """0: for ever."""
    claims: bool = field(init=False)
    """Whether it takes a second request."""
    options: LockOptions = field(init=False)
    """What to ask the engine for."""

    def __post_init__(self) -> None:
        ttl = self.ttl
        claims = self.token is not None or ttl is None or not MIN_TTL <= ttl <= MAX_SECONDS
        pause = min(max(self.poll_every, 0.001), 3600.0)
        options = lock_options(
            {
                "ttl": CLAIM_WITHIN if claims else ttl,
                "auto_renew": False,
                "local_handoffs": 0,
                "namespace": "",
                "backoff": _BACKOFF,
                "foreign_backoff": Backoff(initial=pause, factor=1.0, cap=pause, jitter=0.2),
            }
        )
        object.__setattr__(self, "ttl_ms", 0 if ttl is None else to_ms(ttl))
        object.__setattr__(self, "claims", claims)
        object.__setattr__(self, "options", options)


class TokenLock:
    """
    Takes and gives up one key by tokens.

    Every method raises ``StoreUnavailable`` if Redis does not answer or refuses.

    :param redis: whose shared ``LockClient`` to use
    """

    __slots__ = ("_keys", "_redis")

    def __init__(self, redis: Redis, keys: LockKeys) -> None:
        self._redis = redis
        self._keys = keys

    def _engine(self) -> Engine:
        return shared_engines(self._redis)._engine(self._keys.name)

    def _store(self) -> SingleStore:
        store = self._engine().store
        assert isinstance(store, SingleStore), "one Redis, or one cluster"
        return store

    async def take(self, wish: Wish, timeout: float | None) -> Possession | None:
        """
        Wait for possession; ``None`` if the lock was not free in time.

        Cancelled here, nothing stays behind in Redis.

        :param timeout: seconds, ``None`` without end, 0: one attempt
        :raises TimeoutError: if Redis did not answer at all
        """
        engine = self._engine()
        until = None if timeout is None else engine.clock() + timeout
        while True:
            possession = await self._granted(engine, wish, timeout)
            if possession is None or not wish.claims or await self._claim(possession, wish):
                return possession
            # Too late: what was granted had run out.
            if until is not None:
                timeout = max(0.0, until - engine.clock())

    async def _granted(
        self, engine: Engine, wish: Wish, timeout: float | None
    ) -> Possession | None:
        try:
            possession = await self._ask(engine, wish, timeout)
        except AcquireTimeout as error:
            if error.holder is not None:
                return None
            # Not one answer so far, be it from a slow network.  One is due to the caller,
            # whose time is meant for the wait behind others.
            async with asyncio.timeout(ANSWER_WITHIN):
                possession = await self._ask(engine, wish, 0)
        if possession is not None:
            possession.let_go()
        return possession

    async def _ask(self, engine: Engine, wish: Wish, timeout: float | None) -> Possession | None:
        contender = Contender(engine, self._keys)
        task = asyncio.current_task()
        return await acquire(contender, wish.options, Possession, self._redis, task, timeout)

    async def _claim(self, possession: Possession, wish: Wish) -> bool:
        """Make of what was granted what is wished; tell whether it was still ours."""
        store, granted = self._store(), possession.key_token
        wanted = granted if wish.token is None else wish.token

        undone: list[Call[ReleaseReply]] = []

        def undo(reply: ClaimReply) -> None:
            """Give up what was claimed, behind the claim; not what is another's."""
            if _claimed(call, reply) or type(reply) is Failed:
                undone.append(store.release(self._keys, wanted, 0, math.inf))

        call = store.claim(self._keys, granted, wanted, wish.ttl_ms)
        try:
            reply = await call
        except asyncio.CancelledError:
            if call.reply is None:
                call.on_reply = undo
                await confirmed(call)
            else:
                undo(call.reply)
            for release in undone:
                await confirmed(release)
            raise
        if type(reply) is Failed:
            # It may have run all the same.
            store.release(self._keys, granted, 0, math.inf)
            undo(reply)
            raise StoreUnavailable(self._keys.name, reply.causes)
        possession.key_token = wanted
        return _claimed(call, reply)

    def release(self, token: bytes) -> Call[ReleaseReply]:
        """Give up what ``token`` possesses: to the next waiter, if there is one."""
        return self._store().release(self._keys, token, 0, math.inf)

    async def renew(self, token: bytes, ttl: float) -> bool:
        """Set the remaining time, seconds; ``False`` if ``token`` does not possess the lock."""
        reply = await self._store().renew(self._keys, token, to_ms(ttl))
        if isinstance(reply, Failed):
            raise StoreUnavailable(self._keys.name, reply.causes)
        return not isinstance(reply, NotOurs)

    async def replace(self, token: bytes, ttl: float) -> bool:
        """As :meth:`renew`, but ``False`` also if there is no remaining time to replace."""
        # By 0 would only ask; -1 ends it as well.
        call = self._store().move_end(self._keys, token, by_ms=to_ms(ttl) or -1)
        ends = await self._ends(call)
        return ends is not None and ends.moved

    async def prolong(self, token: bytes, by: float) -> bool:
        """
        Add seconds to the remaining time; ``False`` if there is none, or not ours.

        To be added once though the request may be sent twice, it names the end that it
        moves; whoever moves the same end meanwhile makes it start anew.
        """
        ends = await self._ends(self._store().move_end(self._keys, token))
        while ends is not None and ends.at_ms >= 0:
            call = self._store().move_end(self._keys, token, ends.at_ms, to_ms(by))
            ends = await self._ends(call)
            if ends is not None and (ends.moved or (ends.before and call.resent)):
                return True
        return False

    async def possessed_by(self, token: bytes) -> bool:
        """Tell whether ``token`` possesses the lock."""
        store = self._store()
        call: Call[Any] = store.move_end(self._keys, token)
        reply = await answer(store, call, self._keys.name)
        return not isinstance(reply, NotOurs)

    async def _ends(self, call: Call[MoveEndReply]) -> Ends | None:
        reply = await call
        if isinstance(reply, Failed):
            raise StoreUnavailable(self._keys.name, reply.causes)
        return None if isinstance(reply, NotOurs) else reply

    async def taken(self) -> bool:
        """Tell whether anybody possesses the lock."""
        store = self._store()
        reply = await answer(store, store.inspect(self._keys), self._keys.name)
        return reply.holder is not None


def _claimed(call: Call[ClaimReply], reply: ClaimReply) -> bool:
    # The wanted token was there before: our own claim's doing if that was sent twice, and
    # else that of somebody whose user gave the same token.
    return type(reply) is Claimed and (not reply.before or call.resent)
