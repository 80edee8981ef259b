"""What is sent to each script, and what its reply means.

One method of :class:`Operations` per script packs what its header lists under ARGV, and
one reader makes an answer of the array that it returns; both positions and the codes of
prelude.lua are known here and in the Lua files only.  A reader also takes the local
instant before the request was sent.  An array of another shape raises, whatever is wrong
with it: the wire ends the connection then, and the call is asked again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

from aiodistlock.core.escaping import bounded
from aiodistlock.core.fencing import BEYOND
from aiodistlock.core.keys import RESERVED, LockKeys, fence_key
from aiodistlock.core.slots import tag_of
from aiodistlock.core.value import read_value
from aiodistlock.protocol import scripts
from aiodistlock.protocol.answers import (
    AbandonReply,
    AcquireReply,
    Claimed,
    ClaimReply,
    Done,
    Ends,
    Failed,
    Granted,
    Held,
    HeldByOther,
    Inspected,
    InspectReply,
    Kept,
    MoveEndReply,
    NotOurs,
    PassOnReply,
    Queued,
    ReleaseReply,
    Renewed,
    RenewReply,
    Taken,
    Untrusted,
    Unvoted,
    Voted,
)
from aiodistlock.protocol.call import R
from aiodistlock.protocol.redis_call import RedisCall
from aiodistlock.protocol.scripts import Scripts, bulks

_NOTHING_REPORTED = bulks(0)

QUEUE_TTL_MS = 30_000
"""How long a queue outlives its last visitor; a live waiter visits every ten seconds at
least, whatever its backoff and its place."""

MARKER = f"{RESERVED}marker".encode()
"""Key of the marker that tells a node with its data from one without."""

# What follows a token is mostly the same.
_same_bulks = lru_cache(maxsize=256)(bulks)


@cache
def _counter_in(slot: int | None) -> bytes:
    """Return the key of the fence counter, packed."""
    return bulks(fence_key(slot))


class Operations:
    """
    Makes the calls of one client: each runs one script.

    :param own: the scripts to run, those of one Redis or of one cluster
    :param by_slot: whether each hash slot has a fence counter of its own
    """

    __slots__ = ("_counter", "scripts")

    def __init__(self, own: Scripts = scripts.ON_ONE, *, by_slot: bool = False) -> None:
        self.scripts = own
        self._counter = b"" if by_slot else _counter_in(None)
        """The key of the fence counter, packed; ``b""``: each slot has its own."""

    def counter_of(self, keys: LockKeys) -> bytes:
        """Return the key of the fence counter, packed."""
        return self._counter or _counter_in(keys.slot)

    def acquire(  # noqa: PLR0917  # runs for every lease, and keywords cost
        self,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        inbox: bytes,
        grant_ttl_ms: int,
        on_reply: Callable[[AcquireReply], object] | None = None,
        queue_ttl_ms: int = QUEUE_TTL_MS,
    ) -> RedisCall[AcquireReply]:
        """
        Take the lock, or queue for it.

        :param inbox: "<channel> <secret>", ``b""``: do not queue
        """
        counter = self._counter or _counter_in(keys.slot)
        rest = _same_bulks(ttl_ms, inbox, grant_ttl_ms, queue_ttl_ms)
        args = b"%b$%d\r\n%b\r\n%b" % (counter, len(token), token, rest)
        return RedisCall(self.scripts.acquire, keys, args, read_acquire, on_reply)

    def pass_on(
        self,
        keys: LockKeys,
        token: bytes,
        next_token: bytes,
        *,
        ttl_ms: int,
        highest: int,
        inbox: bytes,
        grant_ttl_ms: int,
        on_reply: Callable[[PassOnReply], object] | None = None,
        queue_ttl_ms: int = QUEUE_TTL_MS,
    ) -> RedisCall[PassOnReply]:
        """Let the next process have the lock and queue again, or keep it."""
        rest = bulks(token, next_token, ttl_ms, highest, inbox, grant_ttl_ms, queue_ttl_ms)
        args = self.counter_of(keys) + rest
        return RedisCall(self.scripts.pass_on, keys, args, read_pass_on, on_reply)

    def release(self, keys: LockKeys, value: bytes, highest: int) -> RedisCall[ReleaseReply]:
        """
        Give the lock up.

        :param value: what stands at the key
        :param highest: highest fencing token used by local hand-offs, 0 for none
        """
        counter = self._counter or _counter_in(keys.slot)
        rest = _NOTHING_REPORTED if highest == 0 else bulks(highest)
        args = b"%b$%d\r\n%b\r\n%b" % (counter, len(value), value, rest)
        return RedisCall(self.scripts.release, keys, args, read_release)

    def renew(
        self,
        keys: LockKeys,
        value: bytes,
        ttl_ms: int,
        on_reply: Callable[[RenewReply], object] | None = None,
    ) -> RedisCall[RenewReply]:
        """Set the remaining time of the lease at whose key ``value`` stands."""
        args = b"$%d\r\n%b\r\n%b" % (len(value), value, _same_bulks(ttl_ms))
        return RedisCall(self.scripts.renew, keys, args, read_renew, on_reply)

    def abandon(
        self, keys: LockKeys, token: bytes, inbox: bytes, grant_ttl_ms: int
    ) -> RedisCall[AbandonReply]:
        """Undo an acquisition; ``inbox`` is ``b""`` where it did not queue."""
        args = self.counter_of(keys) + bulks(token, inbox, grant_ttl_ms)
        return RedisCall(self.scripts.abandon, keys, args, read_abandon)

    def inspect(self, keys: LockKeys) -> RedisCall[InspectReply]:
        """Ask who holds the lock and who waits."""
        return RedisCall(self.scripts.inspect, keys, b"", read_inspect)

    def mark(
        self, keys: LockKeys, read: Callable[[list[Any], float], R], *args: bytes | int
    ) -> RedisCall[R]:
        """Mark a window, under our lease; see ``mark_calls.py``."""
        packed = self.counter_of(keys) + bulks(keys.done, *args)
        return RedisCall(self.scripts.mark, keys, packed, read)

    def claim(
        self, keys: LockKeys, value: bytes, wanted: bytes, ttl_ms: int
    ) -> RedisCall[ClaimReply]:
        """Put another value at the key of our lease, for ``ttl_ms`` from now on, 0: for ever."""
        return RedisCall(scripts.CLAIM, keys, bulks(value, wanted, ttl_ms), read_claim)

    def move_end(
        self, keys: LockKeys, value: bytes, from_ms: int, by_ms: int
    ) -> RedisCall[MoveEndReply]:
        """Move the end of our lease, or ask for it; see ``move_end.lua``."""
        return RedisCall(scripts.MOVE_END, keys, bulks(value, from_ms, by_ms), read_move_end)

    def force_release(self, keys: LockKeys, token: bytes) -> RedisCall[Taken | HeldByOther]:
        """Take the lock from its holder, whose token is given."""
        of_slot = b"" if self._counter else b":{%b}" % tag_of(keys.slot)
        args = self.counter_of(keys) + bulks(token, of_slot)
        return RedisCall(self.scripts.force_release, keys, args, read_force_release)

    def proclaim(
        self, keys: LockKeys, read: Callable[[list[Any], float], R], *args: bytes | int
    ) -> RedisCall[R]:
        """Say what the leader proclaims; see ``leader_calls.py``."""
        return RedisCall(self.scripts.proclaim, keys, bulks(keys.proclamation, *args), read)

    def vote(
        self,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        *,
        proposed: int,
        inbox: bytes,
        quarantine_us: int,
        queue_ttl_ms: int = QUEUE_TTL_MS,
        marker: bytes = MARKER,
    ) -> RedisCall[Voted | Held | Untrusted | Failed]:
        """
        Ask a node of a quorum for its vote.

        :param proposed: fencing token
        :param inbox: "<channel> <secret>" for a hint, ``b""``: do not wait
        """
        rest = _same_bulks(inbox, queue_ttl_ms, quarantine_us)
        vote = bulks(marker, token, ttl_ms, proposed)
        args = b"%b%b%b" % (self.counter_of(keys), vote, rest)
        return RedisCall(scripts.VOTE, keys, args, read_vote)

    def unvote(
        self, keys: LockKeys, token: bytes, highest: int, inbox: bytes
    ) -> RedisCall[Unvoted | Failed]:
        """
        Take a vote back on a node of a quorum.

        :param inbox: whose place in the queue to leave, ``b""``: none, and hint to nobody
        """
        args = self.counter_of(keys) + bulks(token, highest, inbox)
        return RedisCall(scripts.UNVOTE, keys, args, read_unvote)

    @staticmethod
    def renew_vote(keys: LockKeys, token: bytes, ttl_ms: int) -> RedisCall[RenewReply]:
        """Set the remaining time of a vote."""
        return RedisCall(scripts.RENEW_VOTE, keys, bulks(token, ttl_ms), read_renew)

    def keep(
        self, keys: LockKeys, token: bytes, ttl_ms: int, *, proposed: int, highest: int
    ) -> RedisCall[Voted | NotOurs | Failed]:
        """Keep a vote, with a fresh ttl and fencing token."""
        args = self.counter_of(keys) + bulks(token, ttl_ms, proposed, highest)
        return RedisCall(scripts.KEEP, keys, args, read_keep)

    def raise_fence(self, keys: LockKeys, fence: int) -> RedisCall[Done | Failed]:
        """Raise the fence counter on a node of a quorum."""
        args = self.counter_of(keys) + bulks(fence)
        return RedisCall(scripts.RAISE, keys, args, read_raise)

    @staticmethod
    def trust(keys: LockKeys, found: bytes, marker: bytes = MARKER) -> RedisCall[Done | Failed]:
        """Trust a node of a brand-new quorum, whose marker was found to be this."""
        return RedisCall(scripts.TRUST, keys, bulks(marker, found), read_trust)


# The codes of prelude.lua.
_GRANTED, _QUEUED, _HELD, _DONE, _GONE, _OTHER, _UNTRUSTED = range(1, 8)
_GRANTED_BEFORE_OTHERS = 9

GONE = NotOurs("its key is gone from Redis (expired, deleted or flushed)")
OTHER = NotOurs("another token is at its key")

_NOT_OURS = {_GONE: GONE, _OTHER: OTHER}


def _seconds(milliseconds: int) -> float | None:
    """Convert a remaining time; ``None`` if there is no ttl."""
    return milliseconds / 1000 if milliseconds >= 0 else None


class OtherShape(ValueError):
    """The array is none that the script returns."""

    def __init__(self) -> None:
        super().__init__("the script returns nothing like it")


def _check(reply: list[Any], *types: type) -> None:
    """Check the types behind code and tag."""
    if [type(each) for each in reply[2:]] != [*types]:
        raise OtherShape


def _not_ours(reply: list[Any]) -> NotOurs:
    _check(reply)
    return _NOT_OURS[reply[0]]


def _holder(value: bytes) -> str:
    """Return the holder's token, which anybody may have written."""
    return bounded(read_value(value).token)


