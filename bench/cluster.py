"""A Redis Cluster under test."""

from __future__ import annotations

import itertools
import time
from typing import Any

from aiodistlock.core.slots import SLOTS, slot_of
from aiodistlock.testing.discovery import LOOPBACK
from bench.nodes import BenchNodes
from bench.server import BenchServer

PRIMARIES = 3

_ARGS = ("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf")

FORMED_WITHIN = 20.0
"""Seconds in which the nodes must have met."""


def _share(number: int) -> range:
    """Return the slots of a primary."""
    return range(SLOTS * number // PRIMARIES, SLOTS * (number + 1) // PRIMARIES)


def names(primaries: int, count: int, key_prefix: str) -> list[str]:
    """
    Return names whose keys are on so many primaries in turn, all in different slots.

    :param key_prefix: what stands before the name in the key
    """
    found: list[str] = []
    used: set[int] = set()
    for number in itertools.count():
        name = f"bench:{number}"
        slot = slot_of(f"{key_prefix}{name}".encode())
        if slot in _share(len(found) % primaries) and slot not in used:
            used.add(slot)
            found.append(name)
            if len(found) == count:
                break
    return found


class BenchCluster(BenchNodes):
    """Three primaries with a third of the slots each, no replicas."""

    def __init__(self) -> None:
        super().__init__(PRIMARIES, _ARGS)

    @property
    def url(self) -> str:
        """Where clients connect: all nodes."""
        return "redis+cluster://" + ",".join(f"{LOOPBACK}:{node.port}" for node in self._nodes)

    def _form(self) -> None:
        first = self._nodes[0]
        for number, node in enumerate(self._nodes):
            _cluster(node, "SET-CONFIG-EPOCH", number + 1)
            _cluster(node, "ADDSLOTS", *_share(number))
            if node is not first:
                _cluster(node, "MEET", LOOPBACK, first.port)
        until = time.monotonic() + FORMED_WITHIN
        while not all(_knows_all(node) for node in self._nodes):
            if time.monotonic() > until:
                raise TimeoutError(f"the nodes had not met after {FORMED_WITHIN:g} s")
            # Polls: gossip has no other way to tell that it is over.
            time.sleep(0.02)


def _cluster(node: BenchServer, *command: str | int) -> Any:
    client: Any = node.redis
    return client.execute_command("CLUSTER", *command)


def _knows_all(node: BenchServer) -> bool:
    info: bytes = _cluster(node, "INFO")
    return b"cluster_state:ok" in info and b"cluster_slots_ok:%d" % SLOTS in info
