"""A call to Redis: which script to run, with what, and how to read the answer."""

from __future__ import annotations

import math
from asyncio import Future
from collections.abc import Callable
from typing import Any, cast

from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol.answers import Failed
from aiodistlock.protocol.call import Call, R
from aiodistlock.protocol.refusals import explained, is_transient
from aiodistlock.protocol.scripts import Script, bulks, words


def tagged(number: int, void: int) -> bytes:
    """Pack a request's number, and what it declares to be void, 0 for nothing."""
    return bulks(b"%d %d" % (number, void) if void else number)


class RedisCall(Call[R]):
    """A call that runs a script: what to send, and how to read the answer."""

    __slots__ = (
        "args",
        "decode",
        "issued_at",
        "keys",
        "pipe",
        "redirects",
        "script",
        "sourced",
        "tag",
        "until",
    )

    # Of a cluster only, so they cost the others nothing.
    pipe: Any
    """The pipe that it was given to last."""
    sourced: int
    """The tag with which it was last sent with its source; not set before the first time."""
    redirects: int
    """How often a node sent it on to another; not set before the first time."""

    def __init__(
        self,
        script: Script,
        keys: LockKeys,
        args: bytes,
        decode: Callable[[list[Any], float], R],
        on_reply: Callable[[R], object] | None = None,
    ) -> None:
        # Call's, written out: this runs twice for every lease.
        self.on_reply = on_reply
        self.reply: R | None = None
        self.sent_at = 0.0
        self.resent = False
        self.obsolete = False
        self._awaiting: list[Future[R]] | None = None
        self.script = script
        self.keys = keys
        self.args = args
        self.decode = decode
        self.tag: int  # from when it is sent
        self.issued_at = math.inf
        """Local instant at which it was first sent, or found no connection."""
        self.until = math.inf
        """Local instant after which no answer is waited for."""

    @property
    def declares(self) -> bool:
        """Whether it says what is void, if anything is."""
        return self.script.declares

    def packed(self, marker: bytes) -> bytes:
        """
        Return the request as it goes over the wire.

        :param marker: the fourth key, packed (see ``connection/numbering.py``)
        """
        script, keys = self.script, self.keys
        return b"%b%b%b%b$13\r\n%d\r\n" % (script.head, keys.packed, marker, self.args, self.tag)

    def packed_in_full(self, marker: bytes, void: int, *, source: bool) -> bytes:
        """
        Return the request as it goes where more has to be said.

        :param void: the highest number that is void, 0 for none
        :param source: whether the server may not know the script
        """
        script = self.script
        head = script.source_head if source else script.head
        return b"%b%b%b%b%b" % (head, self.keys.packed, marker, self.args, tagged(self.tag, void))

    def operands(self, void: bytes) -> list[bytes | int]:
        """
        Return what follows the script in EVALSHA, of a client's only request by its own way.

        :param void: the fourth key
        """
        return [self.script.keys, *words(self.keys.packed), void, *words(self.args), 1]

    def refuse(self, error: Exception) -> None:
        """Deliver an error that the server answered."""
        self._fail(Failed(explained(error), is_transient(error), self.issued_at))

    def fail(self, error: Exception, *, transient: bool = True) -> None:
        """Deliver that no answer will come; the request is not sent again."""
        self.obsolete = True
        self._fail(Failed(error, transient, self.issued_at))

    def _fail(self, failed: Failed) -> None:
        self.finish(cast(R, failed))  # every kind of reply includes Failed
