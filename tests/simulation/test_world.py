"""The whole lock in a simulated world, from fresh seeds; failures replay by their seed."""

import subprocess
import sys
from pathlib import Path

from tests.simulation.failover import Failover
from tests.simulation.patches import deterministic
from tests.simulation.plan import SENTINEL, Plan
from tests.simulation.world import World

ROOT = Path(__file__).parents[2]


def simulation(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )


def test_nothing_that_must_not_be_is_in_fresh_schedules() -> None:
    """One Redis and quorums, processes with a fate, a bad network: all that is promised holds."""
    ran = simulation("--seconds", "25", "--jobs", "1")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_schedule_replays_exactly() -> None:
    """The same seed, the same story to the last line."""
    asked = ("--deployment", "single", "--seed", "3")
    once, again = (simulation(*asked) for _ in range(2))
    assert once.stdout == again.stdout
    assert once.stdout.count("\n") > 100


def test_who_tries_for_as_long_as_a_replica_is_late_comes_to_an_end_with_the_faults() -> None:
    """Candidates of leases too short to be acknowledged in time lead once the replica keeps up."""
    plan = Plan(
        7, SENTINEL, workers=8, until=0.5, ttls=(0.06,), kinds=("election",), ack="replicas:1"
    )
    with deterministic():
        world = World(plan)
        try:
            assert isinstance(world.failover, Failover)
            world.failover._lag = 0.05
            outcome = world.run()
        finally:
            world.bury()
    assert outcome.violations == ()
    assert outcome.kinds["acknowledged"] > 0
