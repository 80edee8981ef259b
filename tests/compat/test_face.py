"""What redis-py's lock does and says, ours does and says, too: each test runs on both."""

import asyncio
import threading
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.lock import Lock
from redis.exceptions import LockError, LockNotOwnedError, ResponseError

from tests.redis.clients import closing


async def remaining(redis: Redis, name: str) -> int:
    """Return the remaining ms of a key."""
    left: int = await redis.pttl(name)
    return left


async def test_a_lock_is_made_by_the_clients_own_method(
    here: Redis, name: str, lock_class: type[Lock]
) -> None:
    """``redis.lock(lock_class=...)`` sets what it is given, and type annotations hold."""
    lock = here.lock(
        name, 9.5, 0.2, False, 1.5, lock_class, thread_local=False, raise_on_release_error=False
    )
    assert type(lock) is lock_class
    assert isinstance(lock, Lock)
    assert (lock.redis, lock.name, lock.timeout, lock.sleep) == (here, name, 9.5, 0.2)
    assert (lock.blocking, lock.blocking_timeout, lock.thread_local) == (False, 1.5, False)
    assert lock.raise_on_release_error is False
    assert lock.local.token is None


@pytest.mark.parametrize(
    ("timeout", "least"), [(10, 9_000), (9.5, 8_500), (0.3, 1), (0.04, 1), (86_000, 8.5e7)]
)
async def test_the_key_is_the_name_and_lasts_for_the_timeout(
    here: Redis, name: str, lock_class: type[Lock], timeout: float, least: float
) -> None:
    """Whole, fractional, short as no lease of this package may be, and long."""
    lock = here.lock(name, timeout, lock_class=lock_class)
    found, left = None, -2
    while left == -2:  # on a busy machine it may have run out before we see it
        assert await lock.acquire()
        async with here.pipeline() as both:
            both.get(name)
            both.pttl(name)
            found, left = await both.execute()
    assert least <= left <= timeout * 1000
    assert found == lock.local.token
    await here.delete(name)


@pytest.mark.parametrize("timeout", [None, 0])
async def test_without_timeout_the_key_stays_until_released(
    here: Redis, name: str, lock_class: type[Lock], timeout: float | None
) -> None:
    """It has no ttl at all."""
    lock = here.lock(name, timeout, lock_class=lock_class)
    assert await lock.acquire()
    assert await remaining(here, name) == -1
    assert await here.get(name) == lock.local.token
    await lock.release()
    assert await here.get(name) is None
    assert lock.local.token is None


@pytest.mark.parametrize("timeout", [None, 10])
@pytest.mark.parametrize("token", ["job 7\r\n", b"\xff\x00", "", b"plain"])
async def test_the_value_is_the_token_that_the_user_gives(
    here: Redis, name: str, lock_class: type[Lock], token: str | bytes, timeout: float | None
) -> None:
    """Any text or bytes, as they are; ``local.token`` has the bytes."""
    lock = here.lock(name, timeout, lock_class=lock_class)
    assert await lock.acquire(token=token)
    expected = token.encode() if isinstance(token, str) else token
    assert await here.get(name) == lock.local.token == expected
    assert (await remaining(here, name) == -1) is (timeout is None)
    assert await lock.owned()
    await lock.release()
    assert await here.get(name) is None


async def test_who_has_the_same_token_is_excluded_all_the_same(
    here: Redis, there: Redis, name: str, lock_class: type[Lock]
) -> None:
    """A token that the user gives need not be unique to exclude."""
    one, other = (redis.lock(name, 10, lock_class=lock_class) for redis in (here, there))
    assert await one.acquire(token="worker")
    assert not await other.acquire(token="worker", blocking=False)
    assert not await other.acquire(token="worker", blocking_timeout=0.05)
    await one.release()
    assert await other.acquire(token="worker", blocking=False)
    await other.release()


async def test_a_held_lock_is_refused_by_every_way_of_not_waiting(
    here: Redis, there: Redis, name: str, lock_class: type[Lock]
) -> None:
    """By argument and by attribute, by time and at once; False, no exception."""
    holder = here.lock(name, 10, lock_class=lock_class)
    assert await holder.acquire()
    for options, arguments in (
        ({"blocking": False}, {}),
        ({}, {"blocking": False}),
        ({"blocking_timeout": 0.01}, {"blocking": False}),
        ({"blocking_timeout": 0.02}, {}),
        ({}, {"blocking_timeout": 0}),
        ({"blocking": False}, {"blocking": True, "blocking_timeout": 0.02}),
    ):
        settings: dict[str, Any] = {"sleep": 0.01, **options}
        other = there.lock(name, 10, lock_class=lock_class, **settings)
        assert await other.acquire(**arguments) is False
        assert other.local.token is None
    assert await holder.owned()
    await holder.release()


