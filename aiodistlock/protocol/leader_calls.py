"""What is sent to the scripts of elections, and what their replies mean."""

from __future__ import annotations

from typing import Any

from aiodistlock.core.escaping import bounded
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.value import read_value
from aiodistlock.protocol import scripts
from aiodistlock.protocol.answers import Done, LeaderReply, Led, ProclaimReply
from aiodistlock.protocol.operations import GONE, OTHER, Operations, OtherShape
from aiodistlock.protocol.redis_call import RedisCall
from aiodistlock.protocol.scripts import bulks

# Codes of prelude.lua.
_PROCLAIMED: dict[int, ProclaimReply] = {4: Done(), 5: GONE, 6: OTHER}


def leader(keys: LockKeys) -> RedisCall[LeaderReply]:
    """Ask who leads, and what it proclaims."""
    return RedisCall(scripts.LEADER, keys, bulks(keys.proclamation), read_leader)


def proclaim(
    operations: Operations, keys: LockKeys, value: bytes, text: bytes, ttl_ms: int
) -> RedisCall[ProclaimReply]:
    """Proclaim a text as the leader for ``ttl_ms``; 0: behind the end, take it back."""
    return operations.proclaim(keys, read_proclaim, value, text, ttl_ms)


def read_leader(reply: list[Any], _sent_at: float) -> LeaderReply:
    """Read the answer of ``leader.lua``."""
    if [type(each) for each in reply[2:]] != [bytes, int, int, bytes]:
        raise OtherShape
    _, _, value, remaining, proclaims, text = reply
    token, fence = read_value(value)
    return Led(
        bounded(token) if remaining != -2 else None,
        remaining / 1000 if remaining >= 0 else None,
        fence,
        text.decode(errors="replace") if proclaims else None,
    )


def read_proclaim(reply: list[Any], _sent_at: float) -> ProclaimReply:
    """Read the answer of ``proclaim.lua``."""
    code, _ = reply
    return _PROCLAIMED[code]
