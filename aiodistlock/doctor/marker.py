"""Reads the marker by which a node of a quorum tells whether it has its data.

Nothing is written: a vote for a node without a marker would begin its quarantine.
"""

from __future__ import annotations

from typing import Final

from redis.exceptions import ResponseError

from aiodistlock.protocol.operations import MARKER
from aiodistlock.protocol.refusals import is_transient

from .facts import Denial, Marker
from .probes import denies_command
from .session import Session, text

# As vote.lua judges it, by the server's own clock: what is no number, or no time to come,
# the next vote takes for a quarantine that is over.
_JUDGE: Final = b"""\
local marker = redis.call('GET', KEYS[1])
if not marker then return 'none' end
if marker == '0' then return '0' end
local time = redis.call('TIME')
return string.format('%.0f', (tonumber(marker) or 0) - (time[1] * 1000000 + time[2]))
"""


async def read_marker(session: Session) -> tuple[Marker | None, list[Denial]]:
    """
    Tell what the next vote would make of a node; ``None`` and why, if it may not be read.

    :raises Silent: if it does not answer
    """
    try:
        told = text(await session.ask("EVAL", _JUDGE, 1, MARKER))
    except ResponseError as error:
        return None, [Denial(_refused(error), str(error), is_transient(error))]
    if told == "none":
        return Marker(None), []
    # (Lua reads "nan", which is above nothing.)
    return Marker(max(0.0, float(told) / 1e6)), []


def _refused(error: ResponseError) -> str:
    """Name what was refused: EVAL, a command in the script, or else the key."""
    told = str(error)
    if denies_command(error):
        return "EVAL"
    # The keys of a script are checked before it runs, what is in them when it does.
    in_script = "user_script" in told and "WRONGTYPE" not in told
    return "script marker" if in_script else f"the key {MARKER.decode()}"
