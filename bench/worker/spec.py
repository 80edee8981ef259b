"""What a worker is asked to do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True)
class Spec:
    """
    One worker's part of one sample; durations in seconds.

    :ivar kind: ``cycles``, ``windows``, ``places``, ``handoff``, ``herd``, ``ledger``, ``renewal``
        or ``pipe``
    :ivar peer: module in ``bench.peers`` that speaks to the lock
    :ivar sibling: what the peer has to make instead of a lock; see ``bench/peers/siblings.py``
    :ivar url: the server; of a quorum all nodes, separated by commas
    :ivar loop: ``asyncio``, ``uvloop`` or ``threads``
    :ivar hot: all tasks want one name; else each has its own
    :ivar names: what those are called, for all workers of the sample; default: any names
    :ivar body: pause in the critical section; 0 for one turn of the loop, ``None`` for
        none
    :ivar cpu: the core to stay on, ``None`` for any
    :ivar pause: mean pause between two cycles, at random
    :ivar share: of a ledger's events that come to the process that had their wallet before
    :ivar page: file mapped by all workers of the sample, for the overlap check or as the store
    """

    kind: str
    peer: str
    url: str
    loop: str = "asyncio"
    sibling: str = ""
    tasks: int = 1
    hot: bool = False
    names: Sequence[str] = ()
    prefix: str = "bench"
    body: float | None = None
    pause: float = 0.0
    share: float = 1.0
    seconds: float = 1.0
    warmup: float = 0.3
    ttl: float = 10.0
    cpu: int | None = None
    page: str | None = None
    number: int = 0

    def dump(self) -> str:
        """Return the spec as one line of JSON."""
        return json.dumps(asdict(self))

    def at(self, url: str) -> Spec:
        """Return the same for another server."""
        return replace(self, url=url)

    def name(self, task: int) -> str:
        """Return the name that a task wants."""
        if self.hot:
            return self.prefix
        if self.names:
            return self.names[self.number * self.tasks + task]
        return f"{self.prefix}:{self.number}:{task}"

    @classmethod
    def load(cls, line: str) -> Spec:
        """Read what :meth:`dump` wrote."""
        return cls(**json.loads(line))
