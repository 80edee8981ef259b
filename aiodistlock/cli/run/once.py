"""What ``--once-every`` and ``--at-least`` say, and what is told where there is nothing to do."""

from __future__ import annotations

from typing import TypedDict

from aiodistlock import Skipped
from aiodistlock.cli.survey.state import Holder
from aiodistlock.core.durations import read_duration
from aiodistlock.core.escaping import shown
from aiodistlock.core.once_options import OnceOptions
from aiodistlock.core.validation import check_all, refuse


class Windows(TypedDict):
    """Options of :class:`~aiodistlock.Once`, seconds."""

    every: float | None
    at_least: float | None


def windows(once_every: str | None, at_least: str | None) -> Windows:
    """
    Read both options.

    :raises ValueError: if one is no duration
    """
    return {
        "every": None if once_every is None else read_duration(once_every, "--once-every"),
        "at_least": None if at_least is None else read_duration(at_least, "--at-least"),
    }


def check_once(
    once_every: str | None, at_least: str | None, timeout: float | None, *, nodes: int
) -> None:
    """
    Check both options, and what speaks against them.

    :raises ValueError: naming all that is wrong
    """
    if once_every is None and at_least is None:
        return
    on_quorum = "--once-every and --at-least need one Redis, Sentinel or a Cluster, not a quorum"
    waits = "--at-least does not wait: omit --timeout"
    check_all(
        lambda: OnceOptions(**windows(once_every, at_least)),
        lambda: refuse([on_quorum if nodes > 1 else None]),
        lambda: refuse([waits if at_least is not None and timeout else None]),
    )


def told_of(skipped: Skipped) -> str:
    """Say why there is nothing to do."""
    who = shown(str(Holder.of(skipped.by)))
    if skipped.at is None:
        return f"it is held by {who}"
    verb = "done" if skipped.reason == "done" else "begun"
    return f"it was {verb} by {who} at {skipped.at:%Y-%m-%d %H:%M:%S} UTC"
