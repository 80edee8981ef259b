"""Whether any lock let two in at once, and in how many cycles that could have shown."""

from __future__ import annotations

from bench.peers import catalog
from bench.peers.catalog import AT, MUTEX, OURS
from bench.results import Results


def overlaps(results: Results) -> dict[str, int]:
    """Return how many overlaps of critical sections were seen, by side."""
    found: dict[str, int] = {}
    for sample in results.samples:
        if "overlaps" in sample.metrics:
            found[sample.side] = found.get(sample.side, 0) + int(sample.metrics["overlaps"])
    return found


def contended(results: Results) -> tuple[int, int]:
    """
    Return in how many cycles ours, and the other Redis locks, had to exclude somebody.

    On names of their own a lock that does nothing would not show, the mutex of one process
    says nothing about locks at a server, nor another commit about this one.
    """
    ours = others = 0
    for sample in (*results.of("hot"), *results.of("herd")):
        peer = sample.side.partition("/")[0]
        if peer == OURS:
            ours += int(sample.metrics["cycles"])
        elif peer != MUTEX and not peer.startswith(AT):
            others += int(sample.metrics["cycles"])
    return ours, others


def sentence(results: Results) -> str:
    """Say what was seen; nothing where nothing could have been."""
    seen = {catalog.title(side): count for side, count in overlaps(results).items() if count}
    ours, others = contended(results)
    counts = ((ours, catalog.title(OURS)), (others, "the other Redis locks"))
    checked = " and ".join(f"{count:,} of {whose}" for count, whose in counts if count)
    if seen:
        told = "Overlaps of critical sections: "
        told += ", ".join(f"{side} {count:,}" for side, count in seen.items())
        return f"{told}; contended cycles: {checked}." if checked else f"{told}."
    if not checked:
        return ""
    return f"No overlap of critical sections in the cycles on a hot name: {checked}."
