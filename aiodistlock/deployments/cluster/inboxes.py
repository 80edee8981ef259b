"""Where a client of a cluster hears its grants: one sharded channel per hash slot.

Not one per name: names may hold what a channel in a waiter's record must not (spaces),
and there may be millions of them.  A slot's channel is its own hash tag's, so grants
of all names in the slot arrive there.  A slot is listened to once somebody had to wait
in it: each subscription takes memory at the server, and most names never see a wait.

Or once somebody observes a leader in it, who is announced on a channel of the name's own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from aiodistlock.core.clock import ServerClock
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.slots import tag_of
from aiodistlock.protocol.owner import Owner, deliver

MAX_SLOTS = 512
"""Most slots to listen to, or twice those in which somebody waits if that is more."""

_tag_of = lru_cache(maxsize=2 * MAX_SLOTS)(tag_of)


class ShardInboxes:
    """
    The slots whose grants a client wants to hear.

    :param prefix: opens every channel's name
    :param secret: by which grants are told from what anybody else publishes there
    :param waited_for: returns the slots in which somebody waits now
    :param on_added: told of each slot that is listened to
    :param on_widened: told of each slot in which another channel is to be heard
    :param on_dropped: told of each slot that is listened to no longer
    :ivar sharded: whether the servers have sharded channels, and let us use them
    :ivar forbidden: whether they refused
    """

    __slots__ = (
        "_announcing",
        "_most",
        "_on_added",
        "_on_dropped",
        "_on_widened",
        "_prefix",
        "_secret",
        "_slots",
        "_waited_for",
        "forbidden",
        "sharded",
    )

    def __init__(
        self,
        prefix: bytes,
        secret: bytes,
        *,
        waited_for: Callable[[], set[int]],
        on_added: Callable[[int], object],
        on_widened: Callable[[int], object],
        on_dropped: Callable[[int], object],
    ) -> None:
        self._prefix = prefix
        self._secret = secret
        self._waited_for = waited_for
        self._on_added = on_added
        self._on_widened = on_widened
        self._on_dropped = on_dropped
        self._slots: set[int] = set()
        self._announcing: dict[int, dict[bytes, bool]] = {}
        """Of slots, the channels on which leaders are announced, and whether we may hear them."""
        self._most = MAX_SLOTS
        self.sharded = False
        self.forbidden = False

    def channel(self, slot: int) -> bytes:
        """Return the channel on which a slot's grants are published to this client."""
        return b"%b:{%b}" % (self._prefix, _tag_of(slot))

    def channels(self, slot: int) -> list[bytes]:
        """Return that and the channels on which leaders are announced in the slot."""
        announcing = self._announcing.get(slot, {})
        return [self.channel(slot), *(each for each, allowed in announcing.items() if allowed)]

    def hear_leaders(self, keys: LockKeys) -> bool:
        """Hear announcements from the slot's next request on; ``False`` where that cannot be."""
        if not self.listen(keys):
            return False
        announcing = self._announcing.setdefault(keys.slot, {})
        if keys.proclamation not in announcing:
            announcing[keys.proclamation] = True
            self._on_widened(keys.slot)
        return announcing[keys.proclamation]

    def refused(self, slot: int, channel: bytes) -> bool:
        """Hear announcements on a channel no more; ``False`` if it is no such channel."""
        announcing = self._announcing.get(slot, {})
        if channel in announcing:
            announcing[channel] = False
        return channel in announcing

    def wants(self, slot: int) -> bool:
        """Tell whether a slot's grants are to be heard."""
        return slot in self._slots

    def deliver(self, message: bytes, owner: Owner, server_clock: ServerClock) -> None:
        """Tell what a message in one of the channels says."""
        deliver(message, self._secret, owner, owner.on_grant, server_clock)

    def address_of(self, keys: LockKeys) -> bytes:
        """Return where grants for these keys are heard."""
        return b"%b %b" % (self.channel(keys.slot), self._secret)

    def address_to_queue(self, keys: LockKeys) -> bytes:
        """Return that, and listen there: who passes on may never have waited."""
        self.listen(keys)
        return self.address_of(keys)

    def open_address(self, keys: LockKeys) -> bytes:
        """Return that if it is listened to, else ``b""``."""
        return self.address_of(keys) if keys.slot in self._slots else b""

    def listen(self, keys: LockKeys) -> bool:
        """Listen to a slot from its next request on; ``False`` where that cannot be."""
        slot = keys.slot
        if self.sharded and slot not in self._slots:
            if len(self._slots) >= self._most:
                self._drop_idle()
            self._slots.add(slot)
            self._on_added(slot)
        return self.sharded

    def _drop_idle(self) -> None:
        """Listen no longer where nobody waits; all at once, so that it is rare."""
        idle = self._slots - self._waited_for()
        self._slots -= idle
        # Where all are waited for, it has to be rare, too.
        self._most = max(MAX_SLOTS, 2 * len(self._slots))
        for slot in idle:
            self._on_dropped(slot)
            self._announcing.pop(slot, None)

    def forbid(self) -> None:
        """Listen no more: waiters poll from now on."""
        self.forbidden = True
        self.sharded = False
        self._slots.clear()
