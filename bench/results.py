"""What was measured: samples, and how to ask for them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import stats
from bench.stats import Interval

Metrics = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """
    What one side did in one round of one case.

    :ivar metrics: numbers by name, and under ``histogram`` and ``*by_task`` details;
        only ``error``, if it failed
    """

    workload: str
    case: str
    side: str
    round: int
    metrics: Metrics

    @property
    def error(self) -> str | None:
        """Why there are no figures; ``None`` if there are."""
        return self.metrics.get("error")


@dataclass
class Results:
    """
    All of one run.

    :ivar environment: machine, versions, commit, load
    :ivar missing: peers that could not be measured, with the reason
    :ivar complete: whether the run came to its end
    """

    environment: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    complete: bool = False

    def of(
        self, workload: str | None = None, case: str | None = None, side: str | None = None
    ) -> list[Sample]:
        """Return the samples of a workload, case and side that have figures."""
        return [
            sample
            for sample in self.samples
            if workload in (None, sample.workload)
            and case in (None, sample.case)
            and side in (None, sample.side)
            and sample.error is None
        ]

    def workloads(self) -> list[str]:
        """Return the workloads in the order of measurement."""
        return list(dict.fromkeys(sample.workload for sample in self.samples))

    def cases(self, workload: str) -> list[str]:
        """Return the cases of a workload in the order of measurement."""
        return list(dict.fromkeys(each.case for each in self.samples if each.workload == workload))

    def sides(self, workload: str | None = None, case: str | None = None) -> list[str]:
        """Return the sides that have figures, in the order of measurement."""
        found = dict.fromkeys(sample.side for sample in self.of(workload, case))
        order = dict.fromkeys(sample.side for sample in self.samples)
        return [side for side in order if side in found]

    def errors(self, workload: str) -> Iterator[Sample]:
        """Return the samples of a workload that failed."""
        for sample in self.samples:
            if sample.workload == workload and sample.error is not None:
                yield sample

    def by_round(self, workload: str, case: str, side: str, metric: str) -> dict[int, float]:
        """Return one metric of a side by round; rounds without it are left out."""
        return {
            sample.round: float(sample.metrics[metric])
            for sample in self.of(workload, case, side)
            if sample.metrics.get(metric) is not None
        }

    def pooled(self, workload: str, case: str, side: str, metric: str) -> list[float]:
        """Return one metric of a side of all rounds together; of lists, what is in them."""
        values: list[float] = []
        for sample in self.of(workload, case, side):
            value = sample.metrics.get(metric)
            if value is not None:
                values += value if isinstance(value, list) else [value]
        return values

    def interval(self, workload: str, case: str, side: str, metric: str) -> Interval | None:
        """Return the median of a metric over the rounds; ``None`` if there is none."""
        values = self.by_round(workload, case, side, metric)
        return stats.interval(list(values.values())) if values else None

    def typical(self, workload: str, case: str, side: str, metric: str) -> Sample | None:
        """
        Return the round whose metric is the median, of two in the middle the lower.

        What is shown of one round then fits what tables say of all.
        """
        samples = self.of(workload, case, side)
        ordered = sorted(
            (each for each in samples if each.metrics.get(metric) is not None),
            key=lambda each: (each.metrics[metric], each.round),
        )
        return ordered[(len(ordered) - 1) // 2] if ordered else None

    def ratio(
        self, workload: str, case: str, metric: str, side: str, reference: str
    ) -> Interval | None:
        """Return how two sides of a case compare; ``None`` if either is missing."""
        return _ratio(
            self.by_round(workload, case, side, metric),
            self.by_round(workload, case, reference, metric),
        )

    def growth(
        self, workload: str, before: str, after: str, metric: str, side: str
    ) -> Interval | None:
        """Return how two cases of a side compare; ``None`` if either is missing."""
        return _ratio(
            self.by_round(workload, after, side, metric),
            self.by_round(workload, before, side, metric),
        )

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_rounded(asdict(self)), separators=(",", ":")) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read what :meth:`save` wrote."""
        data: Mapping[str, Any] = json.loads(path.read_text())
        samples = [Sample(**sample) for sample in data["samples"]]
        return cls(data["environment"], data["missing"], samples, data["complete"])


def _ratio(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Interval | None:
    if not ours.keys() & theirs.keys() or not all(theirs.values()):
        return None
    return stats.ratio(ours, theirs)


def _rounded(value: Any) -> Any:
    """Round floats to seven digits, which is more than was measured."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return value
