"""A node in memory that runs the real scripts, in Redis's Lua, with a clock of its own."""

import hashlib
from collections.abc import Callable
from typing import Any

from lupa import lua51  # type: ignore[import-untyped]  # a Cython module

Publish = Callable[[bytes, bytes], int]


class Server:
    """
    As much of Redis as the scripts of a quorum use.

    :param clock_us: its wall clock, µs
    :param publish: delivers a message, and tells how many heard it
    """

    def __init__(self, clock_us: Callable[[], int], publish: Publish) -> None:
        self.clock_us = clock_us
        self.publish = publish
        self.lua = lua51.LuaRuntime(encoding=None)
        self.load = self.lua.eval(b"function(source) return loadstring(source) end")
        redis = {b"call": self.call, b"pcall": self.call, b"set_repl": lambda _: None}
        self.lua.globals()[b"redis"] = self.lua.table_from(redis)
        self.compiled: dict[bytes, Any] = {}
        self.known: set[bytes] = set()
        self.lose_data()

    def lose_data(self) -> None:
        """Restart without data."""
        self.values: dict[bytes, Any] = {}
        self.expiries: dict[bytes, int] = {}
        self.known.clear()

    def run(self, source: bytes, keys: list[bytes], args: list[bytes]) -> list[Any]:
        """Run a script whole, as nothing else runs meanwhile."""
        sha = hashlib.sha1(source, usedforsecurity=False).digest()
        self.known.add(sha)
        if sha not in self.compiled:
            self.compiled[sha] = self.load(source)
        self.now_us = self.clock_us()
        for key in [key for key, at in self.expiries.items() if at <= self.now_us // 1000]:
            self.delete(key)
        names = self.lua.globals()
        names[b"KEYS"], names[b"ARGV"] = self.lua.table_from(keys), self.lua.table_from(args)
        return [_reply(each) for _, each in sorted(self.compiled[sha]().items())]

    def knows(self, source: bytes) -> bool:
        """Tell whether EVALSHA would do."""
        return hashlib.sha1(source, usedforsecurity=False).digest() in self.known

    def delete(self, key: bytes) -> int:
        """Drop a key."""
        self.expiries.pop(key, None)
        return int(self.values.pop(key, None) is not None)

    def call(self, command: bytes, *args: Any) -> Any:
        """Run one command for a script."""
        texts = [each if isinstance(each, bytes) else b"%.17g" % each for each in args]
        answer = getattr(self, f"_{command.decode().lower()}")(*texts)
        if answer is None:
            return False
        return self.lua.table_from(answer) if isinstance(answer, list) else answer

    def _time(self) -> list[bytes]:
        return [b"%d" % part for part in divmod(self.now_us, 1_000_000)]

    def _get(self, key: bytes) -> Any:
        return self.values.get(key)

    def _set(self, key: bytes, value: bytes, *options: bytes) -> Any:
        if options != (b"KEEPTTL",):
            self.expiries.pop(key, None)
        self.values[key] = value
        if options and options != (b"KEEPTTL",):
            assert options[0] == b"PX"
            self._pexpire(key, options[1])
        return b"OK"

    def _del(self, key: bytes) -> int:
        return self.delete(key)

    def _exists(self, *keys: bytes) -> int:
        return sum(key in self.values for key in keys)

    def _pexpire(self, key: bytes, ms: bytes) -> int:
        if key not in self.values:
            return 0
        self.expiries[key] = self.now_us // 1000 + int(ms)
        return 1

    def _pttl(self, key: bytes) -> int:
        if key not in self.values:
            return -2
        return self.expiries[key] - self.now_us // 1000 if key in self.expiries else -1

    def _zadd(self, key: bytes, score: bytes, member: bytes) -> int:
        self.values.setdefault(key, {})[member] = float(score)
        return 1

    def _zrem(self, key: bytes, member: bytes) -> int:
        removed = self.values.get(key, {}).pop(member, None)
        if not self.values.get(key, True):
            self.delete(key)
        return int(removed is not None)

    def _ranked(self, key: bytes) -> list[bytes]:
        scores = self.values.get(key, {})
        return sorted(scores, key=lambda member: (scores[member], member))

    def _zrange(self, key: bytes, first: bytes, last: bytes) -> list[bytes]:
        ranked = self._ranked(key)
        return ranked[int(first) : None if int(last) == -1 else int(last) + 1]

    def _zrevrange(self, key: bytes, *_only_the_last: bytes) -> list[bytes]:
        ranked = self._ranked(key)
        return [ranked[-1], b"%.17g" % self.values[key][ranked[-1]]] if ranked else []

    def _zscore(self, key: bytes, member: bytes) -> bytes | None:
        score = self.values.get(key, {}).get(member)
        return None if score is None else b"%.17g" % score

    def _zrank(self, key: bytes, member: bytes) -> int:
        return self._ranked(key).index(member)

    def _zcard(self, key: bytes) -> int:
        return len(self.values.get(key, {}))

    def _publish(self, channel: bytes, message: bytes) -> int:
        return self.publish(channel, message)


def _reply(value: Any) -> Any:
    """Convert as Redis does: numbers lose their fraction."""
    if isinstance(value, float):
        return int(value)
    if lua51.lua_type(value) == "table":
        return [_reply(each) for _, each in sorted(value.items())]
    return value
