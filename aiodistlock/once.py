"""What somebody in the fleet does, once a window.

Two facts are kept apart.  *Somebody runs it now* is a lease on the name, short and renewed: a
crash is taken over when it ends.  *It is done* is the mark, which only a good end leaves.

Rules
-----
1. What is at or below the mark is not done.  So a look at it comes first: who is late does not
   even ask for the lock.
2. Who finds no mark queues for the lock, behind the one that runs it now, and looks again when it
   has it.  The mark is written under the lease only, so what it sees then stays so.
3. The good end marks the window and gives the lock up in one script, which asks whether the lease
   is still at the key.  It may run twice: the second copy finds its own mark.
4. Only the server's clock tells a window, or an end.  The clocks of hosts are asked nothing.
5. Each run has a lease of its own, as if it were another process: nothing is handed over in
   memory, so the mark of one run is there before the next one begins.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Concatenate, Generic, Literal, NamedTuple, ParamSpec, TypeVar, cast

from aiodistlock.core.backoff import Backoff
from aiodistlock.core.durations import Duration
from aiodistlock.core.escaping import bounded, quoted
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.mark import KEPT, Mark
from aiodistlock.core.once_options import OnceOptions, checked_window, instant_of
from aiodistlock.core.options import LockOptions, lock_options
from aiodistlock.core.validation import check_all, refuse
from aiodistlock.deployments.source import is_quorum
from aiodistlock.engines import Engines
from aiodistlock.errors import AcquireTimeout, LeaseLost, StoreUnavailable
from aiodistlock.lease import Lease
from aiodistlock.lock_like import LockLike
from aiodistlock.protocol.answers import AlreadyMarked, Done, Failed, Looked, NotOurs
from aiodistlock.protocol.await_answer import answer
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.marks import Ending, Marks
from aiodistlock.waiting.contender import Contender
from aiodistlock.waiting.once_contender import OnceContender

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

_BACKOFF = Backoff()


@dataclass(frozen=True, slots=True)
class Ran(Generic[T]):
    """
    The run was ours, and came to its end.

    :ivar value: what the function returned
    """

    value: T


@dataclass(frozen=True, slots=True)
class Skipped:
    """
    There was nothing to do for us.

    :ivar reason: ``"done"``: the window, or a later one, is done; with ``at_least`` the name is
        still kept.  ``"begun"``: it is to be done at most once, and somebody has begun, and may
        have crashed.  ``"held"``: somebody holds the name, and we do not wait any longer
    :ivar by: token of who did it, or holds the name: it tells host and process; text that
        anybody may have written
    :ivar at: when it was done, or begun, by the server's clock, in UTC; ``None`` for ``"held"``
    """

    reason: Literal["done", "begun", "held"]
    by: str
    at: datetime | None


class Run:
    """
    One run of a window, as the function that does it gets it.

    :ivar window: the scheduled instant, or the beginning of the window by the server's clock;
        with ``at_least`` the server's time at the start.  In UTC
    :ivar int fencing_token: above that of each run before it, also of one that crashed
    """

    __slots__ = ("_lease", "fencing_token", "window")

    def __init__(self, lease: Lease, window_us: int) -> None:
        self._lease = lease
        self.window = instant_of(window_us)
        self.fencing_token = lease.fencing_token

    @property
    def validity(self) -> float:
        """Seconds for which nobody else begins, without another renewal; as :class:`Lease`'s."""
        return self._lease.validity

    def check(self) -> None:
        """
        Check that nobody else can have begun by this instant; no I/O.

        :raises LeaseLost: if somebody can
        :raises LockError: in a child process: ``os.fork`` does not copy a lease
        """
        self._lease.check()


class _Turn(LockLike):
    """The lock behind a name: each acquisition of it is a contender of its own."""

    __slots__ = ()

    def _contend(self) -> tuple[Contender, asyncio.Task[Any] | None]:
        return OnceContender(self._engine(), self._keys), asyncio.current_task()


