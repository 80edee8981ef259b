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
        self._proclaimed: defaultdict[str, set[str]] = defaultdict(set)
        self._began_at: dict[Held, float] = {}
        self.observers: dict[Observer, None] = {}

    def begins(self, held: Held, value: str) -> None:
        """Take in that a term begins."""
        self._began_at[held] = self._judge.now
        self.proclaims(held, value)

    def proclaims(self, held: Held, value: str) -> None:
        """Take in what a leader is about to proclaim."""
        self._proclaimed[held.lease.token].add(value)

    def ends(self, held: Held) -> None:
        """Take in that a term ends, of which all must have heard who observed it."""
        judge, began_at = self._judge, self._began_at.pop(held)
        if not judge.observers_are_judged or judge.now - began_at < TOLD_WITHIN:
            return
        for each in self.observers:
            missed = held.lease.fencing_token not in each.terms and each.since < began_at
            if each.name == held.name and missed and not each.process.dead:
                judge.note("leader", f"{each.process.label} was not told that {held} leads")

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

    def look_at_end(self, key: bytes, observer: Observer) -> None:
        """See that an observer knows that nobody leads, long after the last one did."""
        judge = self._judge
        latest = max((each.at for each in judge.keys[key].grants), default=-math.inf)
        if judge.now - latest > LOOKS_WITHIN and observer.seen is not None:
            judge.note("leader", f"{observer.process.label} still sees {observer.seen}")
