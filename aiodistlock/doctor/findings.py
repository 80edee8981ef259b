"""What the doctor says: one finding per thing it looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum


class Level(IntEnum):
    """How bad a finding is; ordered, so that the worst of several is their maximum."""

    OK = 0
    NOTE = 1
    """Good to know; also what could not be looked at."""
    WARNING = 2
    """Locks work, and a failure or a change that is to be expected ends that."""
    DANGER = 3
    """Locks are unsafe, or none can be taken: now, or in a failure that this deployment
    is there to survive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    One thing that was looked at.

    :param check: stable name of the check, for scripts that read ``--json``
    :param found: what is so
    :param advice: what to do about it; empty where there is nothing to do
    :param nodes: where it is so; empty: the deployment as a whole
    """

    level: Level
    check: str
    found: str
    advice: str = ""
    nodes: tuple[str, ...] = ()


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Make one finding of those that say the same of several nodes; the worst first."""
    alike: dict[tuple[Level, str, str, str], Finding] = {}
    for each in findings:
        key = (each.level, each.check, each.found, each.advice)
        seen = alike.get(key)
        nodes = each.nodes if seen is None else seen.nodes + each.nodes
        alike[key] = replace(each, nodes=tuple(dict.fromkeys(nodes)))
    return sorted(alike.values(), key=lambda finding: -finding.level)


def worst(findings: Iterable[Finding]) -> Level:
    """Return the level of the worst finding."""
    return max((finding.level for finding in findings), default=Level.OK)
