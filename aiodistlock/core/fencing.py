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

The server leaves a gap of this size behind the last token wherever its clock is
behind the counter (``GAP`` in ``prelude.lua``): a holder that died may have used up
that many tokens without reporting them.
"""


def local_fence(granted: int, handoffs: int) -> int:
    """Return the fencing token of the ``handoffs``-th local hand-off of a lease."""
    return granted + handoffs


def report(granted: int, handoffs: int) -> int:
    """Return the highest token used, to lift the counter to; 0 if it is up to date."""
    return granted + handoffs if handoffs else 0
