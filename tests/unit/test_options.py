"""Options are validated together, once, before any I/O."""

import math
import pickle
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster

from aiodistlock import AcquireTimeout, AsyncLock, Backoff, LockClient, locked
from aiodistlock.core.options import MAX_SECONDS, MIN_TTL, ClientOptions, LockOptions, to_ms

NOT_NUMBERS: tuple[Any, ...] = ("1", None, True, False, math.nan, [], 1j)
OUTSIDE: tuple[Any, ...] = (
    *(-1, -math.inf, math.inf, MAX_SECONDS * 2),
    *(timedelta(seconds=-1), timedelta.max),
)

BAD_LOCK: dict[str, tuple[Any, ...]] = {
    "ttl": (*NOT_NUMBERS, *OUTSIDE, 0, 0.049),
    "timeout": (*(each for each in NOT_NUMBERS if each is not None), *OUTSIDE),
    "max_hold": (*(each for each in NOT_NUMBERS if each is not None), *OUTSIDE, 0, 0.049),
    "auto_renew": (None, 1, 0, "yes"),
    "reentrant": (None, 1, 0, "yes"),
    "on_lost": (None, "", "Cancel", "raise", True),
    "local_handoffs": (None, -1, 1001, 1.5, 2.0, "3", True, math.nan),
    "backoff": (0.1, "fast", {"initial": 1.0}),
    "namespace": (None, 7, b"lock:"),
}
BAD_CLIENT: dict[str, tuple[Any, ...]] = {
    "label": ("", "two words", "tab\t", "Zürich", "x" * 129, "a{b", "}", 7, b"host"),
    "unavailable_after": (*NOT_NUMBERS, *OUTSIDE, 0),
    "claim_window": (*NOT_NUMBERS, *OUTSIDE, 0, 0.049),
    "handoff_span": (*NOT_NUMBERS, *OUTSIDE),
    "quarantine": (*NOT_NUMBERS, *OUTSIDE, 0, 0.049),
}


def _pairs(bad: dict[str, tuple[Any, ...]]) -> list[tuple[str, Any]]:
    return [(option, value) for option, values in bad.items() for value in values]


@pytest.fixture
def unreachable() -> Redis:
    """A client whose server does not exist: whoever connects fails."""
    return Redis(host="host.invalid")


@pytest.mark.parametrize(("option", "value"), _pairs(BAD_LOCK), ids=repr)
def test_a_bad_lock_option_is_named(unreachable: Redis, option: str, value: Any) -> None:
    """Each wrong value is a ``ValueError`` on making the lock, which tells both."""
    with pytest.raises(ValueError, match=option) as caught:
        AsyncLock(unreachable, "wallet", **{option: value})
    assert repr(value) in str(caught.value)
    with pytest.raises(ValueError, match=option):
        LockClient.in_memory().lock("wallet", **{option: value})


@pytest.mark.parametrize(("option", "value"), _pairs(BAD_CLIENT), ids=repr)
def test_a_bad_client_option_is_named(unreachable: Redis, option: str, value: Any) -> None:
    """Each wrong value is a ``ValueError`` on making the client, which tells both."""
    if option == "label" and value is None:
        return
    with pytest.raises(ValueError, match=option) as caught:
        LockClient(unreachable, **{option: value})
    assert repr(value) in str(caught.value)


def test_all_problems_are_told_at_once(unreachable: Redis) -> None:
    """Who has got five options wrong need not try five times."""
    with pytest.raises(ValueError, match="ttl") as caught:
        AsyncLock(
            unreachable,
            "wallet",
            ttl=0,
            timeout=-1,
            max_hold=0,
            auto_renew=None,  # type: ignore[arg-type]  # wrong: that is the test
            reentrant=None,  # type: ignore[arg-type]  # the same
            on_lost="explode",  # type: ignore[arg-type]  # the same
            local_handoffs=-1,
        )
    names = ("ttl", "timeout", "max_hold", "auto_renew", "reentrant", "on_lost", "local_handoffs")
    assert [name for name in names if name not in str(caught.value)] == []
    with pytest.raises(ValueError, match="label") as caught:
        LockClient(unreachable, label="", claim_window=0, handoff_span=-1, quarantine=0)
    for name in ("claim_window", "handoff_span", "quarantine"):
        assert name in str(caught.value)


