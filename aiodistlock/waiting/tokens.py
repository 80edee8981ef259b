"""Whose token stands at a key: one of this package's, or of a plain ``SET NX`` lock."""

from __future__ import annotations

import re

from aiodistlock.core.value import ENDING

_OURS = re.compile(rf"{ENDING}\Z")


def hands_over(token: str) -> bool:
    """
    Tell whether the holder under a token wakes the next waiter when it releases.

    Clients of this package do; a plain ``SET NX`` lock just deletes its key.  A token that
    the user chose does not tell: taken for a foreign one, it costs waiters some requests.
    """
    return _OURS.search(token) is not None
