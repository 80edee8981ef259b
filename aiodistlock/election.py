"""Elections: who leads, for how long, and who is it now."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from inspect import CO_ASYNC_GENERATOR
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast
from weakref import ref

from aiodistlock.core.background import is_thrown_away
from aiodistlock.core.durations import Duration
from aiodistlock.core.escaping import quoted
from aiodistlock.core.keywords import ElectionKeywords
from aiodistlock.core.options import checked_grace, checked_timeout, to_ms
from aiodistlock.core.validation import refuse
from aiodistlock.deployments.source import Source, is_quorum
from aiodistlock.engines import Engines
from aiodistlock.errors import LeaseLost, NotHeld, StoreUnavailable
from aiodistlock.lease import Block, Lease
from aiodistlock.leases.body import is_iterated
from aiodistlock.lock import AsyncLock
from aiodistlock.protocol.answers import Failed, Led, NotOurs, ProclaimReply
from aiodistlock.protocol.await_answer import ASKED_WITHIN, answer
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.store import ElectionStore
from aiodistlock.waiting.pauses import pause_refused

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

logger = logging.getLogger("aiodistlock")

T = TypeVar("T")

MOST_PROCLAIMED = 900
"""Longest that a leader proclaims, bytes."""

PROCLAIMED_FOR = 30.0
"""Seconds for which a proclamation stays at least behind a leader that died."""

AGAIN_AFTER = 1.0
"""Seconds after which is proclaimed again what Redis refused for a passing reason."""


@dataclass(frozen=True, slots=True)
class Leader:
    """
    Who leads an election, as Redis had it when it was asked.

    :ivar term: the fencing token with which its term began: terms only ever rise
    :ivar value: what it proclaims; ``None``: nothing yet
    :ivar token: what stands at the key: it tells host, process and acquisition
    """

    term: int
    value: str | None
    token: str


class Term:
    """
    One period of leading, from the grant to the resignation or the loss.

    Terms come from :meth:`Election.lead`.  Until its :attr:`validity` is over nobody else
    leads, as long as Redis keeps its data and clocks run evenly; beyond that the
    ``fencing_token`` protects: hand it to whatever the leader writes to.

    :ivar int fencing_token: the number of the term; it grows with every term
    :ivar str value: what is proclaimed
    """

    __slots__ = (
        "__weakref__",
        "_block",
        "_ended",
        "_lease",
        "_resigned",
        "_timer",
        "fencing_token",
        "value",
    )

    def __init__(self, lease: Lease, block: Block, value: str) -> None:
        self.fencing_token = lease.fencing_token
        self.value = value
        self._lease = lease
        self._block = block
        self._resigned = False
        self._ended = asyncio.Event()
        self._timer: Any = None
        lease._client.proclaimers[lease._process_lease.token] = self
        self._proclaim()

    def __repr__(self) -> str:
        return f"<Term {self.fencing_token} of {quoted(self.name)}, {self._lease._describe()}>"

    @property
    def name(self) -> str:
        """The name of the election."""
        return self._lease.name

    @property
    def token(self) -> str:
        """What stands at the key in Redis: it tells host, process and acquisition."""
        return self._lease.token

    @property
    def validity(self) -> float:
        """Seconds for which the term can be relied on, without another renewal."""
        return self._lease.validity

    @property
    def is_held(self) -> bool:
        """Whether the term can be relied on at this instant; asks nobody."""
        return self._lease.is_held

    def check(self) -> None:
        """
        Check that the term can be relied on at this instant; no I/O.

        :raises LeaseLost: if it is lost, or its deadline has passed
        :raises NotHeld: if it has ended
        :raises LockError: in a child process: ``os.fork`` does not copy a term
        """
        self._lease.check()

    async def proclaim(self, value: str) -> None:
        """
        Have observers see another value.

        Cancelled here, or refused for a passing reason, it is proclaimed all the same.

        :param value: text of up to 900 bytes
        :raises ValueError: if it is none
        :raises LeaseLost: if the term is lost
        :raises NotHeld: if it has ended
        :raises StoreUnavailable: if Redis did not confirm it
        """
        refuse([_value_problem(value)])
        self.check()
        self._lease._client.check(self.name)
        self.value = value
        reply = await self._proclaim()
        self.check()
        if isinstance(reply, NotOurs):
            raise LeaseLost(self.name, reply.reason, self.fencing_token)
        if isinstance(reply, Failed):
            raise StoreUnavailable(self.name, reply.causes)

    async def resign(self) -> None:
        """
        End the term: cancel the body, let the next candidate lead once it has ended.

        The block ends without an error.  Called in the body, this does not return: the
        cancellation comes here.  Elsewhere it waits until the term has ended.  Cancelled here, the
        term ends all the same.

        :raises NotHeld: if the term has ended
        """
        if self._ended.is_set():
            raise NotHeld(self.name)
        self._resigned = True
        self._block._cancel_body()
        await self._ended.wait()

    def _proclaim(self) -> Call[ProclaimReply]:
        """Proclaim the value of now, and again from time to time: it ends behind a dead leader."""
        client, lease = self._lease._client, self._lease._process_lease
        text, stays = self.value.encode(), to_ms(max(PROCLAIMED_FOR, 3 * lease.options.ttl))
        call = cast("ElectionStore", client.store).proclaim(lease.keys, lease.value, text, stays)
        this = ref(self)  # or a term that its user forgot would go on

        def again() -> None:
            term = this()
            if term is not None and not term._ended.is_set() and not client.closed:
                term._proclaim()

        def proclaimed(reply: ProclaimReply) -> None:
            term = this()
            if term is not None and not isinstance(reply, NotOurs):
                pause = AGAIN_AFTER if isinstance(reply, Failed) else lease.options.ttl
                term._stop_timer()
                term._timer = client.timers.call_later(pause, again)

        call.tell(proclaimed)
        return call

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        self._ended.set()
        if not is_thrown_away(self._lease._client.loop):
            self.take_back()

    def take_back(self) -> None:
        """Take back what was proclaimed, behind the release; nobody waits for that."""
        self._stop_timer()
        client, lease = self._lease._client, self._lease._process_lease
        if client.proclaimers.pop(lease.token, None) is not None and not client.forked:
            cast("ElectionStore", client.store).proclaim(lease.keys, lease.value, b"", 0)

    def _is_overdue(self, grace: float) -> bool:
        """Tell whether its body goes on for longer than it may, from whatever thread."""
        client, lease = self._lease._client, self._lease._process_lease
        return not client.forked and client.clock() > lease.deadline + grace

    def _is_why(self, error: BaseException) -> bool:
        """Tell whether an error says nothing but that the term is lost."""
        if isinstance(error, BaseExceptionGroup):
            return all(map(self._is_why, error.exceptions))
        same = isinstance(error, LeaseLost) and error.name == self.name
        return same and cast("LeaseLost", error).fencing_token == self.fencing_token


class Candidacy:
    """
    One ``async with`` block in which its task leads; :meth:`Election.lead` builds it.

    Entering waits for one's turn, and raises what :meth:`AsyncLock.acquire` raises.  When the
    term is lost the body is cancelled, before Redis lets anybody else lead, and the block raises
    :class:`LeaseLost`; all else is as in a :class:`Hold`.  At the end of the block the body has
    ended, and then only the next candidate leads.
    """

    __slots__ = ("_block", "_election", "_term", "_timeout")

    def __init__(self, election: Election, timeout: float | None) -> None:
        self._election = election
        self._timeout = timeout
        self._block: Block | None = None
        self._term: Term | None = None

    async def __aenter__(self) -> Term:
        if self._block is not None:
            raise RuntimeError("each lead() is for a single 'async with' block")
        frame = sys._getframe(1)
        self._block = block = Block()
        if frame.f_code.co_flags & CO_ASYNC_GENERATOR:
            block._iterated = is_iterated(frame)
        election = self._election
        lease = await election._lock.acquire(self._timeout)
        block._begin(lease, asyncio.current_task(), frame)
        self._term = term = Term(lease, block, election.value)
        election._terms.append(term)
        return term

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        term, block, task = self._term, self._block, asyncio.current_task()
        assert term is not None, "the block was entered"
        assert block is not None, "the block was entered"
        try:
            await block.__aexit__(exc_type, exc, traceback)
        finally:
            self._election._terms.remove(term)
            term._end()
        # Else somebody else wants the task to end, too.
        return (
            term._resigned
            and isinstance(exc, asyncio.CancelledError)
            and block._cancellation is not None
            and task is not None
            and task.cancelling() <= block._cancelling
        )


class Election:
    """
    Who of several processes leads, for how long, and who is it now.

    The leader is the holder of a lock of the election's name, its term the lock's fencing
    token.  The others wait in a queue: when a leader resigns the next one leads within a round
    trip; when it dies, within its ttl and a second.  At most one leads at a time, as long as Redis
    keeps its data and clocks run evenly over one ttl; beyond that two are possible, and
    ``term.fencing_token`` is what protects.

    ::

        election = locks.election("scheduler", value="10.0.0.7:8000")
        async with election.lead() as term:  # waits; the body is cancelled if the term is lost
            await schedule(fence=term.fencing_token)

    :param redis: where it is held: a :class:`LockClient`, or what it is made of; no quorum
    :param name: of the election; the key is ``namespace + name``
    :param value: what this candidate proclaims when it leads, text of up to 900 bytes
    :param ttl: length of the lease in seconds: how long a crashed leader is missed
    :param backoff: pauses between requests that find another leader, or Redis down
    :param namespace: prefix of the keys in Redis
    :param ack: who must have the lease before one leads, as for :class:`AsyncLock`
    :raises TypeError: if ``redis`` is none of these
    :raises ValueError: naming every option that is wrong; for a quorum
    """

    __slots__ = ("_lock", "_terms", "value")

    def __init__(
        self,
        redis: Redis | RedisCluster | Sequence[Redis] | Engines,
        name: str,
        *,
        value: str = "",
        **options: Unpack[ElectionKeywords],
    ) -> None:
        problem = _value_problem(value)
        try:
            # No cohort: each candidate queues for itself, so each term has a token of its own.
            self._lock = AsyncLock(redis, name, local_handoffs=0, **options)
        except ValueError as error:
            refuse([str(error), problem])
        refuse([_place_problem(self._lock._source), problem])
        self._lock._options = replace(self._lock._options, kind="election")
        self.value = value
        self._terms: list[Term] = []

    def __repr__(self) -> str:
        return f"<Election {quoted(self.name)}, {len(self._terms)} terms here>"

    @property
    def name(self) -> str:
        """The name of the election."""
        return self._lock.name

    def lead(self, timeout: Duration | None = None) -> Candidacy:
        """
        Lead for the length of an ``async with`` block.

        :param timeout: seconds to wait for one's turn, ``None`` without end
        :raises ValueError: if ``timeout`` is no number of seconds from 0

        Entering and leaving the block raise what :class:`Candidacy` says.
        """
        return Candidacy(self, checked_timeout(timeout))

    async def run(self, main: Callable[[Term], Awaitable[T]]) -> T:
        """
        Lead and run ``main(term)``; again, behind the others, after each loss or resignation.

        Ends when ``main`` does, with what it returns or raises.  While Redis is unavailable
        it goes on trying.  Cancelled here, ``main`` is cancelled, and when it has ended the next
        candidate leads.

        :raises LockError: if the client is closed, or belongs to another event loop or process
        """
        failures = 0
        while True:
            candidacy = self.lead()
            try:
                async with candidacy as term:
                    failures = 0
                    return await main(term)
            except StoreUnavailable as error:
                if candidacy._term is not None:
                    raise
                logger.warning("no candidate for now: %s", error)
                backoff, rng = self._lock._options.backoff, self._lock._engine().rng
                await asyncio.sleep(pause_refused(backoff, failures, rng))
                failures += 1
            except Exception as error:
                if candidacy._term is None or not candidacy._term._is_why(error):
                    raise

    async def leader(self, timeout: Duration | None = ASKED_WITHIN) -> Leader | None:
        """
        Tell who leads at this instant; ``None``: nobody.

        Nobody leads, too, while the name is held by a lock without fencing tokens, such as
        redis-py's.

        :param timeout: seconds to wait for the answer of Redis; ``None``: as long as the
            client's ``unavailable_after``
        :raises ValueError: if ``timeout`` is no number of seconds from 0
        :raises StoreUnavailable: if Redis did not answer in time, or refused
        """
        within = checked_timeout(timeout)
        store = cast("ElectionStore", self._lock._engine().store)
        return _leader(await answer(store, store.leader(self._lock._keys), self.name, within))

    async def observe(self) -> AsyncGenerator[Leader | None, None]:
        """
        Iterate over who leads, from now on; ``None`` while nobody does.

        The latest state, not history: what changed back meanwhile is left out.  All observers
        of a client share its connection.  A leader that resigns is announced, and one that dies
        is missed when its lease must be over.  While Redis is silent nothing comes.  So whoever
        leads must not judge by this whether it still does: ask :meth:`Term.check`.

        :raises StoreUnavailable: if Redis refuses to tell
        :raises LockError: if the client is closed, or belongs to another event loop or process
        """
        engine, keys = self._lock._engine(), self._lock._keys
        observation = engine.observation(keys)
        observation.enter()
        seen: Led | None = None
        try:
            while True:
                before, seen = seen, await observation.other_than(seen)
                if before is None or _leader(before) != _leader(seen):
                    yield _leader(seen)
        finally:
            observation.leave()

    def healthy(self, grace: Duration = 5.0) -> bool:
        """
        Tell whether no body here leads for longer than it may; no I/O, and from whatever thread.

        ``False`` if a block of this object goes on although its lease has been over for
        ``grace`` seconds: its event loop is blocked, or its body does not end.  Kill the process
        then: for a liveness probe that is served by a thread of its own.

        :param grace: seconds, or a ``timedelta``, that a body has to end
        :raises ValueError: if it is no number of seconds from 0
        """
        late = checked_grace(grace)
        return not any(term._is_overdue(late) for term in tuple(self._terms))


def _leader(led: Led) -> Leader | None:
    if led.holder is None or not led.fence:
        return None
    return Leader(led.fence, led.proclaimed, led.holder)


def _value_problem(value: object) -> str | None:
    try:
        usable = isinstance(value, str) and len(value.encode()) <= MOST_PROCLAIMED
    except UnicodeEncodeError:
        usable = False
    told = quoted(value) if isinstance(value, str) else repr(value)
    return None if usable else f"value must be text of up to {MOST_PROCLAIMED} bytes, not {told}"


def _place_problem(source: Source | Engines) -> str | None:
    if not is_quorum(source._source if isinstance(source, Engines) else source):
        return None
    return (
        "an election needs one Redis, a Cluster or Sentinels, not a quorum: no single node "
        "knows who leads, so none could tell observers, or let the next candidate lead"
    )
