"""A process of edition 2: its scripts, and how its client calls, answers and hears them.

Written out once more, and without the package, since that goes on and this does not.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from hashlib import sha1
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import redis.asyncio as redis_asyncio

SCRIPTS = Path(__file__).with_name("2")

GRANTED, QUEUED, HELD, DONE, GONE, OTHER, UNTRUSTED, BATCH = range(1, 9)

TTL = 40_000
GRANT_TTL = 20_000
QUEUE_TTL = 30_000

HASH_TAG = "{edition-2}"
"""Of the names on a Cluster: what belongs to its slot is told from here."""
OF_SLOT = ":{017s}"
"""What stands behind the keys and channels of that slot."""

# Of each script of a batch: its letter, and whether it takes the fence counter.
LETTERS = {"acquire": "a", "release": "r", "renew": "n", "pass_on": "p", "abandon": "b"}
WITHOUT_COUNTER = ("renew", "renew_vote", "claim", "move_end")
TAKES = {"acquire": 6, "release": 3, "renew": 2, "pass_on": 8, "abandon": 4}

_GRANT = re.compile(r"(\d{1,16}) (\d{1,16}) (\d{1,11}) (\S+) (.+)", re.DOTALL)


def _parts(name: str, marker: str) -> tuple[str, str]:
    text = (SCRIPTS / f"{name}.lua").read_text()
    before, found, behind = text.partition(f"\n-- {marker}\n")
    return (before + "\n", behind) if found else ("", text)


def source(name: str) -> str:
    """Join a script as its clients send it."""
    void, functions = _parts("prelude", "functions")
    if name != "batch":
        usual, rest = _parts(name, "prelude")
        return f"{usual}{void}{functions}{rest}"
    made = functions
    for each, letter in LETTERS.items():
        made += f"whole.{letter} = function()\n{_parts(each, 'prelude')[1]}end\n"
    made = re.sub(r"\bKEYS\[([12])\]", r"KEYS[k + \1]", made).replace("KEYS[4]", "KEYS[#KEYS]")
    made = re.sub(r"\bARGV\[(\d+)\]", r"ARGV[a + \1]", made)
    takes = ", ".join(f"{letter} = {TAKES[each]}" for each, letter in LETTERS.items())
    skips = ", ".join(
        f"{letter} = {int(each not in WITHOUT_COUNTER)}" for each, letter in LETTERS.items()
    )
    batch = (SCRIPTS / "batch.lua").read_text()
    batch = batch.replace("-- void\n", void.replace("KEYS[3]", "KEYS[#KEYS - 1]"))
    batch = batch.replace("-- takes\n", f"local TAKES, SKIPS = {{{takes}}}, {{{skips}}}\n")
    return batch.replace("-- operations\n", made)


class Item(NamedTuple):
    """One operation of a batch."""

    name: str
    key: str
    args: tuple[str | int, ...]


class Process:
    """
    A process of edition 2, on one server.

    :param redis: a client of its own: of the Redis, of the slot's primary, of a node
    :param number: tells it from others in one test
    :param of_slot: what stands behind the keys of a slot, on a Cluster or a quorum
    :param sharded: whether it hears its grants on sharded channels, as on a Cluster
    """

    def __init__(
        self, redis: redis_asyncio.Redis, number: int, *, of_slot: str = "", sharded: bool = False
    ) -> None:
        self.redis = redis
        self.number = number
        self.name = f"edition-2-{id(self):x}"
        self.sharded = sharded
        self.of_slot = of_slot
        self.secret = f"secret{number}"
        self.inbox = f"aiodistlock:inbox:{self.name}{of_slot}"
        self.address = f"{self.inbox} {self.secret}"
        self._tags = itertools.count(10**12)
        self._counts = itertools.count(1)
        self._stack = AsyncExitStack()
        self._execute: Callable[..., Any] = redis.execute_command
        self._pubsub: Any = None

    async def __aenter__(self) -> Self:
        self._pubsub = await self._stack.enter_async_context(self.redis.pubsub())
        await (self._pubsub.ssubscribe if self.sharded else self._pubsub.subscribe)(self.inbox)
        assert (await self._message())["type"] in ("subscribe", "ssubscribe")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()
        await self.redis.delete(f"aiodistlock:void:{self.name}{self.of_slot}")

    def token(self) -> str:
        """Make a token of its next acquisition."""
        return f"edition-2:{self.number}:{id(self) % 16**8:08x}:{next(self._counts)}"

    @staticmethod
    def queue(key: str) -> str:
        """Name the queue of a key."""
        return f"aiodistlock:queue::{key}" if "{" in key else f"aiodistlock:queue:{{{key}}}"

    async def acquire(self, key: str, token: str, *, waits: bool = True) -> list[Any]:
        """Take the lock, or queue for it; or only try."""
        return await self._run("acquire", key, *self._acquire(token, waits=waits))

    def _acquire(self, token: str, *, waits: bool) -> tuple[str | int, ...]:
        inbox, grant_ttl = (self.address, GRANT_TTL) if waits else ("", 0)
        return (token, TTL, inbox, grant_ttl, QUEUE_TTL)

    async def release(self, key: str, value: str, highest: int = 0) -> list[Any]:
        """Give the lock up."""
        return await self._run("release", key, value, highest)

    async def renew(self, key: str, value: str) -> list[Any]:
        """Renew the lease, which is also how a grant is claimed."""
        return await self._run("renew", key, value, TTL)

    async def pass_on(self, key: str, token: str, next_token: str, highest: int = 0) -> list[Any]:
        """Let the next process have the lock, and queue again."""
        args = (token, next_token, TTL, highest, self.address, GRANT_TTL, QUEUE_TTL)
        return await self._run("pass_on", key, *args)

    async def abandon(self, key: str, token: str) -> list[Any]:
        """Undo an acquisition."""
        return await self._run("abandon", key, token, self.address, GRANT_TTL)

    async def inspect(self, key: str) -> list[Any]:
        """Ask who holds the lock and who waits."""
        keys = (key, self.queue(key))
        void = f"aiodistlock:void:{self.name}{self.of_slot}"
        return await self._evaluate("inspect", keys, (void,))

    async def force_release(self, key: str, token: str) -> list[Any]:
        """Take the lock from its holder."""
        return await self._run("force_release", key, token)

    async def vote(self, key: str, token: str, proposed: int, *, waits: bool = True) -> list[Any]:
        """Ask this node of a quorum for its vote."""
        inbox = self.address if waits else ""
        args = (token, TTL, proposed, inbox, QUEUE_TTL, 60_000_000)
        keys = (*self._keys("vote", key), "aiodistlock:marker")
        return await self._evaluate("vote", keys, args)

    async def unvote(self, key: str, token: str, highest: int = 0) -> list[Any]:
        """Take the vote back."""
        return await self._run("unvote", key, token, highest, self.address)

    async def renew_vote(self, key: str, token: str) -> list[Any]:
        """Renew the vote."""
        return await self._run("renew_vote", key, token, TTL)

    def item(self, name: str, key: str, *args: str | int) -> Item:
        """Make one operation of a batch; what clients always say is left out."""
        if name == "acquire":
            args = self._acquire(str(args[0]), waits=True)
        elif name == "renew":
            args = (*args, TTL)
        elif name == "abandon":
            args = (*args, self.address, GRANT_TTL)
        return Item(name, key, args)

    async def together(self, *items: Item) -> list[Any]:
        """Run operations in one batch; return what each answers."""
        keys: list[str] = []
        args: list[str | int] = []
        for name, key, rest in items:
            keys += [key, self.queue(key)]
            counter = () if name in WITHOUT_COUNTER else (f"aiodistlock:fence{self.of_slot}",)
            args += [LETTERS[name], *counter, *rest]
        keys += self._keys("batch", "")[2:]
        reply = await self._evaluate("batch", tuple(keys), tuple(args))
        for _ in items[1:]:
            next(self._tags)
        assert reply[0] == BATCH
        assert len(reply) == 2 + len(items)
        return reply[2:]

    def _keys(self, name: str, key: str) -> tuple[str, ...]:
        beside = (self.queue(key), f"aiodistlock:void:{self.name}{self.of_slot}")
        counter = () if name in WITHOUT_COUNTER else (f"aiodistlock:fence{self.of_slot}",)
        return (key, *beside, *counter)

    async def _run(self, name: str, key: str, *args: str | int) -> list[Any]:
        return await self._evaluate(name, self._keys(name, key), args)

    async def _evaluate(
        self, name: str, keys: tuple[str, ...], args: tuple[str | int, ...]
    ) -> list[Any]:
        lua, tag = source(name), next(self._tags)
        if self.sharded:
            lua = lua.replace("'PUBLISH'", "'SPUBLISH'")
        reply = await self._execute("EVAL", lua, len(keys), *keys, *args, tag)
        assert isinstance(reply, list)
        assert reply[1] == tag
        return [each.decode() if isinstance(each, bytes) else each for each in reply]

    async def _message(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while True:
                message: dict[str, Any] | None = await self._pubsub.get_message(timeout=1.0)
                if message is not None:
                    return message

    async def _heard(self, key: str, token: str) -> tuple[int, int, int] | None:
        """Wait for a message; return fence, time and ttl, ``None`` in words of another edition."""
        message = await self._message()
        proof, edition, grant = message["data"].decode().split(" ", 2)
        told = f"{edition} {grant} {self.secret}".encode()
        assert proof in (sha1(told, usedforsecurity=False).hexdigest(), self.secret)
        if edition != "2":
            assert re.fullmatch(r"[1-9]\d{0,3}", edition)
            return None
        found = _GRANT.fullmatch(grant)
        assert found is not None, f"edition 2 does not know {grant!r}"
        assert (found[4], found[5]) == (token, key)
        return int(found[1]), int(found[2]), int(found[3])

    async def granted(self, key: str, token: str) -> int:
        """Wait for the message that grants the lock; return the fencing token."""
        heard = await self._heard(key, token)
        if heard is None:
            # It asks, and the answer tells.
            code, _, fence, _ = await self.acquire(key, token)
            assert code == GRANTED
        else:
            fence, server_us, ttl_ms = heard
            seconds, _ = await self._execute("TIME")
            assert abs(server_us / 1e6 - int(seconds)) < 60
            assert ttl_ms == GRANT_TTL
        assert await self._execute("GET", key) == f"{token} {fence}".encode()
        return int(fence)

    async def hinted(self, key: str, token: str) -> None:
        """Wait for the message that says that the lock may be free, on a node of a quorum."""
        assert await self._heard(key, token) in (None, (0, 0, 0))