def _queued(reply: list[Any], sent_at: float) -> Queued:
    _check(reply, int, bytes, int, int)
    _, _, remaining, value, server_us, position = reply
    return Queued(_holder(value), _seconds(remaining), position, server_us, sent_at)


def usual_answer(number: int, server_us: Any) -> list[Any]:
    """Return what stands for a script's answer in that of ``batch.lua``, but for the tag."""
    return [_GRANTED, 0, number, server_us] if number else [_DONE, 0, 0]


def read_acquire(reply: list[Any], sent_at: float) -> AcquireReply:
    """Read the answer of ``acquire.lua``."""
    code = reply[0]
    if code == _GRANTED:
        _, _, fence, server_us = reply
        if type(fence) is type(server_us) is int and 0 < fence < BEYOND:  # _check takes 0.3 us
            return Granted(fence, server_us, sent_at)
    elif code == _QUEUED:
        return _queued(reply, sent_at)
    elif code == _HELD:
        return _held(reply)
    elif code == _GRANTED_BEFORE_OTHERS:
        _check(reply, int, int)
        if 0 < reply[2] < BEYOND:
            return Granted(reply[2], reply[3], sent_at, others_wait=True)
    raise OtherShape


def _held(reply: list[Any]) -> Held:
    _check(reply, int, bytes)
    return Held(_holder(reply[3]), _seconds(reply[2]))


