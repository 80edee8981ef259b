"""Who listens: the listeners of one client, and those of all clients of this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from inspect import iscoroutinefunction
from weakref import WeakSet

from aiodistlock.core.events import Listener, LockEvent

logger = logging.getLogger("aiodistlock")


class Ear:
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


class Audience:
    """
    The listeners of one client.

    :ivar ears: all who are to hear of its locks; empty if nobody listens
    """

    __slots__ = ("__weakref__", "_own", "ears")

    def __init__(self, listeners: Iterable[Listener] = ()) -> None:
        self._own = _with((), *listeners)
        self.hear()
        _audiences.add(self)

    def add(self, listener: Listener) -> None:
        """Have a listener hear of this client's locks."""
        self._own = _with(self._own, listener)
        self.hear()

    def remove(self, listener: Listener) -> None:
        """Have it hear of no other acquisition."""
        self._own = _without(self._own, listener)
        self.hear()

    def hear(self) -> None:
        """Take in who listens now: each one once."""
        self.ears = (*self._own, *(ear for ear in _everywhere if not _has(self._own, ear.listener)))


_audiences: WeakSet[Audience] = WeakSet()
_everywhere: tuple[Ear, ...] = ()


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
    _listen_everywhere(_with(_everywhere, listener))


def remove_listener(listener: Listener) -> None:
    """
    Have a listener that :func:`add_listener` added hear of no other acquisition.

    It hears those that it has heard begin to their end.  Unknown ones are ignored.
    """
    _listen_everywhere(_without(_everywhere, listener))


def _listen_everywhere(ears: tuple[Ear, ...]) -> None:
    global _everywhere  # noqa: PLW0603  # the process has one
    _everywhere = ears
    for audience in list(_audiences):
        audience.hear()


def _has(ears: tuple[Ear, ...], listener: Listener) -> bool:
    return any(ear.listener == listener for ear in ears)


def _with(ears: tuple[Ear, ...], *listeners: Listener) -> tuple[Ear, ...]:
    for listener in listeners:
        if not _has(ears, listener):
            ears = (*ears, Ear(listener))
    return ears


def _without(ears: tuple[Ear, ...], listener: Listener) -> tuple[Ear, ...]:
    return tuple(ear for ear in ears if ear.listener != listener)
