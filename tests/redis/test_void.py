"""What a later connection has declared void touches nothing, whichever script it is for."""

from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ResponseError

from aiodistlock.protocol import scripts
from tests.redis.driver import GRANT_TTL, QUEUE_TTL, TTL, Inbox, Scripts

MINE, OTHER = "host:1:00000001:1", "host:2:00000002:1"
READER = "host:1:00000000:1r"
VOTE = f"{MINE}.1"

Requests = dict[str, tuple[scripts.Script, tuple[str | int, ...]]]


def requests(inbox: str, fence: str, queue: str, void: str) -> Requests:
    """Return a request of each script that has an effect while we hold and another waits."""
    alone = (queue, void)
    return {
        "acquire": (scripts.ACQUIRE, (MINE, 1_000, inbox, GRANT_TTL, QUEUE_TTL)),
        "release": (scripts.RELEASE, (MINE, 0)),
        "release_alone": (scripts.RELEASE_ALONE, (*alone, fence, MINE, 0)),
        "renew": (scripts.RENEW, (MINE, 1_000)),
        "renew_alone": (scripts.RENEW_ALONE, (*alone, MINE, 1_000)),
        "pass_on": (
            scripts.PASS_ON,
            (MINE, f"{MINE}1", TTL, 0, inbox, GRANT_TTL, QUEUE_TTL),
        ),
        "abandon": (scripts.ABANDON, (MINE, inbox, GRANT_TTL)),
        "inspect": (scripts.INSPECT, (void,)),
        "force_release": (scripts.FORCE_RELEASE, (MINE, "")),
        "claim": (scripts.CLAIM, (MINE, "wanted", 1_000)),
        "move_end": (scripts.MOVE_END, (MINE, 0, 1_000)),
        "look": (scripts.LOOK, ()),
        "mark": (scripts.MARK, (MINE, 7, "done", 1_000, 0)),
        "proclaim": (scripts.PROCLAIM, (MINE, "text", 1_000)),
        "leader": (scripts.LEADER, ()),
        "read": (scripts.READ, (READER, 1_000, inbox, GRANT_TTL, QUEUE_TTL)),
        "write": (scripts.WRITE, (MINE, 1_000, inbox, GRANT_TTL, QUEUE_TTL)),
        "upgrade": (scripts.UPGRADE, (MINE, "wanted", 1_000, "", 0, QUEUE_TTL)),
        "downgrade": (scripts.DOWNGRADE, (MINE, READER, 1_000, 0, "", 0)),
        "vote": (scripts.VOTE, (MINE, 1_000, 1, inbox, QUEUE_TTL, 0)),
        "unvote": (scripts.UNVOTE, (MINE, 0, "")),
        "keep": (scripts.KEEP, (MINE, 1_000, 2**52, 0)),
        "raise": (scripts.RAISE, (2**52,)),
        "trust": (scripts.TRUST, ("7",)),
    }


NAMES = list(requests("", "", "", ""))
FREE = {
    "acquire": (scripts.ACQUIRE, (MINE, TTL, "", 0, QUEUE_TTL)),
    "vote": (scripts.VOTE, (VOTE, TTL, 2**51, "", QUEUE_TTL, 0)),
}
"""Requests that take a free lock: the usual case."""
HELD = {
    "release": (scripts.RELEASE, (MINE, 0)),
    "unvote": (scripts.UNVOTE, (MINE, 0, "")),
}
"""Requests that give up a lock for which nobody waits: the usual case."""


def seen(lock: Scripts) -> list[Any]:
    """Return all that Redis has of the name, times to the second."""
    keys = (lock.key, lock.fence, lock.marker)
    values = [lock.command("GET", key) for key in keys]
    queue = lock.command("ZRANGE", lock.queue, 0, -1, "WITHSCORES")
    return [*values, queue, *(round(lock.remaining(key), -4) for key in (*keys, lock.queue))]


def contended(lock: Scripts, inbox: Inbox) -> Requests:
    """Hold the lock, let another wait for it, and return the requests."""
    lock.acquire(MINE)
    lock.acquire(OTHER, inbox.channel)
    lock.command("SET", lock.marker, "7")
    return requests(inbox.channel, lock.fence, lock.queue, lock.void)


def refused(lock: Scripts, script: scripts.Script, *args: str | int, number: int) -> None:
    """Check that a request is refused as void, and touches nothing."""
    before = seen(lock)
    with pytest.raises(ResponseError, match=r"STALE|void"):
        lock.run(script, *args, number=number)
    assert seen(lock) == before


@pytest.mark.parametrize("name", NAMES)
def test_what_is_void_touches_nothing(lock: Scripts, inbox: Inbox, name: str) -> None:
    """A request at or below the number that is noted is an error, and has no effect."""
    script, args = contended(lock, inbox)[name]
    lock.command("SET", lock.void, 1_000)
    for number in (1_000, 999):
        refused(lock, script, *args, number=number)
    assert inbox.messages() == []
    assert lock.run(script, *args, number=1_001)[0] != "STALE"


