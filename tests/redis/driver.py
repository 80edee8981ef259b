"""Runs the scripts on one name as the engine does, and looks at what they leave."""

import itertools
import uuid
from collections.abc import Callable
from typing import Any, Final, Literal, Self

import redis
from redis.exceptions import NoScriptError, ResponseError

from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol import scripts
from aiodistlock.protocol.grant_message import WIRE, prove
from aiodistlock.protocol.operations import usual_answer

TTL: Final = 30_000
GRANT_TTL: Final = 20_000  # longer than the client's: no stall of the machine may end a grant
QUEUE_TTL: Final = 25_000
MARK_TTL: Final = 40_000

GAP: Final = 1000  # prelude.lua
BEHIND: Final = " behind"

SECRET: Final = "secret"

# What redis-py leaves of it differs, and Redis 6.2 wraps what a script's command answered.
OOM: Final = "command not allowed when used memory > 'maxmemory'"

Code = Literal[
    "GRANTED", "QUEUED", "HELD", "DONE", "GONE", "OTHER", "UNTRUSTED", "GRANTED_BEFORE_OTHERS"
]
_CODES: Final[dict[int, Code]] = {
    1: "GRANTED",
    2: "QUEUED",
    3: "HELD",
    4: "DONE",
    5: "GONE",
    6: "OTHER",
    7: "UNTRUSTED",
    9: "GRANTED_BEFORE_OTHERS",
}
_GONE: Final = 5
_BATCH: Final = 8

# Which of their arguments is the value at the key; tests say the token.
_BY_VALUE: Final = {
    **dict.fromkeys((scripts.RELEASE, scripts.RENEW, scripts.CLAIM, scripts.MOVE_END), 0),
    scripts.MARK: 0,
    scripts.PROCLAIM: 0,
    scripts.RELEASE_ALONE: 3,
    scripts.RENEW_ALONE: 2,
}

Reply = tuple[Any, ...]
"""A code by its name, then what the script's header lists behind the tag."""


def text(value: Any) -> Any:
    """Decode what a reply holds."""
    if isinstance(value, bytes):
        return value.decode()
    return [text(each) for each in value] if isinstance(value, list) else value


def _with(tag: int, answer: list[int]) -> list[int]:
    return [answer[0], tag, *answer[2:]]


class Item:
    """One of the scripts of a batch."""

    def __init__(self, script: scripts.Script, key: str, *args: str | int) -> None:
        keys = LockKeys(key, namespace="")
        self.keys = (keys.key, keys.queue)
        self.key = key
        self.counted = script.keys == 4
        self.by_value = script in _BY_VALUE
        (self.letter,) = scripts.words(script.letter)
        self.args = args


def token_in(value: Any) -> Any:
    """Return the token of a value; anything else as it is."""
    token, _, fence = value.rpartition(" ") if isinstance(value, str) else ("", "", "")
    return token if token and " " not in token and fence.isdigit() else value


def address(inbox: str) -> str:
    """Name an inbox as a client does in a queue."""
    return f"{inbox} {SECRET}" if inbox else ""


def record(inbox: str, token: str) -> str:
    """Return what stands in a queue."""
    return f"{GRANT_TTL} {address(inbox)} {token}"


