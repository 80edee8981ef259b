"""What type checkers and editors know of options is what there is."""

import inspect
from dataclasses import fields
from typing import Any, get_type_hints

from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection

from aiodistlock import AsyncLock, LockClient, Once, ReadWriteLock, Semaphore
from aiodistlock.client import ClientKeywords, UrlKeywords
from aiodistlock.core.keywords import (
    LockKeywords,
    OnceKeywords,
    ReadWriteKeywords,
    SemaphoreKeywords,
    UntimedLockKeywords,
    UntimedSemaphoreKeywords,
)
from aiodistlock.core.options import ClientOptions, LockOptions
from aiodistlock.deployments.url_keywords import ConnectionKeywords


def options_of(owner: Any) -> dict[str, Any]:
    """Return the keyword arguments of a class with their types."""
    names = {**vars(inspect.getmodule(owner)), "Redis": Redis, "RedisCluster": RedisCluster}
    hints = get_type_hints(owner.__init__, names)
    parameters = inspect.signature(owner).parameters.values()
    return {each.name: hints[each.name] for each in parameters if each.kind is each.KEYWORD_ONLY}


def test_a_locks_keywords_are_its_options() -> None:
    """``AsyncLock``, the keywords, and what is validated have the same names and types."""
    taken = options_of(AsyncLock)
    assert get_type_hints(LockKeywords) == taken
    untimed = {name: hint for name, hint in taken.items() if name != "timeout"}
    assert get_type_hints(UntimedLockKeywords) == untimed
    validated = {field.name for field in fields(LockOptions) if field.init}
    assert validated - {"claim_window", "foreign_backoff", "kind"} == taken.keys()


def test_the_keywords_of_what_is_done_once_are_its_options() -> None:
    """The same for ``Once``."""
    assert get_type_hints(OnceKeywords) == options_of(Once)


def test_the_keywords_of_read_write_locks_and_semaphores_are_their_options() -> None:
    """The same for them, so that nothing of a lock's which they have not is taken in silence."""
    assert get_type_hints(ReadWriteKeywords) == options_of(ReadWriteLock)
    taken = options_of(Semaphore)
    assert get_type_hints(SemaphoreKeywords) == taken
    untimed = {name: hint for name, hint in taken.items() if name != "timeout"}
    assert get_type_hints(UntimedSemaphoreKeywords) == untimed


def test_a_clients_keywords_are_its_options() -> None:
    """The same for ``LockClient``."""
    taken = options_of(LockClient)
    assert get_type_hints(ClientKeywords) == taken
    assert {field.name for field in fields(ClientOptions)} == taken.keys() - {"listeners"}
    assert taken.keys() < UrlKeywords.__optional_keys__


def test_the_keywords_of_a_connection_are_redis_pys() -> None:
    """Whatever is offered is taken by some connection, pool or cluster of redis-py."""
    takers = (AbstractConnection, Connection, SSLConnection, ConnectionPool, RedisCluster)
    known = {name for taker in takers for name in inspect.signature(taker).parameters}
    ours = {"sentinel_username", "sentinel_password"}
    assert ConnectionKeywords.__optional_keys__ - ours <= known
