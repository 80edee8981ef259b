"""Runs the scripts on one name as the engine does, and looks at what they leave."""

import itertools
import uuid
from collections.abc import Callable
from typing import Any, Final, Literal, Self

import redis
from redis.exceptions import NoScriptError

from aiodistlock.core.keys import LockKeys
from aiodistlock.stores import scripts

TTL: Final = 30_000
GRANT_TTL: Final = 20_000  # longer than the client's: no stall of the machine may end a grant
QUEUE_TTL: Final = 25_000
RETENTION: Final = 86_400_000

GAP: Final = 1000  # prelude.lua

# What redis-py leaves of it differs, and Redis 6.2 wraps what a script's command answered.
OOM: Final = "command not allowed when used memory > 'maxmemory'"

Code = Literal["GRANTED", "QUEUED", "HELD", "DONE", "GONE", "OTHER", "UNTRUSTED"]
_CODES: Final[dict[int, Code]] = {
    1: "GRANTED",
    2: "QUEUED",
    3: "HELD",
    4: "DONE",
    5: "GONE",
    6: "OTHER",
    7: "UNTRUSTED",
}

Reply = tuple[Any, ...]
"""A code by its name, then what the script's header lists behind the tag."""


def text(value: Any) -> Any:
    """Decode what a reply holds."""
    if isinstance(value, bytes):
        return value.decode()
    return [text(each) for each in value] if isinstance(value, list) else value


class Scripts:
    """The scripts, on the keys of one name."""

    def __init__(self, client: redis.Redis, key: str) -> None:
        self.client = client
        self.keys = LockKeys(key, namespace="")
        self.key, self.fence, self.queue = (
            key.decode() for key in (self.keys.key, self.keys.fence, self.keys.queue)
        )
        self.marker = f"{self.key}:marker"
        """The fourth key of the scripts of a quorum; clients use one for all names."""
        self._execute: Callable[..., Any] = client.execute_command
        self._tags = itertools.count(1)

    def acquire(self, token: str, inbox: str = "", *, ttl: int = TTL) -> Reply:
        """Acquire; without an inbox only try."""
        return self.run(
            scripts.ACQUIRE, token, ttl, RETENTION, inbox, GRANT_TTL if inbox else 0, QUEUE_TTL
        )

    def release(self, token: str, highest: int = 0) -> Reply:
        """Release, reporting the highest fencing token of local hand-offs."""
        return self.run(scripts.RELEASE, token, highest, RETENTION)

    def renew(self, token: str, ttl: int = TTL) -> Reply:
        """Renew."""
        return self.run(scripts.RENEW, token, ttl, RETENTION)

    def release_alone(self, token: str, highest: int = 0) -> Reply:
        """Release by a request for the key alone."""
        companions = (self.fence, self.queue)
        return self.run(scripts.RELEASE_ALONE, *companions, token, highest, RETENTION)

    def renew_alone(self, token: str, ttl: int = TTL) -> Reply:
        """Renew by a request for the key alone."""
        return self.run(scripts.RENEW_ALONE, self.fence, self.queue, token, ttl, RETENTION)

    def pass_on(
        self, token: str, next_token: str, inbox: str, highest: int = 0, *, ttl: int = TTL
    ) -> Reply:
        """Pass on, to queue again as ``next_token``."""
        return self.run(
            scripts.PASS_ON,
            token,
            next_token,
            ttl,
            highest,
            RETENTION,
            inbox,
            GRANT_TTL,
            QUEUE_TTL,
        )

    def abandon(self, token: str, inbox: str = "") -> Reply:
        """Abandon; without an inbox, what never queued."""
        grant_ttl = GRANT_TTL if inbox else 0
        return self.run(scripts.ABANDON, token, inbox, grant_ttl, RETENTION)

    def force_release(self, token: str) -> Reply:
        """Take the lock from this holder."""
        return self.run(scripts.FORCE_RELEASE, token, RETENTION)

    def claim(self, token: str, wanted: str, ttl: int = TTL) -> Reply:
        """Claim under another token; 0: without ttl."""
        return self.run(scripts.CLAIM, token, wanted, ttl, RETENTION)

    def move_end(self, token: str, from_ms: int = 0, by_ms: int = 0) -> Reply:
        """Move the end of the lease, or ask for it."""
        return self.run(scripts.MOVE_END, token, from_ms, by_ms, RETENTION)

    def inspect(self) -> Reply:
        """Inspect."""
        return self.run(scripts.INSPECT)

    def run(self, script: scripts.Script, *args: str | int) -> Reply:
        """Run a script by EVALSHA, or EVAL, and check that its reply is well-formed."""
        tag = next(self._tags)
        keys = (self.key, self.fence, self.queue, self.marker)[: script.keys]
        rest = (script.keys, *keys, *args, tag)
        try:
            reply = self._execute("EVALSHA", script.sha, *rest)
        except NoScriptError:
            reply = self._execute("EVAL", script.source, *rest)
        code, echoed, *values = reply
        assert echoed == tag
        return (_CODES[code], *text(values))

    def command(self, *args: str | int) -> Any:
        """Run any command."""
        return text(self._execute(*args))

    @property
    def holder(self) -> str | None:
        """The token at the key."""
        token: str | None = self.command("GET", self.key)
        return token

    @property
    def counter(self) -> int:
        """The fence counter; 0 if there is none."""
        return int(self.command("GET", self.fence) or 0)

    @property
    def waiters(self) -> list[str]:
        """The tokens in the queue, in order."""
        return [record.split(" ")[2] for record in self.command("ZRANGE", self.queue, 0, -1)]

    @property
    def server_us(self) -> int:
        """The server's time in microseconds."""
        seconds, rest = self.command("TIME")
        return int(seconds) * 1_000_000 + int(rest)

    def exists(self) -> list[str]:
        """Return which of the three keys exist."""
        return [key for key in (self.key, self.fence, self.queue) if self.command("EXISTS", key)]

    def remaining(self, key: str | None = None) -> int:
        """Return the remaining ms of a key, by default of the lock's."""
        return int(self.command("PTTL", key or self.key))

    def expire(self) -> None:
        """End the holder's lease as its ttl would."""
        self.command("PEXPIRE", self.key, 0)

    def put_clock_behind(self, by_us: int = 100_000_000) -> int:
        """Lift the counter above the clock, as a clock set back would; return it."""
        counter = self.server_us + by_us
        self.command("SET", self.fence, counter, "PX", RETENTION)
        return counter

    def remove(self) -> None:
        """Delete all that belongs to the name."""
        self.client.delete(self.key, self.fence, self.queue, self.marker)