async def test_a_block_holds_the_lock_and_says_if_it_could_not(
    here: Redis, there: Redis, name: str, lock_class: type[Lock]
) -> None:
    """It gives the lock itself; in vain it raises redis-py's error, in its words."""
    async with here.lock(name, 10, lock_class=lock_class) as lock:
        assert await here.get(name) == lock.local.token
        with pytest.raises(LockError, match=r"^Unable to acquire lock within the time specified$"):
            async with there.lock(name, blocking_timeout=0.02, sleep=0.01, lock_class=lock_class):
                pass
    assert await here.get(name) is None


async def test_a_block_may_keep_silent_about_a_lock_that_was_lost(
    here: Redis, name: str, lock_class: type[Lock]
) -> None:
    """``raise_on_release_error``: raised, or logged."""
    with pytest.raises(LockNotOwnedError):
        async with here.lock(name, 10, lock_class=lock_class):
            await here.delete(name)
    async with here.lock(name, 10, lock_class=lock_class, raise_on_release_error=False):
        await here.delete(name)
    with pytest.raises(LockError):
        async with here.lock(name, 10, lock_class=lock_class) as lock:
            await lock.release()


async def test_what_was_not_acquired_cannot_be_given_up_or_kept(
    here: Redis, name: str, lock_class: type[Lock]
) -> None:
    """LockError, in redis-py's words; ``extend`` and ``reacquire`` raise when called."""
    lock = here.lock(name, 10, lock_class=lock_class)
    with pytest.raises(LockError, match=r"^Cannot release a lock that's not owned or is already"):
        await lock.release()
    with pytest.raises(LockError, match=r"^Cannot extend an unlocked lock$"):
        lock.extend(1)
    with pytest.raises(LockError, match=r"^Cannot reacquire an unlocked lock$"):
        lock.reacquire()
    lock = here.lock(name, lock_class=lock_class)
    assert await lock.acquire()
    with pytest.raises(LockError, match=r"^Cannot extend a lock with no timeout$"):
        lock.extend(1)
    with pytest.raises(LockError, match=r"^Cannot reacquire a lock with no timeout$"):
        lock.reacquire()
    await lock.release()


@pytest.mark.parametrize("value", [None, "another's"])
async def test_a_lock_that_was_lost_changes_nothing(
    here: Redis, name: str, lock_class: type[Lock], value: str | None
) -> None:
    """LockNotOwnedError from each method, whether the key is gone or another's."""
    lock = here.lock(name, 10, lock_class=lock_class)
    assert await lock.acquire()
    await here.delete(name)
    if value is not None:
        await here.set(name, value)
    with pytest.raises(LockNotOwnedError, match=r"^Cannot extend a lock that's no longer owned$"):
        await lock.extend(10)
    with pytest.raises(LockNotOwnedError, match=r"^Cannot extend a lock that's no longer owned$"):
        await lock.extend(10, replace_ttl=True)
    with pytest.raises(LockNotOwnedError, match=r"^Cannot reacquire a lock that's no longer owned"):
        await lock.reacquire()
    assert not await lock.owned()
    with pytest.raises(LockNotOwnedError, match=r"^Cannot release a lock that's no longer owned$"):
        await lock.release()
    assert await here.get(name) == (value and value.encode())
    assert await remaining(here, name) == (-2 if value is None else -1)
    assert lock.local.token is None
    await here.delete(name)


async def test_time_is_added_replaced_and_set_anew(
    here: Redis, name: str, lock_class: type[Lock]
) -> None:
    """``extend`` adds to what is left, or replaces it; ``reacquire`` begins again."""
    lock = here.lock(name, 10, lock_class=lock_class)
    assert await lock.acquire()
    assert await lock.extend(10.5) is True
    assert 19_000 < await remaining(here, name) <= 20_500
    assert await lock.extend(3.5, replace_ttl=True) is True
    assert 2_500 < await remaining(here, name) <= 3_500
    assert await lock.extend(-1) is True
    assert 1_500 < await remaining(here, name) <= 2_500
    assert await lock.reacquire() is True
    assert 9_000 < await remaining(here, name) <= 10_000
    assert await asyncio.gather(*(lock.extend(5) for _ in range(4))) == [True] * 4
    assert 28_000 < await remaining(here, name) <= 30_000
    await lock.release()


