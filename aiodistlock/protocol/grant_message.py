"""The message that makes a waiter the holder, and what shows that a script wrote it.

And the one that asks a holder to give up a lease that lingers.

Anybody may publish to an inbox, and its name stands in every token.  So each client has a
secret that stands nowhere but in its records in queues: a script proves by it that it has
read the record, and does not give it away (``prelude.lua`` has the server's half).
"""

from __future__ import annotations

import logging
import re
from hashlib import sha1
from hmac import compare_digest
from typing import NamedTuple

from aiodistlock.core.escaping import quoted

logger = logging.getLogger("aiodistlock")

WIRE = b"2"
"""The edition of the wire: what a script says in a message before all else (docs/wire.md)."""

_EDITION = re.compile(rb"[1-9]\d{0,3}")
# Enough for fencing tokens and times, and a year of milliseconds.
_RECALL = re.compile(rb"recall [1-9]\d{0,3} (\S+) (.+)", re.DOTALL)
_GRANT = re.compile(rb"(\d{1,16}) (\d{1,16}) (\d{1,11}) (\S+) (.+)", re.DOTALL)


class Grant(NamedTuple):
    """What a message grants; on a quorum a hint, without fence, time and ttl."""

    fence: int
    server_us: int
    ttl: float
    token: bytes
    key: bytes


class Recall(NamedTuple):
    """Asks for a lease that may linger; nothing proves who wrote it: it may only end early."""

    token: bytes
    key: bytes


class OtherWire(Exception):
    """A script wrote it, but one of another edition of the wire: who knows what it says."""

    def __init__(self, wire: bytes) -> None:
        self.wire = int(wire)
        super().__init__(f"message of edition {self.wire} of the wire, where {int(WIRE)} is known")


def prove(message: bytes, secret: bytes) -> bytes:
    """Return the proof that goes before a message."""
    return sha1(b"%b %b" % (message, secret), usedforsecurity=False).hexdigest().encode()


def read_recall(payload: bytes) -> Recall | None:
    """Parse a message; ``None`` if it is no recall.  All editions write it so."""
    found = _RECALL.fullmatch(payload)
    return None if found is None else Recall(*found.groups())


def read_grant(payload: bytes, secret: bytes) -> Grant | None:
    """
    Parse a message; ``None`` if it is no grant of a script (anybody may publish).

    :raises OtherWire: if it is one, in words that are not known here
    """
    proof, _, message = payload.partition(b" ")
    wire, _, grant = message.partition(b" ")
    found = _GRANT.fullmatch(grant)
    # Who knows the secret could prove it, so the secret itself is as good.
    proven = compare_digest(proof, prove(message, secret)) or compare_digest(proof, secret)
    if proven and wire != WIRE and _EDITION.fullmatch(wire):
        raise OtherWire(wire)
    if found is None or wire != WIRE or not proven:
        logger.warning("message in the inbox that is no grant: %s", quoted(payload))
        return None
    fence, server_us, ttl_ms, token, key = found.groups()
    return Grant(int(fence), int(server_us), int(ttl_ms) / 1000, token, key)
