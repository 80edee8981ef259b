"""The lock: a definition that any number of tasks may share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aiodistlock.core.backoff import Backoff
from aiodistlock.core.durations import Duration
from aiodistlock.core.escaping import quoted
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import ClientOptions, checked_timeout, lock_options
from aiodistlock.core.validation import check_all
from aiodistlock.deployments.source import place_of
from aiodistlock.engines import Engines, check_place, known_engines
from aiodistlock.lock_like import LockLike
from aiodistlock.protocol.await_answer import ASKED_WITHIN, answer
from aiodistlock.waiting.status import status_of

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster


_BACKOFF = Backoff()
_CLIENT_DEFAULTS = ClientOptions()


@dataclass(frozen=True, slots=True)
class LockInfo:
    """
    What Redis has about a lock at one instant; it may change in the next.

    Tokens are text that anybody may have written: escape them where you show them.  Of one
    that is longer than 1000 bytes there is the beginning, and how long it is.

    :ivar holder: token of the holder, ``None`` if the lock is free
    :ivar fencing_token: with which the present lease began, ``None`` if the lock is free or its
        holder has none (another library, ``RedisPyLock`` with a token of yours); local hand-offs
        may be ahead of it
    :ivar ttl: seconds left of the lease, ``None`` if free, or held without a ttl
    :ivar waiters: tokens of the waiters in order (on a quorum in no order, and without the
        number of the round that a holder's has); one per process, however many of its
        tasks wait
    """

    holder: str | None
    fencing_token: int | None
    ttl: float | None
    waiters: tuple[str, ...]


class AsyncLock(LockLike):
    """
    A distributed lock for asyncio, as a lease that is renewed while it is held.

    At most one holder at a time, as long as Redis keeps its data and clocks run evenly
    over one ttl; beyond that (a failover that loses writes, say) two are possible, and
    ``lease.fencing_token`` is what protects.  Waiters are served first come, first
    served across processes; the tasks of one process hand over in memory for at most
    ``handoff_span`` while another process waits.

    ::

        lock = AsyncLock(redis, "wallet:42", ttl=10.0)

        async with lock as lease:  # waits; the body is cancelled if the lease is lost
            await db.execute(UPDATE, fence=lease.fencing_token)

    A lock holds no state of any acquisition, so any number of tasks may share it.

    :param redis: a ``redis.asyncio.Redis`` or ``RedisCluster``, whose locks share one
        :class:`LockClient` in each event loop, or a sequence of independent ``Redis``, of
        which a majority decides (Redlock; no order between processes there), or a
        ``LockClient``
    :param name: what the lock protects; the key is ``namespace + name``
    :param ttl: length of a lease in seconds, at least 0.05: how long a crashed holder
        blocks others, and how long Redis may be silent before a live one gives up
    :param auto_renew: renew the lease while it is held; if ``False`` it is over after
        ``ttl`` unless extended
    :param timeout: seconds to wait for the lock, ``None`` without end, 0 not at all
    :param max_hold: seconds after which a lease ends although it could be renewed;
        ``None`` for no such bound
    :param on_lost: ``"cancel"`` the body of ``async with`` when the lease is lost, or
        only ``"signal"`` it (:meth:`Lease.wait_lost`, :attr:`Lease.is_held`)
    :param local_handoffs: how often the tasks of one process hand the lock over in
        memory before another process must be asked, 0 to 1000; 0: each task queues at
        Redis for itself
    :param backoff: pauses between requests that find the lock held, or Redis down
    :param namespace: prefix of the keys in Redis
    :param reentrant: a task that holds the lock may acquire it again, and gets the same
        lease; it is released when the outermost block ends
    :param ack: who must have the lease before it is held: ``"local"``, the server that
        answers; ``"replicas:N"``, also N of its replicas, so that it survives a failover
        to one of them; ``"fsync"``, also the server's disk (Redis 7.2+, ``appendonly
        yes``).  Too few in time: given up and tried again, as while Redis is unreachable.
        For other locks such a lock is one of another process
    :param linger: seconds for which a released lease may stay with this process, to be used
        again without asking Redis; 0.0: it does not; ``"auto"``: 0.05, but only on names where
        it has been seen to pay.  Whoever else wants the lock recalls it.
        Not on a quorum, nor with ``auto_renew=False``, ``local_handoffs=0`` or another ``ack``
    :raises TypeError: if ``redis`` is none of these
    :raises ValueError: naming every option that is wrong
    """

    __slots__ = ()

    def __init__(
        self,
        redis: Redis | RedisCluster | Sequence[Redis] | Engines,
        name: str,
        *,
        ttl: Duration = 10.0,
        auto_renew: bool = True,
        timeout: Duration | None = None,
        max_hold: Duration | None = None,
        on_lost: Literal["cancel", "signal"] = "cancel",
        local_handoffs: int = 128,
        backoff: Backoff | None = None,
        namespace: str = "lock:",
        reentrant: bool = False,
        ack: str = "local",
        linger: Duration | Literal["auto"] = 0.0,
    ) -> None:
        client_options = redis.options if isinstance(redis, Engines) else _CLIENT_DEFAULTS
        options = {
            "ttl": ttl,
            "auto_renew": auto_renew,
            "timeout": timeout,
            "max_hold": max_hold,
            "on_lost": on_lost,
            "local_handoffs": local_handoffs,
            "backoff": _BACKOFF if backoff is None else backoff,
            "namespace": namespace,
            "reentrant": reentrant,
            "ack": ack,
            "linger": linger,
            "claim_window": client_options.claim_window,
        }
        try:
            keys, checked = LockKeys(name, namespace), lock_options(options)
            super().__init__(check_place(redis, checked.ttl, ack, checked.linger), keys, checked)
        except ValueError:
            check_all(
                lambda: LockKeys(name, namespace),
                lambda: lock_options(options),
                lambda: check_place(redis, ttl, ack, linger),
            )
            raise

    def __repr__(self) -> str:
        source, ttl = self._source, self._options.ttl
        known = source if isinstance(source, Engines) else known_engines(source)
        place = source._place if isinstance(source, Engines) else place_of(source)
        engine = None if known is None else known._engines.get(self._options.ack)
        use = ", not used yet" if engine is None else f", {status_of(engine, self._keys)}"
        return f"<AsyncLock {quoted(self.name)} on {place}, ttl {ttl:g} s{use}>"

    async def locked(self, timeout: Duration | None = ASKED_WITHIN) -> bool:
        """
        Tell whether anybody holds the lock at this instant; see :meth:`inspect`.

        :raises ValueError: if ``timeout`` is no number of seconds from 0
        :raises StoreUnavailable: if Redis did not answer in time, or refused
        """
        return (await self.inspect(timeout)).holder is not None

    async def inspect(self, timeout: Duration | None = ASKED_WITHIN) -> LockInfo:
        """
        Tell who holds the lock and who waits; changes nothing.

        :param timeout: seconds to wait for the answer of Redis; ``None``: as long as the
            client's ``unavailable_after``
        :raises ValueError: if ``timeout`` is no number of seconds from 0
        :raises StoreUnavailable: if Redis did not answer in time, or refused
        """
        within = checked_timeout(timeout)
        store = self._engine().store
        reply = await answer(store, store.inspect(self._keys), self.name, within)
        return LockInfo(reply.holder, reply.fence or None, reply.remaining, reply.waiters)
