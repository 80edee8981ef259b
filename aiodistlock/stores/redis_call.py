"""A call to Redis: which script to run, with what, and how to read the answer."""

from __future__ import annotations

import math
import re
from asyncio import Future
from collections.abc import Callable
from typing import Any, Protocol, cast

from aiodistlock.core.clock import ServerClock
from aiodistlock.core.keys import LockKeys
from aiodistlock.stores.answers import Failed
from aiodistlock.stores.base import Call, R
from aiodistlock.stores.scripts import Script

# Refusals that pass: the server starts, is busy, is read-only after a failover, or
# lacks memory or replicas.  Everything else (WRONGTYPE, NOPERM, NOAUTH) stays.
_TRANSIENT = frozenset(
    {
        "BUSY",
        "CLUSTERDOWN",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "NOREPLICAS",
        "OOM",
        "READONLY",
        "TRYAGAIN",
    }
)

# Redis 6.2 wraps what a command in a script answered:
# "ERR Error running script (call to f_…): @user_script:39: @user_script: 39: -OOM …".
_WRAPPED = re.compile(r"^ERR Error running script .*: -([A-Z]{3,}) ")

# A script found that a key has left for another node of a cluster, while it ran.
_ON_ITS_WAY = "attempted to access a non local key"


def error_code(error: Exception) -> str:
    """Return the word in capitals with which the server's error begins."""
    wrapped = _WRAPPED.search(str(error))
    return wrapped[1] if wrapped else str(error).partition(" ")[0]


def is_transient(error: Exception) -> bool:
    """Tell whether what the server refuses now it may grant later."""
    return error_code(error) in _TRANSIENT or _ON_ITS_WAY in str(error)


def bulks(*args: bytes | int) -> bytes:
    """Pack arguments as RESP bulk strings."""
    texts = [arg if isinstance(arg, bytes) else b"%d" % arg for arg in args]
    return b"".join([b"$%d\r\n%b\r\n" % (len(text), text) for text in texts])


class RedisCall(Call[R]):
    """A call that runs a script: what to send, and how to read the answer."""

    __slots__ = (
        "args",
        "decode",
        "issued_at",
        "keys",
        "node",
        "redirects",
        "script",
        "tag",
        "until",
    )

    # Of the wire to a cluster only, so they cost the others nothing.
    node: Any
    """The pipe that it was given to last."""
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

    def packed(self) -> bytes:
        """Return the request as it goes over the wire."""
        return b"%b%b%b$10\r\n%d\r\n" % (self.script.head, self.keys.packed, self.args, self.tag)

    def packed_with_source(self) -> bytes:
        """Return the request for a server that does not know the script."""
        head = self.script.source_head
        return b"%b%b%b$10\r\n%d\r\n" % (head, self.keys.packed, self.args, self.tag)

    def refuse(self, error: Exception) -> None:
        """Deliver an error that the server answered."""
        self._fail(Failed(error, is_transient(error), self.issued_at))

    def fail(self, error: Exception, *, transient: bool = True) -> None:
        """Deliver that no answer will come; the request is not sent again."""
        self.obsolete = True
        self._fail(Failed(error, transient, self.issued_at))

    def _fail(self, failed: Failed) -> None:
        self.finish(cast(R, failed))  # every kind of reply includes Failed


class Inboxes(Protocol):
    """Where this client hears its grants; see ``engine/inbox.py``."""

    def channel_of(self, keys: LockKeys) -> bytes:
        """Return the channel on which grants for these keys are published."""
        ...

    def channel_to_queue(self, keys: LockKeys) -> bytes:
        """Return that channel to somebody who queues whether or not it is heard yet."""
        ...

    def open_channel(self, keys: LockKeys) -> bytes:
        """Return that channel if a grant would be heard there, else ``b""``."""
        ...

    def listen(self, keys: LockKeys) -> bool:
        """See to it that grants for these keys are heard; tell whether they are now."""
        ...


class Wire(Protocol):
    """What carries calls to one Redis, in order; see ``engine/pipe.py``."""

    def server_clock(self, call: RedisCall[Any]) -> ServerClock:
        """Return the clock of the node that answered a call."""
        ...

    def submit(self, call: RedisCall[Any]) -> None:
        """Send a call with the others of this loop turn."""
        ...

    def suspect(self, call: RedisCall[Any]) -> None:
        """Take note that a call stayed unanswered for longer than it should."""
        ...

    async def aclose(self) -> None:
        """Send what was submitted, within a bound, and close."""
        ...

    def stop(self) -> None:
        """Close at once."""
        ...

    @property
    def stopped(self) -> bool:
        """Whether nothing can be sent any more."""
        ...

    def disown(self) -> None:
        """Send nothing any more, and leave the connection to the parent process."""
        ...
