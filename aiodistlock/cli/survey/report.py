"""What ``ls`` and ``inspect`` print: tables for people, JSON for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from aiodistlock.core.durations import in_words
from aiodistlock.core.escaping import MOST_OF_ERROR, shown
from aiodistlock.core.mark import Mark
from aiodistlock.core.once_options import instant_of
from aiodistlock.core.value import READERS

from .state import Holder, LockState


def to_json(state: LockState, nodes: int) -> dict[str, Any]:
    """Return a lock as JSON; seconds, and ``null`` for what there is not."""
    holder = None if state.holder is None else Holder.of(state.holder)._asdict()
    shown: dict[str, Any] = {
        "name": state.name,
        "holder": holder,
        "fencing_token": state.fence,
        "ttl": state.ttl,
        "may_linger": state.may_linger,
        "kept": state.kept,
        "readers": list(state.readers),
        "waiters": [
            {**Holder.of(each.token)._asdict(), "waited": round(each.waited, 3)}
            for each in state.waiters
        ],
    }
    if state.permits:
        shown["permits"] = [
            {
                **Holder.of(lease.token)._asdict(),
                "slots": list(lease.slots),
                "fencing_token": lease.fence,
                "ttl": lease.ttl,
            }
            for lease in state.permits
        ]
    return {**shown, "votes": state.votes, "nodes": nodes} if nodes > 1 else shown


def mark_to_json(mark: Mark | None) -> dict[str, Any] | None:
    """Return a mark as JSON; instants as text, in UTC."""
    if mark is None:
        return None
    return {
        "window": instant_of(mark.window_us).isoformat(),
        "state": _state_of(mark),
        "at": instant_of(mark.at_us).isoformat(),
        "by": Holder.of(mark.token)._asdict(),
    }


def _state_of(mark: Mark) -> str:
    return "done" if mark.done else "begun"


def table_of(states: Sequence[LockState], nodes: int) -> Table:
    """Return the table of ``ls``."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("name", overflow="fold")
    table.add_column("holder", overflow="fold")
    table.add_column("fencing token", justify="right", no_wrap=True)
    table.add_column("ttl", justify="right", no_wrap=True)
    table.add_column("waiting", justify="right", no_wrap=True)
    if nodes > 1:
        table.add_column("votes", justify="right", no_wrap=True)
    for state in states:
        row = [Text(shown(state.name, MOST_OF_ERROR)), held_by(state), Text(_fence(state))]
        row += [ttl_of(state), Text(str(len(state.waiters) or "-"))]
        row += [Text(f"{state.votes}/{nodes}")] if nodes > 1 else []
        table.add_row(*row)
    return table


def show(console: Console, state: LockState, each: dict[int, LockState], nodes: int) -> None:
    """Print all of one lock; over a quorum also what each node says."""
    holder = None if state.holder is None else Holder.of(state.holder)
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("holder", held_by(state))
    if holder is not None:
        grid.add_row("token", Text(shown(holder.token)))
    grid.add_row("fencing token", Text(_fence(state)))
    grid.add_row("ttl", ttl_of(state))
    if state.proclaimed is not None:
        grid.add_row("leads, proclaims", Text(shown(state.proclaimed, MOST_OF_ERROR)))
    for lease in state.permits:
        slots = ", ".join(map(str, lease.slots))
        who, left = shown(Holder.of(lease.token)), in_words(lease.ttl)
        grid.add_row(f"slot {slots}", Text(f"{who}, for {left}, fencing token {lease.fence}"))
    for number in range(nodes) if nodes > 1 else ():
        told = held_by(each[number]) if number in each else Text("does not answer", "red")
        grid.add_row(f"node {number + 1}", told)
    for place, reader in enumerate(state.readers, 1):
        grid.add_row(f"reader {place}", Text(shown(Holder.of(reader))))
    for place, waiter in enumerate(state.waiters, 1):
        who = shown(Holder.of(waiter.token))
        grid.add_row(f"waiter {place}", Text(f"{who}, for {in_words(waiter.waited)}"))
    if not state.waiters:
        grid.add_row("waiters", Text("none"))
    if state.mark is not None:
        mark = state.mark
        window, at = (f"{instant_of(us):%Y-%m-%d %H:%M:%S}" for us in (mark.window_us, mark.at_us))
        who = shown(Holder.of(mark.token))
        grid.add_row("last window", Text(f"{window} UTC, {_state_of(mark)} by {who} at {at}"))
    console.print(Text(shown(state.name, MOST_OF_ERROR), "bold"))
    console.print(grid)


def held_by(state: LockState) -> Text:
    """Return who holds a lock, as people read it."""
    if state.permits:
        count = sum(len(lease.slots) for lease in state.permits)
        return Text(f"{count} permit{'s' * (count > 1)}")
    if state.holder is None:
        return Text("free", "dim")
    if state.holder.startswith(READERS):
        return Text("1 reader" if len(state.readers) == 1 else f"{len(state.readers)} readers")
    who = Text(shown(Holder.of(state.holder)))
    if state.kept:
        who.append(", done: the name is kept", "dim")
    return who.append(", may linger", "dim") if state.may_linger else who


def ttl_of(state: LockState) -> Text:
    """Return how much is left of the lease, of permits of the shortest, as people read it."""
    if state.permits:
        return Text(in_words(min(lease.ttl for lease in state.permits)))
    if state.holder is None:
        return Text("-", "dim")
    return Text("none", "yellow") if state.ttl is None else Text(in_words(state.ttl))


def _fence(state: LockState) -> str:
    return "-" if state.fence is None else str(state.fence)
