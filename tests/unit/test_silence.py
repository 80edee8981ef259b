"""When a connection without an answer is broken."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from aiodistlock.connection.backlog import Backlog
from aiodistlock.connection.silence import ANSWER_WITHIN, SILENT_FOR, Silence
from aiodistlock.connection.wire import Wire
from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol.operations import read_renew
from aiodistlock.protocol.redis_call import RedisCall
from aiodistlock.protocol.scripts import RENEW


def silence_of(
    *, sent_at: float, heard_at: float, replaceable: bool = False
) -> tuple[Silence, RedisCall[Any], list[Exception]]:
    """Make one that sees a call on a connection, at 10.0; and what has that given up."""
    backlog = Backlog()
    silence = Silence(backlog, lambda: 10.0, unavailable_after=30.0, replaceable=replaceable)
    aborted: list[Exception] = []
    silence.wire = cast(Wire, SimpleNamespace(heard_at=heard_at, abort=aborted.append))
    call: RedisCall[Any] = RedisCall(RENEW, LockKeys("wallet", "lock:"), b"", read_renew)
    call.issued_at = call.sent_at = sent_at
    backlog.sent.append(call)
    return silence, call, aborted


@pytest.mark.parametrize(
    ("issued_at", "sent_at", "heard_at", "broken"),
    [
        (9.0, 9.0, 8.0, True),
        (9.0, 9.0, 9.5, False),  # slow, not gone
        (9.0, 9.4, 8.0, True),
        (9.0, 9.9, 8.0, False),  # it was elsewhere for most of that time
    ],
)
async def test_who_had_time_to_answer_is_suspected(
    issued_at: float, sent_at: float, heard_at: float, *, broken: bool
) -> None:
    """Of a call that was only just sent on to it, a connection is not to blame."""
    silence, call, aborted = silence_of(sent_at=sent_at, heard_at=heard_at)
    call.issued_at = issued_at
    silence.suspect(call)
    assert len(aborted) == int(broken)


@pytest.mark.parametrize(
    ("sent_at", "heard_at", "replaceable", "broken"),
    [
        (10.0 - ANSWER_WITHIN - 0.1, 9.9, False, True),  # though others are answered
        (10.0 - ANSWER_WITHIN + 0.1, 0.0, False, False),
        (10.0 - SILENT_FOR - 0.1, 0.0, True, True),
        (10.0 - SILENT_FOR - 0.1, 9.9, True, False),  # slow, not frozen
        (10.0 - SILENT_FOR + 0.1, 0.0, True, False),
    ],
)
async def test_a_connection_that_owes_an_answer_for_long_is_given_up(
    sent_at: float, heard_at: float, *, replaceable: bool, broken: bool
) -> None:
    """Behind sentinels, where another server may be had, sooner, but only if it is silent."""
    silence, _, aborted = silence_of(sent_at=sent_at, heard_at=heard_at, replaceable=replaceable)
    silence.look()
    assert len(aborted) == int(broken)