class Inbox:
    """A process's inbox; heard from :meth:`open` (or ``with``) to :meth:`close`."""

    def __init__(self, client: redis.Redis, channel: str | None = None) -> None:
        self.channel = channel or f"inbox:{uuid.uuid4().hex}"
        self._client: Any = client
        self._pubsub: Any = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def listens(self) -> bool:
        """Whether the process is alive."""
        return self._pubsub is not None

    def open(self) -> None:
        """Subscribe, and wait until the server has confirmed it."""
        self._pubsub = self._client.pubsub()
        self._pubsub.subscribe(self.channel)
        assert self._pubsub.get_message(timeout=5)["type"] == "subscribe"

    def close(self) -> None:
        """Be gone, and wait until the server knows."""
        if self._pubsub is None:
            return
        self._pubsub.close()
        self._pubsub = None
        for _ in range(10_000):  # a bound, of some seconds
            if text(self._client.execute_command("PUBSUB", "NUMSUB", self.channel))[-1] == 0:
                return
        raise AssertionError("the server did not notice that a connection was closed")

    def messages(self) -> list[str]:
        """Return what arrived since the last time."""
        # The pong comes behind all that was published before: no waiting, no guessing.
        self._pubsub.ping("end")
        found: list[str] = []
        while (message := self._pubsub.get_message(timeout=5)) is not None:
            if message["type"] == "pong":
                return found
            found.append(text(message["data"]))
        raise AssertionError("the server did not answer PING")

    def grants(self) -> list[str]:
        """Return the tokens that were granted since the last time."""
        return [message.split(" ")[3] for message in self.messages()]


def fence_of(lock: Scripts, token: str) -> int:
    """Acquire, and return the fencing token."""
    code, fence, _ = lock.acquire(token)
    assert code == "GRANTED"
    return int(fence)


def assert_rising(fences: list[int]) -> None:
    """Check that each is higher than the one before."""
    assert fences == sorted(set(fences))
