"""Runs the scripts of a semaphore as the engine does, and looks at what they leave."""

import itertools
from typing import Any, Final

import redis
from redis.exceptions import NoScriptError, ResponseError

from aiodistlock.core.keys import LockKeys
from aiodistlock.core.permits import read_lease
from aiodistlock.protocol import scripts
from tests.redis.driver import GRANT_TTL, QUEUE_TTL, SECRET, TTL, Reply, text

CLIENT: Final = "host:1:00000000:"

_CODES: Final = {1: "GRANTED", 2: "QUEUED", 3: "HELD", 4: "DONE", 5: "GONE"}


class Permits:
    """The scripts of a semaphore, on the keys of one name; tokens are told by their counts."""

    def __init__(self, client: redis.Redis, key: str) -> None:
        self.keys = LockKeys(key, namespace="")
        self.key, self.queue = self.keys.key.decode(), self.keys.queue.decode()
        self.fence, self.void = f"aiodistlock:fence:{key}", f"{key}:void"
        self._execute: Any = client.execute_command
        self._tags = itertools.count(1)

    def acquire(
        self, wants: str, inbox: str = "", *, limit: int = 2, ttl: int = TTL
    ) -> tuple[str, dict[int, tuple[int, ...]], Reply]:
        """Acquire, as '7*1 8?2'; return the code, the slots by count, and what is behind."""
        address = f"{inbox} {SECRET}" if inbox else ""
        args = (CLIENT, wants, limit, ttl, address, GRANT_TTL, QUEUE_TTL)
        code, _, told, *rest = self.run(scripts.ACQUIRE_PERMITS, *args)
        slots = {}
        for each in told:
            read = read_lease(each.encode())
            assert read is not None
            slots[int(read[0])] = read[2]
        return code, slots, tuple(rest)

    def release(self, count: int, highest: int = 0) -> Reply:
        """Release what a token has."""
        return self.run(scripts.RELEASE_PERMITS, self.lease(count), highest)

    def release_alone(self, count: int, highest: int = 0) -> Reply:
        """Release by a request for the key alone."""
        companions = (self.queue, self.void, self.fence)
        return self.run(scripts.RELEASE_PERMITS_ALONE, *companions, self.lease(count), highest)

    def renew_alone(self, count: int, ttl: int = TTL) -> Reply:
        """Renew by a request for the key alone."""
        args = (self.queue, self.void, self.lease(count), ttl)
        return self.run(scripts.RENEW_PERMITS_ALONE, *args)

    def renew(self, count: int, ttl: int = TTL) -> Reply:
        """Renew what a token has."""
        return self.run(scripts.RENEW_PERMITS, self.lease(count), ttl)

    def abandon(self, wants: str, inbox: str, *, limit: int = 2) -> Reply:
        """Abandon what was wanted."""
        args = (CLIENT, wants, limit, f"{inbox} {SECRET}", GRANT_TTL)
        return self.run(scripts.ABANDON_PERMITS, *args)

    def inspect(self) -> Reply:
        """Tell who holds and who waits."""
        return self.run(scripts.INSPECT_PERMITS, self.void)

    def run(self, script: scripts.Script, *args: Any, void: int = 0, number: int = 0) -> Reply:
        """Run a script, and check that it answers with the tag."""
        number = number or next(self._tags)
        tag = f"{number} {void}" if void else number
        keys = [self.key, self.queue, self.void, self.fence][: script.keys]
        rest = (script.keys, *keys, *args, tag)
        try:
            reply = self._execute("EVALSHA", script.sha, *rest)
        except NoScriptError:
            reply = self._execute("EVAL", script.source, *rest)
        if isinstance(reply, ResponseError):
            raise reply
        code, echoed, *values = reply
        assert echoed == number
        return (_CODES[code], *text(values))

    def lease(self, count: int) -> str:
        """Return what stands for the lease of a token."""
        for member in self.command("ZRANGE", self.key, 0, -1):
            if str(member).startswith(f"{CLIENT}{count} "):
                return str(member)
        return f"{CLIENT}{count} 1 0"

    @property
    def held(self) -> dict[int, tuple[int, ...]]:
        """The slots of each lease at the key, by count."""
        found = {}
        for member in self.command("ZRANGE", self.key, 0, -1):
            token, _, slots = str(member).split(" ")
            found[int(token.rpartition(":")[2])] = tuple(map(int, slots.split(",")))
        return found

    @property
    def waiters(self) -> list[int]:
        """The counts of those in the queue, in order."""
        records = self.command("ZRANGE", self.queue, 0, -1)
        return [int(str(each).split(" ")[3].rpartition(":")[2]) for each in records]

    def expire(self, count: int) -> None:
        """End a lease as its time would."""
        self.command("ZADD", self.key, 1, self.lease(count))

    def command(self, *args: str | int) -> Any:
        """Run any command."""
        return text(self._execute(*args))

    def remove(self) -> None:
        """Delete all that belongs to the name."""
        self.command("DEL", self.key, self.queue, self.fence, self.void)
