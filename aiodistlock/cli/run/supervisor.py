"""Watches over the command: its end, its stops, and the signals that are for it."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import Callable

import anyio

from aiodistlock import LockEvent, Renewed
from aiodistlock.core.clock import local_clock

from .command import Command
from .terminal import Terminal

TERMINATING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_FORWARDED = (*TERMINATING, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGTSTP)

# By these a terminal stops whoever is in its background, or what Ctrl-Z was meant for.
_JOB_STOPS = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)

_UNKILLABLE_AFTER = 5.0
"""Seconds for which we wait for a killed process, which may hang in the kernel."""


class Supervisor:
    """Watches over the command in the running loop."""

    def __init__(self, command: Command, terminal: Terminal) -> None:
        self._command = command
        self._terminal = terminal
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = self._loop.create_future()
        """The command's exit status, 128 and the signal's number if one ended it."""
        self.guardian_ended: asyncio.Future[None] = self._loop.create_future()
        self._validity: Callable[[], float] = lambda: math.inf
        self.had_terminal = False
        """Whether the command ended in the foreground, where Ctrl-C was for it alone."""
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def start(self, environment: dict[str, str], validity: Callable[[], float]) -> None:
        """
        Let the command run, and forward signals to it from now on.

        :param validity: seconds for which the lock is ours, 0 if it is lost
        """
        self._validity = validity
        self._tell_guardian()
        for number in _FORWARDED:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a shell's "&"
                self._loop.add_signal_handler(number, self._command.signal, number)
        self._loop.add_signal_handler(signal.SIGCONT, self._go_on)
        # In a pipeline, as before "| less", others may need it; who reads gets it in _stopped.
        if os.isatty(1):
            self._terminal.lend(self._command.pid)
        self._command.start(environment)
        self._reap()  # it may have been killed at the gate

    def listen(self, event: LockEvent) -> None:
        """Take note of a renewal."""
        if isinstance(event, Renewed):
            self._tell_guardian()

    def _tell_guardian(self) -> None:
        self._command.guardian.expect_news(local_clock() + self._validity())

    async def all_ended(self) -> None:
        """Wait until the guardian has done its work, and the command is gone."""
        self._reap()
        await self.guardian_ended
        if not self.ended.done():
            # Killed by the guardian just now; or somebody has killed the guardian.
            self._command.signal(signal.SIGKILL)
            with anyio.move_on_after(_UNKILLABLE_AFTER):
                await self.ended

    def _reap(self) -> None:
        while not self.ended.done():
            pid, status = os.waitpid(self._command.pid, os.WNOHANG | os.WUNTRACED)
            if pid == 0:
                break
            if os.WIFSTOPPED(status):
                self._stopped(os.WSTOPSIG(status))
                continue
            killed = os.WIFSIGNALED(status)
            self.had_terminal = self._terminal.take_back(self._command.pid, repair=killed)
            code = 128 + os.WTERMSIG(status) if killed else os.WEXITSTATUS(status)
            self.ended.set_result(code)
        if not self.guardian_ended.done():
            pid, _ = os.waitpid(self._command.guardian.pid, os.WNOHANG)
            if pid:
                self.guardian_ended.set_result(None)

    def _stopped(self, number: int) -> None:
        """Stop with the command, so that the shell has its prompt back; then go on with it."""
        if number not in _JOB_STOPS:
            return  # somebody's SIGSTOP is between them and the command
        if number != signal.SIGTSTP and self._terminal.lend(self._command.pid):
            self._command.signal(signal.SIGCONT)  # "fg" has brought us to the foreground
            return
        self._terminal.take_back(self._command.pid)
        forwards = self._loop.remove_signal_handler(signal.SIGTSTP)
        # The command stands still, too: to end it, the guardian would have to wake it.
        self._command.guardian.expect_news(math.inf)
        # The whole of our job, as Ctrl-Z would; nothing is renewed until it goes on.
        os.kill(0, signal.SIGTSTP)
        if forwards:
            self._loop.add_signal_handler(signal.SIGTSTP, self._command.signal, signal.SIGTSTP)
        self._go_on()

    def _go_on(self) -> None:
        """Have the command go on, unless the lock was lost while we stood still."""
        if self._validity() > 0:
            self._tell_guardian()
            self._terminal.lend(self._command.pid)
            self._command.signal(signal.SIGCONT)
