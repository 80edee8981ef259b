"""Runs ``top`` until a signal ends it; the terminal is as it was in every case."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, nullcontext
from dataclasses import dataclass

import anyio
from rich.console import Console
from rich.live import Live

from aiodistlock.cli.survey.run import Where, warn
from aiodistlock.cli.survey.survey import Survey, open_survey
from aiodistlock.console.errors import EXIT_USAGE, CommandError
from aiodistlock.console.piped import PipedConsole

from .keys import Keys
from .meter import Frame, Meter, frame
from .view import frame_to_json, render

_LOOK_EVERY = 0.1
"""Seconds between two looks at the fencing tokens."""

_MOST_WATCHED = 100
"""Most names whose tokens are looked at between two frames."""

_LEAST_INTERVAL = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user asked for; the interval in seconds."""

    pattern: str
    interval: float
    once: bool
    as_json: bool


def run(at: Where, options: Options) -> int:
    """
    Show locks until a signal comes, or once; return the exit status.

    The key q and Ctrl-C are how one leaves: 0.  After another signal it is 128 and the
    signal's number.

    :raises CommandError: if Redis is unavailable at the start, or there is no terminal
    """
    if not _LEAST_INTERVAL <= options.interval <= 3600:
        told = f"--interval must be {_LEAST_INTERVAL:g} to 3600 seconds"
        raise CommandError(told, EXIT_USAGE)
    console = PipedConsole(highlight=False)
    if not (options.once or options.as_json or console.is_terminal):
        raise CommandError("top needs a terminal; else use --once or --json", EXIT_USAGE)
    return asyncio.run(_until_signalled(at, options, console))


async def _until_signalled(at: Where, options: Options, console: Console) -> int:
    loop = asyncio.get_running_loop()
    ended_by: list[int] = []
    with anyio.CancelScope() as scope:

        def end(number: int) -> None:
            ended_by.append(number)
            scope.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, end, number)
        keys = Keys(lambda: end(signal.SIGINT))
        async with open_survey(at.urls, at.namespace, at.timeout) as survey:
            await _show(survey, options, console, keys)
    return 0 if not ended_by or ended_by[0] == signal.SIGINT else 128 + ended_by[0]


async def _show(survey: Survey, options: Options, console: Console, keys: Keys) -> None:
    watch = Watch(survey, options)
    await watch.look()
    if options.once:
        await watch.wait()
        await watch.look()
        _print(watch.frame, options, console)
        warn(survey)
        return
    live = None
    if not options.as_json:
        live = Live(console=console, screen=True, auto_refresh=False)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTSTP, _stop, live, keys)
    with keys if live else nullcontext(), live or nullcontext():
        async with aclosing(watch.frames(keep_trying=live is not None)) as frames:
            async for seen, trouble in frames:
                if live is None:
                    _print(seen, options, console)
                else:
                    picture = render(seen, console.width, console.height, trouble)
                    live.update(picture, refresh=True)


def _stop(live: Live, keys: Keys) -> None:
    """Leave the screen to the shell for as long as Ctrl-Z has us stopped."""
    loop = asyncio.get_running_loop()
    live.stop()
    keys.leave()
    # Not SIGSTOP: where no shell could have us go on, the kernel ignores this one.
    loop.remove_signal_handler(signal.SIGTSTP)
    os.kill(0, signal.SIGTSTP)
    loop.add_signal_handler(signal.SIGTSTP, _stop, live, keys)
    keys.listen()
    live.start(refresh=True)


def _print(seen: Frame, options: Options, console: Console) -> None:
    if options.as_json:
        print(json.dumps(frame_to_json(seen)), flush=True)
    else:
        console.print(render(seen, console.width, None))


class Watch:
    """Looks again and again, and counts hand-offs between two frames."""

    def __init__(self, survey: Survey, options: Options) -> None:
        self._survey = survey
        self._options = options
        self._meter = Meter()
        self._clock: Callable[[], float] = asyncio.get_running_loop().time
        self._names: list[str] = []
        self.frame = frame((), {}, survey.size)

    async def look(self) -> None:
        """
        Make the next frame.

        :raises CommandError: if Redis is unavailable
        """
        found = await self._survey.names(self._options.pattern)
        # What changes hands may be free in this moment.
        names = sorted({*found, *self._names})
        states = await self._survey.look(names)
        self._meter.note((state.name, state.fence or 0) for state in states)
        self._meter.keep(names)
        rates = self._meter.read(self._clock())
        self.frame = frame(states, rates, self._survey.size)
        self._names = [row.state.name for row in self.frame.rows[:_MOST_WATCHED]]

    async def wait(self) -> None:
        """
        Let the interval pass, with an eye on the fencing tokens.

        :raises CommandError: if Redis is unavailable
        """
        until = self._clock() + self._options.interval
        while (left := until - self._clock()) > 0:
            await asyncio.sleep(min(left, _LOOK_EVERY))
            if self._names:
                fences = await self._survey.fences(self._names)
                self._meter.note(zip(self._names, fences, strict=True))

    async def frames(self, *, keep_trying: bool) -> AsyncGenerator[tuple[Frame, str | None], None]:
        """
        Yield frames without end, the first of them made before; and what is wrong, if so.

        :param keep_trying: whether to go on while Redis is unavailable
        :raises CommandError: if Redis is unavailable, and we do not go on
        """
        trouble = None
        while True:
            yield self.frame, trouble
            try:
                await self.wait()
                await self.look()
                trouble = None
            except CommandError as error:
                if not keep_trying:
                    raise
                trouble = str(error)
                await asyncio.sleep(self._options.interval)
