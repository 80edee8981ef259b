"""What is granted to a process in which nobody wants it any more.

Its waiter has left, and that was lost with a primary, so the queue has it still. The process hears
of the grant, and gives it back at once: else nobody has the lock until the grant is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.simulation.known import Name
from tests.simulation.process import Process

if TYPE_CHECKING:
    from tests.simulation.judge import Judge
    from tests.simulation.redis.server import RedisServer
    from tests.simulation.redis.session import Session

TAKES = 0.3
"""Seconds within which whoever hears of a grant has claimed it, or given it back."""


@dataclass(frozen=True)
class Heard:
    """A grant, or a hint, that was published, and who hears it."""

    value: bytes
    heard_by: Session
    inbox: bytes
    server: RedisServer
    at: float
    struck: int

    def is_judged(self, struck: int) -> bool:
        """Tell whether whoever heard it is there, and nothing has gone wrong since."""
        assert isinstance(self.heard_by.owner, Process)
        listens = self.heard_by in self.server.subscribers.get(self.inbox, ())
        # A machine that is gone is subscribed for as long as the server knows nothing of that.
        return listens and not self.heard_by.owner.dead and struck == self.struck


class Unclaimed:
    """Notes it when a grant that was heard is neither claimed nor given back (``idle``)."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._granted: dict[Name, Heard] = {}

    def granted(self, name: Name, value: bytes, inbox: bytes, server: RedisServer) -> None:
        """Take in that a grant was published."""
        judge = self._judge
        for session in server.subscribers.get(inbox, ()):
            self._granted[name] = Heard(value, session, inbox, server, judge.now, judge.struck())

    def changed(self, name: Name, value: bytes | None, was: bytes | None) -> None:
        """Take in that a request has changed a key: its value, or only its end."""
        granted = self._granted.get(name)
        if granted is not None and (value != granted.value or value == was):
            del self._granted[name]

    def look(self) -> None:
        """See whether any has stayed for too long."""
        judge = self._judge
        for name, each in list(self._granted.items()):
            if not each.is_judged(judge.struck()) or name.grants[-1].used:
                del self._granted[name]
            elif judge.now - each.at > TAKES:
                del self._granted[name]
                judge.note("idle", f"{each.value!r} was heard, and neither claimed nor given back")
