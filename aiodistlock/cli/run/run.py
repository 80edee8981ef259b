"""Runs a command under a lock: from options to an exit status."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import anyio

from aiodistlock import AcquireTimeout, Lease, LeaseLost, LockClient, StoreUnavailable
from aiodistlock.cli.connection import lock_client
from aiodistlock.console.errors import (
    EXIT_LOST,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    CommandError,
)
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import ClientOptions, LockOptions
from aiodistlock.core.validation import check_all, refuse
from aiodistlock.doctor.targets import parse

from .command import Command, problem
from .supervisor import TERMINATING, Supervisor
from .terminal import Terminal

_LONGEST_GRACE = 3600.0

_INTERRUPTED = 128 + signal.SIGINT


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user asked for; durations in seconds."""

    urls: Sequence[str]
    name: str
    command: Sequence[str]
    namespace: str
    ttl: float
    timeout: float | None
    quiet: bool
    conflict_exit_code: int
    grace: float
    unavailable_after: float
    quarantine: float
    keep_redis_url: bool


def run(options: Options) -> int:
    """
    Run the command under the lock, and return its exit status.

    :raises CommandError: if it could not run, or lost the lock
    :raises CommandError: if there is no URL, or one is none
    """
    parse(options.urls)
    _check(options)
    if not options.keep_redis_url:
        os.environ.pop("REDIS_URL", None)
    wrong = problem(options.command)
    if wrong is not None:
        raise CommandError(*wrong)
    # What it logs we tell ourselves, in one line.
    logging.getLogger("aiodistlock").addHandler(logging.NullHandler())
    status, had_terminal = asyncio.run(_run(options, Command(options.command, options.grace)))
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if status == _INTERRUPTED and not ignored and any(map(os.isatty, (0, 1, 2))):
        _interrupt(had_terminal)
    return status


def _check(options: Options) -> None:
    """
    Check all that the user gave, before any I/O.

    :raises CommandError: naming all that is wrong
    """
    within = 0 <= options.grace <= _LONGEST_GRACE
    grace = f"grace must be 0 to {_LONGEST_GRACE:g} seconds, not {options.grace:g}"
    try:
        check_all(
            lambda: LockKeys(options.name, options.namespace),
            lambda: LockOptions(ttl=options.ttl, timeout=options.timeout),
            lambda: refuse([None if within else grace]),
            lambda: _client_options(options),
            lambda: refuse(
                _client_options(options).too_long(options.ttl, quorum=len(options.urls) > 1)
            ),
        )
    except ValueError as error:
        raise CommandError(str(error), EXIT_USAGE) from None


def _client_options(options: Options) -> ClientOptions:
    return ClientOptions(unavailable_after=options.unavailable_after, quarantine=options.quarantine)


def _interrupt(had_terminal: bool) -> None:
    """
    Die of Ctrl-C: a shell goes on with its loop or script if we only return a status.

    :param had_terminal: whether the shell, being in our process group, has not seen it
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(0 if had_terminal else os.getpid(), signal.SIGINT)


async def _run(options: Options, command: Command) -> tuple[int, bool]:
    """Return the exit status, and whether the command had the terminal at its end."""
    supervisor = Supervisor(command, Terminal())
    async with lock_client(
        options.urls,
        unavailable_after=options.unavailable_after,
        quarantine=options.quarantine,
    ) as locks:
        locks.add_listener(supervisor.listen)
        try:
            lease = await _acquire(options, locks)
            if isinstance(lease, int):
                return lease, False
            environment = {
                "AIODISTLOCK_LOCK_NAME": options.name,
                "AIODISTLOCK_FENCING_TOKEN": str(lease.fencing_token),
            }
            supervisor.start(environment, lambda: lease.validity)
            status = await _held(supervisor, lease)
            command.guardian.dismiss()
            return await _released(lease, status), supervisor.had_terminal
        finally:
            # Before the client gives up what it holds.
            command.guardian.end_group()
            await supervisor.all_ended()


async def _acquire(options: Options, locks: LockClient) -> Lease | int:
    """Acquire, or return the exit status for the signal that came first."""
    loop = asyncio.get_running_loop()
    came: list[int] = []
    lease = None
    with anyio.CancelScope() as scope:

        def give_up(number: int) -> None:
            came.append(number)
            scope.cancel()

        for number in TERMINATING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, give_up, number)
        try:
            lock = locks.lock(options.name, ttl=options.ttl, namespace=options.namespace)
            lease = await lock.acquire(options.timeout)
        except AcquireTimeout as error:
            if error.holder is None:  # nobody told: Redis never answered
                raise CommandError(str(error), EXIT_UNAVAILABLE) from None
            told = "" if options.quiet else str(error)
            raise CommandError(told, options.conflict_exit_code) from None
        except StoreUnavailable as error:
            raise CommandError(str(error), EXIT_UNAVAILABLE) from None
        except ValueError as error:
            raise CommandError(str(error), EXIT_USAGE) from None
    if not came:
        assert lease is not None, "no signal came"
        return lease
    if lease is not None:
        await _released(lease, 0)
    return 128 + came[0]


async def _held(supervisor: Supervisor, lease: Lease) -> int:
    """
    Wait for the end of the command, and return its exit status.

    :raises CommandError: if the lease was lost before
    """
    lost = asyncio.ensure_future(lease.wait_lost())
    try:
        await asyncio.wait((supervisor.ended, lost), return_when=asyncio.FIRST_COMPLETED)
    finally:
        lost.cancel()
    if not supervisor.ended.done():
        try:
            lease.check()
        except LeaseLost as error:
            raise CommandError(f"{error}; the command was ended", EXIT_LOST) from None
    return await supervisor.ended


async def _released(lease: Lease, status: int) -> int:
    """Give the lock up, and return the command's exit status."""
    try:
        await lease.release()
    except LeaseLost as error:
        raise CommandError(f"{error}; the command had ended", EXIT_LOST) from None
    except StoreUnavailable as error:
        # The command did its work under a valid lease, which ends by itself.
        print(f"aiodistlock: the lock was not given up: {error}", file=sys.stderr)
    return status
