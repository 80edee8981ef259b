"""The simulated Redis answers as a real one does, whatever it is asked, in whatever order."""

import re
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import hiredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiodistlock.protocol import scripts
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.simulation.redis.server import EPOCH_US, RedisServer
from tests.simulation.redis.session import Session

Command = tuple[bytes, ...]
INCOMPLETE = object()

pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]  # its stub says str

a_key = st.sampled_from((b"k", b"l", b"q"))
a_member = st.sampled_from((b"a", b"b", b"c"))
an_index = st.sampled_from((b"0", b"1", b"-1", b"-2", b"7"))
a_value = st.sampled_from((b"v", b"w", b"", b"7 behind"))


def one(*parts: st.SearchStrategy[bytes] | bytes) -> st.SearchStrategy[Command]:
    """Build a command of fixed and drawn words."""
    return st.tuples(*(st.just(each) if isinstance(each, bytes) else each for each in parts))


# Ends are far away, or over at once: how long a machine takes decides nothing.
AHEAD = st.sampled_from((b"50000", b"90000"))
plain = st.one_of(
    one(b"GET", a_key),
    one(b"SET", a_key, a_value),
    one(b"SET", a_key, a_value, b"GET"),
    one(b"SET", a_key, a_value, b"PX", AHEAD),
    one(b"SET", a_key, a_value, b"NX", b"PX", AHEAD),
    one(b"SET", a_key, a_value, b"PX", st.sampled_from((b"0", b"-1", b"x"))),
    one(b"DEL", a_key),
    one(b"DEL", a_key, a_key),
    one(b"EXISTS", a_key, a_key),
    one(b"TYPE", a_key),
    one(b"PEXPIRE", a_key, st.one_of(AHEAD, st.sampled_from((b"0", b"-1", b"x")))),
    one(b"PEXPIREAT", a_key, st.sampled_from((b"1", b"9999999999999"))),
    one(b"PERSIST", a_key),
    one(b"PTTL", a_key),
    one(b"ZADD", a_key, st.sampled_from((b"1", b"2", b"1.5", b"1800000000000001")), a_member),
    one(b"ZREM", a_key, a_member),
    one(b"ZRANGE", a_key, an_index, an_index),
    one(b"ZREVRANGE", a_key, an_index, an_index),
    one(b"ZRANK", a_key, a_member),
    one(b"ZCARD", a_key),
    one(b"PUBLISH", st.sampled_from((b"heard", b"unheard")), a_value),
    one(b"PING"),
    one(b"NONSENSE", a_key),
    one(b"GET"),
)
luas = st.sampled_from(
    (
        b"return {1, 'a', false, 2.9, {3, {4}}, nil, 5}",
        b"return redis.call('GET', KEYS[1])",
        b"return redis.pcall('ZCARD', KEYS[1])",
        b"return {pcall(redis.call, 'ZCARD', KEYS[1])}",
        b"return redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')",
        b"return redis.call('ZSCORE', KEYS[1], 'a')",
        b"return redis.call('SET', KEYS[1], ARGV[1], 'GET') or 'nothing'",
        b"redis.call('SET', KEYS[1], 'x') error({err = 'GRIEF of mine'})",
        b"return redis.error_reply('STALE 7')",
        b"return redis.status_reply('FINE')",
        b"return redis.sha1hex(ARGV[1])",
        b"return string.format('%.0f', 1800000000000001)",
        b"return tonumber(redis.call('TIME')[1]) > 0 and 1 or 0",
        b"return redis.call('PUBLISH', 'heard', ARGV[1])",
        b"return #redis.call('ZRANGE', KEYS[1], 0, -1)",
        b"return nil",
        b"return true",
        b"this is no lua",
    )
)
scripted = st.one_of(
    one(b"EVAL", luas, b"1", a_key, a_value),
    one(b"EVALSHA", st.just(b"0" * 40), b"0"),
)
a_token = st.sampled_from([b"%b:1:0000000%b:1" % (each, each) for each in (b"a", b"b", b"c")])
an_inbox = st.sampled_from((b"", b"heard s", b"unheard s"))
KEYS = (b"4", b"k", b"q", b"void", b"fence")