TOLD_TOGETHER: dict[str, tuple[Callable[[Redis], object], list[str]]] = {
    "a lock": (lambda redis: AsyncLock(redis, 5, ttl=-1), ["name", "ttl"]),  # type: ignore[arg-type]
    "a lock and its client": (
        lambda redis: AsyncLock([redis], "", ttl=86_400, timeout=-1),
        ["name", "timeout", "quarantine"],
    ),
    "a lock on a client": (
        lambda redis: LockClient([redis], quarantine=5).lock("a{}", ack="none", local_handoffs=-1),
        ["braces", "ack", "local_handoffs", "quarantine"],
    ),
    "a quorum": (
        lambda redis: AsyncLock([redis], "", ttl=61, ack="fsync"),
        ["name", "quarantine", "ack"],
    ),
    "a cluster": (
        lambda _: AsyncLock(RedisCluster("h"), "w", namespace=7, ack="fsync"),  # type: ignore[arg-type]
        ["namespace", "ack"],
    ),
    "no nodes": (lambda _: AsyncLock([], "", ttl=0), ["name", "ttl", "at least one"]),
    "no place": (lambda _: AsyncLock("redis://h", "", ttl=0), ["name", "ttl", "Redis"]),  # type: ignore[arg-type]
    "a client": (lambda _: LockClient([], label="", quarantine=0), ["one", "label", "quarantine"]),
    "a URL": (
        lambda _: LockClient.from_url("redis://h:99999", label="", claim_window=0),
        ["port", "label", "claim_window"],
    ),
    "URLs": (
        lambda _: LockClient.from_url(["redis+cluster://h/7", "redis://h:x"], quarantine=0),
        ["databases", "port", "quarantine"],
    ),
    "a function": (
        lambda redis: locked("{", [redis], ttl=86_400, timeout=-1, namespace="{}", nonsense=1),  # type: ignore[call-arg]
        ["template", "quarantine", "timeout", "braces", "nonsense"],
    ),
    "a function with a late client": (
        lambda _: locked("", LockClient.in_memory, timeout=-1, namespace=5),  # type: ignore[arg-type]
        ["template", "timeout", "namespace"],
    ),
    "pauses": (lambda _: Backoff(0, 0, 0, 2), ["initial", "factor", "cap", "jitter"]),
}


@pytest.mark.parametrize(("make", "told"), TOLD_TOGETHER.values(), ids=TOLD_TOGETHER)
def test_what_is_wrong_at_any_stage_is_told_at_once(
    unreachable: Redis, make: Callable[[Redis], object], told: list[str]
) -> None:
    """Names, keys, options, place, URL and what the client can bear: one ``ValueError``."""
    with pytest.raises(ValueError, match=told[0]) as caught:
        make(unreachable)
    assert [word for word in told if word not in str(caught.value)] == []
    assert caught.value.__suppress_context__


async def test_a_lease_is_not_extended_beyond_what_its_client_bears() -> None:
    """A ``ValueError``, and it goes on."""
    async with LockClient.in_memory() as locks, locks.lock("wallet") as lease:
        for ttl in (2 * MAX_SECONDS, timedelta(days=999), 0, timedelta(0), "5"):
            with pytest.raises(ValueError, match="ttl"):
                await lease.extend(ttl)  # type: ignore[arg-type]  # wrong: that is the test
        assert 9 < lease.validity < 10


async def test_durations_may_be_timedeltas(unreachable: Redis) -> None:
    """Wherever seconds are taken; they are the same as the number of seconds."""
    half, minute = timedelta(seconds=0.5), timedelta(minutes=1)
    lock = AsyncLock(unreachable, "w", ttl=minute, timeout=half, max_hold=timedelta(hours=2))
    assert (lock._options.ttl, lock._options.timeout, lock._options.max_hold) == (60, 0.5, 7200)
    assert (lock._options.ttl_ms, lock._options.grant_ttl_ms) == (60_000, 1_000)
    assert lock.hold(half)._timeout == 0.5
    options = LockClient(
        unreachable,
        unavailable_after=half,
        claim_window=half,
        handoff_span=half,
        quarantine=minute,
    ).options
    assert (options.unavailable_after, options.claim_window, options.handoff_span) == (0.5,) * 3
    assert options.quarantine == 60
    assert Backoff(timedelta(milliseconds=50), cap=timedelta(seconds=1)) == Backoff()
    assert pickle.loads(pickle.dumps(Backoff(cap=2.0))) == Backoff(cap=2.0)  # noqa: S301  # ours
    async with (
        LockClient.in_memory() as one,
        LockClient.in_memory(share=one) as other,
        one.lock("w", ttl=timedelta(seconds=5)) as lease,
    ):
        assert 4 < lease.validity < 5
        await lease.extend(minute)
        assert 55 < lease.validity < 60
        for timeout in (timedelta(0), half / 100):
            with pytest.raises(AcquireTimeout):
                await other.lock("w").acquire(timeout)


