"""Which runs are published, and where everything else goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.peers.catalog import PEERS
from bench.results import Results
from bench.workloads import WORKLOADS

HERE = Path(__file__).resolve().parent

OUT = HERE / "results"
"""Where the run of record is: what README.md and RESULTS.md show."""

PARTIAL = OUT / "partial"
"""Where a run goes that was to go there, but is no run of record."""

LEAST_ROUNDS = 5
"""With fewer no interval holds the true median with 90 %."""


@dataclass(frozen=True)
class Destination:
    """
    Where the figures of a run go.

    :ivar folder: for the JSON and the plots
    :ivar published: whether RESULTS.md and README.md beside the bench tell of it;
        otherwise the tables go into the folder too
    """

    folder: Path
    published: bool

    @property
    def tables(self) -> Path:
        """The file for the tables."""
        return (HERE if self.published else self.folder) / "RESULTS.md"


def destination(results: Results, out: Path) -> Destination:
    """
    Return where a run goes that is wanted in ``out``.

    In the folder of the run of record only another one may replace it.
    """
    folder = out.resolve()
    if folder != OUT:
        return Destination(folder, published=False)
    if lacking(results):
        return Destination(PARTIAL, published=False)
    return Destination(OUT, published=True)


def lacking(results: Results) -> str:
    """
    Say what a run lacks to be one of record; nothing, if it is.

    Asked of what was measured, not of the options: so a file that is drawn again is
    judged like the run that wrote it.
    """
    if not results.complete:
        return "it was cut short"
    if results.environment.get("quick"):
        return "it was quick"
    without = [name for name in WORKLOADS if name not in results.workloads()]
    if without:
        return f"without {', '.join(without)}"
    known = {*results.environment.get("peers", ()), *results.missing}
    absent = [peer for peer in PEERS if peer not in known]
    if absent:
        return f"without {', '.join(absent)}"
    rounds = len({sample.round for sample in results.samples})
    return f"{rounds} of {LEAST_ROUNDS} rounds" if rounds < LEAST_ROUNDS else ""
