"""Whatever a server sends, at any moment: nothing raises, nobody waits for ever."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import pytest
from anyio import fail_after
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aiodistlock.connection import keeper, silence
from aiodistlock.connection.inbox import Inbox
from aiodistlock.connection.opening import Opener
from aiodistlock.connection.pipe import Pipe
from aiodistlock.connection.wire import MOST_UNREAD, Wire
from aiodistlock.core.ack import parse_ack
from aiodistlock.core.backoff import Backoff
from aiodistlock.core.clock import local_clock
from aiodistlock.core.escaping import outlined
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import ClientOptions
from aiodistlock.deployments.durable.pipe import DurablePipe
from aiodistlock.deployments.durable.store import Barrier
from aiodistlock.deployments.single.store import SingleStore
from aiodistlock.protocol import answers, scripts
from aiodistlock.protocol.grant_message import prove
from aiodistlock.protocol.operations import Operations
from aiodistlock.protocol.redis_call import RedisCall
from tests.owner import IdleOwner
from tests.proxy import scripts_in
from tests.resp import flat_blobs, frame_end

CHANNEL = b"inbox:me"
KEYS = LockKeys("wallet", "lock:")
SECRET = b"secret"
_GRANT = b"2 1764497110000000 1764497110000000 1000 me:1 lock:wallet"
GRANT = prove(_GRANT, SECRET) + b" " + _GRANT

HONEST: dict[bytes, bytes] = {
    scripts.ACQUIRE.sha: b"*4\r\n:1\r\n%b:1764497110000000\r\n:1764497110000000\r\n",
    scripts.PASS_ON.sha: b"*4\r\n:4\r\n%b:1764497110000000\r\n:1764497110000000\r\n",
    scripts.RENEW.sha: b"*3\r\n:4\r\n%b:0\r\n",
    scripts.RELEASE.sha: b"*3\r\n:4\r\n%b:0\r\n",
    scripts.ABANDON.sha: b"*3\r\n:4\r\n%b:1\r\n",
    scripts.CLAIM.sha: b"*2\r\n:4\r\n%b",
    scripts.MOVE_END.sha: b"*3\r\n:4\r\n%b:9\r\n",
    scripts.LEADER.sha: b"*6\r\n:4\r\n%b$0\r\n\r\n:-2\r\n:0\r\n$0\r\n\r\n",
    scripts.PROCLAIM.sha: b"*2\r\n:4\r\n%b",
    scripts.INSPECT.sha: b"*5\r\n:4\r\n%b$0\r\n\r\n:-2\r\n*0\r\n",
}
"""What a server answers to each script, but for the tag."""


def bulk(text: bytes) -> bytes:
    """Return a text as RESP writes it."""
    return b"$%d\r\n%b\r\n" % (len(text), text)


def _aggregate(kind: bytes) -> Callable[[list[bytes]], bytes]:
    pairs = kind in b"%|"

    def join(parts: list[bytes]) -> bytes:
        parts = parts[: len(parts) // 2 * 2] if pairs else parts
        return b"%b%d\r\n%b" % (kind, len(parts) // 2 if pairs else len(parts), b"".join(parts))

    return join


_WORDS = st.sampled_from(
    [b"message", b"subscribe", b"smessage", CHANNEL, GRANT, b"me:1", b"", b"\xff", b"9" * 5000]
)
_LEAVES = st.one_of(
    st.integers(0, 7).map(lambda n: b":%d\r\n" % n),
    st.integers(-(2**63), 2**63 - 1).map(lambda n: b":%d\r\n" % n),
    _WORDS.map(bulk),
    st.just(b"<tag>"),
    st.sampled_from(
        [
            *(b"+OK\r\n", b"_\r\n", b",1.5\r\n", b",nan\r\n", b",inf\r\n", b"#t\r\n", b"#f\r\n"),
            *(b"$-1\r\n", b"*-1\r\n", b"(" + b"9" * 5000 + b"\r\n", b"=7\r\ntxt:abc\r\n"),
            *(b"-ERR no\r\n", b"-\r\n", b"-NOSCRIPT gone\r\n", b"-READONLY no\r\n"),
            *(b"!3\r\nERR\r\n", b"$?\r\n", b"nonsense\r\n", b"\x00", b"*-7\r\n", b"$77\r\nshort"),
        ]
    ),
)
VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        *(
            st.lists(inner, max_size=6).map(_aggregate(kind))
            for kind in (b"*", b"~", b">", b"%", b"|")
        )
    ),
    max_leaves=12,
)
TAGGED = st.tuples(st.integers(0, 8), st.lists(VALUES, max_size=5)).map(
    lambda drawn: b"*%d\r\n:%d\r\n<tag>%b" % (2 + len(drawn[1]), drawn[0], b"".join(drawn[1]))
)
"""The right tag, in whatever shape."""

SENT = st.one_of(VALUES, TAGGED)


def _honest(words: list[bytes], sha: bytes, number: int) -> bytes:
    if sha != scripts.BATCH.sha:
        return HONEST[sha] % (b":%d\r\n" % number)
    names = scripts_in(words)
    answers = [
        HONEST[getattr(scripts, name).sha] % (b":%d\r\n" % each)
        for each, name in enumerate(names, number)
    ]
    return b"*%d\r\n:8\r\n:%d\r\n:1\r\n%b" % (3 + len(names), number, b"".join(answers))


class Server:
    """Answers as Redis does, but that each answer may have something else in its place.

    :param instead: what is sent in place of the next answers; ``None`` for the answer
    """

    def __init__(self, instead: list[bytes | None], *, protocol: int) -> None:
        self.instead = deque(instead)
        self.protocol = protocol
        self.connections = 0

    def make_connection(self) -> Any:
        """Return what redis-py would."""
        self.connections += 1
        return _Connection(self)

    def answer(self, words: list[bytes]) -> bytes:
        """Answer one request."""
        # Behind the number stands what is void, after a lost connection.
        number = words[-1].partition(b" ")[0]
        tag = b":%b\r\n" % number if number.isdigit() else b""
        instead = self.instead.popleft() if self.instead else None
        if instead is not None:
            return instead.replace(b"<tag>", tag or b":1\r\n")
        if words[0] == b"SUBSCRIBE":
            kind = b">" if self.protocol == 3 else b"*"
            return b"%b3\r\n%b%b:1\r\n" % (kind, bulk(b"subscribe"), bulk(words[1]))
        if words[0] == b"WAIT":
            return b":1\r\n"
        if words[0] == b"EVALSHA":
            return _honest(words, words[1], int(number))
        if words[0] == b"EVAL":
            source = next(
                each for each in vars(scripts).values() if getattr(each, "source", 0) == words[1]
            )
            return _honest(words, source.sha, int(number))
        return b"+OK\r\n"


class _Connection:
    """As much of redis-py's connection as is used."""

    socket_connect_timeout = None
    retry = Retry(NoBackoff(), 0)
    read_response = send_command = send_packed_command = None

    def __init__(self, server: Server) -> None:
        self.protocol = server.protocol
        self._writer = self._reader = self
        self.transport = _Transport(server)

    async def connect(self) -> None:
        """It is connected."""

    async def disconnect(self, nowait: bool = False) -> None:
        """It is not."""


