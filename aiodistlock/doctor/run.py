"""Runs the doctor: from URLs to an exit status."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from rich.console import Console

from aiodistlock.console.errors import CommandError
from aiodistlock.console.piped import PipedConsole
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import ttl_problem
from aiodistlock.core.validation import check_all, refuse

from .checks.diagnosis import diagnose
from .facts import Deployment
from .findings import Level, worst
from .node import Asking
from .report import show, to_json
from .surroundings import gather
from .targets import Target, parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user asked for; durations in seconds."""

    urls: Sequence[str]
    ttl: float = 10.0
    timeout: float = 3.0
    sample: float = 1.0
    namespace: str = "lock:"
    as_json: bool = False


def run(options: Options) -> int:
    """
    Examine, print, and return the exit status: 1 if there is a danger, else 0.

    :raises CommandError: if nothing can be examined, or no URL was given
    """
    target = _target(options)
    asking = Asking(timeout=options.timeout, namespace=options.namespace, sample=options.sample)
    try:
        deployment = _watched(target, asking)
    except KeyboardInterrupt:
        raise CommandError("interrupted; nothing is left behind") from None
    findings = diagnose(deployment, options.ttl)
    if options.as_json:
        print(json.dumps(to_json(deployment, findings, options.ttl), indent=2))
    else:
        show(PipedConsole(highlight=False), deployment, findings, options.ttl)
    return 1 if worst(findings) is Level.DANGER else 0


def _target(options: Options) -> Target:
    """Check what the user gave, before any I/O."""
    within = 0 < options.timeout <= 60
    timeout = f"timeout must be above 0 and up to 60 seconds, not {options.timeout:g}"
    is_sample = 0 <= options.sample <= 60
    sample = f"sample must be 0 to 60 seconds, not {options.sample:g}"
    try:
        check_all(
            lambda: refuse(
                [
                    ttl_problem(options.ttl),
                    None if within else timeout,
                    None if is_sample else sample,
                ]
            ),
            lambda: LockKeys("aiodistlock-doctor", options.namespace),
        )
    except ValueError as error:
        raise CommandError(str(error)) from None
    return parse(options.urls)


def _watched(target: Target, asking: Asking) -> Deployment:
    """Gather, and show on a terminal what is being waited for."""
    console = Console(stderr=True)
    status = console.status("connecting") if console.is_terminal else None
    with status or nullcontext():
        tell = status.update if status else _ignore
        return asyncio.run(gather(target, asking, tell))


def _ignore(_message: str) -> None: ...
