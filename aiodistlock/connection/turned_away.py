"""A server that says that it is the wrong one, is full, or does not know us any more.

Rules
-----
1. A name may lead to another server by now, while a connection to the former one stays
   open.  So who is told ``READONLY`` or ``MASTERDOWN`` connects anew, and asks again there.
2. So does who is told that there are too many clients: of those that said nothing as they
   connected it is the first request that is answered by that.
3. Credentials may have been revoked or rotated.  So who is told ``NOAUTH`` or
   ``WRONGPASS`` connects anew with those of now, once: what that is refused in its first
   second is the answer.  ``NOPERM`` the same, if a provider may name another user by now.
"""

from __future__ import annotations

import math

from aiodistlock.core.clock import Clock
from aiodistlock.protocol.refusals import error_code, is_full

_NO_MASTER = frozenset({"MASTERDOWN", "READONLY"})
_NOT_LET_IN = frozenset({"NOAUTH", "WRONGPASS"})

DOUBT_AGAIN = 1.0
"""Seconds for which it is believed of a connection that was opened in doubt."""


class TurnedAway(ConnectionError):
    """The server will not serve us over this connection."""


class Leaving(ConnectionError):
    """We leave a connection that works, for another one: nothing is wrong."""


class Gate:
    """
    Tells which refusals another connection may turn into answers.

    :ivar was_passed: whether any connection was let in
    """

    __slots__ = ("_believed_until", "_clock", "_in_doubt", "_provider", "was_passed")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._in_doubt = False
        self._believed_until = -math.inf
        self._provider = False
        self.was_passed = False

    def passed(self, *, provider: bool) -> None:
        """
        Take note of a connection that was let in.

        :param provider: whether its credentials came of a provider
        """
        self.was_passed = True
        if self._in_doubt:
            self._in_doubt = False
            self._believed_until = self._clock() + DOUBT_AGAIN
        self._provider = provider

    def check(self, error: Exception) -> None:
        """
        Look at a refusal.

        :raises TurnedAway: if it is to be sent again, over another connection
        """
        if self._turns_away(error):
            raise TurnedAway(f"turned away by the server: {error}")

    def _turns_away(self, error: Exception) -> bool:
        code = error_code(error)
        if code in _NO_MASTER or is_full(error):
            return True
        if code not in _NOT_LET_IN and not (code == "NOPERM" and self._provider):
            return False
        self._in_doubt = self._clock() >= self._believed_until
        return self._in_doubt
