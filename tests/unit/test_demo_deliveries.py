"""At-least-once delivery, its traps, and its messages."""

from collections import Counter

import pytest

from aiodistlock.demo.deliveries import Deliveries, hot_traps
from aiodistlock.demo.events import Event, sample_events
from aiodistlock.demo.messages import Act, Deliver, Finish, Setup, decode, encode


def event(number: int, wallet: str = "w1", amount: int = 1) -> Event:
    """Make an event."""
    return Event(f"e{number}", wallet, amount)


def drain(deliveries: Deliveries, worker: int) -> list[Deliver]:
    """Let a worker take and acknowledge all there is."""
    taken = []
    while batch := deliveries.take(worker, 10):
        for delivery in batch:
            deliveries.ack(worker, delivery.delivery)
        taken += batch
    return taken


def test_every_event_arrives_and_every_tenth_twice() -> None:
    """40 events are 44 deliveries, and finished when all are acknowledged."""
    deliveries = Deliveries([event(n) for n in range(40)])
    times = Counter(taken.event_id for taken in drain(deliveries, 1))
    assert sorted(times.values()) == [1] * 36 + [2] * 4
    assert deliveries.finished
    assert (deliveries.done, deliveries.made) == (40, 44)


def test_a_worker_gets_no_more_than_it_has_room_for() -> None:
    """Deliveries that were not acknowledged fill the room."""
    deliveries = Deliveries([event(n) for n in range(9)])
    first = deliveries.take(1, 4)
    assert len(first) == 4
    assert deliveries.take(1, 4) == []
    deliveries.ack(1, first[0].delivery)
    assert len(deliveries.take(1, 4)) == 1


def test_what_a_dead_worker_had_goes_to_others_first() -> None:
    """Unacknowledged deliveries of the dead come before the rest of the stream."""
    deliveries = Deliveries([event(n) for n in range(9)])
    first = deliveries.take(1, 3)
    deliveries.ack(1, first[1].delivery)
    assert deliveries.redeliver(1, gone=True) == 2
    assert [d.event_id for d in deliveries.take(2, 3)] == ["e0", "e2", "e3"]


def test_what_a_frozen_worker_has_is_still_awaited() -> None:
    """A frozen worker's deliveries go to others, and its own end is waited for."""
    deliveries = Deliveries([event(n, "w") for n in range(3)], traps=[0])
    held = deliveries.take(1, 9)
    deliveries.disarm(1, held[0].delivery)
    deliveries.redeliver(1, gone=False)
    drain(deliveries, 2)
    assert deliveries.done == 3
    assert not deliveries.finished
    for delivery in held:
        deliveries.ack(1, delivery.delivery)
    assert deliveries.finished


def test_a_trap_springs_once() -> None:
    """A trapped event is delivered once, and free of its trap after it sprang."""
    deliveries = Deliveries([event(n) for n in range(20)], traps=[0])
    trapped = deliveries.take(1, 1)[0]
    assert trapped.trapped
    deliveries.disarm(1, trapped.delivery)
    deliveries.redeliver(1, gone=True)
    freed = drain(deliveries, 2)
    assert [d.event_id for d in freed].count("e0") == 1
    assert not any(d.trapped for d in freed)


def test_one_trap_is_out_at_a_time() -> None:
    """The stream waits before the second trap; what is delivered again does not."""
    deliveries = Deliveries([event(n) for n in range(20)], traps=[1, 3])
    first = deliveries.take(1, 99)
    assert [(d.event_id, d.trapped) for d in first] == [("e0", False), ("e1", True), ("e2", False)]
    deliveries.disarm(1, first[1].delivery)
    deliveries.redeliver(1, gone=True)
    assert [d.event_id for d in deliveries.take(2, 99)] == ["e0", "e1", "e2"]
    deliveries.allow_trap()
    assert deliveries.take(2, 4)[0].trapped


@pytest.mark.parametrize("size", [3, 4, 17, 1000])
def test_traps_are_distinct_events(size: int) -> None:
    """As many traps as asked for are found in a stream of any size."""
    events = list(sample_events(size))
    traps = hot_traps(events, 3)
    assert len(set(traps)) == 3
    assert all(0 <= trap < size for trap in traps)


def test_traps_are_on_the_hottest_wallets() -> None:
    """In the sample the traps are on the three hottest wallets."""
    events = list(sample_events())
    wallets = [events[trap].wallet for trap in hot_traps(events, 3)]
    assert wallets == ["wallet-0001", "wallet-0002", "wallet-0003"]


def test_messages_survive_the_pipe() -> None:
    """A message is one line, and is read back the same."""
    setup = Setup(1, Act.NO_LOCK, "l", "redis://", "n:", 1.0, 8)
    for message in (setup, Deliver(1, "e\n", "w", -1, True), Finish()):
        sent = encode(message)
        assert sent.count(b"\n") == 1
        assert decode(sent) == message