def script(which: scripts.Script, *args: st.SearchStrategy[bytes] | bytes) -> Any:
    """Build a run of one of our scripts."""
    keys = (b"%d" % which.keys, *KEYS[1 : 1 + which.keys])
    return one(b"EVALSHA", which.sha, *keys, *args, b"1000000000001")


a_holder = a_token.map(lambda token: token + b" 1700000000000000")
ours = st.one_of(
    script(scripts.ACQUIRE, a_token, AHEAD, an_inbox, b"50000", b"90000"),
    script(scripts.ABANDON, a_token, an_inbox, b"50000"),
    script(scripts.PASS_ON, a_token, a_token, AHEAD, b"0", b"heard s", b"50000", b"90000"),
    script(scripts.RENEW, a_holder, AHEAD),
    script(scripts.RELEASE, a_holder, b"0"),
    script(scripts.FORCE_RELEASE, a_token),
)

a_client = st.sampled_from((b"a:1:0000000a:", b"b:1:0000000b:"))
wants = st.lists(
    st.sampled_from((b"1*1", b"2*1", b"3*2", b"4?1", b"5?3", b"6*3")), min_size=1, max_size=3
)
some_wants = wants.map(b" ".join)
a_limit = st.sampled_from((b"1", b"2", b"3"))
AHEAD_OF_CLOCKS = (b"SET", b"fence", b"9000000000000000 behind")
"""So that the fencing tokens are known, and a lease of permits can be named."""
a_lease = st.builds(
    b"%b%d %d %b".__mod__,
    st.tuples(
        a_client,
        st.integers(1, 3),
        st.integers(9000000000000001, 9000000000000002),
        st.sampled_from((b"0", b"1", b"0,1")),
    ),
)
permits = st.one_of(
    script(
        scripts.ACQUIRE_PERMITS,
        *(a_client, some_wants, a_limit, AHEAD, an_inbox, b"50000", b"90000"),
    ),
    script(scripts.ABANDON_PERMITS, a_client, some_wants, a_limit, st.just(b"heard s"), b"50000"),
    script(scripts.RENEW_PERMITS, a_lease, AHEAD),
    script(scripts.RELEASE_PERMITS, a_lease, st.sampled_from((b"0", b"9000000000000009"))),
    script(scripts.INSPECT_PERMITS, b"void"),
    script(scripts.ACQUIRE, a_token, AHEAD, an_inbox, b"50000", b"90000"),
    one(b"ZSCORE", b"k", a_lease),
    one(b"PTTL", b"k"),
)

OURS = (
    scripts.ACQUIRE_PERMITS,
    scripts.ABANDON_PERMITS,
    scripts.RENEW_PERMITS,
    scripts.RELEASE_PERMITS,
    scripts.INSPECT_PERMITS,
    scripts.ACQUIRE,
    scripts.ABANDON,
    scripts.PASS_ON,
    scripts.RENEW,
    scripts.RELEASE,
    scripts.FORCE_RELEASE,
)
LOADED = [(b"SCRIPT", b"LOAD", each.source) for each in OURS]

LATE = re.compile(rb"\b1[678]\d{14}\b")
OF_COMMAND = re.compile(r"@user_script: ?\d+: ([A-Z]+) ")
"""Before Redis 7 what a command in a script answered stands at the end of the error."""
PROOF = re.compile(rb"\b[0-9a-f]{40} 2 ")


def normal(value: Any, *, ms: bool = False) -> Any:
    """Return what does not hang on the instant, or on the wording of an error."""
    if isinstance(value, hiredis.PushNotification):
        return ("push", [normal(each) for each in value])
    if isinstance(value, list):
        # Of what a waiter is told, the holder's remaining time.
        return [normal(each, ms=ms or value[:1] in ([2], [3])) for each in value]
    if isinstance(value, bytes):
        return PROOF.sub(b"<proof> 2 ", LATE.sub(b"<time>", value))
    if isinstance(value, int) and (value > 10**15 or (ms and value > 10_000)):
        return "<time>"
    if isinstance(value, Exception):
        of_command = OF_COMMAND.search(str(value))
        return ("error", of_command[1] if of_command else str(value).split(" ")[0])
    return value


