"""Options are validated together, once, before any I/O."""

import math
from typing import Any

import pytest
from redis.asyncio import Redis

from aiodistlock import AsyncLock, Backoff, LockClient
from aiodistlock.core.options import MAX_SECONDS, MIN_TTL, ClientOptions, LockOptions, to_ms

NOT_NUMBERS: tuple[Any, ...] = ("1", None, True, False, math.nan, [], 1j)
OUTSIDE: tuple[Any, ...] = (-1, -math.inf, math.inf, MAX_SECONDS * 2)

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
    "label": ("", "two words", "tab\t", "Zürich", "x" * 129, 7, b"host"),
    "unavailable_after": (*NOT_NUMBERS, *OUTSIDE, 0),
    "claim_window": (*NOT_NUMBERS, *OUTSIDE, 0, 0.049),
    "handoff_span": (*NOT_NUMBERS, *OUTSIDE),
    "fence_retention": (*NOT_NUMBERS, *OUTSIDE, 0, 0.9),
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
        LockClient(unreachable, label="", claim_window=0, handoff_span=-1, fence_retention=0)
    for name in ("claim_window", "handoff_span", "fence_retention"):
        assert name in str(caught.value)


@pytest.mark.parametrize("shared", [True, False], ids=["redis client", "LockClient"])
def test_a_ttl_is_shorter_than_the_retention(unreachable: Redis, shared: bool) -> None:
    """The fence counter must outlive the lease: a ttl of a day is refused, early."""
    source = unreachable if shared else LockClient(unreachable)
    with pytest.raises(ValueError, match="fence_retention"):
        AsyncLock(source, "wallet", ttl=86_400.0)
    AsyncLock(LockClient(unreachable, fence_retention=90_000), "wallet", ttl=86_400.0)


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
    """README and docstrings state these values."""
    options = LockOptions()
    assert (options.ttl, options.timeout, options.max_hold) == (10.0, None, None)
    assert (options.auto_renew, options.on_lost, options.reentrant) == (True, "cancel", False)
    assert (options.local_handoffs, options.namespace) == (128, "lock:")
    assert options.backoff == Backoff(0.05, 2.0, 1.0, 0.5)
    client = ClientOptions()
    assert (client.label, client.unavailable_after, client.claim_window) == (None, 30.0, 1.0)
    assert (client.handoff_span, client.fence_retention) == (0.05, 86_400.0)


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
