"""Of what stands at a key or in a queue no more is sent than is told of it."""

from collections.abc import Callable

import pytest

from aiodistlock.protocol import scripts
from tests.redis.driver import QUEUE_TTL, TTL, Inbox, Reply, Scripts, record

MINE, OTHER = "host:1:00000001:1", "host:2:00000002:1"
LONG = "x" * 2_000_000
TOLD = "x" * 960 + "… (2000000 bytes)"

REQUESTS: dict[str, Callable[[Scripts, Inbox], Reply]] = {
    "acquire": lambda lock, _: lock.acquire(MINE),
    "acquire, queueing": lambda lock, inbox: lock.acquire(MINE, inbox.channel),
    "pass_on": lambda lock, inbox: lock.pass_on(MINE, OTHER, inbox.channel),
    "force_release": lambda lock, _: lock.force_release(MINE),
    "inspect": lambda lock, _: lock.inspect(),
    "vote": lambda lock, _: lock.run(scripts.VOTE, f"{MINE}.1", TTL, 2**51, "", QUEUE_TTL, 0),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_holder_of_megabytes_is_told_by_its_beginning(
    lock: Scripts, inbox: Inbox, name: str
) -> None:
    """And by its length, in every answer that names it."""
    lock.command("SET", lock.marker, "0")
    if name == "pass_on":
        # Passed on before to somebody who queues again: the answer names who has it.
        lock.acquire(OTHER + "0", inbox.channel)
        lock.command("ZADD", lock.queue, 1, record(inbox.channel, OTHER))
    lock.command("SET", lock.key, LONG, "PX", TTL)
    reply = REQUESTS[name](lock, inbox)
    if name == "pass_on":
        assert len(str(reply)) < 2_000
    else:
        assert TOLD in reply


def test_a_holder_that_is_no_longer_than_is_told_is_told_whole(lock: Scripts) -> None:
    """So a token can be compared, and given to whoever takes the lock from it."""
    lock.command("SET", lock.key, "x" * 1_000, "PX", TTL)
    assert "x" * 1_000 in lock.acquire(MINE)
    assert lock.force_release("x" * 1_000)[0] == "DONE"


def test_of_records_of_megabytes_the_tokens_are_told(lock: Scripts, inbox: Inbox) -> None:
    """Also of those that are none of ours; the others are told as they are."""
    lock.command("ZADD", lock.queue, 1, record(inbox.channel, OTHER), 2, LONG, 3, f"{LONG} it")
    (_, _, _, _, records) = lock.inspect()
    assert records == [record(inbox.channel, OTHER), "x" * 960 + "…", "it"]
