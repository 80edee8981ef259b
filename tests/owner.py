"""Whom a deployment may tell, when nobody waits or holds."""

from collections.abc import Callable, Sequence
from random import Random

from aiodistlock.core.clock import Clock, ServerClock, local_clock
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import ClientOptions
from aiodistlock.protocol.grant_message import Grant, OtherWire, Recall


class IdleOwner:
    """
    An ``Owner`` (``protocol/owner.py``) that remembers what it is told.

    :param busy: whether connections are wanted though nothing waits to be sent
    """

    def __init__(
        self,
        options: ClientOptions | None = None,
        clock: Clock = local_clock,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self.options = options or ClientOptions()
        self.clock = clock
        self.rng = Random(1)
        self.busy = busy
        self.grants: list[Grant] = []
        self.moved: list[Callable[[LockKeys], bool]] = []

    def on_grant(self, grant: Grant, _server_clock: ServerClock) -> None:
        """Remember it."""
        self.grants.append(grant)

    on_unacknowledged_grant = on_grant

    def on_hint(self, hint: Grant) -> None:
        """Remember it; nothing was asked for."""
        self.grants.append(hint)

    def on_connected(self) -> None:
        """Have nothing to check."""

    def on_recall(self, recall: Recall) -> None:
        """Have nothing that lingers."""

    def on_announced(self, channel: bytes) -> None:
        """Observe nobody."""

    def on_other_wire(self, other: OtherWire) -> None:
        """Do nothing."""

    def on_listening(self) -> None:
        """Have nobody to ask again."""

    def on_moved(self, moved: Callable[[LockKeys], bool]) -> None:
        """Remember it."""
        self.moved.append(moved)

    def waited_for(self) -> Sequence[LockKeys]:
        """Wait for nothing."""
        return ()
