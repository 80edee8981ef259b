"""What client processes tell of their leases, in the order in which it is read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(eq=False)
class Hold:
    """
    One lease by its holder's word; instants are of the machine's clock, which all share.

    :ivar asked_at: before it was asked for
    :ivar until: up to when its holder relied on it for certain
    :ivar extended: when the holder asked to extend it, and was told that it was
    :ivar relied_at: when else its holder found that it could rely on it
    """

    name: str
    holder: str
    fence: int
    asked_at: float
    began_at: float
    until: float
    extended: list[tuple[float, float]] = field(default_factory=list)
    relied_at: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        span = f"{self.began_at:.6f} to {self.until:.6f}"
        return f"{self.holder} has {self.name} from {span}, fencing token {self.fence}"


class History:
    """
    Takes down what is told, and keeps a store that refuses stale writes.

    :ivar holds: all leases that were told of
    :ivar story: lines that tell what befell whom, each behind its instant
    :ivar accepted: in the order in which the store accepted a write of theirs
    """

    def __init__(self) -> None:
        self.holds: list[Hold] = []
        self.story: list[tuple[float, str]] = []
        self.strikes: Counter[str] = Counter()
        self.broken: list[tuple[float, float]] = []
        """When P1 was not promised, from when to when."""
        self.wrong: list[tuple[float, str]] = []
        """What was seen to be wrong at once."""
        self.accepted: list[Hold] = []
        self.refused = 0
        """Writes that the store refused, as stale."""
        self._open: dict[tuple[str, str], Hold] = {}
        self._stored: Counter[str] = Counter()

    def tell(self, at: float, what: str) -> None:
        """Take down what befell somebody."""
        self.story.append((at, what))

    def take(self, holder: str, line: str) -> bool:
        """Take in a line of a client process; ``False`` if it is none of ours."""
        match line.split():
            case ["began", number, name, fence, asked, at, until]:
                hold = Hold(name, holder, int(fence), float(asked), float(at), float(until))
                self.holds.append(hold)
                self._open[holder, number] = hold
                self._write(hold)
            case ["relies", number, at, until]:
                hold = self._open[holder, number]
                hold.until = max(hold.until, float(until))
                hold.relied_at.append(float(at))
                self._write(hold)
            case ["extended", number, asked, answered]:
                self._open[holder, number].extended.append((float(asked), float(answered)))
            case ["left", number, at]:
                hold = self._open.pop((holder, number))
                hold.until = min(hold.until, float(at))
            case _:
                return False
        return True

    def killed(self, holder: str, at: float) -> None:
        """Take in that a process was killed, after all that it told has been read."""
        for key in [each for each in self._open if each[0] == holder]:
            hold = self._open.pop(key)
            hold.until = min(hold.until, at)

    def _write(self, hold: Hold) -> None:
        if hold.fence < self._stored[hold.name]:
            self.refused += 1
            return
        self._stored[hold.name] = hold.fence
        if not self.accepted or self.accepted[-1] is not hold:
            self.accepted.append(hold)
