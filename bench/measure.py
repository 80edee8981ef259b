"""One sample of tasks that cycle through locks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench import stats
from bench.nodes import BenchNodes
from bench.peers.catalog import Side
from bench.processes import workers
from bench.results import Metrics
from bench.server import BenchServer
from bench.worker.spec import Spec


def cycles(
    server: BenchServer | BenchNodes,
    side: Side,
    spec: Spec,
    processes: int = 1,
    *,
    core: int | None = None,
    before_go: Callable[[], object] = lambda: None,
) -> Metrics:
    """
    Measure a side, with the server's share of the work.

    :param processes: how many workers, each with the spec's tasks
    :param core: the core that the server stays on
    :param before_go: called when all workers run, before the window
    :raises WorkerFailed: if a worker did
    """
    server.clear()
    with server.pinned(core), workers(side, [spec] * processes) as started:
        before_go()
        before = server.read()
        for worker in started:
            worker.tell("go")
        figures = [worker.hear() for worker in started]
        after = server.read()
        for worker in started:
            worker.finish()
    metrics = combine(figures)
    done = max(1, metrics["cycles"])
    metrics["server_us"] = (after.cpu - before.cpu) / done * 1e6
    metrics["requests"] = after.requests_since(before, side.info.requests) / done
    return metrics


def combine(figures: list[dict[str, Any]]) -> Metrics:
    """Put the figures of a sample's workers together; durations stay seconds."""
    counts = [count for each in figures for count in each["counts"]]
    done = sum(each["cycles"] for each in figures)
    seconds = max(each["seconds"] for each in figures)
    histogram = stats.merged([each["histogram"] for each in figures])
    one = figures[0] if len(figures) == 1 else None
    return {
        "rate": done / seconds,
        "cycles": done,
        "p50": one["p50"] if one else stats.histogram_quantile(histogram, 0.5),
        "p99": one["p99"] if one else stats.histogram_quantile(histogram, 0.99),
        "longest": max(each["longest"] for each in figures),
        "client_us": sum(each["client_cpu"] for each in figures) / max(1, done) * 1e6,
        "overlaps": sum(each["overlaps"] for each in figures),
        "starved": counts.count(0),
        "least": min(counts),
        "most": max(counts),
        "fairness": stats.fairness(counts),
        "shares": [each["cycles"] / max(1, done) for each in figures],
        "counts": counts,
        "longest_by_task": [each for figure in figures for each in figure["longest_by_task"]],
        "histogram": {str(number): count for number, count in histogram.items()},
    }
