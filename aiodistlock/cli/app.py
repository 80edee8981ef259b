"""The ``aiodistlock`` command.

Errors are one line on stderr and an exit status, never a traceback.
"""

from __future__ import annotations

import io
import sqlite3
import sys
from pathlib import Path
from typing import Annotated

try:
    import typer
    from rich.console import Console
except ModuleNotFoundError as error:
    # The entry point is installed without the extra too.
    missing = f"aiodistlock: needs {error.name}: pip install 'aiodistlock[demo]'"
    print(missing, file=sys.stderr)
    sys.exit(2)

from .demo.errors import DemoError

app = typer.Typer(
    name="aiodistlock",
    help="Distributed locks for asyncio on Redis.",
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def _root() -> None:
    # Makes `demo` a sub-command though it is the only one.
    pass


@app.command(
    help="Reconcile a ledger three times: no lock, a naive lock, AsyncLock. Workers "
    "are killed and frozen inside the critical section.\n\n"
    "Exit status: 0 if every act ends as told, 1 if not, 2 if the demo cannot run."
)
def demo(
    events: Annotated[
        Path | None,
        typer.Option(
            help="Ledger events, JSON lines with event_id, wallet and amount "
            "(cents). Default: a generated sample of 20,000.",
        ),
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Redis to use. Default: $REDIS_URL, else a server of its own.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 4,
    limit: Annotated[int | None, typer.Option(help="Use only the first events.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Run the demo; its help is the option texts above."""
    import json

    from .demo.report import DemoConsole, Reporter
    from .demo.run import Options, run

    console: Console | None = DemoConsole(highlight=False, stderr=as_json)
    if as_json and not sys.stderr.isatty():
        console = None
    reporter = Reporter(console)
    options = Options(events=events, redis=redis, workers=workers, limit=limit)
    status, figures = run(options, reporter)
    if figures is None:
        print("aiodistlock: interrupted; nothing is left running", file=sys.stderr)
    elif as_json:
        print(json.dumps(figures.to_json(), indent=2))
    raise typer.Exit(status)


def main() -> None:
    """Run the command and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a sign gets a question mark.
            stream.reconfigure(errors="replace")
    command = typer.main.get_command(app)
    try:
        status = command.main(prog_name="aiodistlock", standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - raised again if unknown
        status = _explain(error)
    sys.exit(status)


def _explain(error: Exception) -> int:
    """Print one line for what the user can mend; everything else is a bug."""
    if isinstance(error, DemoError):
        print(f"aiodistlock: {error}", file=sys.stderr)
        return 2
    if isinstance(error, OSError | sqlite3.Error):
        # A full disk, an output that cannot be written.
        print(f"aiodistlock: {error}", file=sys.stderr)
        return 2
    # What typer raises for wrong arguments has had several homes.
    format_message = getattr(error, "format_message", None)
    if format_message is None:
        raise error
    if message := format_message():  # it is empty when the help was shown
        print(f"aiodistlock: {message}", file=sys.stderr)
    return int(getattr(error, "exit_code", 2))


if __name__ == "__main__":
    main()
