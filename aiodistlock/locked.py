"""A decorator that runs a coroutine function under a lock."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Union

from aiodistlock.client import LockClient, check_lock
from aiodistlock.core.name_template import NameTemplate
from aiodistlock.core.options import LockOptions
from aiodistlock.lock import AsyncLock

if TYPE_CHECKING:
    from redis.asyncio import Redis

_Source = Union["Redis", "Sequence[Redis]", LockClient]
P = ParamSpec("P")
T = TypeVar("T")


def locked(
    template: str,
    redis: _Source | Callable[[], _Source],
    **options: Any,
) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """
    Run each call of a coroutine function under a lock named after its arguments.

    ::

        @locked("wallet:{wallet_id}", redis, ttl=5.0)
        async def reconcile(wallet_id: int, *, lease: Lease | None = None) -> None: ...

    A parameter called ``lease``, if the function has one, receives the lease unless
    the caller passes it.  A call raises what ``async with lock`` raises, besides what
    the function raises.

    :param template: name with fields, as :meth:`str.format` takes it
    :param redis: as for :class:`AsyncLock`, or a function without arguments that
        returns it at the time of the call
    :param options: options of :class:`AsyncLock`
    :raises ValueError: when decorating, if a field is no parameter of the function, or
        an option is wrong
    :raises TypeError: when decorating, if the function is no coroutine function
    """
    lock_options = LockOptions(**_known(options))
    build = redis if callable(redis) else None
    if build is None:
        check_lock(redis, lock_options)

    def decorate(
        function: Callable[P, Coroutine[Any, Any, T]],
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"locked() decorates coroutine functions, not {function!r}")
        name = NameTemplate(template, function)
        takes_lease = "lease" in inspect.signature(function).parameters

        @functools.wraps(function)
        async def call(*args: P.args, **kwargs: P.kwargs) -> T:
            source: Any = redis if build is None else build()
            async with AsyncLock(source, name.fill(args, kwargs), **options) as lease:
                if takes_lease and not name.passes("lease", args, kwargs):
                    kwargs["lease"] = lease
                return await function(*args, **kwargs)

        return call

    return decorate


def _known(options: dict[str, Any]) -> dict[str, Any]:
    known = inspect.signature(AsyncLock).parameters.keys() - {"redis", "name"}
    unknown = options.keys() - known
    if unknown:
        raise ValueError(f"unknown lock option: {', '.join(sorted(unknown))}")
    return options
