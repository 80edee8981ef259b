"""What must hold of a history, by the promise of docs/design.md that each belongs to.

``overlap``  P1: leases on a name do not overlap, each by its holder's own conservative deadline
``fence``    P2: whoever asks after a lease began gets a higher fencing token than that
``store``    P2: a store that refuses lower tokens than it has seen accepts no stale write
``linear``   P1, P2: all that holders saw can have come about one after the other
``same``     P2: no two leases have one fencing token, whatever was lost
``starved``  P3: there is no time, however bad, in which nobody gets a lock

But for the last two not of leases that a server may have lost: their holders may rely on them,
and hand them on locally, for as long as they last.
"""

from __future__ import annotations

from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

from tests.simulation.linearizability import Operation, operations_of, stuck_at
from tests.soak.client_main import TTLS
from tests.soak.history import History, Hold

STARVED_AFTER = 30.0
"""Seconds without a lock on a name; no fault lasts nearly as long."""


class Violation(NamedTuple):
    """What must never be, and was."""

    rule: str
    at: float
    what: str


def violations(history: History) -> list[Violation]:
    """Return all that is wrong with a history, in the order of time."""
    found = [Violation("wrong", at, what) for at, what in history.wrong]
    for name in sorted({each.name for each in history.holds}):
        holds = [each for each in history.holds if each.name == name]
        found += [*_same(holds), *_starved(holds)]
        kept = [each for each in holds if not _may_be_lost(each, history)]
        found += [*_overlaps(kept), *_fences(kept), *_linear(kept)]
        found += _stale([each for each in history.accepted if each in set(kept)])
    return sorted(found, key=attrgetter("at"))


def _may_be_lost(hold: Hold, history: History) -> bool:
    """Whether a server may have lost the lease, or granted it while another one served, too."""
    # A lease may have been granted as long before its body began as it lasts.
    granted_at = hold.began_at - max(TTLS)
    return any(granted_at <= end and hold.until >= begin for begin, end in history.broken)


def _overlaps(holds: list[Hold]) -> list[Violation]:
    found = []
    open_: list[Hold] = []
    for hold in sorted(holds, key=attrgetter("began_at")):
        open_ = [each for each in open_ if each.until > hold.began_at]
        found += [Violation("overlap", hold.began_at, f"{each}; {hold}") for each in open_]
        open_.append(hold)
    return found


def _fences(holds: list[Hold]) -> list[Violation]:
    found = []
    began = sorted(holds, key=attrgetter("began_at"))
    at, highest = 0, None
    for hold in sorted(holds, key=attrgetter("asked_at")):
        while at < len(began) and began[at].began_at < hold.asked_at:
            highest = max(highest or began[at], began[at], key=attrgetter("fence"))
            at += 1
        if highest is not None and hold.fence <= highest.fence:
            found.append(Violation("fence", hold.began_at, f"{highest}; {hold}, asked for later"))
    return found


def _same(holds: list[Hold]) -> list[Violation]:
    return [
        Violation("same", other.began_at, f"{one}; {other}")
        for one, other in pairwise(sorted(holds, key=attrgetter("fence")))
        if one.fence == other.fence
    ]


def _stale(accepted: list[Hold]) -> list[Violation]:
    return [
        Violation("store", other.began_at, f"a write was accepted of: {other}; after: {one}")
        for one, other in pairwise(accepted)
        if other.began_at < one.asked_at
    ]


def _linear(holds: list[Hold]) -> list[Violation]:
    stuck = stuck_at([operation for each in holds for operation in _operations(each)])
    if stuck is None:
        return []
    what = f"by no order can this be answered at {stuck.answered_at:.6f}: {stuck}"
    return [Violation("linear", stuck.asked_at, what)]


def _operations(hold: Hold) -> list[Operation]:
    relied_on = [*hold.extended, *((at, at) for at in hold.relied_at)]
    return operations_of(hold.fence, hold.asked_at, hold.began_at, relied_on, hold.until)


def _starved(holds: list[Hold]) -> list[Violation]:
    began = sorted(each.began_at for each in holds)
    return [
        Violation("starved", later, f"nobody got {holds[0].name} for {later - sooner:.1f} s")
        for sooner, later in pairwise(began)
        if later - sooner > STARVED_AFTER
    ]