def test_what_is_allowed_is_allowed(unreachable: Redis) -> None:
    """The ends of the ranges, and whole numbers, are accepted."""
    for options in (
        {"ttl": MIN_TTL, "timeout": 0, "max_hold": MIN_TTL, "local_handoffs": 0},
        {"ttl": 1, "timeout": MAX_SECONDS, "max_hold": None, "local_handoffs": 1000},
        {"backoff": None, "namespace": ""},
        {"backoff": Backoff(cap=2.0), "on_lost": "signal"},
    ):
        AsyncLock(unreachable, "wallet", **options)
    LockClient(unreachable, label="worker-1:a", handoff_span=0)


def test_the_defaults_are_the_documented_ones() -> None:
    """Docs and docstrings state these values."""
    options = LockOptions()
    assert (options.ttl, options.timeout, options.max_hold) == (10.0, None, None)
    assert (options.auto_renew, options.on_lost, options.reentrant) == (True, "cancel", False)
    assert (options.local_handoffs, options.namespace) == (128, "lock:")
    assert options.backoff == Backoff(0.05, 2.0, 1.0, 0.5)
    client = ClientOptions()
    assert (client.label, client.unavailable_after, client.claim_window) == (None, 30.0, 1.0)
    assert (client.handoff_span, client.quarantine) == (0.05, 60.0)


def test_equal_options_are_one_object(unreachable: Redis) -> None:
    """Thousands of locks share them; what compares equal and is not the same does not."""
    one, two = LockClient(unreachable), LockClient(unreachable, claim_window=0.5)
    plain = one.lock("a")._options
    assert one.lock("b")._options is AsyncLock(unreachable, "c")._options is plain
    assert two.lock("a")._options.grant_ttl_ms == 500
    assert two.lock("a", auto_renew=False)._options.grant_ttl_ms == 10_000
    assert one.lock("a", ttl=10)._options.ttl_ms == plain.ttl_ms
    assert one.lock("a", namespace="")._options.namespace == ""
    for wrong in ({"auto_renew": 1}, {"ttl": True}, {"local_handoffs": 128.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            one.lock("a", **wrong)


def test_a_backoff_of_the_users_own_is_not_taken_for_another(unreachable: Redis) -> None:
    """Equal values of another class are another backoff; one without a hash is fine."""

    class Steady(Backoff):
        __slots__ = ()

    class Mutable(Backoff):
        __slots__ = ()
        __hash__ = None  # type: ignore[assignment]  # as of a dataclass that is not frozen

    locks = LockClient(unreachable)
    for backoff in (Backoff(), Steady(), Mutable()):
        assert type(locks.lock("a", backoff=backoff)._options.backoff) is type(backoff)


@pytest.mark.parametrize(
    ("seconds", "ms"), [(10.0, 10_000), (0.05, 50), (0.0501, 51), (1 / 3, 334), (0, 0)]
)
def test_the_wire_has_whole_milliseconds(seconds: float, ms: int) -> None:
    """Seconds become milliseconds upwards: a lease is never shorter than promised."""
    assert to_ms(seconds) == ms


@pytest.mark.parametrize(
    ("options", "shares"),
    [({}, True), ({"local_handoffs": 0}, False), ({"auto_renew": False}, False)],
)
def test_which_locks_hand_over_in_memory(options: dict[str, Any], shares: bool) -> None:
    """A lease is handed over in memory only where somebody renews it."""
    assert LockOptions(**options).shares_lease is shares


@pytest.mark.parametrize("source", [None, "redis://localhost", 7, object(), Redis])
def test_a_wrong_source_is_a_type_error(source: Any) -> None:
    """Whatever is no redis-py asyncio client is refused when the lock is made."""
    with pytest.raises(TypeError, match=r"redis\.asyncio\.Redis"):
        AsyncLock(source, "wallet")
    with pytest.raises(TypeError, match=r"redis\.asyncio\.Redis"):
        LockClient(source)


def test_the_blocking_client_is_a_type_error() -> None:
    """redis-py's blocking client is a likely slip, and gets a word of its own."""
    import redis

    with pytest.raises(TypeError, match="blocking"):
        AsyncLock(redis.Redis(), "wallet")  # type: ignore[arg-type]  # wrong: that is the test
