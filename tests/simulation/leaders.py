"""What observers of elections are told, and whether it is so."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

from aiodistlock import Leader

if TYPE_CHECKING:
    from tests.simulation.judge import Judge
    from tests.simulation.known import Held
    from tests.simulation.uses.election import Observer

TOLD_WITHIN = 0.05
"""Seconds in which observers hear of a leader while all is well: three round trips, and turns."""

LOOKS_WITHIN = 6.0
"""Seconds within which an observer asks without having heard anything, while nobody leads."""


class Leaders:
    """
    Sees to it that whoever is told to lead does, or did a moment ago (``leader``).

    :ivar observers: those that observe now
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._proclaimed: defaultdict[str, dict[str, float]] = defaultdict(dict)
        """What was, by tokens, with when it was last; in the order of time."""
        self._began_at: dict[Held, float] = {}
        self._ended_at: dict[str, float] = {}
        """When terms ended, by their tokens."""
        self.observers: dict[Observer, None] = {}

    def begins(self, held: Held, value: str) -> None:
        """Take in that a term begins."""
        self._began_at[held] = self._judge.now
        self.proclaims(held, value)

    def proclaims(self, held: Held, value: str) -> None:
        """Take in what a leader is about to proclaim."""
        proclaimed = self._proclaimed[held.lease.token]
        proclaimed.pop(value, None)
        proclaimed[value] = self._judge.now

    def ends(self, held: Held) -> None:
        """Take in that a term ends, of which all must have heard who observed it."""
        judge, began_at = self._judge, self._began_at.pop(held)
        self._ended_at[held.lease.token] = judge.now
        if not judge.all_goes_on or judge.now - began_at < TOLD_WITHIN:
            return
        value, proclaimed_at = list(self._proclaimed[held.lease.token].items())[-1]
        for each in self.observers:
            if each.name != held.name or each.process.dead:
                continue
            if held.lease.fencing_token not in each.terms and each.since < began_at:
                judge.note("leader", f"{each.process.label} was not told that {held} leads")
            late = judge.now - max(proclaimed_at, each.since)
            seen = each.seen if late > TOLD_WITHIN else None
            if seen is not None and seen.token == held.lease.token and seen.value != value:
                judge.note("leader", f"{each.process.label} was not told of {value!r} by {held}")

    def told(self, name_text: str, leader: Leader | None) -> None:
        """Take in what somebody is told who asks."""
        if leader is None:
            return
        name = self._judge.names[name_text]
        token = leader.token.encode()
        if not any(each.token == token and each.fence == leader.term for each in name.grants):
            self._judge.note("leader", f"{leader} was granted nothing")
        if leader.value is not None and leader.value not in self._proclaimed[leader.token]:
            self._judge.note("leader", f"{leader} has not proclaimed that")

    def saw(self, observer: Observer, leader: Leader | None) -> None:
        """Take in what an observer is told."""
        self.told(observer.name, leader)
        observer.since = min(observer.since, self._judge.now)
        observer.seen = leader
        if leader is None:
            return
        if leader.term < observer.highest and not self._judge.data_lost:
            self._judge.note("leader", f"{leader} leads behind term {observer.highest}")
        observer.highest = max(observer.highest, leader.term)
        observer.terms.add(leader.term)

    def look(self) -> None:
        """See that observers hear that a term has ended."""
        judge = self._judge
        for each in self.observers if judge.all_goes_on else ():
            if each.seen is None or each.process.dead:
                continue
            late = judge.now - max(self._ended_at.get(each.seen.token, judge.now), each.since)
            if late > TOLD_WITHIN:
                judge.note("leader", f"{each.process.label} sees {each.seen} {late:.3f} s after it")

    def look_at_end(self, key: bytes, observer: Observer) -> None:
        """See that an observer knows that nobody leads, long after the last one did."""
        judge = self._judge
        latest = max((each.at for each in judge.keys[key].grants), default=-math.inf)
        if judge.now - latest > LOOKS_WITHIN and observer.seen is not None:
            judge.note("leader", f"{observer.process.label} still sees {observer.seen}")
