"""Runs ``leader``: who leads an election, once or whenever that changes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict

from aiodistlock import Election, Leader, LockClient, StoreUnavailable
from aiodistlock.cli.connection import check_keys, lock_client
from aiodistlock.console.errors import EXIT_UNAVAILABLE, EXIT_USAGE, CommandError
from aiodistlock.core.escaping import shown
from aiodistlock.doctor.targets import parse

NOBODY = 1
"""The exit status where nobody leads."""


def show_leader(
    urls: Sequence[str], name: str, namespace: str, timeout: float, *, watch: bool, as_json: bool
) -> int:
    """
    Print who leads, and return the exit status; do not return, if it is to be watched.

    :param timeout: seconds for which an answer is waited for
    :raises CommandError: if name or namespace cannot be used, or Redis is unavailable
    :raises CommandError: if there is no URL, one is none, or there are several
    """
    check_keys(name, namespace)
    parse(urls)
    # What it logs we tell ourselves, in one line.
    logging.getLogger("aiodistlock").addHandler(logging.NullHandler())
    leader = asyncio.run(_show(urls, name, namespace, timeout, watch=watch, as_json=as_json))
    return NOBODY if leader is None else 0


async def _show(
    urls: Sequence[str], name: str, namespace: str, timeout: float, *, watch: bool, as_json: bool
) -> Leader | None:
    async with lock_client(urls) as locks:
        election = _election(locks, name, namespace)
        try:
            leader = await election.leader(timeout)
            if not watch:
                _tell(leader, as_json=as_json)
            else:
                async with aclosing(election.observe()) as leaders:
                    async for each in leaders:
                        _tell(each, as_json=as_json)
        except StoreUnavailable as error:
            raise CommandError(str(error), EXIT_UNAVAILABLE) from None
    return leader


def _election(locks: LockClient, name: str, namespace: str) -> Election:
    try:
        return locks.election(name, namespace=namespace)
    except ValueError as error:
        raise CommandError(str(error), EXIT_USAGE) from None


def _tell(leader: Leader | None, *, as_json: bool) -> None:
    """Print a line, at once: it may be for a pipe."""
    if as_json:
        told = json.dumps(None if leader is None else asdict(leader))
    elif leader is None:
        told = "nobody leads"
    else:
        # What others wrote.
        value = "" if leader.value is None else shown(leader.value)
        told = f"{value or '-'}  term {leader.term}  {shown(leader.token)}"
    print(told, flush=True)
