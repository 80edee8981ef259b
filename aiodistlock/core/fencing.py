"""Fencing tokens.

The server issues ``max(server time in µs, last + 1)`` with every lease it grants; the i-th
local hand-off of a process's lease uses the granted token plus i, without asking
(``prelude.lua`` has the server's half).  Tokens fit into 2**53, so that Lua's and
JavaScript's numbers hold them exactly.

The server's clock covers the hand-offs: each takes longer than the microsecond that it uses
up.  So whoever gets the lock next has a higher token, though nobody reported any; reports are
for a clock that is coarse, or set back meanwhile.  Where it is behind the counter already it
covers nothing, and there are no local hand-offs.

Source of the idea: M. Kleppmann, "How to do distributed locking", 2016.
"""

from __future__ import annotations

BEYOND = 2**53
"""What all fencing tokens are below."""

MAX_LOCAL_HANDOFFS = 1000
"""Most local hand-offs between two requests.

The server leaves a gap of this size where it finds its clock set back (``GAP`` in
``prelude.lua``): holders may have used up that many tokens that nobody reported.
"""


def local_fence(granted: int, handoffs: int) -> int:
    """Return the fencing token of the ``handoffs``-th local hand-off of a lease."""
    return granted + handoffs


def covered(granted: int, server_us: int) -> bool:
    """
    Tell whether the server's clock covers local hand-offs of a lease.

    :param server_us: the server's time when it granted the lease, µs
    """
    return granted - server_us <= MAX_LOCAL_HANDOFFS + 1


def report(granted: int, handoffs: int) -> int:
    """Return the highest token used, to lift the counter to; 0 if it is up to date."""
    return granted + handoffs if handoffs else 0
