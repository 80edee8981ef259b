"""What is read and written under read/write locks: by the word of who does so."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiodistlock import ReadWriteLease

if TYPE_CHECKING:
    from tests.simulation.judge import Judge
    from tests.simulation.process import Process

NAMESPACE = "page:"
"""Of names that nobody takes otherwise: what stands at their keys is of several holders."""


@dataclass(eq=False)
class Visit:
    """One lease in one mode, from its holder's word that it has it to its word that it has not."""

    process: Process
    lease: ReadWriteLease
    name: str
    writes: bool

    def relies(self) -> bool:
        """Tell whether its holder relies on it at this instant, by the holder's own clock."""
        return self.lease.is_held

    def confirmed_at(self, judge: Judge) -> float:
        """Return a time before which its server has not spoken of it last."""
        # What is handed over locally may last by the ttl of whoever had it before.
        return judge.now - (judge.longest_ms / 1000 - self.lease.validity)

    def __str__(self) -> str:
        return f"{'writer' if self.writes else 'reader'} {self.lease!r}"


class Pages:
    """
    Notes a writer beside anybody (``overlap``), and versions out of order (``fence``).

    What was not confirmed since a server lost data, or had its clock stepped, is not judged: its
    holder may rely on what nobody else knows of.  Versions that are read are not judged once either
    has been.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._open: defaultdict[str, list[Visit]] = defaultdict(list)
        self._written: defaultdict[str, int] = defaultdict(int)
        """The highest fencing token of each name's writers."""
        self._read: defaultdict[str, int] = defaultdict(int)
        """The highest version that was read of each name."""

    def begins(self, process: Process, name: str, lease: ReadWriteLease) -> Visit:
        """Take in that somebody reads or writes from now on, under a lease."""
        judge, fence = self._judge, lease.fencing_token
        visit = Visit(process, lease, name, lease.mode == "write")
        judge.holds += 1
        judge.holds_of["rwlock"] += 1
        if judge.fences_are_promised and visit.relies():
            if visit.writes:
                known = visit.confirmed_at(judge) > judge.broken_at
                if known and fence <= max(self._written[name], self._read[name]):
                    judge.note("fence", f"{visit} writes behind {self._written[name]}")
            # A server that comes up with data of before has a version of before; one whose clock is
            # set forward ends a lease by which its holder reads on, beside the next writer.
            elif fence < self._written[name] and not judge.data_lost and judge.broken_at < 0:
                judge.note("fence", f"{visit} reads behind {self._written[name]}")
        if not visit.writes:
            judge.beside.reads(name, visit)
        if visit.writes:
            self._written[name] = max(self._written[name], fence)
        else:
            self._read[name] = max(self._read[name], fence)
        self._open[name].append(visit)
        self.look()
        return visit

    def ends(self, visit: Visit) -> None:
        """Take in that somebody reads or writes no more."""
        self._open[visit.name].remove(visit)

    def look(self) -> None:
        """See that nobody is beside a writer."""
        judge = self._judge
        for visits in self._open.values():
            if len(visits) < 2:
                continue
            relied_on = [each for each in visits if each.relies()]
            writer = next((each for each in relied_on if each.writes), None)
            if writer is None:
                continue
            for other in relied_on:
                known = min(each.confirmed_at(judge) for each in (other, writer))
                if other is not writer and known > judge.broken_at:
                    judge.note("overlap", f"{writer} beside {other}")