async def test_a_key_that_somebody_made_last_for_ever_cannot_be_extended(
    here: Redis, name: str, lock_class: type[Lock]
) -> None:
    """There is nothing to add to, or replace: LockNotOwnedError, and it stays so."""
    lock = here.lock(name, 10, lock_class=lock_class)
    assert await lock.acquire()
    await here.persist(name)
    for replace_ttl in (False, True):
        with pytest.raises(LockNotOwnedError):
            await lock.extend(10, replace_ttl)
    assert await remaining(here, name) == -1
    assert await lock.reacquire() is True
    assert 9_000 < await remaining(here, name) <= 10_000
    await lock.release()


@pytest.mark.parametrize("arguments", [(-10,), (-20,), (0, True), (-5, True)], ids=str)
async def test_a_lock_that_is_extended_to_no_time_is_over(
    here: Redis, name: str, lock_class: type[Lock], arguments: tuple[Any, ...]
) -> None:
    """Less than nothing left: the key is gone."""
    lock = here.lock(name, 10, lock_class=lock_class)
    assert await lock.acquire()
    assert await lock.extend(*arguments) is True
    assert await here.get(name) is None
    with pytest.raises(LockNotOwnedError):
        await lock.release()


async def test_locked_and_owned_tell_whose_it_is(
    here: Redis, there: Redis, name: str, lock_class: type[Lock]
) -> None:
    """Anybody's, or this object's."""
    one, other = (redis.lock(name, 10, lock_class=lock_class) for redis in (here, there))
    assert (await one.locked(), await one.owned()) == (False, False)
    assert await one.acquire()
    assert (await one.locked(), await one.owned()) == (True, True)
    assert (await other.locked(), await other.owned()) == (True, False)
    await one.release()
    assert (await one.locked(), await one.owned()) == (False, False)


async def test_the_token_may_be_handed_to_another_object(
    here: Redis, there: Redis, name: str, lock_class: type[Lock]
) -> None:
    """By ``local.token``, or to ``do_release``: the token is all there is."""
    one, other = (redis.lock(name, 10, lock_class=lock_class) for redis in (here, there))
    assert await one.acquire()
    other.local.token = one.local.token
    assert await other.owned()
    assert await other.extend(5)
    await other.release()
    assert not await one.locked()
    assert await one.acquire(token="mine")
    with pytest.raises(LockNotOwnedError):
        await other.do_release(b"another's")
    await other.do_release(b"mine")
    assert not await one.locked()
    assert await one.do_acquire(b"mine")
    assert not await other.do_acquire(b"mine")
    await other.do_release(b"mine")


async def test_the_token_is_each_threads_own_or_everybodys(
    here: Redis, name: str, lock_class: type[Lock]
) -> None:
    """``thread_local``: another thread sees no token, or the same."""

    def see(lock: Lock) -> object:
        seen: list[object] = []
        thread = threading.Thread(
            target=lambda: seen.append(getattr(lock.local, "token", "nothing"))
        )
        thread.start()
        thread.join()
        return seen[0]

    for thread_local in (True, False):
        lock = here.lock(name, 10, thread_local=thread_local, lock_class=lock_class)
        assert await lock.acquire()
        assert see(lock) == ("nothing" if thread_local else lock.local.token)
        await lock.release()


async def test_an_error_of_the_server_is_redis_pys(
    here: Redis, name: str, lock_class: type[Lock]
) -> None:
    """A list at the key, which ``SET NX`` takes for a held lock: releasing raises."""
    await here.rpush(name, "x")
    lock = here.lock(name, 10, lock_class=lock_class)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await lock.do_release(b"mine")
    await here.delete(name)


@pytest.mark.parametrize(
    "settings",
    [
        {"protocol": 2},
        {"decode_responses": True},
        {"protocol": 2, "decode_responses": True},
        {"encoding": "latin-1", "decode_responses": True},
        {"single_connection_client": True},
    ],
    ids=str,
)
async def test_a_lock_works_whatever_the_settings_of_its_client(
    redis_url: str, name: str, lock_class: type[Lock], settings: dict[str, Any]
) -> None:
    """RESP2 and 3, decoded or not, other encodings, a client of one connection."""
    async with closing(Redis.from_url(redis_url, **settings)) as redis:
        lock = redis.lock(name.encode(), 10, lock_class=lock_class)
        other = redis.lock(name, 10, lock_class=lock_class, sleep=0.01)
        async with lock:
            assert await lock.owned()
            assert await lock.extend(5)
            waiting = asyncio.create_task(other.acquire(token="gültig"))
            await asyncio.sleep(0.05)  # real time: it waits meanwhile
            assert not waiting.done()
        assert await waiting
        assert await other.owned()
        await other.release()