def read_pass_on(reply: list[Any], sent_at: float) -> PassOnReply:
    """Read the answer of ``pass_on.lua``."""
    code = reply[0]
    if code == _QUEUED:
        return _queued(reply, sent_at)
    if code not in (_DONE, _GRANTED):
        return _not_ours(reply)
    _check(reply, int, int)
    if not 0 < reply[2] < BEYOND:
        raise OtherShape
    return (Kept if code == _DONE else Granted)(reply[2], reply[3], sent_at)


def read_renew(reply: list[Any], sent_at: float) -> RenewReply:
    """Read the answer of ``renew.lua``."""
    if reply[0] == _DONE:
        _, _, waiters = reply
        if type(waiters) is int:
            return Renewed(sent_at, waiters)
    return _not_ours(reply)


_DID = Done()


def read_release(reply: list[Any], _sent_at: float) -> ReleaseReply:
    """Read the answer of ``release.lua``."""
    if reply[0] == _DONE:
        _, _, granted = reply
        if type(granted) is int:
            return _DID
    return _not_ours(reply)


def read_abandon(reply: list[Any], _sent_at: float) -> AbandonReply:
    """Read the answer of ``abandon.lua``."""
    return _done(reply, int)


def _done(reply: list[Any], *types: type) -> Done:
    if reply[0] != _DONE:
        raise OtherShape
    _check(reply, *types)
    return _DID


