"""What a server keeps: strings and sorted sets, some with an end; the commands on them."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Refusal(NamedTuple):
    """An error reply."""

    text: bytes


class Status(NamedTuple):
    """A simple reply, such as OK."""

    text: bytes


OK = Status(b"OK")
WRONG_TYPE = Refusal(b"WRONGTYPE Operation against a key holding the wrong kind of value")
NOT_AN_INTEGER = Refusal(b"ERR value is not an integer or out of range")
SYNTAX = Refusal(b"ERR syntax error")

WRITES = frozenset(b"SET DEL PEXPIRE PEXPIREAT PERSIST ZADD ZREM".split())
"""Commands that change something; PUBLISH changes nothing."""

TAKE_MEMORY = frozenset(b"SET ZADD".split())
"""Commands that a server without memory refuses."""


class Keyspace:
    """
    Keys and their values.

    :ivar now_us: the server's time, which stands still while a command or a script runs
    """

    def __init__(self) -> None:
        self.now_us = 0
        self.values: dict[bytes, bytes | dict[bytes, float]] = {}
        self.ends: dict[bytes, int] = {}
        """When keys end, ms."""
        self._commands: dict[bytes, Callable[..., Any]] = {
            name[1:].upper().encode(): getattr(self, name)
            for name in dir(type(self))
            if name.startswith("_") and not name.startswith("__") and name[1:] in _COMMANDS
        }

    def knows(self, command: bytes) -> bool:
        """Tell whether there is such a command."""
        return command in self._commands

    def run(self, command: bytes, args: tuple[bytes, ...]) -> Any:
        """Run a command: bytes, int, ``None``, a list, a status or a refusal."""
        try:
            return self._commands[command](*args)
        except _WrongTypeError:
            return WRONG_TYPE
        except TypeError:
            return Refusal(b"ERR wrong number of arguments for '%b' command" % command.lower())
        except ValueError:
            return NOT_AN_INTEGER

    def drop_what_ended(self) -> None:
        """Drop the keys whose end is over."""
        now = self.now_us // 1000
        for key in [key for key, end in self.ends.items() if now > end]:
            self.drop(key)

    def drop(self, key: bytes) -> int:
        """Drop a key; return how many there were."""
        self.ends.pop(key, None)
        return int(self.values.pop(key, None) is not None)

    def _text(self, key: bytes) -> bytes | None:
        value = self.values.get(key)
        if isinstance(value, dict):
            raise _WrongTypeError
        return value

    def _scores(self, key: bytes) -> dict[bytes, float]:
        value = self.values.get(key, {})
        if isinstance(value, bytes):
            raise _WrongTypeError
        return value

    def _ranked(self, key: bytes) -> list[bytes]:
        scores = self._scores(key)
        return sorted(scores, key=lambda member: (scores[member], member))

    def _time(self) -> list[bytes]:
        return [b"%d" % part for part in divmod(self.now_us, 1_000_000)]

    def _get(self, key: bytes) -> Any:
        return self._text(key)

    def _set(self, key: bytes, value: bytes, *options: bytes) -> Any:
        words = [each.upper() for each in options]
        get, unless_there, end = b"GET" in words, b"NX" in words, None
        if b"PX" in words:
            ms = int(options[words.index(b"PX") + 1])
            if ms <= 0:
                return Refusal(b"ERR invalid expire time in 'set' command")
            end = self.now_us // 1000 + ms
        former = self._text(key) if get else self.values.get(key)
        if unless_there and former is not None:
            return former if get else None
        self.values[key] = value
        self.ends.pop(key, None)
        if end is not None:
            self.ends[key] = end
        return former if get else OK

    def _del(self, *keys: bytes) -> int:
        return sum(self.drop(key) for key in keys)

    def _exists(self, *keys: bytes) -> int:
        return sum(key in self.values for key in keys)

    def _type(self, key: bytes) -> Status:
        value = self.values.get(key)
        return Status(
            b"none" if value is None else b"zset" if isinstance(value, dict) else b"string"
        )

    def _pexpire(self, key: bytes, ms: bytes) -> int:
        return self._pexpireat(key, b"%d" % (self.now_us // 1000 + int(ms)))

    def _pexpireat(self, key: bytes, ms: bytes) -> int:
        end = int(ms)
        if key not in self.values:
            return 0
        self.ends[key] = end
        if end <= self.now_us // 1000:
            self.drop(key)
        return 1

    def _persist(self, key: bytes) -> int:
        return int(self.ends.pop(key, None) is not None)

    def _pttl(self, key: bytes) -> int:
        if key not in self.values:
            return -2
        return max(0, self.ends[key] - self.now_us // 1000) if key in self.ends else -1

    def _zadd(self, key: bytes, score: bytes, member: bytes) -> int:
        scores = self._scores(key)
        new = member not in scores
        scores[member] = float(score)
        self.values[key] = scores
        return int(new)

    def _zrem(self, key: bytes, *members: bytes) -> int:
        scores = self._scores(key)
        removed = sum(scores.pop(member, None) is not None for member in members)
        if not scores:
            self.drop(key)
        return removed

    def _zrange(self, key: bytes, first: bytes, last: bytes, *options: bytes) -> list[bytes]:
        return self._slice(key, self._ranked(key), first, last, options)

    def _zrevrange(self, key: bytes, first: bytes, last: bytes, *options: bytes) -> list[bytes]:
        return self._slice(key, self._ranked(key)[::-1], first, last, options)

    def _slice(
        self, key: bytes, ranked: list[bytes], first: bytes, last: bytes, options: tuple[bytes, ...]
    ) -> list[bytes]:
        begin, end, count = int(first), int(last), len(ranked)
        begin, end = (max(0, each + count) if each < 0 else each for each in (begin, end))
        members = ranked[begin : end + 1]
        if not options:
            return members
        scores = self._scores(key)
        return [each for member in members for each in (member, _score(scores[member]))]

    def _zscore(self, key: bytes, member: bytes) -> bytes | None:
        score = self._scores(key).get(member)
        return None if score is None else _score(score)

    def _zrank(self, key: bytes, member: bytes) -> int | None:
        ranked = self._ranked(key)
        return ranked.index(member) if member in ranked else None

    def _zcard(self, key: bytes) -> int:
        return len(self._scores(key))


_COMMANDS = frozenset(
    [
        "time",
        "get",
        "set",
        "del",
        "exists",
        "type",
        "pexpire",
        "pexpireat",
        "persist",
        "pttl",
        "zadd",
        "zrem",
        "zrange",
        "zrevrange",
        "zscore",
        "zrank",
        "zcard",
    ]
)


class _WrongTypeError(Exception):
    """A key holds another kind of value."""


def _score(score: float) -> bytes:
    return b"%.17g" % score