@pytest.mark.parametrize("name", [*FREE, *HELD])
def test_what_is_void_touches_nothing_in_the_usual_case(lock: Scripts, name: str) -> None:
    """Nor where nobody else contends, which the scripts decide before all else."""
    lock.command("SET", lock.marker, "0")
    if name in HELD:
        lock.acquire(MINE)
    script, args = (FREE | HELD)[name]
    lock.command("SET", lock.void, 1_000)
    for number in (1_000, 999):
        refused(lock, script, *args, number=number)
    expected = "DONE" if name in HELD else "GRANTED"
    assert lock.run(script, *args, number=1_001)[0] == expected


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("alone")])
def test_what_a_request_declares_void_is_noted_before_it_runs(
    lock: Scripts, inbox: Inbox, name: str
) -> None:
    """From its very run on, for an hour; what it says itself is done as ever."""
    script, args = contended(lock, inbox)[name]
    lock.run(script, *args, number=1_001, void=1_000)
    assert lock.command("GET", lock.void) == "1000"
    assert 3_590_000 < lock.remaining(lock.void) <= 3_600_000
    refused(lock, script, *args, number=1_000)


@pytest.mark.parametrize("name", [*FREE, *HELD])
def test_the_usual_case_notes_what_it_declares_void(lock: Scripts, name: str) -> None:
    """A request that declares something is never done without that."""
    lock.command("SET", lock.marker, "0")
    if name in HELD:
        lock.acquire(MINE)
    script, args = (FREE | HELD)[name]
    expected = "DONE" if name in HELD else "GRANTED"
    assert lock.run(script, *args, number=1_001, void=1_000)[0] == expected
    assert lock.command("GET", lock.void) == "1000"


@pytest.mark.parametrize("command", ["SET 9999999999999", "SET inf", "SET words", "RPUSH 1"])
@pytest.mark.parametrize("name", [*FREE, *HELD])
def test_what_somebody_else_wrote_makes_nothing_void(
    lock: Scripts, name: str, command: str
) -> None:
    """No number of this client's, or none at all: requests run, and note what they declare."""
    lock.command("SET", lock.marker, "0")
    script, args = (FREE | HELD)[name]
    expected = "DONE" if name in HELD else "GRANTED"
    verb, value = command.split()
    for void in (0, 1_000):
        lock.command("DEL", lock.key, lock.void)
        if name in HELD:
            lock.acquire(MINE)
        lock.command(verb, lock.void, value)
        assert lock.run(script, *args, number=1_001, void=void)[0] == expected
    assert lock.command("GET", lock.void) == "1000"


def test_a_late_declaration_lowers_nothing(lock: Scripts) -> None:
    """One that is void itself, or that knows less, leaves what is noted."""
    lock.run(scripts.INSPECT, lock.void, number=2_001, void=2_000)
    with pytest.raises(ResponseError, match=r"STALE|void"):
        lock.run(scripts.INSPECT, lock.void, number=1_001, void=1_000)
    lock.run(scripts.INSPECT, lock.void, number=2_002, void=1_000)
    assert lock.command("GET", lock.void) == "2000"


def test_nothing_is_noted_where_nothing_is_void(lock: Scripts, inbox: Inbox) -> None:
    """The fourth key is made by a declaration only."""
    for script, args in contended(lock, inbox).values():
        lock.run(script, *args)
    assert lock.command("EXISTS", lock.void) == 0


@pytest.mark.parametrize("name", list(HELD))
def test_without_memory_what_is_void_is_noted_all_the_same(
    private: Scripts, out_of_memory: Callable[[], None], name: str
) -> None:
    """Who gives a lock up is not refused for what it declares besides."""
    private.acquire(MINE)
    script, args = HELD[name]
    out_of_memory()
    assert private.run(script, *args, number=1_001, void=1_000)[0] == "DONE"
    assert private.command("GET", private.void) == "1000"
    assert private.holder is None


def test_a_release_by_a_token_that_comes_again_gives_up_no_later_lease(lock: Scripts) -> None:
    """Users choose tokens, and may choose the same one twice."""
    lock.acquire("theirs")
    script, args = scripts.RELEASE, ("theirs", 0)
    assert lock.run(script, *args, number=11, void=10) == ("DONE", 0)
    lock.run(scripts.ACQUIRE, "theirs", TTL, "", 0, QUEUE_TTL, number=12)
    refused(lock, script, *args, number=10)
    assert lock.holder == "theirs"


def test_a_refusal_names_the_number_that_is_noted(lock: Scripts) -> None:
    """Whom no later connection follows can go on above it."""
    lock.command("SET", lock.void, 1_000)
    with pytest.raises(ResponseError, match=r"\b1000\b"):
        lock.run(scripts.RENEW, MINE, TTL, number=999)