def read_claim(reply: list[Any], _sent_at: float) -> ClaimReply:
    """Read the answer of ``claim.lua``."""
    code = reply[0]
    if code not in (_DONE, _GRANTED):
        return _not_ours(reply)
    _check(reply)
    return Claimed(code == _GRANTED)


def read_move_end(reply: list[Any], _sent_at: float) -> MoveEndReply:
    """Read the answer of ``move_end.lua``."""
    code = reply[0]
    if code not in (_DONE, _GRANTED, _HELD):
        return _not_ours(reply)
    _check(reply, int)
    return Ends(reply[2], moved=code == _DONE, before=code == _GRANTED)


def read_inspect(reply: list[Any], _sent_at: float) -> InspectReply:
    """Read the answer of ``inspect.lua``."""
    _, _, value, remaining, records = reply
    _check(reply, bytes, int, list)
    token, fence = read_value(value)
    waiters = tuple(bounded(record.rsplit(b" ", 1)[-1]) for record in records)
    holder = bounded(token) if remaining != -2 else None
    return Inspected(holder, _seconds(remaining), fence, waiters)


def read_force_release(reply: list[Any], _sent_at: float) -> Taken | HeldByOther:
    """Read the answer of ``force_release.lua``."""
    if reply[0] == _DONE:
        return Taken(reply[2], bounded(reply[3]) or None)
    return HeldByOther(_holder(reply[2]) if reply[0] == _OTHER else None)


def read_vote(reply: list[Any], _sent_at: float) -> Voted | Held | Untrusted:
    """Read the answer of ``vote.lua``."""
    code = reply[0]
    if code == _GRANTED:
        _, _, fence = reply
        if type(fence) is int and 0 < fence < BEYOND:
            return Voted(fence)
    elif code == _HELD:
        _check(reply, int, bytes, int)
        return Held(_holder(reply[3]), _seconds(reply[2]), reply[4])
    elif code == _UNTRUSTED:
        _check(reply, bytes, int, int)
        return Untrusted(reply[2], reply[3] / 1e6, reply[4] / 1e6)
    raise OtherShape


# A tuple for each, made once: a release on five nodes reads five of them.
_UNVOTED = {
    (code, hinted): Unvoted(_NOT_OURS.get(code), bool(hinted))
    for code in (_DONE, _GONE, _OTHER)
    for hinted in (0, 1)
}


def read_unvote(reply: list[Any], _sent_at: float) -> Unvoted:
    """Read the answer of ``unvote.lua``."""
    code, _, hinted = reply
    return _UNVOTED[code, hinted]


def read_keep(reply: list[Any], _sent_at: float) -> Voted | NotOurs:
    """Read the answer of ``keep.lua``."""
    if reply[0] != _DONE:
        return _not_ours(reply)
    _check(reply, int, int)
    if not 0 < reply[2] < BEYOND:
        raise OtherShape
    return Voted(reply[2], reply[3])


def read_raise(reply: list[Any], _sent_at: float) -> Done:
    """Read the answer of ``raise.lua``."""
    return _done(reply)


def read_trust(reply: list[Any], _sent_at: float) -> Done:
    """Read the answer of ``trust.lua``."""
    return _done(reply, int)
