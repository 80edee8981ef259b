"""The worker's end of its talk with the parent."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any


def send(message: Any) -> None:
    """Send one message to the parent."""
    sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def receive() -> str:
    """Wait for the parent's next word; ``quit`` if it is gone."""
    return sys.stdin.readline().strip() or "quit"


async def receive_async() -> str:
    """Wait for the parent's next word while the event loop goes on."""
    return await asyncio.get_running_loop().run_in_executor(None, receive)
