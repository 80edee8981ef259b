"""redis-py's asyncio ``Lock``, on this package's engine."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterator
from typing import Any, Literal

from redis import exceptions as redis_errors
from redis.asyncio.lock import Lock

from aiodistlock.compat.token_lock import Possession, TokenLock, Wish
from aiodistlock.core.background import is_thrown_away
from aiodistlock.core.escaping import quoted
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.validation import check_all, refuse
from aiodistlock.deployments import source as deployment
from aiodistlock.errors import LockError, StoreUnavailable
from aiodistlock.protocol.answers import Done, Failed, ReleaseReply
from aiodistlock.protocol.cleanup import confirmed

Number = int | float


class RedisPyLock(Lock):
    """
    A drop-in for ``redis.asyncio.lock.Lock``: the same face, key, value and errors.

    ::

        redis.lock("wallet:42", timeout=10, lock_class=RedisPyLock)

    It and redis-py's own exclude each other, so a service migrates one process at a time.
    Different is how it waits: waiters stand in a queue, first come, first served, and are
    woken; only while a holder is a foreign client they ask every ``sleep`` seconds.  A
    cancelled ``acquire`` leaves nothing behind.

    As redis-py's, it is not renewed: after ``timeout`` it is over, and nobody is told.  As
    there, the object holds the state of an acquisition, one token in each thread: tasks
    that share an object and outlive its ``timeout`` release each other's lock.  Give each
    its own object, or use :class:`~aiodistlock.AsyncLock`, which has neither limit.  And as
    there, an object that is forgotten leaves its key: whoever has the token may release it.

    :param redis: a ``redis.asyncio.Redis`` or ``RedisCluster``
    :param name: the key
    :param timeout: length of the lock in seconds; ``None`` or 0: until it is released
    :param sleep: seconds between requests while a foreign client holds the lock
    :param blocking: whether ``acquire`` waits; default of its argument
    :param blocking_timeout: seconds that it waits at most, ``None`` without end; default
        of its argument
    :param thread_local: keep a token for each thread
    :param raise_on_release_error: whether leaving ``async with`` raises if the lock is no
        longer owned; else that is logged
    :raises TypeError: if ``redis`` is no asyncio client
    :raises ValueError: naming all that is wrong: ``name`` is no UTF-8 text, is empty, or has
        braces that are no hash tag; a duration is no number of seconds from 0
    """

    def __init__(  # noqa: PLR0917  # redis-py's order
        self,
        redis: Any,
        name: str | bytes | memoryview,
        timeout: float | None = None,
        sleep: float = 0.1,
        blocking: bool = True,
        blocking_timeout: Number | None = None,
        thread_local: bool = True,
        raise_on_release_error: bool = True,
    ) -> None:
        if not hasattr(redis, "get_encoder") and not hasattr(redis, "connection_pool"):
            raise TypeError(
                "expected a redis.asyncio.Redis or RedisCluster, as redis.lock() passes it, "
                f"not {type(redis).__name__}"
            )
        deployment.check(redis)
        super().__init__(
            redis,
            name,
            timeout,
            sleep,
            blocking,
            blocking_timeout,
            thread_local,
            raise_on_release_error,
        )
        check_all(self._check_durations, self._keys)
        self._tokens = TokenLock(redis, self._keys())
        self._loop: asyncio.AbstractEventLoop | None = None
        """Where it was acquired last."""

    def register_scripts(self) -> None:
        """Do nothing: the engine has its own scripts."""

    def _keys(self) -> LockKeys:
        return LockKeys(_text(self._encode(self.name)), namespace="")

    def _check_durations(self) -> None:
        problems = [
            _problem("timeout", self.timeout, optional=True),
            _problem("sleep", self.sleep, optional=False),
        ]
        refuse(problems)

    def _encode(self, value: str | bytes | memoryview) -> bytes:
        """Return the bytes that redis-py would send."""
        client: Any = self.redis
        has_pool = hasattr(client, "connection_pool")
        encoder = (client.connection_pool if has_pool else client).get_encoder()
        return bytes(encoder.encode(value))

    async def acquire(  # type: ignore[no-untyped-def, unused-ignore]  # redis-py's has no type
        self,
        blocking: bool | None = None,
        blocking_timeout: Number | None = None,
        token: str | bytes | None = None,
    ) -> bool:
        """
        Wait for the lock; ``False`` if it was not free in time.

        Cancelled here, nothing stays behind in Redis.

        :param blocking: whether to wait
        :param blocking_timeout: seconds to wait at most; Redis has a second more for its
            first answer
        :param token: the value to put at the key; default: one that tells host and process
        :raises redis.exceptions.RedisError: if Redis is unreachable or refuses
        """
        blocking = self.blocking if blocking is None else blocking
        if blocking_timeout is None:
            blocking_timeout = self.blocking_timeout
        timeout = None if blocking_timeout is None else max(0.0, blocking_timeout)
        wanted = None if token is None else self._encode(token)
        possession = await self._take(wanted, timeout if blocking else 0)
        if possession is None:
            return False
        self._loop = asyncio.get_running_loop()
        self.local.token = possession.key_token
        self.local.possession = possession
        return True

    async def do_acquire(self, token: str | bytes) -> bool:
        """Try once to take the lock under ``token``; the object does not remember it."""
        return await self._take(self._encode(token), 0) is not None

    async def _take(self, token: bytes | None, timeout: float | None) -> Possession | None:
        self._check_durations()
        wish = Wish(token=token, ttl=self.timeout or None, poll_every=self.sleep)
        with self._as_redis_py():
            return await self._tokens.take(wish, timeout)

    async def locked(self) -> bool:
        """
        Tell whether anybody holds the lock.

        :raises redis.exceptions.RedisError: if Redis is unreachable or refuses
        """
        with self._as_redis_py():
            return await self._tokens.taken()

    async def owned(self) -> bool:
        """
        Tell whether the token of this object holds the lock.

        :raises redis.exceptions.RedisError: if Redis is unreachable or refuses
        """
        token = self.local.token
        if token is None:
            return False
        with self._as_redis_py():
            return await self._tokens.possessed_by(self._encode(token))

    async def release(self) -> None:
        """
        Release the lock: to the next waiter, or to nobody.

        Cancelled here, the request still goes out; if it is not confirmed within a quarter
        of a second, the object keeps its token, and ``release`` may be called again.

        :raises redis.exceptions.LockNotOwnedError: if the lock is over, or another's
        :raises redis.exceptions.LockError: if this object has acquired nothing
        :raises redis.exceptions.RedisError: if Redis is unreachable or refuses
        """
        if self._loop is not None and is_thrown_away(self._loop):
            return
        token = self.local.token
        if token is None:
            raise redis_errors.LockError(
                "Cannot release a lock that's not owned or is already unlocked.",
                lock_name=self._name,
            )
        try:
            await self.do_release(token)
        except redis_errors.LockNotOwnedError:
            self._forget(token)
            raise
        self._forget(token)

    def _forget(self, token: object) -> None:
        # Unless another task of ours was granted the lock before we heard of the release.
        if self.local.token == token:
            self.local.token = self.local.possession = None

    async def do_release(self, expected_token: str | bytes) -> None:
        """
        Release the lock if ``expected_token`` holds it, whoever acquired it.

        :raises redis.exceptions.LockNotOwnedError: if it does not; nothing is changed
        :raises redis.exceptions.RedisError: if Redis is unreachable or refuses
        """
        token = self._encode(expected_token)
        with self._as_redis_py():
            call = self._tokens.release(token)
            try:
                reply = await call
            except asyncio.CancelledError:
                released: ReleaseReply | None = await confirmed(call)
                if isinstance(released, Done):
                    self._forget(expected_token)
                raise
            if isinstance(reply, Failed):
                raise StoreUnavailable(self._name, reply.causes)
        # Not ours although it was sent twice: the first copy may have done it.
        if not isinstance(reply, Done) and not call.resent:
            raise self._not_owned("release")

    async def do_extend(self, additional_time: Number, replace_ttl: bool) -> Literal[True]:
        """Change the remaining time of the lock; what ``extend`` awaits."""
        token = self._encode(self.local.token)
        change = self._tokens.replace if replace_ttl else self._tokens.prolong
        with self._as_redis_py():
            if not await change(token, additional_time):
                raise self._not_owned("extend")
        return True

    async def do_reacquire(self) -> Literal[True]:
        """Set the remaining time to ``timeout`` again; what ``reacquire`` awaits."""
        if not self.timeout:
            # redis-py's would delete the key.
            raise redis_errors.LockError(
                "Cannot reacquire a lock with no timeout", lock_name=self._name
            )
        with self._as_redis_py():
            if not await self._tokens.renew(self._encode(self.local.token), self.timeout):
                raise self._not_owned("reacquire")
        return True

    @property
    def _name(self) -> str:
        return _text(self._encode(self.name))

    def _not_owned(self, verb: str) -> redis_errors.LockNotOwnedError:
        return redis_errors.LockNotOwnedError(
            f"Cannot {verb} a lock that's no longer owned", lock_name=self._name
        )

    @contextlib.contextmanager
    def _as_redis_py(self) -> Iterator[None]:
        """Raise what redis-py's users expect to catch."""
        try:
            yield
        except StoreUnavailable as error:
            cause = error.causes[-1]
            if isinstance(cause, redis_errors.RedisError):
                raise cause from error
            late = isinstance(cause, TimeoutError)
            kind = redis_errors.TimeoutError if late else redis_errors.ConnectionError
            raise kind(str(error)) from error
        except LockError as error:
            raise redis_errors.LockError(str(error), lock_name=self._name) from error
        except TimeoutError as error:
            raise redis_errors.TimeoutError(
                f"Redis did not answer about lock {quoted(self._name)}"
            ) from error


def _text(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise ValueError(f"a lock's name must be UTF-8 text in Redis, not {quoted(key)}") from None


def _problem(what: str, value: object, *, optional: bool) -> str | None:
    number = isinstance(value, (int, float)) and math.isfinite(value) and value >= 0
    if number or (optional and value is None):
        return None
    return f"{what} must be a number of seconds from 0, not {value!r}"
