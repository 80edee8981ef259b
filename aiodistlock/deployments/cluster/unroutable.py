"""Calls that no node of a cluster takes now."""

from __future__ import annotations

from typing import Any

from aiodistlock.connection.backlog import Backlog
from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol.redis_call import RedisCall


class Unroutable:
    """
    Keeps calls in order until they are worth another try.

    What comes later to the key of such a call has to wait behind it.
    """

    __slots__ = ("_backlog", "_keys", "_slots")

    def __init__(self) -> None:
        self._backlog = Backlog()
        self._keys: set[bytes] = set()
        self._slots: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._backlog.unsent)

    def holds(self, keys: LockKeys) -> bool:
        """Tell whether calls of a key are here."""
        return keys.key in self._keys

    def concerns(self, slot: int) -> bool:
        """Tell whether calls of any key of a slot are here."""
        return slot in self._slots

    def keep(self, call: RedisCall[Any], now: float) -> None:
        """Keep a call for later."""
        call.issued_at = min(call.issued_at, now)
        call.redirects = 0
        self._backlog.unsent.append(call)
        self._keys.add(call.keys.key)
        self._slots.add(call.keys.slot)

    def calls(self) -> list[RedisCall[Any]]:
        """Return all that are here."""
        return self._backlog.calls()

    def take(self, now: float, patience: float, error: Exception | None) -> list[RedisCall[Any]]:
        """Give all away, in order, but those that waited for longer than they may."""
        self._backlog.fail_overdue(now, patience, error)
        calls, self._backlog.unsent = self._backlog.unsent, []
        self._forget_where()
        return calls

    def forget(self) -> None:
        """Let all go without an answer: after a fork they are the parent's."""
        self._backlog = Backlog()
        self._forget_where()

    def fail_all(self, error: Exception, *, transient: bool) -> None:
        """Answer all that no answer will come."""
        self._forget_where()
        self._backlog.fail_all(error, transient=transient)

    def _forget_where(self) -> None:
        self._keys.clear()
        self._slots.clear()
