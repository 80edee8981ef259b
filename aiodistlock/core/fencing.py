"""Fencing tokens.

The server issues ``max(server time in µs, last + 1)`` with every lease it grants;
the i-th local hand-off of a process's lease uses the granted token plus i, without
asking (``prelude.lua`` has the server's half).  Tokens fit into 2**53, so that Lua's
and JavaScript's numbers hold them exactly.

Source of the idea: M. Kleppmann, "How to do distributed locking", 2016.
"""

from __future__ import annotations

MAX_LOCAL_HANDOFFS = 1000
"""Most local hand-offs between two requests.

The server leaves a gap of this size behind the last token where its clock is behind
the counter and the last holder reported nothing (``GAP`` in ``prelude.lua``): having
died, it may have used up that many tokens.
"""


def local_fence(granted: int, handoffs: int) -> int:
    """Return the fencing token of the ``handoffs``-th local hand-off of a lease."""
    return granted + handoffs


def report(granted: int, handoffs: int, server_us: int) -> int:
    """
    Return the highest token used, to lift the counter to; 0 if it is up to date.

    :param server_us: the server's time when it granted the lease, µs: where that is
        behind the token, the server must also learn that none is left unreported
    """
    return granted + handoffs if handoffs or granted > server_us else 0
