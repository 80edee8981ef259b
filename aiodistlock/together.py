"""Several locks held for the length of one block, all or none."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import fields
from inspect import CO_ASYNC_GENERATOR
from types import TracebackType
from typing import Any, cast

from aiodistlock.core.background import is_thrown_away
from aiodistlock.core.escaping import quoted
from aiodistlock.core.options import LockOptions, checked_timeout, timeout_problem
from aiodistlock.core.validation import refuse
from aiodistlock.engines import Engines
from aiodistlock.errors import AcquireTimeout, LeaseLost, LockError
from aiodistlock.lease import Lease, loss_shown_by, tell_of_loss
from aiodistlock.leases.body import Body, is_iterated
from aiodistlock.lock import AsyncLock
from aiodistlock.lock_like import LockLike, holds_already
from aiodistlock.protocol.answers import Done, NotOurs, ReleaseReply
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.cleanup import all_confirmed
from aiodistlock.waiting.contender import Contender
from aiodistlock.waiting.try_together import try_together


class Together(Body):
    """
    One ``async with`` block on several locks; :meth:`LockClient.together` builds it.

    Its value are the leases, in the order of the names.  All names are asked for in one
    write: if all are free that is all it takes.  Else those in front of the first that is
    not are kept, those behind it given back, and the task queues for that one; and so on.
    So it waits in the byte order of the keys and never holds a later one meanwhile, in this
    process as in all others: those who take their locks so cannot wait for each other for
    ever.  Who already holds another lock when it enters, or takes one more in the body, is out
    of that order.

    Entering raises what :meth:`AsyncLock.acquire` raises, with the name of the lock that it
    was about; ``timeout`` is one for all.  With any error, and cancelled, it leaves none
    behind: a lease that was lost while the others were waited for is acquired again.  When any
    lease is lost the body is cancelled, and the block raises :class:`LeaseLost` of that one,
    with a note for each other one; all else is as :class:`Hold` says.  At the end all are
    released in one write.

    :param locks: of one client, with the same options
    :param timeout: seconds to wait for all of them, ``None`` without end, 0 not at all
    """

    __slots__ = ("_leases", "_locks", "_ordered", "_timeout")

    def __init__(self, locks: Sequence[LockLike], timeout: float | None) -> None:
        super().__init__()
        self._locks = tuple(locks)
        self._ordered = sorted(locks, key=lambda lock: lock._keys.key)
        self._timeout = timeout
        self._leases: list[Lease] = []
        """In the order of the keys."""

    def __repr__(self) -> str:
        names = ", ".join(quoted(lock.name) for lock in self._locks)
        return f"<Together {names}>"

    async def __aenter__(self) -> tuple[Lease, ...]:
        if self._leases:
            raise RuntimeError("each together() is for a single 'async with' block")
        # What awaits this is told before the first await only.
        frame = sys._getframe(1)
        if frame.f_code.co_flags & CO_ASYNC_GENERATOR:
            self._iterated = is_iterated(frame)
        taking = _Taking(self._ordered, self._timeout)
        self._leases = leases = await taking.all()
        self._frame = frame
        if taking.task is not None and self._ordered[0]._options.on_lost == "cancel":
            self._enter_body(taking.task)
            for lease in leases:
                if lease._body is None:  # else a block around this one, on the same lease, cancels
                    lease._body = self
        by_key = {lock._keys.key: lease for lock, lease in zip(self._ordered, leases, strict=True)}
        return tuple(by_key[lock._keys.key] for lock in self._locks)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        client = self._leases[0]._client
        if client.forked:
            return  # in a child process: the leases are the parent's, and so is their end
        self._frame = None
        for lease in self._leases:
            if lease._body is self:
                lease._body = None
        ours = self._cancellation is not None and self._leave_body(exc)
        if exc is not None and is_thrown_away(client.loop):
            return  # by the loop's end: the keys expire by themselves
        losses = await _release(self._leases, hurry=isinstance(exc, asyncio.CancelledError))
        if losses:
            first, *others = losses
            for each in others:
                first.add_note(str(each))
            await tell_of_loss(self, first, exc, ours=ours)


class _Taking:
    """Takes locks in the order of their keys, for the task that runs now."""

    def __init__(self, locks: Sequence[LockLike], timeout: float | None) -> None:
        self._locks = locks
        contending = [lock._contend() for lock in locks]
        self._contenders = [contender for contender, _ in contending]
        self.task = contending[0][1]
        self._client = self._contenders[0].client
        self._timeout = timeout
        self._until = None if timeout is None else self._client.clock() + timeout
        self._leases: list[Lease] = []

    async def all(self) -> list[Lease]:
        """Take them all; with an error, or cancelled, none is kept."""
        self._enter_again()
        client = self._client
        lingers = any(each.lingering and each.lingering.lease for each in self._contenders)
        try:
            if lingers and client.clock() >= client.checkpoint.due_at:
                await client.checkpoint.wait()
            while self._keep() < len(self._locks):
                # The client may be closed in each of these waits.
                client.check(self._locks[0].name)
                if not await self._try():
                    client.check(self._locks[0].name)
                    await self._wait()
        except AcquireTimeout as error:
            _give_back(self._leases)
            assert self._timeout is not None, "it ran out"
            seen = error.holder, error.holder_ttl, error.causes, error.dead_lock
            raise AcquireTimeout(error.name, self._timeout, *seen) from error.__cause__
        except BaseException as error:
            cleanups = _give_back(self._leases)
            if isinstance(error, asyncio.CancelledError):
                await all_confirmed(cleanups)
            raise
        return self._leases

    def _enter_again(self) -> None:
        """
        Enter the leases again that the task holds already.

        :raises LockError: if the locks are not reentrant, or it would wait for another one
            out of order
        """
        held = [_held_by(self.task, each) for each in self._contenders]
        missing = next((place for place, lease in enumerate(held) if lease is None), None)
        for place, (lock, lease) in enumerate(zip(self._locks, held, strict=True)):
            if lease is None:
                continue
            same = lease._client is self._client
            if not (lock._options.reentrant and same):
                if self._timeout == 0:
                    raise self._contenders[place].timed_out(0.0)  # who does not wait is refused
                raise holds_already(lock.name, same=same)
            if missing is not None and missing < place:
                raise LockError(
                    lock.name,
                    f"this task holds the lock already, and would wait for "
                    f"{quoted(self._locks[missing].name)}, which comes before it: two that do so "
                    "dead-lock; take both by one together()",
                )
        again = [lease for lease in held if lease is not None]
        for lease in again:
            lease.check()
        for lease in again:
            lease._depth += 1
        self._leases = again

    def _keep(self) -> int:
        """Give back what is behind a lease that was lost meanwhile; return how many are kept."""
        leases = self._leases
        now = self._client.clock()  # one look for all: a later one may find the first ones over
        lost = (place for place, lease in enumerate(leases) if not _is_held(lease, now))
        kept = next(lost, len(leases))
        _give_back(leases[kept:])
        del leases[kept:]
        return kept

    async def _try(self) -> bool:
        """Take those that are free in front of the first that is not; tell whether there is one."""
        rest = self._contenders[len(self._leases) :]
        if len(rest) == 1:
            return False  # to wait for it takes the same request
        lock, left = self._locks[0], self._left()
        taken = await try_together(rest, lock._options, Lease, lock._source, self.task, left)
        refused = next((place for place, lease in enumerate(taken) if lease is None), len(taken))
        self._leases += cast("list[Lease]", taken[:refused])
        _give_back([lease for lease in taken[refused:] if lease is not None])
        return refused == len(taken)

    async def _wait(self) -> None:
        """Wait for the next one in its queue."""
        place = len(self._leases)
        contender = self._contenders[place]
        lease = await self._locks[place]._take(contender, self.task, self._left())
        if lease is None:
            raise contender.timed_out(0.0)
        self._leases.append(lease)

    def _left(self) -> float | None:
        """
        Return how many seconds are left to wait.

        :raises AcquireTimeout: if none are, though it was to wait
        """
        if self._until is None or self._timeout == 0:
            return self._timeout
        left = self._until - self._client.clock()
        if left <= 0:
            raise self._contenders[len(self._leases)].timed_out(0.0)
        return left


def _held_by(task: asyncio.Task[Any] | None, contender: Contender) -> Lease | None:
    """Return the lease that a task has on a name already."""
    held = contender.client.holders.get(contender.keys.key)
    lease = None if held is None or held.holder is None else cast("Lease | None", held.holder())
    return lease if lease is not None and lease._task is task else None


def _is_held(lease: Lease, now: float) -> bool:
    """Tell whether a lease can be relied on by a look at the clock that was for others too."""
    over = lease._released or lease._lost_reason is not None
    return not over and lease._process_lease.validity_at(now) > 0.0


def _give_back(leases: Sequence[Lease]) -> list[Call[Any] | None]:
    """Release leases unused, the last first; return the requests."""
    calls: list[Call[Any] | None] = []
    for lease in reversed(leases):
        if not lease._released:
            lease._depth -= 1
            calls.append(None if lease._depth else lease._give_back())
    return calls


async def _release(leases: Sequence[Lease], *, hurry: bool) -> list[LeaseLost]:
    """
    Release leases in one write, the last first, but those that the body did; return the losses.

    :param hurry: wait only a quarter of a second; so it is if any is lost
    """
    lost: dict[Lease, LeaseLost] = {}
    for lease in leases:
        if lease._lost_reason is not None:
            lost[lease] = lease._loss()
        elif not lease._released and lease._depth == 1 and not lease.is_held:
            lost[lease] = lease._loss_at_release("its deadline has passed")
    asked = [lease for lease in reversed(leases) if not lease._released]
    calls = dict(zip(asked, _give_back(leases), strict=True))
    sent = {lease: call for lease, call in calls.items() if call is not None}
    for lease, reply in (await _answers(sent, hurry=hurry or bool(lost))).items():
        loss = None if lease in lost else loss_shown_by(lease, reply)
        if loss is not None:
            lost[lease] = loss
    return list(lost.values())


async def _answers(
    calls: dict[Lease, Call[ReleaseReply]], *, hurry: bool
) -> dict[Lease, ReleaseReply | None]:
    """Wait for what Redis says of releases; ``None``, in a hurry, if it says nothing soon."""
    if not hurry:
        try:
            return {lease: await lease._confirmed(call) for lease, call in calls.items()}
        except asyncio.CancelledError:
            await all_confirmed(calls.values())
            raise
    await all_confirmed(calls.values())
    # An earlier copy of a request that was sent again may have done it.
    return {
        lease: Done() if isinstance(call.reply, NotOurs) and call.resent else call.reply
        for lease, call in calls.items()
    }


def locks_together(
    client: Engines, names: Sequence[str | AsyncLock], options: dict[str, Any]
) -> tuple[list[AsyncLock], float | None]:
    """
    Make the locks that are to be held together; return them and the timeout for all.

    :param names: names, or locks that are ready
    :param options: of :class:`~aiodistlock.AsyncLock`
    :raises ValueError: naming all that speaks against it
    """
    ready = [each for each in names if isinstance(each, AsyncLock)]
    problems = [] if names else ["together() needs a name: pass one or more"]
    problems += [
        f"the lock {quoted(each.name)} is not of this client: pass its name instead"
        for each in ready
        if each._source is not client
    ]
    theirs = sorted(options.keys() - {"timeout"}) if ready else []
    if theirs:
        problems.append(f"{', '.join(theirs)}: a lock that is passed has its own; pass its name")
    locks: list[AsyncLock] = []
    for each in names:
        try:
            locks.append(
                each if isinstance(each, AsyncLock) else AsyncLock(client, each, **options)
            )
        except ValueError as error:
            problems += str(error).split("; ")  # options that are wrong are told by each name
    keys = Counter(lock._keys.key for lock in locks)
    twice = dict.fromkeys(lock.name for lock in locks if keys[lock._keys.key] > 1)
    problems += [f"{quoted(name)} is named twice: pass each name once" for name in twice]
    if mixed := _mixed({lock._options for lock in locks}, "timeout" in options):
        problems.append(f"the locks have different options: {', '.join(mixed)}")
    timeout = options.get("timeout", locks[0]._options.timeout if locks else None)
    refuse(dict.fromkeys([*problems, timeout_problem(timeout)]))
    return locks, checked_timeout(timeout)


def _mixed(kinds: Collection[LockOptions], timeout_is_given: bool) -> list[str]:
    """Name the options in which locks differ that had better not."""
    may_differ = {"namespace", "timeout" if timeout_is_given else "namespace"}
    told = (field.name for field in fields(LockOptions) if field.init)
    return [
        name
        for name in told
        if name not in may_differ and len({getattr(each, name) for each in kinds}) > 1
    ]