class _Transport:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._protocol: Any = None
        self._buffer = bytearray()
        self.closed = False

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        self._buffer += data
        while (end := frame_end(self._buffer)) is not None:
            words = flat_blobs(bytes(self._buffer[:end]))
            del self._buffer[:end]
            asyncio.get_running_loop().call_soon(self._answer, words)

    def _answer(self, words: list[bytes]) -> None:
        if not self.closed:
            self._protocol.data_received(self._server.answer(words))

    def abort(self) -> None:
        self.close()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)


def issue(store: SingleStore) -> dict[RedisCall[Any], tuple[type, ...]]:
    """Issue each call once, with what may be answered."""

    def heard(_: object) -> None:
        """Take in the answer."""

    no = (answers.NotOurs, answers.Failed)
    possession = (answers.Granted, answers.Queued, answers.Held, *no)
    # Of names of their own: those that may do travel together.
    names = (LockKeys(f"wallet:{number}", "lock:") for number in range(10))
    return {
        store.acquire(next(names), b"me:1", 1000, 500, heard): possession,
        store.renew(next(names), b"me:1", 1000): (answers.Renewed, *no),
        store.pass_on(
            next(names), b"me:1", b"me:2", ttl_ms=1000, grant_ttl_ms=500, highest=0, on_reply=heard
        ): (answers.Kept, *possession),
        store.release(next(names), b"me:1", 0, float("inf")): (answers.Done, *no),
        store.abandon(next(names), b"me:1", 500): (answers.Done, answers.Failed),
        store.claim(next(names), b"me:1", b"mine", 0): (answers.Claimed, *no),
        store.move_end(next(names), b"me:1"): (answers.Ends, *no),
        store.leader(next(names)): (answers.Led, answers.Failed),
        store.proclaim(next(names), b"me:1", b"text", 1000): (answers.Done, *no),
        store.inspect(next(names)): (answers.Inspected, answers.Failed),
    }


