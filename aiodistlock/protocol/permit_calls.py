"""What is sent to the scripts of semaphores, and what is answered; see ``operations.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from aiodistlock.core.escaping import bounded
from aiodistlock.core.fencing import BEYOND
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.permits import read_lease
from aiodistlock.protocol import scripts
from aiodistlock.protocol.answers import (
    AbandonReply,
    Held,
    InspectPermitsReply,
    Permit,
    PermitHeld,
    Permits,
    PermitsInspected,
    PermitsReply,
    PermitWaiter,
    Queued,
    ReleaseReply,
    RenewReply,
)
from aiodistlock.protocol.operations import (
    QUEUE_TTL_MS,
    Operations,
    OtherShape,
    read_abandon,
    read_release,
    read_renew,
)
from aiodistlock.protocol.permits import Want
from aiodistlock.protocol.redis_call import RedisCall
from aiodistlock.protocol.scripts import bulks

# See prelude.lua.
_GRANTED, _QUEUED, _HELD, _DONE = 1, 2, 3, 4


def _packed(wants: Sequence[Want]) -> tuple[bytes, bytes]:
    """Return what the tokens begin with, and the wants as the scripts read them."""
    client, colon, _ = wants[0].token.rpartition(b":")
    start = len(client) + len(colon)
    told = [b"%b%b%d" % (token[start:], b"*" if waits else b"?", n) for token, n, waits in wants]
    return client + colon, b" ".join(told)


def acquire_permits(
    operations: Operations,
    keys: LockKeys,
    wants: Sequence[Want],
    *,
    limit: int,
    ttl_ms: int,
    inbox: bytes,
    grant_ttl_ms: int,
    on_reply: Callable[[PermitsReply], object] | None = None,
    queue_ttl_ms: int = QUEUE_TTL_MS,
) -> RedisCall[PermitsReply]:
    """
    Take permits, or queue for them.

    :param inbox: "<channel> <secret>", ``b""``: do not queue
    """
    client, told = _packed(wants)
    packed = bulks(client, told, limit, ttl_ms, inbox, grant_ttl_ms, queue_ttl_ms)
    args = operations.counter_of(keys) + packed
    read = partial(read_permits, client)
    return RedisCall(operations.scripts.acquire_permits, keys, args, read, on_reply)


def release_permits(
    operations: Operations, keys: LockKeys, value: bytes, highest: int
) -> RedisCall[ReleaseReply]:
    """Give a lease of permits up."""
    args = operations.counter_of(keys) + bulks(value, highest)
    return RedisCall(operations.scripts.release_permits, keys, args, read_release)


def renew_permits(
    keys: LockKeys,
    value: bytes,
    ttl_ms: int,
    on_reply: Callable[[RenewReply], object] | None = None,
) -> RedisCall[RenewReply]:
    """Set the remaining time of a lease of permits."""
    return RedisCall(scripts.RENEW_PERMITS, keys, bulks(value, ttl_ms), read_renew, on_reply)


def abandon_permits(  # noqa: PLR0917  # as acquire_permits
    operations: Operations,
    keys: LockKeys,
    wants: Sequence[Want],
    limit: int,
    inbox: bytes,
    grant_ttl_ms: int,
) -> RedisCall[AbandonReply]:
    """Undo acquisitions of permits."""
    client, told = _packed(wants)
    args = operations.counter_of(keys) + bulks(client, told, limit, inbox, grant_ttl_ms)
    return RedisCall(operations.scripts.abandon_permits, keys, args, read_abandon)


def inspect_permits(keys: LockKeys) -> RedisCall[InspectPermitsReply]:
    """Ask who holds permits and who waits."""
    return RedisCall(scripts.INSPECT_PERMITS, keys, b"", read_inspect_permits)


def read_permits(client: bytes, reply: list[Any], sent_at: float) -> Permits:
    """
    Read the answer of ``acquire_permits.lua``.

    :param client: what the tokens begin with that were asked for
    """
    code, _, server_us, told, *rest = reply
    leases = tuple(_permit(client, each) for each in told)
    if type(server_us) is not int:
        raise OtherShape
    waits: Queued | Held | None = None
    if code == _GRANTED and not rest:
        return Permits(leases, server_us, sent_at, None)
    remaining, holder, *behind = rest
    if type(remaining) is not int or type(holder) is not bytes:
        raise OtherShape
    seen = bounded(holder)
    if code == _QUEUED and len(behind) == 1 and type(behind[0]) is int:
        waits = Queued(seen, remaining / 1000, behind[0], server_us, sent_at)
    elif code == _HELD and not behind:
        waits = Held(seen, remaining / 1000)
    else:
        raise OtherShape
    return Permits(leases, server_us, sent_at, waits)


def _permit(client: bytes, told: bytes) -> Permit:
    read = read_lease(told)
    if read is None or not 0 < read[1] < BEYOND:
        raise OtherShape
    count, fence, slots = read
    return Permit(client + count, fence, slots)


def read_inspect_permits(reply: list[Any], _sent_at: float) -> PermitsInspected:
    """Read the answer of ``inspect_permits.lua``."""
    code, _, told, records = reply
    if code != _DONE or len(told) % 2:
        raise OtherShape
    leases = []
    for text, remaining in zip(told[::2], told[1::2], strict=True):
        read = read_lease(text)
        if read is not None:  # else it is none of ours
            token, fence, slots = read
            leases.append(PermitHeld(bounded(token), fence, slots, remaining / 1000))
    return PermitsInspected(tuple(leases), tuple(_waiters(records)))


def _waiters(records: list[bytes]) -> Iterator[PermitWaiter]:
    for record in records:
        words = record.rsplit(b" ", 3)
        if len(words) == 4 and words[2].isdigit() and words[3].isdigit():
            yield PermitWaiter(bounded(words[1]), int(words[2]), int(words[3]))
