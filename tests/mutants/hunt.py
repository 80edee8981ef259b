"""Runs schedules in the copy of the package that it is started in, until one has a violation.

It reads their seeds, one a line, and writes a line of JSON before each, so that whoever waits sees
it go on, and one of what it found.
"""

from __future__ import annotations

import faulthandler
import json
import sys

from tests.simulation.patches import deterministic
from tests.simulation.plan import Plan, draw
from tests.simulation.world import run

HANGS_AFTER = 150
"""Seconds after which a schedule counts as one that never ends; most take a tenth of one."""


def look_at(plan: Plan) -> tuple[str, str] | None:
    """Run a schedule; return the rule that is broken first, and how."""
    try:
        violations = run(plan).violations
    except Exception as error:  # noqa: BLE001  # whatever the bug has the world raise
        return "raised", repr(error)
    return (violations[0].rule, violations[0].what) if violations else None


def main(deployment: str) -> None:
    """Run the command."""
    seeds = [int(line) for line in sys.stdin]
    with deterministic():
        for seed in seeds:
            print(json.dumps({"begins": seed}), flush=True)
            faulthandler.dump_traceback_later(HANGS_AFTER, exit=True, file=sys.stderr)
            found = look_at(draw(seed, deployment))
            faulthandler.cancel_dump_traceback_later()
            if found is not None:
                print(json.dumps({"seed": seed, "rule": found[0], "what": found[1]}), flush=True)
                return


if __name__ == "__main__":
    main(*sys.argv[1:])
