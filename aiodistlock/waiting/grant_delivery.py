"""What becomes of a grant that arrives by message.

Rules
-----
1. It is for the attempt whose token it names, and only if it is of the key that attempt
   asked for: the lease of another lock would be nobody's.
2. It is relied on for no longer than was asked for, whatever it says, and only from when
   the server's clock shows that it began.  Where that cannot be told, or all is over by
   then, the attempt asks.
3. What nobody waits for any more goes back.
"""

from __future__ import annotations

import logging
from typing import cast

from aiodistlock.core.clock import ServerClock
from aiodistlock.core.escaping import quoted
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.validity import deadline, drift
from aiodistlock.protocol.answers import AcquireReply, Queued
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.grant_message import Grant
from aiodistlock.protocol.permits import PermitStore, Want
from aiodistlock.waiting.attempt import Attempt
from aiodistlock.waiting.client_state import ClientState

logger = logging.getLogger("aiodistlock")


class Delivery:
    """Brings a client's grants to those who wait for them."""

    def __init__(self, client: ClientState[Attempt]) -> None:
        self._client = client

    def on_grant(self, grant: Grant, server_clock: ServerClock) -> None:
        """
        Give the lease that a message grants to the attempt that waits for it.

        :param server_clock: of the server that granted it
        """
        if not grant.fence:
            self.on_permits(grant)
            return
        attempt = self.attempt_of(grant)
        if attempt is None:
            self._pass_over(grant)
            return
        now = self._client.clock()
        ttl = min(grant.ttl, attempt.options.grant_ttl_ms / 1000)
        # Since the last exchange the clocks may have drifted apart by a little.
        began = server_clock.began(grant.server_us, now, drift(ttl))
        if began is None or now >= deadline(began, ttl):
            # Once more where a request is under way: under RESP2 a grant overtakes its answer.
            attempt.on_moved()
            return
        attempt.contender.granted_by_message(attempt, grant, began, ttl)

    def on_unacknowledged_grant(self, grant: Grant, _server_clock: ServerClock) -> None:
        """
        Have the attempt ask for what it was granted, and so for the acknowledgement.

        Another client wrote the grant, and waited for nothing.
        """
        attempt = self.attempt_of(grant)
        if attempt is None:
            self._pass_over(grant)
            return
        attempt.contender.comes_from_another(local=False)
        call = attempt.call
        if call is None or call.on_reply is None:
            attempt.ask_again()
            return
        answered = call.on_reply

        def answered_behind_the_grant(reply: AcquireReply) -> None:
            answered(reply)
            if type(reply) is Queued:
                attempt.ask_again()  # at once: under RESP2 a grant overtakes replies

        call.on_reply = answered_behind_the_grant

    def on_hint(self, hint: Grant) -> Call[AcquireReply] | None:
        """Have the attempt whose lock became free ask at once; return what it asked before."""
        attempt = self.attempt_of(hint)
        if attempt is None:
            return None
        call = attempt.call
        attempt.ask_again()
        return call

    def on_permits(self, hint: Grant) -> None:
        """Have the attempt ask that holds permits by now; its answer tells which."""
        attempt = self.attempt_of(hint)
        if attempt is None:
            self._pass_over(hint)
            return
        attempt.contender.comes_from_another(local=False)
        attempt.on_moved()

    def attempt_of(self, grant: Grant) -> Attempt | None:
        """Return the attempt that a grant or a hint is for, ``None`` if there is none."""
        attempt = self._client.attempts.get(grant.token)
        if attempt is None or attempt.keys.key == grant.key:
            return attempt
        asked = attempt.keys.name
        logger.warning(
            "grant of %s refused: lock %s was asked for", quoted(grant.key), quoted(asked)
        )
        self._give_back(grant)
        attempt.ask_again()  # whoever wrote that may have taken it out of the queue
        return None

    def _pass_over(self, grant: Grant) -> None:
        """Give back what was granted to somebody who has left."""
        # Its abandon may be on its way already.  (If we hold that very token, a reply was
        # faster than the message.)
        if not self._client.holds(grant.key, grant.token):
            self._give_back(grant)

    def _give_back(self, grant: Grant) -> None:
        try:
            keys = LockKeys(grant.key.decode(), namespace="")
        except ValueError:
            logger.warning("grant of a key that cannot be a lock: %s", quoted(grant.key))
            return
        store = self._client.store
        if grant.fence or self._client.on_quorum:
            store.abandon(keys, grant.token, None)
        else:  # whatever was wanted by that token: it has left the queue
            want = Want(grant.token, permits=1, waits=False)
            cast("PermitStore", store).abandon_permits(keys, [want], limit=1, grant_ttl_ms=0)
