"""A decorator that runs a coroutine function under a lock."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Union, Unpack

from aiodistlock.client import LockClient
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.keywords import LockKeywords
from aiodistlock.core.name_template import NameTemplate, fields_of
from aiodistlock.core.options import LockOptions
from aiodistlock.core.validation import check_all, refuse
from aiodistlock.engines import check_place
from aiodistlock.lock import AsyncLock

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

_Source = Union["Redis", "RedisCluster", "Sequence[Redis]", LockClient]
P = ParamSpec("P")
T = TypeVar("T")


def locked(
    template: str,
    redis: _Source | Callable[[], _Source],
    **options: Unpack[LockKeywords],
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
        the template is malformed, or options are wrong, naming all of them
    :raises TypeError: when decorating, if the function is no coroutine function
    """
    build = redis if callable(redis) else None
    _check(template, redis if build is None else None, dict(options))

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


def _check(template: object, source: object, options: dict[str, Any]) -> None:
    """Check what is known before there is a function, and ``source`` unless it is ``None``."""
    parameters = inspect.signature(AsyncLock).parameters
    unknown = sorted(options.keys() - (parameters.keys() - {"redis", "name"}))
    given: dict[str, Any] = {key: value for key, value in options.items() if key not in unknown}
    if given.get("backoff", ...) is None:
        del given["backoff"]
    ttl, namespace, ack = (
        given.get(each, parameters[each].default) for each in ("ttl", "namespace", "ack")
    )
    check_all(
        lambda: fields_of(template),
        lambda: refuse([f"unknown lock option: {', '.join(unknown)}"] if unknown else []),
        lambda: LockKeys("any", namespace),
        lambda: LockOptions(**given),
        lambda: None if source is None else check_place(source, ttl, ack),
    )
