"""What a server pushes when it is about to be replaced: redis-py's maintenance notifications.

redis-py asks for them as it connects (``CLIENT MAINT_NOTIFICATIONS``), where server and settings
know them; then the connection is ours, and so are the notices.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Notice(NamedTuple):
    """
    A connection is to be left.

    :ivar after: seconds from now
    :ivar to: where to go instead, ``None``: where the name leads
    """

    after: float
    to: tuple[str, int] | None = None


def read_notice(push: list[Any]) -> Notice | None:
    """
    Read a push; ``None`` if it is no such notice, or none that can be understood.

    ``MOVING <number> <seconds> <host:port>``: another endpoint is ready; without one, the name
    leads there in the half of that time.  ``FAILED_OVER``: what we hold may be gone.
    """
    try:
        if push[0] == b"FAILED_OVER":
            return Notice(0.0)
        if push[0] != b"MOVING":
            return None
        if push[3] is None:
            return Notice(min(max(0.0, int(push[2]) / 2), 3600.0))
        host, _, port = push[3].decode().rpartition(":")
        return Notice(0.0, (host.strip("[]"), int(port)))
    except (AttributeError, IndexError, TypeError, ValueError):
        return None
