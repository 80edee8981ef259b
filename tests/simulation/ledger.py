"""What was simulated on one commit, kept from one run of the command to the next."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tests.simulation.tally import Tally
from tests.simulation.world import Outcome


class Ledger:
    """
    Adds up what comes of schedules, and writes it down as it comes.

    :param path: of the file, a line for each piece of work; ``None``: nothing is written
    :param commit: that is measured; what the file has of another one is left out
    """

    def __init__(self, deployments: Iterable[str], path: Path | None, commit: str) -> None:
        self.tallies = {each: Tally(each) for each in deployments}
        self._path = path
        self._commit = commit
        if path is None or not path.exists():
            return
        for line in path.read_text().splitlines():
            told = json.loads(line)
            if told["commit"] == commit and told["deployment"] in self.tallies:
                self.tallies[told["deployment"]].join(told)

    def add(self, outcomes: list[Outcome]) -> None:
        """Add schedules of one deployment."""
        deployment = outcomes[0].plan.deployment
        added = Tally(deployment)
        for each in outcomes:
            added.add(each)
        told = added.told()
        self.tallies[deployment].join(told)
        if self._path is not None:
            self._path.parent.mkdir(exist_ok=True)
            with self._path.open("a") as file:
                file.write(json.dumps({"commit": self._commit, **told}) + "\n")

    @property
    def schedules(self) -> int:
        """How many there were."""
        return sum(each.schedules for each in self.tallies.values())

    @property
    def violations(self) -> int:
        """How many of them had violations."""
        return sum(each.violations for each in self.tallies.values())
