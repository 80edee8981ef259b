"""A reader becomes the writer, and the writer a reader, without letting anybody else write between.

Rules
-----
1. Who may want to write reads by ``upgradeable()``, one at a time.  To be the writer it waits in
   front of the queue until the other readers have left; meanwhile it reads, and nobody comes in.
2. Cancelled or out of time, it reads on: that is asked for behind the request that it undoes, and
   undoes a grant as well.
3. A writer that reads from now on is asked for once; what is said of the lease is of a reader's
   from then on, in the order in which it is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

from aiodistlock.core.options import LockOptions
from aiodistlock.errors import LeaseLost
from aiodistlock.leases.process_lease import Holder, ProcessLease
from aiodistlock.leases.shared_lease import Share, SharedLease
from aiodistlock.protocol.answers import (
    Downgraded,
    DowngradeReply,
    NotOurs,
    UpgradeReply,
)
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.operations import OTHER
from aiodistlock.protocol.readers import ReadersStore
from aiodistlock.protocol.wake import settle
from aiodistlock.waiting.attempt import Attempt
from aiodistlock.waiting.client_state import ClientState
from aiodistlock.waiting.pauses import pause_refused
from aiodistlock.waiting.reading import (
    UPGRADEABLE,
    LetteredAttempt,
    ReadContender,
    UpgradeableContender,
)
from aiodistlock.waiting.writing import WriteContender


class UpgradeAttempt(LetteredAttempt):
    """One acquisition at Redis for a reader that wants to write."""

    __slots__ = ()

    letter = b"x"

    def ask(self) -> None:
        """Send the request, or send it again."""
        self.moved = False
        self.cancel_timer()
        reader = cast("Upgrade", self.contender).reader.token
        self.call = self.store.upgrade(
            self.keys, reader, self.token, self.options.ttl_ms, self.queue_ms, self._answered
        )

    def _answered(self, reply: UpgradeReply) -> None:
        if not isinstance(reply, NotOurs):
            self.answered(reply)
        elif not self.over:
            cast("Upgrade", self.contender).refused(reply.reason)


class Upgraded:
    """What a reader gets that has become the writer: its own lease is another by now."""

    def _lose(self, reason: str) -> None:
        """Do nothing: the lease is told."""

    def _give_back(self) -> None:
        """Keep it: the block that it has goes on."""


class Upgrade(WriteContender):
    """
    Contends for one lease, on behalf of one task that reads.

    :param share: by which it reads
    :param become: called with the writer's lease, as soon as it is granted; returns its holder
    """

    __slots__ = ("_become", "reader")

    attempt_type: ClassVar[type[Attempt]] = UpgradeAttempt

    def __init__(
        self,
        client: ClientState[Attempt],
        share: Share,
        become: Callable[[ProcessLease], Holder],
    ) -> None:
        super().__init__(client, share.keys)
        self.reader = share.shared
        self._become = become

    def _hand_to_first(self, lease: ProcessLease) -> None:
        """Make the reader the writer."""
        waiter = self.waiters.pop()
        assert waiter is not None, "who leaves ends the attempt"
        waiter.lease = lease
        lease.story = waiter.story
        lease.hand_to(self._become(lease))
        self._end_others()
        settle(waiter.future, Upgraded())
        if lease.story is not None:
            lease.story.acquired(lease.fence, handed_over=False)

    def _end_others(self) -> None:
        """
        End the lease of whoever else here might upgrade.

        There is one only where Redis lost its data, and its renewal would be taken for one of a
        reader that has not heard yet that it is this writer.
        """
        for (key, _), shares in list(self.client.reading.items()):
            for share in list(shares) if key == self.keys.key else ():
                if share.alive and share.token.endswith(UPGRADEABLE):
                    self.client.watchdog.refused(share.shared, OTHER.reason)

    def waits_for(self, share: Share) -> bool:
        """Tell whether a reader keeps us from writing: not the one that is to write."""
        return share.shared is not self.reader

    def refused(self, reason: str) -> None:
        """Take in that its reader reads no more."""
        if self.reader.alive:
            self.client.watchdog.refused(self.reader, reason)
        self.lost(reason)

    def lost(self, reason: str) -> None:
        """End the wait of a reader that has lost its lease."""
        for waiter in self.waiters:
            waiter.fail(LeaseLost(self.keys.name, reason, self.reader.fence))
        self.leave()

    def _ask_to_undo(self, attempt: Attempt) -> Call[Any]:
        """Have the reader read on; if it has lost its lease, undo all."""
        reader, options = self.reader, attempt.options
        if not reader.alive:
            return super()._ask_to_undo(attempt)
        store = cast("ReadersStore", self.client.store)
        grant_ttl_ms = options.grant_ttl_ms if attempt.queues else None
        return store.stay_reader(
            self.keys, attempt.token, reader.token, options.ttl_ms, grant_ttl_ms
        )


def downgrade(
    client: ClientState[Attempt], lease: ProcessLease, options: LockOptions, task: Any
) -> tuple[Share, Call[DowngradeReply]]:
    """
    Have the holder of a writer's lease read from now on; return by what, and the request for it.

    Readers that are first in the queue come in.
    """
    keys, writer = lease.keys, cast("WriteContender", lease.possessor)
    contender: ReadContender
    if isinstance(writer, Upgrade):
        contender = UpgradeableContender(client, keys)
    else:
        contender = ReadContender(client, keys)
    token = client.next_token() + cast("type[LetteredAttempt]", contender.attempt_type).letter
    version = lease.fence + lease.handoffs
    server_us, until = lease.server_us, lease.deadline
    shared = SharedLease(contender, keys, token, version, server_us, options, until)
    store = cast("ReadersStore", client.store)
    call = store.downgrade(keys, lease.token, token, options.ttl_ms, version)
    call.tell(_Downgrade(client, lease, shared).answered)
    writer.give_away(lease)
    contender.begin(shared)
    return contender.add_share(shared, options, task), call


class _Downgrade:
    """What becomes of the answers to one downgrade."""

    def __init__(
        self, client: ClientState[Attempt], lease: ProcessLease, shared: SharedLease
    ) -> None:
        self._client = client
        self._lease = lease
        self._shared = shared
        self._tries = 0

    def answered(self, reply: DowngradeReply) -> None:
        client, shared = self._client, self._shared
        if not shared.alive:
            return
        if isinstance(reply, Downgraded):
            client.watchdog.remove(shared)
            shared.confirm(max(shared.deadline, reply.sent_at + shared.options.relied_on))
            client.watchdog.add(shared)
        elif isinstance(reply, NotOurs):
            client.watchdog.refused(shared, reply.reason)
        elif reply.transient and not client.closed:
            pause = pause_refused(shared.options.backoff, self._tries, client.rng)
            self._tries += 1
            client.timers.call_later(pause, self._again)

    def _again(self) -> None:
        client, lease, shared = self._client, self._lease, self._shared
        if shared.alive and not client.closed:
            store = cast("ReadersStore", client.store)
            call = store.downgrade(
                lease.keys, lease.token, shared.token, shared.options.ttl_ms, shared.fence
            )
            call.tell(self.answered)
