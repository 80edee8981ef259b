"""Redis keys built from a name.

A lock's key is its namespace and its name.  What else Redis keeps about it stands at
companion keys, which no key of a lock can equal and which no two locks share:

1. Companions begin with :data:`RESERVED`, and keys of locks do not.
2. ``aiodistlock:queue:{cart}`` belongs to ``cart``, whose hash tag is all of it, and
   ``aiodistlock:queue::{user:7}:cart`` to ``{user:7}:cart``, which brings its own tag.
   The sign behind the kind tells which it is, and the key stands there whole.
3. The fence counter is no name's: all in a hash slot share it, or all on a server.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aiodistlock.core.escaping import quoted
from aiodistlock.core.slots import slot_of, tag_of

RESERVED = "aiodistlock:"
"""What all companion keys begin with, and no key of a lock may."""

_START = RESERVED.encode()

ANNOUNCING = b"%bleader:" % _START
"""What the channels begin with on which leaders are announced, and the proclamations' keys."""


def hash_tag(key: str) -> str | None:
    """
    Return the part of a key that Redis Cluster hashes, ``None`` for the whole key.

    Source: Redis Cluster specification, "Hash tags": the text between the first
    ``{`` and the first ``}`` after it, if there is any text.
    """
    start = key.find("{")
    if start < 0:
        return None
    end = key.find("}", start + 1)
    return key[start + 1 : end] if end > start + 1 else None


@dataclass(frozen=True, slots=True)
class LockKeys:
    """
    The keys of one name, all in one hash slot.

    :param name: what the user calls the resource
    :param namespace: prefix of the key
    :raises ValueError: if the name or the namespace is not usable text, if the key would
        begin with :data:`RESERVED`, or if its braces would put the companion keys into
        another hash slot
    """

    name: str
    namespace: str
    key: bytes = field(init=False)
    packed: bytes = field(init=False)
    """
    The key and the queue's as RESP bulk strings: what every request has, and with every held
    lock in memory the only copy of the latter.
    """
    slot_if_known: int = field(init=False, default=-1, repr=False, compare=False)

    def __post_init__(self) -> None:
        for what, text in (("name", self.name), ("namespace", self.namespace)):
            if not isinstance(text, str):
                raise ValueError(f"{what} must be a str, not {quoted(text)}")  # noqa: TRY004
        if not self.name:
            raise ValueError("name must not be empty: name the thing that the lock protects")
        key = self.namespace + self.name
        if key.startswith(RESERVED):
            raise ValueError(
                f"key {quoted(key)} begins with {RESERVED!r}, which is reserved for what the locks "
                "themselves keep in Redis; choose another name or namespace"
            )
        if hash_tag(key) is None and ("{" in key or "}" in key):
            raise ValueError(
                f"key {quoted(key)} has braces that are no hash tag, so its companion keys would "
                "hash to another slot; remove them, or write a tag such as '{user:7}:cart'"
            )
        try:
            encoded = key.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"name {quoted(self.name)} is not valid Unicode text: {error}"
            ) from None
        object.__setattr__(self, "key", encoded)
        packed = b"".join(b"$%d\r\n%b\r\n" % (len(each), each) for each in (encoded, self.queue))
        object.__setattr__(self, "packed", packed)

    @property
    def queue(self) -> bytes:
        """The key of the queue; :func:`key_of` reads it."""
        return self._companion(b"queue")

    @property
    def proclamation(self) -> bytes:
        """The key of what a leader proclaims, and the channel on which that is announced."""
        return self._companion(b"leader")

    @property
    def done(self) -> bytes:
        """The key of the mark: the last window that was done."""
        return self._companion(b"done")

    @property
    def readers(self) -> bytes:
        """The key of those who read now."""
        return self._companion(b"readers")

    @property
    def version(self) -> bytes:
        """The key of the version that they read: the last writer's fencing token."""
        return self._companion(b"version")

    def _companion(self, kind: bytes) -> bytes:
        key = self.key
        return b"%b%b%b" % (_START, kind, b"::%b" % key if b"{" in key else b":{%b}" % key)

    @property
    def slot(self) -> int:
        """The hash slot of all of them, computed when a cluster or a quorum first asks."""
        if self.slot_if_known < 0:
            object.__setattr__(self, "slot_if_known", slot_of(self.key))
        return self.slot_if_known


def fence_key(slot: int | None) -> bytes:
    """
    Return the key of the fence counter.

    :param slot: the hash slot whose names share it; ``None``: all on the server do
    """
    return _in_slot(b"%bfence" % _START, slot)


def void_key(sender: str, slot: int | None) -> bytes:
    """
    Return the key at which it is noted what is void of one client's requests.

    :param slot: the hash slot to note it in, on a cluster
    """
    return _in_slot(f"{RESERVED}void:{sender}".encode(), slot)


def _in_slot(key: bytes, slot: int | None) -> bytes:
    return key if slot is None else b"%b:{%b}" % (key, tag_of(slot))


def key_of(companion: str) -> str | None:
    """Return the key of the lock that a companion belongs to, ``None`` if it is none."""
    if not companion.startswith(RESERVED):
        return None
    _, separator, rest = companion.removeprefix(RESERVED).partition(":")
    if not separator:
        return None
    if rest.startswith(":"):
        return rest[1:]
    return rest[1:-1] if rest.startswith("{") and rest.endswith("}") else None
