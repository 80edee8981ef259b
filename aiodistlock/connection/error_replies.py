"""What a server said, whichever client library raised it.

Ours read replies themselves, and have errors as the server wrote them.  What redis-py or
valkey-py read (the handshake, and all that a plain transport carries) comes as a class of
theirs, the word in capitals cut off.
"""

from __future__ import annotations

from redis import exceptions
from redis.exceptions import RedisError, ResponseError

from aiodistlock.core.escaping import MOST_OF_ERROR, shown

_CODES = {
    "AskError": "ASK",
    "BusyLoadingError": "LOADING",
    "ClusterCrossSlotError": "CROSSSLOT",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
    "MovedError": "MOVED",
    "NoPermissionError": "NOPERM",
    "NoScriptError": "NOSCRIPT",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "TryAgainError": "TRYAGAIN",
}


def as_redis_py(error: Exception) -> Exception:
    """Return redis-py's error of the same name for one of valkey-py's, else ``error``."""
    if type(error).__module__ != "valkey.exceptions":
        return error
    for kind in type(error).__mro__:
        ours = getattr(exceptions, kind.__name__.replace("ValkeyError", "RedisError"), None)
        if isinstance(ours, type) and issubclass(ours, RedisError):
            result = ours(str(error))
            result.__cause__ = error
            return result
    return error


def as_error_reply(error: Exception) -> ResponseError | None:
    """Return an error reply as the server wrote it, ``None`` if ``error`` is none."""
    code = _CODES.get(type(error).__name__)
    if code is None and not isinstance(as_redis_py(error), ResponseError):
        return None
    text = str(error)
    whole = text if code is None or text.startswith(code) else f"{code} {text}"
    return ResponseError(shown(whole, MOST_OF_ERROR))
