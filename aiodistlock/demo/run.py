"""The demo from its options to its exit status."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio

from aiodistlock.console.errors import CommandError

from . import acts
from .coming_back import coming_back
from .events import Event, load_events, sample_events
from .figures import Figures
from .fleet import ENDS_THE_DEMO
from .performance import Stage
from .report import Reporter
from .root_cause import root_cause
from .server import open_server

EXIT_AS_TOLD: Final = 0
EXIT_NOT_AS_TOLD: Final = 1
EXIT_INTERRUPTED: Final = 130

_TTL: Final = 1.0
_MOST_WORKERS: Final = 64

# One for every strike of the third act.
_FEWEST_EVENTS: Final = 3


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for; None where they did not."""

    events: Path | None
    redis: str | None
    workers: int
    limit: int | None


def run(options: Options, reporter: Reporter) -> tuple[int, Figures | None]:
    """Run the demo, report, and return the exit status and the figures.

    There are none if a signal ended it.

    :raises CommandError: if it cannot run as asked, before anything was applied where
        the input is to blame
    """
    events = _checked(options)
    try:
        figures = anyio.run(_until_signalled, options, events, reporter)
    except BaseExceptionGroup as group:
        # One worker's failure ends all.
        errors = group.subgroup(CommandError)
        if errors is None:
            raise
        raise root_cause(errors) from None
    if figures is None:
        return EXIT_INTERRUPTED, None
    reporter.summary(figures)
    return EXIT_AS_TOLD if figures.as_told else EXIT_NOT_AS_TOLD, figures


def _checked(options: Options) -> list[Event]:
    if not 1 <= options.workers <= _MOST_WORKERS:
        told = f"must be 1 to {_MOST_WORKERS}, got {options.workers}"
        raise CommandError(f"--workers {told}")
    if options.limit is not None and options.limit < _FEWEST_EVENTS:
        told = f"must be at least {_FEWEST_EVENTS}, got {options.limit}"
        raise CommandError(f"--limit {told}")
    path = options.events
    events = load_events(path) if path is not None else list(sample_events())
    if len(events) < _FEWEST_EVENTS:
        raise CommandError(f"too few events in {path}: needs at least {_FEWEST_EVENTS}")
    return events[: options.limit]


async def _until_signalled(
    options: Options, events: list[Event], reporter: Reporter
) -> Figures | None:
    """Play the demo; None if a signal ended it first."""
    loop = asyncio.get_running_loop()
    with anyio.CancelScope() as scope:
        for number in ENDS_THE_DEMO:
            # Further signals change nothing: cleaning up is bounded in time.
            loop.add_signal_handler(number, scope.cancel)
        with reporter:
            return await _play(options, events, reporter)
    return None


async def _play(options: Options, events: list[Event], reporter: Reporter) -> Figures:
    began_at = time.monotonic()
    namespace = f"aiodistlock-demo:{secrets.token_hex(4)}:"
    with tempfile.TemporaryDirectory(prefix="aiodistlock-demo-") as folder:
        async with open_server(options.redis, namespace) as server:
            reporter.open(server.shown, options.workers, len(events))
            stage = Stage(
                events=events,
                workers=options.workers,
                redis_url=server.url,
                namespace=namespace,
                ttl=_TTL,
                folder=Path(folder),
                reporter=reporter,
            )
            no_lock = await acts.no_lock(stage)
            naive_setnx = await acts.naive_setnx(stage)
            async_lock = await acts.async_lock(stage)
            back = await coming_back(stage)
    return Figures(
        redis=server.shown,
        workers=options.workers,
        seconds=round(time.monotonic() - began_at, 3),
        no_lock=no_lock,
        naive_setnx=naive_setnx,
        async_lock=async_lock,
        coming_back=back,
    )