class Scripts:
    """
    The scripts, on the keys of one name.

    :param batched: run those that may travel together behind another one
    """

    def __init__(self, client: redis.Redis, key: str, *, batched: bool = False) -> None:
        self.client = client
        self.batched = batched
        self.keys = LockKeys(key, namespace="")
        self.key, self.queue = self.keys.key.decode(), self.keys.queue.decode()
        self.fence = f"aiodistlock:fence:{self.key}"
        """The fence counter; clients use one for all names."""
        self.proclamation = self.keys.proclamation.decode()
        self.void = f"{self.key}:void"
        """Where it is noted what is void; clients use one for all names."""
        self.marker = f"{self.key}:marker"
        """The fifth key of the scripts of a quorum; clients use one for all names."""
        self.mark = self.keys.done.decode()
        self.readers, self.version = self.keys.readers.decode(), self.keys.version.decode()
        self._execute: Callable[..., Any] = client.execute_command
        self._tags = itertools.count(1)

    def acquire(self, token: str, inbox: str = "", *, ttl: int = TTL) -> Reply:
        """Acquire; without an inbox only try."""
        return self.run(
            scripts.ACQUIRE,
            token,
            ttl,
            address(inbox),
            GRANT_TTL if inbox else 0,
            QUEUE_TTL,
        )

    def release(self, token: str, highest: int = 0) -> Reply:
        """Release, reporting the highest fencing token of local hand-offs."""
        return self.run(scripts.RELEASE, token, highest)

    def renew(self, token: str, ttl: int = TTL) -> Reply:
        """Renew."""
        return self.run(scripts.RENEW, token, ttl)

    def release_alone(self, token: str, highest: int = 0) -> Reply:
        """Release by a request for the key alone."""
        companions = (self.queue, self.void, self.fence)
        return self.run(scripts.RELEASE_ALONE, *companions, token, highest)

    def renew_alone(self, token: str, ttl: int = TTL) -> Reply:
        """Renew by a request for the key alone."""
        return self.run(scripts.RENEW_ALONE, self.queue, self.void, token, ttl)

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
            address(inbox),
            GRANT_TTL,
            QUEUE_TTL,
        )

    def abandon(self, token: str, inbox: str = "") -> Reply:
        """Abandon; without an inbox, what never queued."""
        grant_ttl = GRANT_TTL if inbox else 0
        return self.run(scripts.ABANDON, token, address(inbox), grant_ttl)

    def force_release(self, token: str) -> Reply:
        """Take the lock from this holder."""
        return self.run(scripts.FORCE_RELEASE, token, "")

    def claim(self, token: str, wanted: str, ttl: int = TTL) -> Reply:
        """Claim under another token; 0: without ttl."""
        return self.run(scripts.CLAIM, token, wanted, ttl)

    def move_end(self, token: str, from_ms: int = 0, by_ms: int = 0) -> Reply:
        """Move the end of the lease, or ask for it."""
        return self.run(scripts.MOVE_END, token, from_ms, by_ms)

    def begin(self, token: str, window: int) -> Reply:
        """Mark a window as begun."""
        return self.run(scripts.MARK, token, window, "begun", MARK_TTL, 0, split=False)

    def finish(self, token: str, window: int, kept_until: int = 0) -> Reply:
        """Mark a window as done, and give the lock up, or keep the name up to a server time."""
        return self.run(scripts.MARK, token, window, "done", MARK_TTL, kept_until)

    def look(self) -> Reply:
        """Look: server time, holder, mark."""
        return self.run(scripts.LOOK, split=False)

    def proclaim(self, token: str, said: str, ttl: int = TTL) -> Reply:
        """Proclaim; 0: take it back."""
        return self.run(scripts.PROCLAIM, token, said, ttl)

    def leader(self) -> Reply:
        """Ask who leads."""
        return self.run(scripts.LEADER)

    def read(self, token: str, inbox: str = "", *, ttl: int = TTL) -> Reply:
        """Hold as a reader; without an inbox only try."""
        rest = (address(inbox), GRANT_TTL if inbox else 0, QUEUE_TTL)
        return self.run(scripts.READ, token, ttl, *rest)

    def write(self, token: str, inbox: str = "", *, ttl: int = TTL) -> Reply:
        """Hold as the writer; without an inbox only try."""
        rest = (address(inbox), GRANT_TTL if inbox else 0, QUEUE_TTL)
        return self.run(scripts.WRITE, token, ttl, *rest)

    def upgrade(self, reader: str, token: str, inbox: str = "", *, ttl: int = TTL) -> Reply:
        """Make a reader the writer; without an inbox only try."""
        rest = (address(inbox), GRANT_TTL if inbox else 0, QUEUE_TTL)
        return self.run(scripts.UPGRADE, reader, token, ttl, *rest)

    def downgrade(
        self, token: str, reader: str, highest: int = 0, inbox: str = "", *, ttl: int = TTL
    ) -> Reply:
        """Make the writer a reader; with an inbox, take back that a reader wants to write."""
        rest = (address(inbox), GRANT_TTL if inbox else 0)
        return self.run(scripts.DOWNGRADE, token, reader, ttl, highest, *rest)

    def inspect(self) -> Reply:
        """Inspect: holder, remaining time, fencing token of the lease, the queue."""
        code, value, remaining, records = self.run(scripts.INSPECT, self.void, split=False)
        token = token_in(value)
        fence = int(value.removeprefix(token) or 0)
        return (code, token, remaining, fence, records)

    def run(
        self,
        script: scripts.Script,
        *args: str | int,
        number: int | None = None,
        void: int = 0,
        split: bool = True,
    ) -> Reply:
        """
        Run a script by EVALSHA, or EVAL, and check that its reply is well-formed.

        :param split: whether to return of values, which it may answer, the tokens
        :param number: of the request; by default the next one
        :param void: the highest number that it declares void, 0 for nothing
        """
        if script in _BY_VALUE:
            at = _BY_VALUE[script]
            args = (*args[:at], self.value(str(args[at])), *args[at + 1 :])
        number = next(self._tags) if number is None else number
        tag = f"{number} {void}" if void else number
        if self.batched and script.letter:
            release = Item(scripts.RELEASE, f"{self.key}:other", "nobody", 0)
            other, reply = self.run_together(release, Item(script, self.key, *args), tag=tag)
            assert other == [_GONE, number]
            number += 1
            next(self._tags)
        else:
            companions = [self.queue, self.void, self.fence, self.marker]
            if script in (scripts.TRUST, scripts.LOOK):
                companions.remove(self.fence)
            if script in (scripts.MARK, scripts.LOOK):
                companions[companions.index(self.marker)] = self.mark
            elif script in (scripts.LEADER, scripts.PROCLAIM):
                companions = [self.queue, self.void, self.proclamation]
            keys = [self.key, *companions][: script.keys]
            reply = self._evaluate(script, script.keys, *keys, *args, tag)
        if isinstance(reply, ResponseError):
            raise reply
        code, echoed, *values = reply
        assert echoed == number
        return (_CODES[code], *(token_in(each) if split else each for each in text(values)))

    def value(self, token: str) -> str:
        """Return what a client would know to stand at the key under its token."""
        try:
            value = self.command("GET", self.key)
        except ResponseError:
            return token
        return str(value) if token_in(value) == token else token

    def run_together(self, *items: "Item", tag: int | str = 1) -> list[Any]:
        """Run scripts in a batch, and return what each answers, or its error."""
        keys = [key for item in items for key in item.keys]
        counter = (self.fence,)
        args = [
            arg
            for item in items
            for arg in (item.letter, *counter[: item.counted], *self._by_value(item))
        ]
        rest = (len(keys) + 2, *keys, self.void, self.fence, *args, tag)
        code, echoed, server_us, *answers = self._evaluate(scripts.BATCH, *rest)
        first = int(str(tag).split(" ", maxsplit=1)[0])
        assert (code, echoed) == (_BATCH, first)
        return [
            _with(first + number, usual_answer(answer, server_us))
            if isinstance(answer, int)
            else answer
            for number, answer in enumerate(answers)
        ]

    def _by_value(self, item: "Item") -> tuple[str | int, ...]:
        """Return the arguments, with the value for the token."""
        if not item.by_value:
            return item.args
        token, *rest = item.args
        return (Scripts(self.client, item.key).value(str(token)), *rest)

    def _evaluate(self, script: scripts.Script, *rest: Any) -> Any:
        try:
            return self._execute("EVALSHA", script.sha, *rest)
        except NoScriptError:
            return self._execute("EVAL", script.source, *rest)

    def command(self, *args: str | int) -> Any:
        """Run any command."""
        return text(self._execute(*args))

    @property
    def holder(self) -> str | None:
        """The token at the key."""
        token: str | None = token_in(self.command("GET", self.key))
        return token

    @property
    def group(self) -> list[str]:
        """The tokens of those who read, by the end of their leases."""
        return [str(token) for token in self.command("ZRANGE", self.readers, 0, -1)]

    @property
    def counter(self) -> int:
        """The fence counter, without what stands behind it; 0 if there is none."""
        return int((self.command("GET", self.fence) or "0").split()[0])

    @property
    def marked(self) -> bool:
        """Whether the counter is marked: the clock is behind it."""
        return str(self.command("GET", self.fence)).endswith(BEHIND)

    @property
    def waiters(self) -> list[str]:
        """The tokens in the queue, in order."""
        return [record.split(" ")[3] for record in self.command("ZRANGE", self.queue, 0, -1)]

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
        self.command("SET", self.fence, counter)
        return counter

    def remove(self) -> None:
        """Delete all that belongs to the name."""
        companions = (self.queue, self.void, self.marker, self.mark, self.proclamation)
        self.client.delete(self.key, self.fence, *companions, self.readers, self.version)


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
        """Return what arrived since the last time, without the proof that a script wrote it."""
        # The pong comes behind all that was published before: no waiting, no guessing.
        self._pubsub.ping("end")
        found: list[str] = []
        while (message := self._pubsub.get_message(timeout=5)) is not None:
            if message["type"] == "pong":
                return found
            proof, _, told = message["data"].partition(b" ")
            assert proof == prove(told, SECRET.encode())
            wire, _, grant = text(told).partition(" ")
            assert wire == WIRE.decode()
            found.append(grant)
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
