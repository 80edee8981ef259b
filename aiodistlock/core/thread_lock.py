"""The one lock of threads, around what the event loops of this process share.

Each loop has a client, an engine and a store of its own, which no other thread touches.
Shared are the few tables of who there is, and the memory that stands for a server.
"""

from __future__ import annotations

import os
from threading import RLock

# Reentrant: what the garbage collector ends while the lock is held may want it, too.
thread_lock = RLock()
"""Held for a few steps: nothing is awaited meanwhile, and nothing logged."""

# So a child process finds the lock free, and what it guards whole.
os.register_at_fork(
    before=thread_lock.acquire,
    after_in_parent=thread_lock.release,
    after_in_child=thread_lock.release,
)
