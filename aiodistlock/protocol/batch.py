"""Calls that travel as one call of one script, and are answered by one array."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from aiodistlock.core.fencing import BEYOND
from aiodistlock.core.keys import fence_key
from aiodistlock.protocol.answers import Done, Granted
from aiodistlock.protocol.operations import read_acquire, read_release, usual_answer
from aiodistlock.protocol.redis_call import RedisCall, tagged
from aiodistlock.protocol.scripts import BATCH, bulks

_HEAD = b"*%%d\r\n%b$%%d\r\n%%d\r\n"
_BY_NAME = _HEAD % bulks(b"EVALSHA", BATCH.sha)
_IN_FULL = _HEAD % bulks(b"EVAL", BATCH.source).replace(b"%", b"%%")


# Batches go to one server, where all names share it.
_COUNTER = bulks(fence_key(None))


class Batch:
    """
    Calls of one write, no two of one name: whichever runs first makes no difference.

    :param calls: numbered in this order, without a gap
    :ivar calls: those that are unanswered
    :ivar tag: the number of the first; their answer repeats it
    :ivar sourced: whether it is sent with its script
    """

    __slots__ = ("calls", "sourced", "tag")

    declares = True

    def __init__(self, calls: list[RedisCall[Any]], *, sourced: bool) -> None:
        self.calls = deque(calls)
        self.tag = calls[0].tag
        self.sourced = sourced

    def packed_in_full(self, marker: bytes, void: int, *, source: bool) -> bytes:
        """Return the request as it goes over the wire; see :class:`RedisCall`."""
        calls = self.calls
        count = len(calls)
        keys = b"%d" % (2 * count + 2)
        # Command, script, number of keys, keys, letters, counters and arguments, tag.
        taken = sum([call.script.taken for call in calls])
        parts = 3 + 2 * count + 2 + count + taken + 1
        head = (_IN_FULL if source else _BY_NAME) % (parts, len(keys), int(keys))
        return b"".join(
            [
                head,
                *[call.keys.packed for call in calls],
                marker,
                _COUNTER,
                *[call.script.letter + call.args for call in calls],
                tagged(self.tag, void),
            ]
        )


def divided(calls: list[RedisCall[Any]]) -> Iterator[list[RedisCall[Any]]]:
    """Divide calls, in order, into what may go together."""
    if len({call.keys.packed for call in calls if call.script.letter}) == len(calls):
        yield calls
        return
    together: list[RedisCall[Any]] = []
    names: set[bytes] = set()
    for call in calls:
        alone = not call.script.letter
        if alone or call.keys.packed in names:
            if together:
                yield together
            together, names = [], set()
        if alone:
            yield [call]
        else:
            together.append(call)
            names.add(call.keys.packed)
    if together:
        yield together


_DID = Done()


def read_usual(number: int, server_us: Any, call: RedisCall[Any]) -> Any:
    """Read the number that stands for a script's answer in that of ``batch.lua``."""
    read = call.decode
    # As these would, but for the list that it stands for.
    if read is read_acquire and type(server_us) is int and 0 < number < BEYOND:
        return Granted(number, server_us, call.sent_at)
    if read is read_release and number == 0:
        return _DID
    return read(usual_answer(number, server_us), call.sent_at)
