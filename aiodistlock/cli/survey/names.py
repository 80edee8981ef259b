"""From keys that SCAN finds to the names of locks."""

from __future__ import annotations

from fnmatch import fnmatchcase

from aiodistlock.core.keys import LockKeys, key_of

_GLOB = "*?["


def scan_pattern(namespace: str, pattern: str) -> str:
    """
    Return what to have Redis match: all keys of the locks that the pattern names.

    It is broader than the pattern, which is matched here: companions have the key behind
    their own beginning, and Redis reads patterns a little differently.
    """
    literal = pattern[: min((pattern.find(c) for c in _GLOB if c in pattern), default=None)]
    return f"*{_escaped(namespace + literal)}*"


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "*?[]\\" else c for c in text)


def name_of(key: bytes, namespace: str) -> str | None:
    """
    Return the name of the lock to which a key belongs, ``None`` if it is no lock's.

    A lock is found by each of its keys: the queue of a free lock stands alone.
    """
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return None
    lock_key = key_of(text)
    if lock_key is None:
        keys = _keys(text, namespace)
        return None if keys is None else keys.name
    keys = _keys(lock_key, namespace)
    return keys.name if keys is not None and key == keys.queue else None


def _keys(key: str, namespace: str) -> LockKeys | None:
    if not key.startswith(namespace):
        return None
    try:
        return LockKeys(key.removeprefix(namespace), namespace)
    except ValueError:
        return None


def matches(name: str, pattern: str) -> bool:
    """Tell whether a pattern names the lock: ``*``, ``?`` and ``[...]``, as in a shell."""
    return fnmatchcase(name, pattern)
