"""What the bench says of mutual exclusion."""

import pytest

pytest.importorskip("matplotlib", reason="needs the dependency group plots")

from bench import exclusion, report
from bench.results import Results, Sample
from bench.workloads import hot

CASE = hot.case_name(50, 0.0)


def cycled(side: str, cycles: int, overlaps: int = 0, workload: str = "hot") -> Sample:
    """Build a sample that was checked."""
    return Sample(workload, CASE, side, 0, {"cycles": cycles, "overlaps": overlaps})


UNCONTENDED = [
    cycled("aiodistlock", 10_000, workload="throughput"),
    cycled("quorum", 10_000, workload="seed"),
    cycled("mutex", 10_000),
]


def test_only_cycles_of_redis_locks_on_a_hot_name_are_counted() -> None:
    """Ours on any loop, and the others apart; a name of one's own proves nothing."""
    hot_ones = [
        cycled("aiodistlock", 1000),
        cycled("aiodistlock/uvloop", 234),
        cycled("redis-py", 5),
        cycled("node-redlock", 2),
    ]
    found = Results(samples=[*UNCONTENDED, *hot_ones])
    assert exclusion.sentence(found) == (
        "No overlap of critical sections in the cycles on a hot name: "
        "1,234 of aiodistlock and 7 of the other Redis locks."
    )


def test_where_nobody_contended_nothing_is_said() -> None:
    """No sentence, and no empty paragraph in its place."""
    found = Results({"libraries": {}, "peers": {}, "uncommitted": []}, samples=UNCONTENDED)
    assert exclusion.sentence(found) == ""
    for text in (report.markdown(found, []), report.summary(found, [])):
        assert "verlap" not in text
        assert "\n\n\n" not in text


def test_an_overlap_is_told_wherever_it_was_seen() -> None:
    """Also on a name of one's own, where none can be."""
    broken = cycled("setnx", 9, overlaps=3, workload="seed")
    assert exclusion.sentence(Results(samples=[broken])) == (
        "Overlaps of critical sections: naive SETNX 3."
    )
    found = Results(samples=[broken, cycled("redis-py", 5, overlaps=1)])
    assert exclusion.sentence(found) == (
        "Overlaps of critical sections: naive SETNX 3, redis-py Lock 1; "
        "contended cycles: 5 of the other Redis locks."
    )
