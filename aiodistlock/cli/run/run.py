"""Runs a command under a lock: from options to an exit status."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass

import anyio

from aiodistlock import (
    AcquireTimeout,
    Lease,
    LeaseLost,
    LockClient,
    Once,
    Skipped,
    StoreUnavailable,
    Term,
)
from aiodistlock.cli.connection import lock_client
from aiodistlock.console.errors import (
    EXIT_LOST,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    CommandError,
)
from aiodistlock.core.escaping import shown
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import ClientOptions, LockOptions
from aiodistlock.core.validation import check_all, refuse
from aiodistlock.doctor.targets import parse
from aiodistlock.once import Started

from .command import Command, problem
from .once import check_once, told_of, windows
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
    once_every: str | None
    at_least: str | None
    quiet: bool
    conflict_exit_code: int
    grace: float
    unavailable_after: float
    quarantine: float
    keep_redis_url: bool
    proclaims: str | None = None
    """What to proclaim as the leader of an election; ``None``: it is a lock."""

    @property
    def once(self) -> bool:
        """Whether it is to be done once, in whatever sense."""
        return self.once_every is not None or self.at_least is not None


class TermLost(CommandError):
    """The term was lost, and the command ended: another one may follow."""

    def __init__(self, error: LeaseLost) -> None:
        super().__init__(f"{error}; the command was ended", EXIT_LOST)


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
    status, had_terminal = _run_under_terms(options)
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if status == _INTERRUPTED and not ignored and any(map(os.isatty, (0, 1, 2))):
        _interrupt(had_terminal)
    return status


def _run_under_terms(options: Options) -> tuple[int, bool]:
    """Run the command, and again under each term that follows one that was lost."""
    while True:
        try:
            # Each forked before there are threads: those of the loop before have ended.
            return asyncio.run(_run(options, Command(options.command, options.grace)))
        except TermLost as error:
            print(f"aiodistlock: {error}; a candidate again", file=sys.stderr)


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
            lambda: check_once(
                options.once_every, options.at_least, options.timeout, nodes=len(options.urls)
            ),
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
            if options.once:
                status = await _once(options, locks, supervisor, command)
                return status, supervisor.had_terminal
            if options.proclaims is not None:
                return await _lead(options, options.proclaims, locks, supervisor, command)
            lease = await _acquire(options, locks)
            if isinstance(lease, int):
                return lease, False
            supervisor.start(_environment(options, lease), lambda: lease.validity)
            status = await _held(supervisor, lease)
            command.guardian.dismiss()
            return await _released(lease, status), supervisor.had_terminal
        finally:
            # Before the client gives up what it holds.
            command.guardian.end_group()
            await supervisor.all_ended()


async def _lead(
    options: Options, value: str, locks: LockClient, supervisor: Supervisor, command: Command
) -> tuple[int, bool]:
    """Lead while the command runs, and return as :func:`_run`."""
    ended = False
    try:
        async with AsyncExitStack() as stack:
            with _until_a_signal() as came, _as_command_errors(options):
                election = locks.election(
                    options.name, value=value, ttl=options.ttl, namespace=options.namespace
                )
                term = await stack.enter_async_context(election.lead(options.timeout))
            if came:
                return 128 + came[0], False
            supervisor.start(_environment(options, term), lambda: term.validity)
            try:
                status = await asyncio.shield(supervisor.ended)
            finally:
                # Before we resign, or a loss lets others in sooner than they would come by it.
                with anyio.CancelScope(shield=True):
                    if supervisor.ended.done():
                        command.guardian.dismiss()
                    command.guardian.end_group()
                    await supervisor.all_ended()
            ended = True
            return status, supervisor.had_terminal
    except LeaseLost as error:
        if ended:
            raise CommandError(f"{error}; the command had ended", EXIT_LOST) from None
        raise TermLost(error) from None
    raise AssertionError("nobody resigns")


def _environment(options: Options, lease: Lease | Term) -> dict[str, str]:
    """Return what the command is told."""
    return {
        "AIODISTLOCK_LOCK_NAME": options.name,
        "AIODISTLOCK_FENCING_TOKEN": str(lease.fencing_token),
    }


@contextmanager
def _until_a_signal() -> Iterator[list[int]]:
    """Cancel what is in the block at a signal, until the command gets them; tell which came."""
    loop = asyncio.get_running_loop()
    came: list[int] = []
    with anyio.CancelScope() as scope:

        def give_up(number: int) -> None:
            came.append(number)
            scope.cancel()

        for number in TERMINATING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, give_up, number)
        yield came


@contextmanager
def _as_command_errors(options: Options) -> Iterator[None]:
    """Raise what keeps us from the lock as what the user is told."""
    try:
        yield
    except AcquireTimeout as error:
        if error.holder is None:  # nobody told: Redis never answered
            raise CommandError(str(error), EXIT_UNAVAILABLE) from None
        told = "" if options.quiet else str(error)
        raise CommandError(told, options.conflict_exit_code) from None
    except LeaseLost as error:  # before the command began
        raise CommandError(str(error), EXIT_LOST) from None
    except StoreUnavailable as error:
        raise CommandError(str(error), EXIT_UNAVAILABLE) from None
    except ValueError as error:
        raise CommandError(str(error), EXIT_USAGE) from None


async def _acquire(options: Options, locks: LockClient) -> Lease | int:
    """Acquire, or return the exit status for the signal that came first."""
    lease = None
    with _until_a_signal() as came, _as_command_errors(options):
        lock = locks.lock(options.name, ttl=options.ttl, namespace=options.namespace)
        lease = await lock.acquire(options.timeout)
    if not came:
        assert lease is not None, "no signal came"
        return lease
    if lease is not None:
        await _released(lease, 0)
    return 128 + came[0]


async def _once(
    options: Options, locks: LockClient, supervisor: Supervisor, command: Command
) -> int:
    """Run the command unless it is done, and return the exit status."""
    status = 0
    with _until_a_signal() as came:
        once = Once(
            locks,
            options.name,
            **windows(options.once_every, options.at_least),
            ttl=options.ttl,
            timeout=options.timeout,
            namespace=options.namespace,
            on_lost="signal",  # we end the command, and wait until it is gone
        )
        with _as_command_errors(options):
            asked = await once._asked(None)
            if isinstance(asked, Skipped):
                return _skipped(options, asked)
            async with asked.lease:
                turn = await once._begun(*asked)
                if isinstance(turn, Started):
                    status = await _run_once(options, supervisor, command, turn)
            if isinstance(turn, Skipped):
                return _skipped(options, turn)
    return 128 + came[0] if came else status


async def _run_once(
    options: Options, supervisor: Supervisor, command: Command, turn: Started
) -> int:
    """Run the command, mark its good end, and return the exit status."""
    lease = turn.lease
    try:
        window = {"AIODISTLOCK_WINDOW": turn.run.window.isoformat()}
        supervisor.start({**_environment(options, lease), **window}, lambda: lease.validity)
        status = await _held(supervisor, lease)
        command.guardian.dismiss()
    finally:
        # Before the lock is given up.
        command.guardian.end_group()
        await supervisor.all_ended()
    if status == 0:
        await _marked(turn)
    return status


def _skipped(options: Options, skipped: Skipped) -> int:
    """Tell why the command did not run, and return the exit status for that."""
    told = f"{shown(options.name)!r} has nothing to do: {told_of(skipped)}"
    if skipped.reason == "held":
        raise CommandError("" if options.quiet else told, options.conflict_exit_code)
    if not options.quiet:
        print(f"aiodistlock: {told}", file=sys.stderr)
    return 0


async def _marked(turn: Started) -> None:
    """Mark what the command did as done, and give the lock up."""
    try:
        await turn.done()
    except LeaseLost as error:
        raise CommandError(f"{error}; the command had ended", EXIT_LOST) from None
    except StoreUnavailable as error:
        print(f"aiodistlock: another host may run it again: {error}", file=sys.stderr)


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
