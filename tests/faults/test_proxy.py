import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable

import pytest
import redis.asyncio as redis_asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.proxy import ChaosProxy, Delay, Do, Frame, Hold, Kind, Repeat, on
from tests.resp import flat_blobs, frame_end


def client(proxy: ChaosProxy, protocol: int = 3) -> redis_asyncio.Redis:
    """Make a client that connects through the proxy and never retries."""
    return redis_asyncio.Redis.from_url(
        proxy.url,
        protocol=protocol,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=5,
    )


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
async def through(
    proxy: ChaosProxy, request: pytest.FixtureRequest
) -> AsyncIterator[redis_asyncio.Redis]:
    """A client behind the proxy, with each protocol."""
    async with client(proxy, request.param) as redis:
        yield redis


async def unanswered(request: Awaitable[object], seen: Awaitable[None]) -> None:
    """Check that a request gets no answer after the proxy has seen it, and give it up."""
    task = asyncio.ensure_future(request)
    await seen
    # Real time: silence can only be told by waiting for a while.
    with pytest.raises((TimeoutError, RedisTimeoutError)):
        await asyncio.wait_for(task, 0.1)


async def test_frames_pass_unchanged_without_rules(
    through: redis_asyncio.Redis, proxy: ChaosProxy, namespace: str
) -> None:
    """A proxy without rules is invisible, also to large values and pipelines."""
    big = bytes(range(256)) * 4096
    key = f"{namespace}big"
    assert await through.set(key, big)
    assert await through.get(key) == big
    pipe = through.pipeline(transaction=True)
    for _ in range(50):
        pipe.incr(f"{namespace}n")
    pipe.delete(key, f"{namespace}n")
    assert await pipe.execute() == [*range(1, 51), 2]
    assert proxy.requests["INCRBY"] == 50
    assert proxy.counts["reply", "EXEC"] == 1


