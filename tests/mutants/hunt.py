"""Runs schedules in the copy of the package that it is started in, until one has a violation.

It writes a line of JSON before each schedule, so that whoever waits sees it go on, and one of
what it found.
"""

from __future__ import annotations

import argparse
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


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("first", type=int)
    parser.add_argument("schedules", type=int)
    parser.add_argument("deployment")
    parser.add_argument("theme", help="only schedules about it; '': all")
    asked = parser.parse_args()
    with deterministic():
        for seed in range(asked.first, asked.first + asked.schedules):
            plan = draw(seed, asked.deployment)
            if asked.theme not in ("", plan.theme):
                continue
            print(json.dumps({"begins": seed}), flush=True)
            faulthandler.dump_traceback_later(HANGS_AFTER, exit=True, file=sys.stderr)
            found = look_at(plan)
            faulthandler.cancel_dump_traceback_later()
            if found is not None:
                print(json.dumps({"seed": seed, "rule": found[0], "what": found[1]}), flush=True)
                return


if __name__ == "__main__":
    main()
