"""Who queues behind a lease that may linger has it recalled, by its script."""

from collections.abc import Callable
from typing import Any

import pytest

from aiodistlock.protocol.grant_message import WIRE, Recall, read_recall
from tests.redis.driver import Inbox, Scripts

CLIENT = "host:17:0123abcd"
HOLDER = f"{CLIENT}:05"
"""A token whose lease may linger: its count begins with 0."""


@pytest.fixture
def heard(lock: Scripts) -> Callable[[], list[bytes]]:
    """What arrives in the holder's inbox."""
    client: Any = lock.client
    pubsub = client.pubsub()
    pubsub.subscribe(f"aiodistlock:inbox:{CLIENT}")

    def messages() -> list[bytes]:
        lock.client.publish(f"aiodistlock:inbox:{CLIENT}", "end")
        found: list[bytes] = []
        while True:
            message = pubsub.get_message(timeout=10)
            assert message is not None
            if message["type"] == "message" and message["data"] == b"end":
                return found
            if message["type"] == "message":
                found.append(message["data"])

    return messages


def test_each_time_that_somebody_asks_the_holder_is_told(
    lock: Scripts, inbox: Inbox, heard: Callable[[], list[bytes]]
) -> None:
    """Its token and the key; a recall that is lost is repeated by the next question."""
    lock.acquire(HOLDER)
    for _ in range(2):
        assert lock.acquire("b", inbox.channel)[0] == "QUEUED"
    found = heard()
    assert found == [f"recall {WIRE.decode()} {HOLDER} {lock.key}".encode()] * 2
    assert read_recall(found[0]) == Recall(HOLDER.encode(), lock.key.encode())


def test_who_does_not_wait_asks_nobody(lock: Scripts, heard: Callable[[], list[bytes]]) -> None:
    """HELD changes nothing."""
    lock.acquire(HOLDER)
    assert lock.acquire("b")[0] == "HELD"
    assert heard() == []


@pytest.mark.parametrize(
    "token",
    [
        f"{CLIENT}:5",  # one that does not linger
        f"{CLIENT}:05x",
        f"{CLIENT}x:05",
        "0",
        "host:17:0123abcd:05:1",
        "x" * 2_000 + f":{CLIENT}:05",
    ],
)
def test_holders_that_cannot_linger_are_not_told(
    lock: Scripts, inbox: Inbox, heard: Callable[[], list[bytes]], token: str
) -> None:
    """Tokens of leases that do not, of other libraries, of users' own."""
    lock.acquire(token)
    assert lock.acquire("b", inbox.channel)[0] == "QUEUED"
    assert heard() == []


def test_a_token_that_stands_there_alone_is_not_told(
    lock: Scripts, inbox: Inbox, heard: Callable[[], list[bytes]]
) -> None:
    """Whoever chose it (``compat``) hears no recalls."""
    lock.command("SET", lock.key, HOLDER, "PX", 10_000)
    assert lock.acquire("b", inbox.channel)[0] == "QUEUED"
    assert heard() == []


def test_a_forced_release_recalls_it(lock: Scripts, heard: Callable[[], list[bytes]]) -> None:
    """Whatever its process thinks to have, it does not use it again."""
    lock.acquire(HOLDER)
    assert lock.force_release(HOLDER)[0] == "DONE"
    assert heard() == [f"recall {WIRE.decode()} {HOLDER} {lock.key}".encode()]


def test_whoever_asks_again_is_told_that_others_wait(lock: Scripts, inbox: Inbox) -> None:
    """The code tells; fence and time are those of a grant."""
    code, fence, _ = lock.acquire(HOLDER)
    assert code == "GRANTED"
    lock.acquire("b", inbox.channel)
    assert lock.acquire(HOLDER)[:2] == ("GRANTED_BEFORE_OTHERS", fence)