async def test_cut_before_a_reply_leaves_the_effect_at_the_server(
    proxy: ChaosProxy, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """A reply lost with its connection was executed, and the client gets an error."""
    proxy.rules = [on("reply", "INCRBY", Do.CUT_BEFORE)]
    async with client(proxy) as through:
        with pytest.raises(RedisConnectionError):
            await through.incr(f"{namespace}n")
    assert await redis.getdel(f"{namespace}n") == b"1"


async def test_cut_before_a_request_leaves_no_effect(
    proxy: ChaosProxy, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """A request that the cut came before never reaches the server."""
    proxy.rules = [on("request", "INCRBY", Do.CUT_BEFORE)]
    async with client(proxy) as through:
        with pytest.raises(RedisConnectionError):
            await through.incr(f"{namespace}n")
    assert await redis.get(f"{namespace}n") is None


async def test_cut_after_a_request_is_executed_though_nobody_hears(
    proxy: ChaosProxy, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """A request that the cut came after is always executed."""
    proxy.rules = [on("request", "RPUSH", Do.CUT_AFTER)]
    async with client(proxy) as through:
        with pytest.raises(RedisConnectionError):
            await through.rpush(f"{namespace}n", "x")
    assert await redis.blpop([f"{namespace}n"], timeout=5) is not None


async def test_cut_after_a_reply_lets_that_reply_through(
    proxy: ChaosProxy, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """The reply that the cut came after arrives, and is the connection's last."""
    proxy.rules = [on("reply", "INCRBY", Do.CUT_AFTER, number=1)]
    async with client(proxy) as through:
        assert await through.incr(f"{namespace}n") == 1
        with pytest.raises(RedisConnectionError):
            await through.incr(f"{namespace}n")
        assert await through.incr(f"{namespace}n") == 2
    await redis.delete(f"{namespace}n")


async def test_a_dropped_request_or_reply_is_silence(
    proxy: ChaosProxy, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """What is dropped leaves the connection open and the client waiting."""
    expected: dict[Kind, bytes | None] = {"request": None, "reply": b"1"}
    for dropped, left in expected.items():
        proxy.counts.clear()
        proxy.rules = [on(dropped, "INCRBY", Do.DROP)]
        async with client(proxy) as through:
            await unanswered(through.incr(f"{namespace}n"), proxy.seen(dropped, "INCRBY"))
        assert await redis.getdel(f"{namespace}n") == left


async def test_a_held_reply_arrives_when_released(
    proxy: ChaosProxy, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """A reply is held, after its request has run, until the test lets it go."""
    release = asyncio.Event()
    proxy.rules = [on("reply", "INCRBY", Hold(release))]
    async with client(proxy) as through:
        task = asyncio.ensure_future(through.incr(f"{namespace}n"))
        await proxy.seen("reply", "INCRBY")
        assert await redis.getdel(f"{namespace}n") == b"1"
        assert not task.done()
        release.set()
        assert await task == 1


async def test_a_delayed_reply_takes_that_long(
    proxy: ChaosProxy, through: redis_asyncio.Redis
) -> None:
    """A delay postpones the frame by at least its seconds."""
    proxy.rules = [on("reply", "PING", Delay(0.1))]
    started_at = asyncio.get_running_loop().time()
    await through.ping()
    assert asyncio.get_running_loop().time() - started_at >= 0.1


async def test_a_repeated_request_runs_twice_and_answers_last(
    proxy: ChaosProxy, through: redis_asyncio.Redis, namespace: str
) -> None:
    """A request that was re-sent runs twice; the client sees one reply, the last."""
    proxy.rules = [on("request", "INCRBY", Repeat(), number=1)]
    assert await through.incr(f"{namespace}n") == 2
    assert await through.incr(f"{namespace}n") == 3
    assert await through.delete(f"{namespace}n") == 1


async def test_a_repeated_push_arrives_twice_and_shifts_no_reply(
    proxy: ChaosProxy, through: redis_asyncio.Redis, namespace: str
) -> None:
    """Published messages can be repeated, and are told apart from replies."""
    proxy.rules = [on("push", "MESSAGE", Repeat())]
    async with client(proxy) as subscriber, subscriber.pubsub() as inbox:
        await inbox.subscribe(namespace)
        confirmed = await inbox.get_message(timeout=5)
        assert confirmed is not None
        assert confirmed["type"] == "subscribe"
        assert await through.publish(namespace, "hello") == 1
        for _ in range(2):
            message = await inbox.get_message(timeout=5)
            assert message is not None
            assert message["data"] == b"hello"
        await inbox.ping()
        await proxy.seen("reply", "PING")
    assert proxy.counts["push", "SUBSCRIBE"] == 1
    assert proxy.counts["push", "MESSAGE"] == 1


async def test_a_dropped_push_is_lost_and_the_connection_goes_on(
    proxy: ChaosProxy, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """A lost message costs that message only, under both protocols."""
    for protocol in (2, 3):
        number = proxy.counts["push", "MESSAGE"] + 1
        proxy.rules = [on("push", "MESSAGE", Do.DROP, number=number)]
        async with client(proxy, protocol) as through, through.pubsub() as inbox:
            await inbox.subscribe(namespace)
            assert await inbox.get_message(timeout=5)
            await redis.publish(namespace, "lost")
            await redis.publish(namespace, "heard")
            message = await inbox.get_message(timeout=5)
            assert message is not None
            assert message["data"] == b"heard"


async def test_a_black_hole_swallows_open_and_new_connections(
    proxy: ChaosProxy,
) -> None:
    """Behind a black hole connecting works and nothing is ever answered."""
    async with client(proxy) as before, client(proxy) as after:
        await before.ping()
        proxy.black_hole()
        await unanswered(before.ping(), proxy.seen("request", "PING", 2))
        await unanswered(after.ping(), proxy.seen("request", "HELLO", 2))
        assert proxy.connections == 2
        assert proxy.requests["PING"] == 2
        await proxy.accept()
        async with client(proxy) as later:
            assert await later.ping()


async def test_a_black_hole_may_begin_with_a_frame(
    proxy: ChaosProxy, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """From the chosen frame on, the connection is silent both ways."""
    proxy.rules = [on("reply", "INCRBY", Do.BLACK_HOLE)]
    async with client(proxy) as through:
        await unanswered(through.incr(f"{namespace}n"), proxy.seen("reply", "INCRBY"))
    assert await redis.getdel(f"{namespace}n") == b"1"


async def test_refuse_and_cut_end_what_there_is(proxy: ChaosProxy) -> None:
    """Refused connections fail at once; open ones end when they are cut."""
    async with client(proxy) as through:
        await through.ping()
        await proxy.refuse()
        await through.ping()
        await proxy.cut()
        for _ in range(2):
            with pytest.raises(RedisConnectionError):
                await through.ping()
        await proxy.accept()
        assert await through.ping()


async def test_scripts_are_counted_by_their_names(
    proxy: ChaosProxy, through: redis_asyncio.Redis
) -> None:
    """EVAL and EVALSHA of a known script count under the script's name."""
    script = "return 7"
    sha = hashlib.sha1(script.encode()).hexdigest()
    proxy.script_names[sha] = "seven"
    assert await through.eval(script, 0) == 7
    assert await through.evalsha(sha, 0) == 7
    assert await through.eval("return 8", 0) == 8
    assert proxy.requests["seven"] == 2
    assert proxy.requests["EVAL"] == 1


async def test_rules_are_asked_in_order_for_each_frame(
    proxy: ChaosProxy, through: redis_asyncio.Redis, namespace: str
) -> None:
    """The first rule that answers decides, and a rule sees arguments and numbers."""
    seen: list[tuple[str, int]] = []

    def watch(frame: Frame) -> None:
        if frame.kind == "request" and frame.name == "INCRBY":
            seen.append((frame.args[1].decode(), frame.number))

    proxy.rules = [watch, on("request", "INCRBY", Do.PASS), lambda _: Do.CUT_BEFORE]
    proxy.rules[2] = on("request", "INCRBY", Do.CUT_BEFORE)
    assert await through.incrby(f"{namespace}n", 1) == 1
    assert await through.incrby(f"{namespace}n", 1) == 2
    await through.delete(f"{namespace}n")
    assert seen == [(f"{namespace}n", 1), (f"{namespace}n", 2)]


async def test_an_unreachable_server_is_a_cut_connection() -> None:
    """A client behind a proxy without a server gets an error, not a hang."""
    async with ChaosProxy("127.0.0.1", 1) as proxy, client(proxy) as through:
        with pytest.raises(RedisConnectionError):
            await through.ping()


@pytest.mark.parametrize(
    ("frame", "values"),
    [
        (b"+OK\r\n", [b"OK"]),
        (b"$-1\r\n", []),
        (b"*-1\r\n", []),
        (b"*0\r\n", []),
        (b"_\r\n", [b""]),
        (b"*2\r\n$3\r\nGET\r\n$2\r\n\r\n\r\n", [b"GET", b"\r\n"]),
        (b"*2\r\n*1\r\n:1\r\n*2\r\n:2\r\n:3\r\n", [b"1", b"2", b"3"]),
        (b"%1\r\n+a\r\n~2\r\n#t\r\n,1.5\r\n", [b"a", b"t", b"1.5"]),
        (b">2\r\n$7\r\nmessage\r\n=5\r\ntxt:x\r\n", [b"message", b"txt:x"]),
        (b"|1\r\n+ttl\r\n:9\r\n*1\r\n(123\r\n", [b"ttl", b"9", b"123"]),
        (b"!5\r\nERR x\r\n", [b"ERR x"]),
    ],
)
async def test_frames_end_where_resp_says(frame: bytes, values: list[bytes]) -> None:
    """Every type ends at its last byte, no prefix is taken for a whole frame."""
    assert frame_end(frame + b"+NEXT\r\n") == len(frame)
    assert [frame_end(frame[:cut]) for cut in range(len(frame))] == [None] * len(frame)
    assert flat_blobs(frame) == values


async def test_the_url_keeps_user_password_and_database() -> None:
    """A client behind the proxy logs in as it would without it."""
    proxy = ChaosProxy.before("redis://me:secret@10.0.0.1:7000/3?protocol=2")
    expected = f"redis://me:secret@127.0.0.1:{proxy.port}/3?protocol=2"
    assert proxy.url == expected
    with pytest.raises(ValueError, match="only plain TCP"):
        ChaosProxy.before("unix:///tmp/redis.sock")