class Real:
    """Connections to a real server."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._at = (parts.hostname or "localhost", parts.port or 6379)

    def ask(self, protocol: int, commands: list[Command]) -> tuple[list[Any], list[Any]]:
        """Return all answers, and what a listener heard."""
        with (
            socket.create_connection(self._at) as asks,
            socket.create_connection(self._at) as hears,
        ):
            self._say(asks, [(b"FLUSHALL",), (b"SCRIPT", b"FLUSH"), *LOADED])
            self._say(hears, [(b"HELLO", b"%d" % protocol), (b"SUBSCRIBE", b"heard")])
            answers = self._say(asks, [(b"HELLO", b"%d" % protocol), *commands])
            heard = self._say(hears, [(b"SUBSCRIBE", b"end")], until=b"end")
        return answers[1:], heard

    def _say(self, on: socket.socket, said: list[Command], until: bytes | None = None) -> list[Any]:
        on.sendall(b"".join(map(pack, said)))
        reader = hiredis.Reader(notEnoughData=INCOMPLETE)
        answers: list[Any] = []
        while len(answers) < len(said) or (until and answers[-1][1] != until):
            answer = reader.gets()
            if answer is INCOMPLETE:
                reader.feed(on.recv(1 << 16))
            else:
                answers.append(answer)
        return answers


class Line:
    """Keeps what a simulated server sends."""

    def __init__(self) -> None:
        self.reader = hiredis.Reader(notEnoughData=INCOMPLETE)

    def send(self, data: bytes) -> None:
        """Keep it."""
        self.reader.feed(data)

    def hang_up(self) -> None:
        """Nothing more comes."""

    def answers(self) -> list[Any]:
        """Return all that came."""
        return list(iter(self.reader.gets, INCOMPLETE))


class Nobody:
    """Watches nothing."""

    def before(self, server: RedisServer) -> None:
        """Look."""

    def after(self, server: RedisServer, session: Session) -> None:
        """Look."""

    def answered(
        self, server: RedisServer, session: Session, words: list[bytes], reply: Any
    ) -> None:
        """Look."""


def simulated(protocol: int, commands: list[Command]) -> tuple[list[Any], list[Any]]:
    """Ask a simulated server the same."""
    server = RedisServer("redis", lambda: time.time() - EPOCH_US / 1e6, Nobody())
    for each in OURS:
        server.learn(each.source)
    asks, hears = Line(), Line()
    hearing = server.accept(hears, None)
    hearing.receive(pack((b"HELLO", b"%d" % protocol)) + pack((b"SUBSCRIBE", b"heard")))
    hears.answers()
    asking = server.accept(asks, None)
    asking.receive(b"".join(map(pack, [(b"HELLO", b"%d" % protocol), *commands])))
    hearing.receive(pack((b"SUBSCRIBE", b"end")))
    return asks.answers()[1:], hears.answers()


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("what", ["plain", "scripted", "ours", "permits"])
def test_both_answer_alike(embedded_redis: EmbeddedRedis, what: str, protocol: int) -> None:
    """Plain commands, small scripts and our own, and what a listener hears of them."""
    commands = {
        "plain": plain,
        "scripted": st.one_of(plain, scripted),
        "ours": ours,
        "permits": permits,
    }[what]
    first = [AHEAD_OF_CLOCKS] if what == "permits" else []
    real = Real(embedded_redis.url)

    @settings(
        max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(st.lists(commands, min_size=1, max_size=12))
    def alike(said: list[Command]) -> None:
        ms = what == "permits" or any(words[0] == b"PTTL" for words in said)
        there, heard_there = real.ask(protocol, [*first, *said])
        here, heard_here = simulated(protocol, [*first, *said])
        assert normal(here, ms=ms) == normal(there, ms=ms)
        assert normal(heard_here) == normal(heard_there)

    alike()
