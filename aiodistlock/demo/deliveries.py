"""At-least-once delivery, as message queues promise it: pure bookkeeping, no I/O.

Rules. Every tenth event is delivered twice. What a worker has not acknowledged
when it dies, or is not heard of, is delivered again to others, first. An event is
done with its first acknowledgement; the stream is finished when every delivery is.

At most one trap is out at a time: the stream waits before the next one. So no
strike is measured through another, and a trapped worker never sits on what an
earlier strike waits for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from .events import Event
from .messages import Deliver

_DUPLICATE_EVERY: Final = 10

# Far enough behind the first delivery that mostly another worker gets the second,
# near enough that both are under way at once.
_DUPLICATE_DISTANCE: Final = 12


class Deliveries:
    """Who has which event, and what is still to be delivered.

    :param events: the stream
    :param traps: indices of events whose delivery makes the worker wait inside the
        critical section
    """

    def __init__(self, events: Sequence[Event], traps: Collection[int] = ()) -> None:
        self._events = events
        self._armed = set(traps)
        self._trap_is_out = False
        self._waiting = deque(_schedule(len(events), frozenset(traps)))
        self._unacked: dict[int, dict[int, int]] = {}
        self._done: set[int] = set()
        self._made = 0
        self.redelivered = 0

    @property
    def total(self) -> int:
        """How many events there are."""
        return len(self._events)

    @property
    def made(self) -> int:
        """How many deliveries have been made, duplicates among them."""
        return self._made

    @property
    def done(self) -> int:
        """How many events have been acknowledged."""
        return len(self._done)

    @property
    def finished(self) -> bool:
        """Whether every delivery has been acknowledged."""
        return not self._waiting and not any(self._unacked.values())

    def unacked(self, worker: int) -> int:
        """Count the deliveries that a worker has not acknowledged."""
        return len(self._unacked.get(worker, ()))

    def take(self, worker: int, room: int) -> list[Deliver]:
        """Hand deliveries to a worker, at most until it has ``room`` of them."""
        mine = self._unacked.setdefault(worker, {})
        taken = []
        while self._waiting and len(mine) < room:
            trapped = self._waiting[0] in self._armed
            if trapped and self._trap_is_out:
                break
            self._trap_is_out |= trapped
            index = self._waiting.popleft()
            event = self._events[index]
            mine[self._made] = index
            fields = event.event_id, event.wallet, event.amount
            taken.append(Deliver(self._made, *fields, trapped))
            self._made += 1
        return taken

    def ack(self, worker: int, delivery: int) -> None:
        """Take in that a delivery is done."""
        self._done.add(self._unacked[worker].pop(delivery))

    def disarm(self, worker: int, delivery: int) -> None:
        """Take in that a trap has sprung: its event is delivered without it now."""
        self._armed.remove(self._unacked[worker][delivery])

    def allow_trap(self) -> None:
        """Let the next trap out."""
        self._trap_is_out = False

    def redeliver(self, worker: int, *, gone: bool) -> int:
        """Deliver again, and first, what a worker has not acknowledged.

        :param gone: the worker is dead and will acknowledge nothing any more; else
            its acknowledgements are still waited for
        :return: how many deliveries that are
        """
        unacked = self._unacked.get(worker, {})
        again = [index for index in unacked.values() if index not in self._done]
        self._waiting.extendleft(reversed(again))
        self.redelivered += len(again)
        if gone:
            self._unacked.pop(worker, None)
        return len(again)


def _schedule(size: int, once: Collection[int]) -> Iterator[int]:
    """Order the first deliveries, with every tenth event's second one in between."""
    for index in range(size + _DUPLICATE_DISTANCE):
        if index < size:
            yield index
        earlier = index - _DUPLICATE_DISTANCE
        # A trapped event has one delivery: whoever gets it is the first, and so
        # certainly has something to write.
        if earlier >= 0 and earlier % _DUPLICATE_EVERY == 0 and earlier not in once:
            yield earlier


def hot_traps(events: Sequence[Event], count: int) -> list[int]:
    """Choose events to set traps at: spread over the stream, on the hottest wallets.

    The first trap is on the hottest wallet, the second on the next, and so on, as
    far as such wallets occur near the place.
    """
    heat: dict[str, int] = {}
    for event in events:
        heat[event.wallet] = heat.get(event.wallet, 0) + 1
    hottest = sorted(heat, key=heat.__getitem__, reverse=True)
    traps: list[int] = []
    for nth in range(count):
        start = len(events) * (nth + 1) // (count + 2)
        near = range(start, min(len(events), start + max(1, len(events) // 10)))
        free = [index for index in near if index not in traps]
        wanted = hottest[nth % len(hottest)]
        fit = [index for index in free if events[index].wallet == wanted]
        fallback = free or [i for i in range(len(events)) if i not in traps]
        traps.append((fit or fallback)[0])
    return traps
