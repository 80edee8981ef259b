"""What one Redis is asked."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from aiodistlock.core.keys import LockKeys
from aiodistlock.deployments.single.store import SingleStore
from aiodistlock.protocol.operations import Operations

ADDRESS = b"inbox secret"


@pytest.mark.parametrize("heard", [True, False])
async def test_whoever_leaves_leaves_the_queue_though_it_hears_nothing_now(*, heard: bool) -> None:
    """It may have queued while it did; who queues only now must hear of its grant."""
    inboxes = SimpleNamespace(
        address_of=lambda _keys: ADDRESS, open_address=lambda _keys: ADDRESS if heard else b""
    )
    connection = SimpleNamespace(submit=lambda _call: None)
    store = SingleStore(cast(Any, connection), cast(Any, inboxes), Operations())
    keys = LockKeys("wallet", "lock:")
    assert ADDRESS in store.abandon(keys, b"token", 1000).args
    assert ADDRESS not in store.abandon(keys, b"token", None).args
    queues = store.acquire(keys, b"token", 1000, 1000, lambda _reply: None)
    assert (ADDRESS in queues.args) == heard
