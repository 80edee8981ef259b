"""A call to Redis: which script to run, with what, and how to read the answer."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Protocol, cast

from aiodistlock.stores.base import Call, Failed, R
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


class RedisCall(Call[R]):
    """A call that runs a script: what to send, and how to read the answer."""

    __slots__ = ("args", "decode", "issued_at", "script", "tag", "until")

    def __init__(
        self,
        script: Script,
        args: tuple[bytes | int, ...],
        decode: Callable[[list[Any], float], R],
        on_reply: Callable[[R], object] | None = None,
    ) -> None:
        super().__init__(on_reply)
        self.script = script
        self.args = args
        self.decode = decode
        self.tag = 0
        self.issued_at = math.inf
        """Local instant at which it was first sent, or found no connection."""
        self.until = math.inf
        """Local instant after which no answer is waited for."""

    def matches(self, reply: Any) -> bool:
        """Tell whether a reply is the answer to this request."""
        try:
            return bool(reply[1] == self.tag)
        except (TypeError, IndexError):
            return False

    def refuse(self, error: Exception) -> None:
        """Deliver an error that the server answered."""
        wrapped = _WRAPPED.search(str(error))
        code = wrapped[1] if wrapped else str(error).partition(" ")[0]
        self._fail(Failed(error, code in _TRANSIENT, self.issued_at))

    def fail(self, error: Exception, *, transient: bool = True) -> None:
        """Deliver that no answer will come; the request is not sent again."""
        self.obsolete = True
        self._fail(Failed(error, transient, self.issued_at))

    def _fail(self, failed: Failed) -> None:
        self.finish(cast(R, failed))  # every kind of reply includes Failed


class Wire(Protocol):
    """What carries calls to one Redis, in order; see ``engine/pipe.py``."""

    @property
    def listening(self) -> bool:
        """Whether grants are heard now."""
        ...

    def listen(self) -> None:
        """See to it that grants are heard soon."""
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