def pipe_to(server: Server, ack: str = "local", *, until: Callable[[], bool]) -> tuple[Pipe, Inbox]:
    """Return a pipe to the server, and its inbox."""
    owner = IdleOwner(ClientOptions(unavailable_after=10.0), busy=until)
    opener = Opener(cast(Any, server))
    inbox = Inbox(opener, CHANNEL, SECRET, owner, owner.on_grant)
    if ack == "local":
        return Pipe(opener, inbox, owner), inbox
    barrier = Barrier(parse_ack(ack), local_clock)
    return DurablePipe(opener, inbox, owner, barrier), inbox


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect anew soon: what is tested is what is read."""
    monkeypatch.setattr(keeper, "RECONNECT", Backoff(initial=0.001, cap=0.001))
    monkeypatch.setattr(silence, "ANSWER_WITHIN", 0.1)  # of a reply that does not end


@pytest.mark.parametrize("ack", ["local", "replicas:1"])
@pytest.mark.parametrize("protocol", [3, 2])
@given(st.lists(st.one_of(st.none(), SENT), max_size=10))
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
def test_every_call_is_answered_whatever_came_before(
    protocol: int, ack: str, instead: list[bytes | None]
) -> None:
    """What cannot be read is asked again; each call ends, with an answer of its own kind."""

    async def scenario() -> None:
        raised: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
        server = Server(instead, protocol=protocol)
        pipe, inbox = pipe_to(server, ack, until=lambda: False)
        inbox.connected(on_pipe=protocol == 3)
        inbox.open()
        wanted = issue(SingleStore(pipe, inbox, Operations()))
        with fail_after(20):  # ten replies that do not end, on a busy machine
            for call, kinds in wanted.items():
                answer = await call
                assert isinstance(answer, kinds), answer
        await pipe.aclose()
        assert raised == []

    asyncio.run(scenario())


@pytest.mark.parametrize("protocol", [3, 2])
@given(st.lists(SENT, min_size=1, max_size=4))
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
def test_what_nobody_asked_for_raises_nothing(protocol: int, sent: list[bytes]) -> None:
    """At the inbox and on an idle pipe: taken in, or the end of the connection."""

    async def scenario() -> None:
        server = Server([], protocol=protocol)
        pipe, inbox = pipe_to(server, until=lambda: True)
        store = SingleStore(pipe, inbox, Operations())
        with fail_after(5):
            await store.inspect(KEYS)
            inbox.open()
            while not inbox.heard:
                await asyncio.sleep(0)
            for data in sent:
                for wire in (pipe._wire, inbox._wire):
                    if wire is not None:
                        wire.data_received(data.replace(b"<tag>", b":1\r\n"))
            # And none of it is taken for the answer to what is asked next.
            for call, kinds in issue(store).items():
                assert isinstance(await call, kinds)
        await pipe.aclose()

    asyncio.run(scenario())


async def _wire() -> tuple[Wire, list[Exception], list[Any]]:
    ended: list[Exception] = []
    replies: list[Any] = []
    connection = Server([], protocol=3).make_connection()
    return (
        Wire(connection, replies.append, replies.append, ended.append, local_clock),
        ended,
        replies,
    )


@pytest.mark.parametrize("head", [b"$1000000000\r\n", b"*3\r\n$1000000000\r\n", b"+"])
async def test_a_reply_without_an_end_is_not_taken_in(head: bytes) -> None:
    """A gigabyte from a server that is none of ours must not fill the memory of its client."""
    wire, ended, _ = await _wire()
    wire.data_received(head)
    chunk, count = b"x" * 2**20, 0
    while not ended:
        wire.data_received(chunk)
        count += 1
        assert count <= MOST_UNREAD // len(chunk)
    assert len(str(ended[0])) < 300


async def test_a_reply_of_ten_megabytes_is_taken_in_whole() -> None:
    """The queue of a name may be long, and the bound is for one reply, not for all together."""
    wire, ended, replies = await _wire()
    for _ in range(3):
        wire.data_received(b"$10000000\r\n")
        for _ in range(10):
            wire.data_received(b"x" * 1_000_000)
        wire.data_received(b"\r\n")
    assert [len(reply) for reply in replies] == [10_000_000] * 3
    assert ended == []


async def test_what_is_nested_without_end_ends_the_connection() -> None:
    """Neither the parser nor the message exhausts the stack."""
    wire, ended, _ = await _wire()
    wire.data_received(b"*1\r\n" * 200_000 + b":1\r\n")
    assert 0 < len(str(ended[0])) < 300


async def test_what_came_is_told_once_and_named_by_the_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server that answers nonsense for good: one warning, and the call's failure names it."""

    class Nonsense(Server):
        def answer(self, words: list[bytes]) -> bytes:
            if words[0] == b"EVALSHA":
                return b"*3\r\n:1\r\n:%b\r\n$5\r\nwords\r\n" % words[-1].split()[0]
            return super().answer(words)

    server = Nonsense([], protocol=2)
    pipe, inbox = pipe_to(server, until=lambda: False)
    pipe._silence._unavailable_after = 0.2
    with caplog.at_level(logging.WARNING), fail_after(5):
        failed = await SingleStore(pipe, inbox, Operations()).inspect(KEYS)
    assert isinstance(failed, answers.Failed)
    assert "b'words'" in str(failed.cause)
    assert len([each for each in caplog.records if "words" in each.getMessage()]) == 1
    await pipe.aclose()


def test_what_is_shown_is_bounded_and_escaped() -> None:
    """Whatever somebody put into Redis, a line of a log stays a line."""
    for value in (
        b"\x1b[2J\n" * 1000,
        ["x" * 10_000] * 1000,
        {b"k" * 1000: [[[[[[[1]]]]]]]},
        ValueError("\x1b" * 10_000),
        10**50,
    ):
        text = outlined(value)
        assert len(text) < 800
        assert text.isprintable()
