"""When a connection without an answer is broken."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from aiodistlock.connection.backlog import Backlog
from aiodistlock.connection.silence import Silence
from aiodistlock.connection.wire import Wire
from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol.operations import read_renew
from aiodistlock.protocol.redis_call import RedisCall
from aiodistlock.protocol.scripts import RENEW


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
    silence = Silence(Backlog(), lambda: 10.0, unavailable_after=30.0, replaceable=False)
    aborted: list[Exception] = []
    silence.wire = cast(Wire, SimpleNamespace(heard_at=heard_at, abort=aborted.append))
    call: RedisCall[Any] = RedisCall(RENEW, LockKeys("wallet", "lock:"), b"", read_renew)
    call.issued_at, call.sent_at = issued_at, sent_at
    silence.suspect(call)
    assert len(aborted) == int(broken)
