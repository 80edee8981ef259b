"""What a server's refusals mean: which pass, which have a script sent again, what to do."""

from __future__ import annotations

import logging
import re

from aiodistlock.core.escaping import shown

logger = logging.getLogger("aiodistlock")

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
# (redis-py's own reading, which the doctor's connection uses, takes the ERR away.)
_WRAPPED = re.compile(r"^(?:ERR )?Error running script .*: -([A-Z]{3,}) ")

# A script found that a key has left for another node of a cluster, while it ran.
_ON_ITS_WAY = "attempted to access a non local key"


# With this a server hangs up that has as many clients as it may, whatever it was asked.
_FULL = "max number of clients"


def error_code(error: Exception) -> str:
    """Return the word in capitals with which the server's error begins."""
    wrapped = _WRAPPED.search(str(error))
    return wrapped[1] if wrapped else str(error).partition(" ")[0]


def is_transient(error: Exception) -> bool:
    """Tell whether what the server refuses now it may grant later."""
    return error_code(error) in _TRANSIENT or _ON_ITS_WAY in str(error) or is_full(error)


def is_full(error: Exception) -> bool:
    """Tell whether the server has too many clients for this connection."""
    return _FULL in str(error)


def is_to_be_sent_again(error: Exception) -> bool:
    """
    Tell whether a script did not do its work, for a reason that is over when it comes again.

    A fence counter that somebody broke is told here: see ``mend_fence`` in ``prelude.lua``.
    """
    code, _, rest = str(error).partition(" ")
    if code == "BADFENCE":
        logger.warning("a fence counter was broken, and begins anew: %s", shown(rest))
    return code in ("BADFENCE", "NOSCRIPT", "STALE")


# What servers say that speak as Redis does but run less Lua, or only older Lua.
_NO_LUA = re.compile("unknown command.*eval", re.IGNORECASE | re.DOTALL)
_LESS_LUA = re.compile("syntax error|non.?deterministic|attempt to call", re.IGNORECASE)


def explained(error: Exception) -> Exception:
    """Return the error of a server that lacks what the scripts use, with what to do about it."""
    if _NO_LUA.search(str(error)):
        return type(error)(
            f"{error}: locks are Lua scripts, and none runs here (fakeredis runs them with "
            "fakeredis[lua]; LockClient.in_memory() needs no server)"
        )
    if error_code(error) == "CROSSSLOT":
        return type(error)(
            f"{error}: this is one node of a Redis Cluster, which wants a RedisCluster, or "
            "redis+cluster:// in a URL"
        )
    if _LESS_LUA.search(str(error)):
        return type(error)(
            f"{error}: the scripts of locks need Redis 6.2 or later, or what runs all that it runs"
        )
    return error
