"""Redis keys built from a name."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiodistlock.core.slots import slot_of


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
    :raises ValueError: if the name or the namespace is not usable text, or if their
        braces would put the companion keys into another hash slot
    """

    name: str
    namespace: str
    key: bytes = field(init=False)
    packed: bytes = field(init=False)
    """
    The key, the fence counter's and the queue's as RESP bulk strings: what every request
    has, and with every held lock in memory the only copy of the last two.
    """
    slot_if_known: int = field(init=False, default=-1, repr=False, compare=False)

    def __post_init__(self) -> None:
        for what, text in (("name", self.name), ("namespace", self.namespace)):
            if not isinstance(text, str):
                raise ValueError(f"{what} must be a str, not {text!r}")  # noqa: TRY004
        if not self.name:
            raise ValueError("name must not be empty: name the thing that the lock protects")
        key = self.namespace + self.name
        tag = hash_tag(key)
        if tag is None and ("{" in key or "}" in key):
            raise ValueError(
                f"key {key!r} has braces that are no hash tag, so its companion keys would "
                "hash to another slot; remove them, or write a tag such as '{user:7}:cart'"
            )
        try:
            encoded = key.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"name {self.name!r} is not valid Unicode text: {error}") from None
        object.__setattr__(self, "key", encoded)
        packed = b"".join(
            b"$%d\r\n%b\r\n" % (len(each), each) for each in (encoded, self.fence, self.queue)
        )
        object.__setattr__(self, "packed", packed)

    @property
    def fence(self) -> bytes:
        """The key of the fence counter."""
        return self._stem + b":fence"

    @property
    def queue(self) -> bytes:
        """The key of the queue."""
        return self._stem + b":queue"

    @property
    def _stem(self) -> bytes:
        return self.key if b"{" in self.key else b"{%b}" % self.key

    @property
    def slot(self) -> int:
        """The hash slot of all three, computed when a cluster first asks."""
        if self.slot_if_known < 0:
            object.__setattr__(self, "slot_if_known", slot_of(self.key))
        return self.slot_if_known
