"""In which order calls go again."""

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import NoPermissionError, NoScriptError, ResponseError

from aiodistlock.connection.backlog import Backlog
from aiodistlock.connection.resending import Resender
from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol import scripts
from aiodistlock.protocol.batch import Batch
from aiodistlock.protocol.operations import read_renew
from aiodistlock.protocol.redis_call import RedisCall
from aiodistlock.protocol.scripts import bulks

Call = RedisCall[Any]


@pytest.fixture
def call() -> Callable[[], Call]:
    """Builds a call that was sent."""

    def make() -> Call:
        keys = LockKeys("wallet", "lock:")
        made: Call = RedisCall(scripts.RENEW, keys, bulks(b"t", 1), read_renew)
        made.sent_at = made.issued_at = 1000.0
        made.tag = 1
        return made

    return make


def test_what_was_on_a_lost_wire_goes_before_what_is_unsent(call: Callable[[], Call]) -> None:
    """In the order in which it was asked, first what was answered and is not acknowledged."""
    held, first, *together, last, unsent = (call() for _ in range(6))
    unwanted = call()
    unwanted.obsolete = True
    backlog = Backlog()
    backlog.held = [(held, None)]
    backlog.sent = deque([first, unwanted, Batch(together, sourced=False), last])
    backlog.unsent = [unsent]
    backlog.take_back()
    assert backlog.unsent == [held, first, *together, last, unsent]
    assert not backlog.held
    assert not backlog.sent


@pytest.mark.parametrize(
    "error", [NoScriptError("NOSCRIPT none"), NoPermissionError("NOPERM a key")], ids=str
)
def test_what_was_asked_behind_a_refused_batch_goes_again_behind_it(
    call: Callable[[], Call], error: ResponseError
) -> None:
    """An abandon must not come before what it undoes, nor a release before a renewal."""
    resender = Resender()
    resender._backlog = backlog = Backlog()
    first, unwanted, second, on_the_wire, unsent = (call() for _ in range(5))
    unwanted.obsolete = True
    refused = Batch([first, unwanted, second], sourced=False)
    backlog.sent = deque([refused, on_the_wire])
    backlog.unsent = [unsent]
    resender._refused_together(refused, error)
    assert backlog.unsent == [first, second, on_the_wire, unsent]
