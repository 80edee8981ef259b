"""Which node of a Redis Cluster serves a key: hash slots, and who owns them.

Source: Redis Cluster specification, "Key distribution model" and "Redirection".
"""

from __future__ import annotations

import string
from binascii import crc_hqx
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any, NamedTuple

SLOTS = 16_384


class Address(NamedTuple):
    """Where a node is reached."""

    host: str
    port: int


Remap = Callable[[tuple[str, int]], tuple[str, int]]
"""Says how a node is reached from here, where the cluster's own address cannot be."""


def slot_of(key: bytes) -> int:
    """Return the hash slot of a key: CRC16 (XMODEM) of its hash tag, or of all of it."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) % SLOTS


_PAIRS = [
    bytes(pair) for pair in product((string.digits + string.ascii_lowercase).encode(), repeat=2)
]
_ENDS = {crc_hqx(pair, 0) % SLOTS: pair for pair in _PAIRS}


def tag_of(slot: int, behind: bytes = b"") -> bytes:
    """
    Return four letters or digits that hash to a slot, always the same ones.

    CRC16 is linear: what the last two letters must add is the slot XOR what the first
    two leave, and one of about thirteen first pairs finds its last one in the table.

    :param behind: what comes before them in the text that is hashed
    """
    start = crc_hqx(behind, 0)
    for pair in _PAIRS:
        end = _ENDS.get(slot ^ crc_hqx(b"\0\0", crc_hqx(pair, start)) % SLOTS)
        if end is not None:
            return pair + end
    raise ValueError(f"no hash slot {slot!r}")


class Redirect(NamedTuple):
    """A node's word that another one serves a slot."""

    slot: int
    address: Address
    once: bool
    """For this request only: the slot is on its way there (``ASK``)."""


def read_redirect(error: str, answered: Address, remap: Remap | None = None) -> Redirect | None:
    """
    Read a ``MOVED`` or ``ASK`` error; ``None`` if it is neither.

    :param answered: the node that said so: without a host in the error, the other one
        is another port of the same host
    """
    kind, _, rest = error.partition(" ")
    if kind not in ("MOVED", "ASK"):
        return None
    slot, _, place = rest.partition(" ")
    # An IPv6 address has colons, too: the port is behind the last one.
    host, _, port = place.rpartition(":")
    try:
        address = _address(host, int(port), answered, remap)
        return Redirect(_slot(int(slot)), address, kind == "ASK")
    except ValueError:
        return None


def _slot(number: int) -> int:
    if type(number) is not int or not 0 <= number < SLOTS:
        raise ValueError(f"no hash slot {number!r}")
    return number


class SlotRange(NamedTuple):
    """Slots in a row, and the nodes that have them."""

    first: int
    last: int
    primary: Address
    replicas: tuple[Address, ...]


def read_ranges(reply: Iterable[Any], answered: Address, remap: Remap | None) -> list[SlotRange]:
    """
    Read the answer of ``CLUSTER SLOTS``.

    :raises ValueError: if it is no such answer
    """
    try:
        return [
            SlotRange(_slot(first), _slot(last), *_nodes([primary, *replicas], answered, remap))
            for first, last, primary, *replicas in reply
        ]
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise ValueError(f"no answer of CLUSTER SLOTS: {error}") from error


def _nodes(
    nodes: list[Any], answered: Address, remap: Remap | None
) -> tuple[Address, tuple[Address, ...]]:
    primary, *replicas = (
        _address((node[0] or b"").decode(), int(node[1]), answered, remap) for node in nodes
    )
    return primary, tuple(replicas)


def _address(host: str, port: int, answered: Address, remap: Remap | None) -> Address:
    # "" and NULL: a node that does not know its own address; "?": one without a name.
    address = Address(answered.host if host in ("", "?") else host, port)
    return address if remap is None else Address(*remap(address))


class SlotMap:
    """
    Who owns each slot, as far as is known.

    :ivar nodes: every node ever heard of in the last whole view, replicas included
    """

    __slots__ = ("_owners", "nodes")

    def __init__(self) -> None:
        self._owners: list[Address | None] = [None] * SLOTS
        self.nodes: frozenset[Address] = frozenset()

    def owner(self, slot: int) -> Address | None:
        """Return the primary of a slot, ``None`` if it is not known."""
        return self._owners[slot]

    def primaries(self) -> set[Address]:
        """Return all nodes that own a slot."""
        return {owner for owner in set(self._owners) if owner is not None}

    def move(self, slot: int, owner: Address) -> None:
        """Take in that a slot belongs to another node."""
        self._owners[slot] = owner

    def replace(self, ranges: Iterable[SlotRange]) -> dict[Address, set[int]]:
        """
        Take in a whole view; return the slots that changed hands, by former owner.

        A slot that is not in it keeps its owner: who else could say where it went.
        """
        lost: dict[Address, set[int]] = {}
        nodes: set[Address] = set()
        for first, last, primary, replicas in ranges:
            nodes.update((primary, *replicas))
            for slot in range(first, last + 1):
                former = self._owners[slot]
                if former != primary:
                    self._owners[slot] = primary
                    if former is not None:
                        lost.setdefault(former, set()).add(slot)
        if nodes:
            self.nodes = frozenset(nodes)
        return lost
