"""Runs ``ls`` and ``inspect``: from options to what is printed."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from aiodistlock.cli.connection import check_keys
from aiodistlock.console.piped import PipedConsole
from aiodistlock.core.escaping import shown
from aiodistlock.core.mark import Mark
from aiodistlock.doctor.targets import parse

from .report import mark_to_json, show, table_of, to_json
from .state import LockState, added_up
from .survey import Survey, open_survey


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where to look; ``timeout`` in seconds, for each answer."""

    urls: Sequence[str]
    namespace: str
    timeout: float


def where(urls: Sequence[str], namespace: str, timeout: float) -> Where:
    """
    Check where the user wants us to look, before any I/O.

    :raises CommandError: if the namespace cannot be used
    :raises CommandError: if there is no URL, or one is none
    """
    check_keys("any", namespace)
    parse(urls)
    return Where(urls=urls, namespace=namespace, timeout=timeout)


def list_locks(at: Where, pattern: str, *, as_json: bool) -> None:
    """
    Print the locks that match.

    :raises CommandError: if Redis is unavailable
    """

    async def look() -> tuple[list[LockState], Survey]:
        async with open_survey(at.urls, at.namespace, at.timeout) as survey:
            return await survey.look(await survey.names(pattern)), survey

    states, survey = asyncio.run(look())
    states = [state for state in states if state.in_use]
    if as_json:
        print(json.dumps([to_json(state, survey.size) for state in states], indent=2))
    elif states:
        PipedConsole(highlight=False).print_table(table_of(states, survey.size))
    else:
        # Not where a program counts the lines.
        print(f"aiodistlock: {_nothing(at, pattern)}", file=sys.stderr)
    warn(survey)


def _nothing(at: Where, pattern: str) -> str:
    what = f"no lock {shown(pattern)!r}" if pattern != "*" else "no lock"
    return f"{what} is held or waited for in the namespace {shown(at.namespace)!r}"


def inspect_lock(at: Where, name: str, *, as_json: bool) -> None:
    """
    Print all that is known of one lock.

    :raises CommandError: if the name cannot be one, or Redis is unavailable
    """
    check_keys(name, at.namespace)

    async def look() -> tuple[dict[int, LockState], tuple[Mark | None, str | None], Survey]:
        async with open_survey(at.urls, at.namespace, at.timeout) as survey:
            seen = await survey.look_at_each([name])
            beside = await survey.beside(name)
            return {node: states[0] for node, states in seen.items()}, beside, survey

    each, (mark, proclaimed), survey = asyncio.run(look())
    nodes = survey.size
    state = added_up(nodes, list(each.values()))
    state = replace(state, mark=mark, proclaimed=proclaimed)
    if not as_json:
        show(PipedConsole(highlight=False), state, each, nodes)
    else:
        told = {**to_json(state, nodes), "mark": mark_to_json(mark), "proclaimed": proclaimed}
        if nodes > 1:
            told["seen"] = [to_json(each[n], 1) if n in each else None for n in range(nodes)]
        print(json.dumps(told, indent=2))
    warn(survey)


def warn(survey: Survey) -> None:
    """Say on stderr which nodes of a quorum did not answer."""
    for number, why in sorted(survey.silent.items()):
        print(f"aiodistlock: node {number + 1} does not count: {why}", file=sys.stderr)
