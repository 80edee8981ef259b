"""Who listens: the listeners of one client, and those of all clients of this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from inspect import iscoroutinefunction
from weakref import WeakSet

from aiodistlock.core.thread_lock import thread_lock
from aiodistlock.events.events import Listener, LockEvent

logger = logging.getLogger("aiodistlock")


class Guarded:
    """Calls one listener; what that raises is logged the first time, and goes no further."""

    __slots__ = ("_failed", "listener")

    def __init__(self, listener: Listener) -> None:
        if iscoroutinefunction(listener) or not callable(listener):
            raise TypeError(
                f"a listener must be a callable that takes an event, and no coroutine function, "
                f"not {listener!r}"
            )
        self.listener = listener
        self._failed = False

    def __call__(self, event: LockEvent) -> None:
        """Tell the listener."""
        try:
            self.listener(event)
        # The latter from a listener that asks a cancelled future: nobody cancelled us.
        except (Exception, asyncio.CancelledError):
            if not self._failed:
                self._failed = True
                logger.exception(
                    "listener %r failed on %s; it is not logged again if it goes on failing",
                    self.listener,
                    type(event).__name__,
                )


class Listeners:
    """
    The listeners of one client.

    :ivar all: all who are to hear of its locks; empty if nobody listens
    """

    __slots__ = ("__weakref__", "_own", "all")

    def __init__(self, listeners: Iterable[Listener] = ()) -> None:
        with thread_lock:
            self._own = _with((), *listeners)
            self.hear()
            _of_clients.add(self)

    def add(self, listener: Listener) -> None:
        """Have a listener hear of this client's locks."""
        with thread_lock:
            self._own = _with(self._own, listener)
            self.hear()

    def remove(self, listener: Listener) -> None:
        """Have it hear of no other acquisition."""
        with thread_lock:
            self._own = _without(self._own, listener)
            self.hear()

    def hear(self) -> None:
        """Take in who listens now: each one once."""
        self.all = (
            *self._own,
            *(each for each in _everywhere if not _has(self._own, each.listener)),
        )


_of_clients: WeakSet[Listeners] = WeakSet()
_everywhere: tuple[Guarded, ...] = ()


def add_listener(listener: Listener) -> None:
    """
    Have a listener hear of every lock in this process, whatever client it is on.

    Also of those that are built right on a ``Redis``.  It hears of acquisitions that begin
    from now on; adding it twice has no effect.  :class:`LockClient` takes ``listeners`` of its
    own.

    :param listener: called with each :class:`LockEvent`, synchronously, in the event loop
        of the lock; what it raises is logged once
    :raises TypeError: if it cannot be called, or is a coroutine function
    """
    with thread_lock:
        _listen_everywhere(_with(_everywhere, listener))


def remove_listener(listener: Listener) -> None:
    """
    Have a listener that :func:`add_listener` added hear of no other acquisition.

    It hears those that it has heard begin to their end.  Unknown ones are ignored.
    """
    with thread_lock:
        _listen_everywhere(_without(_everywhere, listener))


def _listen_everywhere(known: tuple[Guarded, ...]) -> None:
    global _everywhere  # noqa: PLW0603  # the process has one
    _everywhere = known
    for listeners in list(_of_clients):
        listeners.hear()


def _has(known: tuple[Guarded, ...], listener: Listener) -> bool:
    return any(each.listener == listener for each in known)


def _with(known: tuple[Guarded, ...], *listeners: Listener) -> tuple[Guarded, ...]:
    for listener in listeners:
        if not _has(known, listener):
            known = (*known, Guarded(listener))
    return known


def _without(known: tuple[Guarded, ...], listener: Listener) -> tuple[Guarded, ...]:
    return tuple(each for each in known if each.listener != listener)