class Asked(NamedTuple):
    """The name is ours, and perhaps there is nothing to do."""

    lease: Lease
    window_us: int | None
    """``None``: there are no windows."""


class Started:
    """A run that is ours, from its start to its end."""

    __slots__ = ("_ending", "lease", "run")

    def __init__(self, lease: Lease, window_us: int, ending: Ending) -> None:
        self.lease = lease
        self.run = Run(lease, window_us)
        self._ending = ending

    async def done(self) -> None:
        """Mark the window, and give the lock up."""
        self.lease.check()
        # No await until the request is sent: what is lost later leaves no mark.
        held = self.lease._process_lease
        contender = cast("OnceContender", held.possessor)
        # While Redis refuses it for a passing reason, a task that waits here must not take it for
        # a lease whose release was lost, and give it up without its mark.
        self.lease._client.let_go[held.token] = self.lease
        contender.ending = self._ending
        await self.lease.release()


class Once:
    """
    A job that somebody in the fleet does, once a window; :meth:`LockClient.once` builds it.

    ::

        nightly = locks.once("nightly", every=timedelta(days=1))

        @nightly  # a call returns None where somebody else did it
        async def report(run: Run) -> int: ...

        outcome = await nightly.run(report)  # Ran(value) or Skipped(reason, by, at)

    Of all that call it for a window one runs; the others wait for it, and are told that it is
    done, or take over: a crash when the lease has ended, within ``ttl`` + 1 s, an error at once.
    So a run that has no good end is repeated (``on_crash="retry"``): each window is done at least
    once, under rising fencing tokens, and to its end once, as long as Redis keeps its data.
    Beyond that (a failover that loses the mark, FLUSHALL) it may be done twice; hand the fencing
    token, or the window, to what must not.

    A body whose lease is lost is cancelled as that of :class:`Hold`, and leaves no mark.  There is
    no ``async with``: it could not skip its body.

    :param client: where, not on a quorum: the window and its mark are one server's
    :param name: what is done; a :class:`AsyncLock` of that name excludes it
    :param every: length of a window: the server's clock, counted from 1970 in UTC, is divided by
        it.  Seconds or a ``timedelta``; ``None``: the caller names the window, by ``window=``
    :param at_least: for who has no windows: seconds since its start for which the name is kept
        after a good end; who comes meanwhile is told at once, and nobody waits
    :param on_crash: ``"retry"``: what has no good end is repeated; ``"skip"``: each window is
        begun at most once, and what crashes, or raises, stays undone
    :param ttl: length of the lease in seconds, which is renewed: after how long a crash is
        taken over
    :param timeout: seconds to wait for who runs it now, ``None`` without end, 0 not at all
    :param max_hold: seconds after which a run ends, cancelled, although it could go on; ``None``
        for no such bound
    :param on_lost: ``"cancel"`` the function when the lease is lost, or only ``"signal"`` it
        (:meth:`Run.check`)
    :param remember: seconds for which a mark stays: who is later than that repeats the window.
        ``None``: a week, or two windows where that is longer
    :param namespace: prefix of the keys in Redis
    :raises ValueError: naming every option that is wrong; on a quorum
    """

    __slots__ = ("_keys", "_lock", "_options", "_source", "_timeout")

    def __init__(
        self,
        client: Engines,
        name: str,
        *,
        every: Duration | None = None,
        at_least: Duration | None = None,
        on_crash: Literal["retry", "skip"] = "retry",
        ttl: Duration = 10.0,
        timeout: Duration | None = None,
        max_hold: Duration | None = None,
        on_lost: Literal["cancel", "signal"] = "cancel",
        remember: Duration | None = None,
        namespace: str = "lock:",
    ) -> None:
        own: dict[str, Any] = {
            "every": every,
            "at_least": at_least,
            "on_crash": on_crash,
            "remember": remember,
        }
        of_lease: dict[str, Any] = {
            "ttl": ttl,
            "timeout": timeout,
            "max_hold": max_hold,
            "on_lost": on_lost,
            "namespace": namespace,
            "backoff": _BACKOFF,
            "claim_window": client.options.claim_window,
            "kind": "once",
        }
        check_all(
            lambda: LockKeys(name, namespace),
            lambda: lock_options(of_lease),
            lambda: OnceOptions(**own),
            lambda: refuse([_ON_QUORUM if is_quorum(client._source) else None]),
        )
        self._source = client
        self._keys = LockKeys(name, namespace)
        self._options = OnceOptions(**own)
        lease_options: LockOptions = lock_options(of_lease)
        self._lock = _Turn(client, self._keys, lease_options)
        self._timeout = lease_options.timeout

    def __repr__(self) -> str:
        return f"<Once {quoted(self.name)} on {self._source._place}>"

    @property
    def name(self) -> str:
        """What is done."""
        return self._keys.name

    def __call__(
        self, function: Callable[Concatenate[Run, P], Coroutine[Any, Any, T]]
    ) -> Callable[P, Coroutine[Any, Any, T | None]]:
        """
        Have each call of a coroutine function be a run, or return ``None``.

        The function gets the :class:`Run` in front of its other arguments.  A call raises what
        :meth:`run` raises.

        :raises TypeError: if it is no coroutine function
        :raises ValueError: without ``every`` and ``at_least``: a call could not name its window
        """
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"once decorates coroutine functions, not {function!r}")
        if not (self._options.every_us or self._options.at_least_us):
            raise ValueError(
                "a decorated function has no window: pass every= or at_least= to once(), or call "
                "run(function, window=...)"
            )

        @functools.wraps(function)
        async def call(*args: P.args, **kwargs: P.kwargs) -> T | None:
            outcome = await self.run(lambda run: function(run, *args, **kwargs))
            return outcome.value if isinstance(outcome, Ran) else None

        return call

    async def run(
        self, function: Callable[[Run], Awaitable[T]], *, window: datetime | float | None = None
    ) -> Ran[T] | Skipped:
        """
        Do it, unless somebody else does, or has done it.

        What the function raises passes, and leaves no mark.  Cancelled here, the lock is given up;
        cancelled when the function has ended, the mark may be there or not.

        :param function: gets the :class:`Run`; its end is the end of the window's work
        :param window: the instant for which the run is scheduled, not now: a ``datetime`` with a
            time zone, or seconds since 1970; the same on all hosts
        :raises ValueError: if ``window`` is none, or missing, or not to be given
        :raises LeaseLost: if the lease was lost before the end was marked
        :raises StoreUnavailable: if Redis was unreachable, or refused, for longer than the
            client's ``unavailable_after`` or, at the first look, ``timeout``; or if it did not
            confirm the mark while the lease was valid, so that somebody may repeat the window
        :raises AcquireTimeout: if Redis told nothing of a holder within ``timeout``
        :raises LockError: if this task holds the name already, or the client is closed, or
            belongs to another event loop or process
        """
        asked = await self._asked(window)
        if isinstance(asked, Skipped):
            return asked
        async with asked.lease:
            turn = await self._begun(*asked)
            if isinstance(turn, Started):
                value = await function(turn.run)
                await turn.done()
                return Ran(value)
        return turn

    def _window_us(self, window: object) -> int | None:
        """
        Return the window that the caller names; ``None``: the clock tells, or there is none.

        :raises ValueError: if there is one too many, or too few
        """
        if self._options.every_us or self._options.at_least_us:
            if window is None:
                return None
            raise ValueError("window is told by every=, or there is none with at_least=: omit it")
        if window is None:
            raise ValueError("which window? pass window=, or every= or at_least= to once()")
        return checked_window(window)

    async def _asked(self, window: object) -> Asked | Skipped:
        """Acquire the name if there is something to do; the caller enters the lease's block."""
        window_us = self._window_us(window)
        clock = self._lock._engine().clock
        timeout = self._timeout
        until = None if timeout is None else clock() + timeout
        if self._options.at_least_us:
            timeout = 0.0
        else:
            looked = await self._ask(timeout or None)
            if window_us is None:
                window_us = looked.server_us - looked.server_us % self._options.every_us
            if looked.mark is not None and looked.mark.refuses(window_us):
                return _skipped(looked.mark)
            timeout = None if until is None else max(0.0, until - clock())
        try:
            return Asked(await self._lock.acquire(timeout), window_us)
        except AcquireTimeout as error:
            if error.holder is None or error.causes:
                raise
            holder = error.holder
        return await self._held(holder, window_us)

    async def _begun(self, lease: Lease, window_us: int | None) -> Started | Skipped:
        """Look again, now that nobody else can mark anything."""
        options, ttl_ms = self._options, self._options.mark_ttl_ms
        kept_until_us = 0
        if window_us is None:
            window_us = (await self._ask(None)).server_us
            kept_until_us = window_us + options.at_least_us
        elif options.on_crash == "retry":
            mark = (await self._ask(None)).mark
            if mark is not None and mark.refuses(window_us):
                return _skipped(mark)
        else:
            begun = await self._marked_as_begun(lease, window_us)
            if begun is not None:
                return begun
        # The answer may be read when the lease is over: nobody begins then.
        lease.check()
        return Started(lease, window_us, Ending(window_us, ttl_ms, kept_until_us))

    async def _marked_as_begun(self, lease: Lease, window_us: int) -> Skipped | None:
        value, ttl_ms = lease._process_lease.value, self._options.mark_ttl_ms
        reply: Done | AlreadyMarked | NotOurs = await self._answer(
            lambda marks: marks.begin(self._keys, value, window_us, ttl_ms), None
        )
        if isinstance(reply, NotOurs):
            raise LeaseLost(self.name, reply.reason, lease.fencing_token)
        return _skipped(reply.mark) if isinstance(reply, AlreadyMarked) else None

    async def _held(self, holder: str, window_us: int | None) -> Skipped:
        """Tell of a name that somebody holds; perhaps what it stands for is done."""
        mark = (await self._ask(None)).mark
        if mark is not None:
            done = mark.refuses(window_us) if window_us is not None else holder == KEPT + mark.token
            if done:
                return _skipped(mark)
        return Skipped("held", holder.removeprefix(KEPT), None)

    async def _ask(self, within: float | None) -> Looked:
        return await self._answer(lambda marks: marks.look(self._keys), within)

    async def _answer(self, ask: Callable[[Marks], Call[R | Failed]], within: float | None) -> R:
        """
        Ask, again while Redis refuses for a passing reason.

        :param within: seconds, ``None``: the client's ``unavailable_after``
        :raises StoreUnavailable: if there is no answer in time
        """
        engine = self._lock._engine()
        store = cast("Marks", engine.store)
        until = engine.clock() + (within or engine.options.unavailable_after)
        for tries in itertools.count():
            call = ask(store)
            try:
                return await answer(store, call, self.name, max(0.0, until - engine.clock()))
            except StoreUnavailable:
                pause = _BACKOFF.delay(tries, engine.rng)
                transient = isinstance(call.reply, Failed) and call.reply.transient
                if not transient or engine.clock() + pause >= until:
                    raise
            await asyncio.sleep(pause)
        raise AssertionError("unreachable")


_ON_QUORUM = (
    "once needs one Redis, Sentinel or a Cluster, not a quorum: its window is told by one server's "
    "clock, and the mark and the release are one step there; nodes of a quorum may disagree on both"
)


def _skipped(mark: Mark) -> Skipped:
    return Skipped(
        "done" if mark.done else "begun", bounded(mark.token.encode()), instant_of(mark.at_us)
    )
