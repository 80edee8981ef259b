"""From keys that SCAN finds to the names of locks."""

from __future__ import annotations

from fnmatch import fnmatchcase

from aiodistlock.core.keys import LockKeys

_COMPANIONS = (":fence", ":queue")
_GLOB = "*?["


def scan_pattern(namespace: str, pattern: str) -> str:
    """
    Return what to have Redis match: all keys of the locks that the pattern names.

    It is broader than the pattern, which is matched here: companions have braces around
    the name, and Redis reads patterns a little differently.
    """
    literal = pattern[: min((pattern.find(c) for c in _GLOB if c in pattern), default=None)]
    return f"*{_escaped(namespace + literal)}*"


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "*?[]\\" else c for c in text)


def name_of(key: bytes, namespace: str) -> str | None:
    """
    Return the name of the lock to which a key belongs, ``None`` if it is no lock's.

    A lock is found by each of its keys: a waiter's queue and a free lock's counter
    stand alone.
    """
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return None
    for suffix in _COMPANIONS:
        if text.endswith(suffix):
            stem = text.removesuffix(suffix)
            inner = stem[1:-1] if stem.startswith("{") and stem.endswith("}") else ""
            for candidate in (inner, stem):
                keys = _keys(candidate, namespace)
                if keys is not None and key in (keys.fence, keys.queue):
                    return keys.name
    keys = _keys(text, namespace)
    return None if keys is None else keys.name


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
