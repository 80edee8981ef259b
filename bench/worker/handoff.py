"""Acquires and releases at the parent's word, and tells when.

The instants are of CLOCK_MONOTONIC, which all processes of a machine share: the one
from right before the release is called in one process, the other from right after the
acquire has returned in another.
"""

from __future__ import annotations

import time

from bench.peers.base import Peer
from bench.worker import channel
from bench.worker.spec import Spec


async def run(spec: Spec, peer: Peer) -> None:
    """Follow ``acquire``, ``release`` and ``quit``."""
    lock = peer.lock(spec.prefix)
    channel.send({"ready": True})
    while True:
        command = await channel.receive_async()
        if command == "acquire":
            asked = time.monotonic()
            await lock.__aenter__()
            channel.send({"asked": asked, "at": time.monotonic()})
        elif command == "release":
            began = time.monotonic()
            await lock.__aexit__(None, None, None)
            channel.send({"at": began})
        else:
            return
