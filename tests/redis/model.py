"""The lock on one name as the scripts' headers describe it, without Redis or time."""

from dataclasses import dataclass, field

Reply = tuple[object, ...]
"""A code, and what of the reply does not depend on the clock."""


@dataclass
class Model:
    """Who holds the lock, who waits, and who was told.

    A token is "<process><number>"; a process that listens is in ``listening``.
    """

    listening: set[str] = field(default_factory=set)
    holder: str | None = None
    queue: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    """Tokens to which a grant was sent, in order."""

    def _grant_next(self, me: str | None = None) -> str | None:
        while self.queue:
            token = self.queue.pop(0)
            if token == me or token[0] in self.listening:
                self.holder = token
                if token != me:
                    self.told.append(token)
                return token
        return None

    def _give_up(self) -> int:
        if self._grant_next():
            return 1
        self.holder = None
        return 0

    def _join(self, token: str) -> int:
        if token not in self.queue:
            self.queue.append(token)
        return self.queue.index(token)

    def _not_ours(self) -> Reply:
        return ("GONE",) if self.holder is None else ("OTHER",)

    def _granted(self) -> Reply:
        return ("GRANTED_BEFORE_OTHERS" if self.queue else "GRANTED",)

    def acquire(self, token: str, *, waits: bool) -> Reply:
        """Take the lock, wait for it, or be told who holds it."""
        if self.holder == token:
            return self._granted()
        if self.holder is None:
            if waits:
                self._join(token)
            if not self._grant_next(token):
                self.holder = token
            if self.holder == token:
                return self._granted()
        if not waits:
            return ("HELD", self.holder)
        return ("QUEUED", self.holder, self._join(token))

    def release(self, token: str) -> Reply:
        """Give the lock up."""
        return ("DONE", self._give_up()) if self.holder == token else self._not_ours()

    def renew(self, token: str) -> Reply:
        """Renew, and count the waiters."""
        return ("DONE", len(self.queue)) if self.holder == token else self._not_ours()

    def pass_on(self, token: str, next_token: str) -> Reply:
        """Let the next one have it and queue, or keep it."""
        if self.holder == next_token:
            return ("GRANTED",)
        if self.holder == token:
            if not self._grant_next():
                return ("DONE",)
        elif next_token not in self.queue:
            return self._not_ours()
        elif self.holder is None and self._grant_next(next_token) == next_token:
            return ("GRANTED",)
        return ("QUEUED", self.holder, self._join(next_token))

    def abandon(self, token: str) -> Reply:
        """Leave the queue, or give the lock up."""
        if token in self.queue:
            self.queue.remove(token)
        if self.holder != token:
            return ("DONE", 0)
        self._give_up()
        return ("DONE", 1)
