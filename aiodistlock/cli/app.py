"""The ``aiodistlock`` command.

Errors are one line on stderr and an exit status, never a traceback.
"""

from __future__ import annotations

import io
import os
import sqlite3
import sys
from pathlib import Path
from typing import Annotated

try:
    import typer
    from rich.console import Console
except ModuleNotFoundError as error:
    # The entry point is installed without the extra too.
    missing = f"aiodistlock: needs {error.name}: pip install 'aiodistlock[cli]'"
    print(missing, file=sys.stderr)
    sys.exit(2)

import aiodistlock
from aiodistlock.console.errors import CommandError

from . import election_commands, lock_commands
from .connection import urls_of

app = typer.Typer(name="aiodistlock", no_args_is_help=True)
lock_commands.add_to(app)
election_commands.add_to(app)


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(f"aiodistlock {aiodistlock.__version__}")
        raise typer.Exit


@app.callback()
def _aiodistlock(
    version: Annotated[  # its callback tells it
        bool,
        typer.Option(
            "--version", callback=_tell_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Distributed locks for asyncio on Redis."""


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
    """
    Reconcile a ledger three times: no lock, a naive lock, AsyncLock.

    Workers are killed and frozen inside the critical section.

    Exit status: 0 if every act ends as told, 1 if not, 2 if the demo cannot run.
    """
    import json

    from aiodistlock.demo.report import DemoConsole, Reporter
    from aiodistlock.demo.run import Options, run

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


def doctor(
    urls: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="URL", show_default=False, help="Instead of --redis; several: a quorum."
        ),
    ] = None,
    *,
    redis: lock_commands.Urls = None,
    redis_url_file: lock_commands.UrlFile = None,
    ttl: Annotated[float, typer.Option(help="Length of your leases, seconds.")] = 10.0,
    namespace: Annotated[str, typer.Option(help="Prefix of the keys of your locks.")] = "lock:",
    timeout: Annotated[float, typer.Option(help="How long to wait for an answer, seconds.")] = 3.0,
    sample: Annotated[
        float, typer.Option(help="How long to count scripts, seconds; 0: not at all.")
    ] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """
    Look for what makes locks unsafe on a deployment, and say what to do.

    Examined are settings, persistence, replication, versions, permissions, clocks, round
    trips, and what locks cost the server. It takes and gives up a lock that nobody else has, and
    changes nothing.

    --json prints an object with deployment (single, sentinel, cluster or quorum), ttl, verdict
    (ok, note, warning or danger), nodes (address, product, role, error, round_trip_p50,
    round_trip_p99, clock_ahead, clock_error; seconds, null: unknown; and cost: scripts a
    second, in_scripts and core as shares of a core, listeners, locks, memory in bytes) and findings
    (level, check, found, advice, nodes; no nodes: the deployment as a whole).

    Exit status: 0 if no danger was found, 1 if one was, 2 if nothing could be examined.
    """
    from aiodistlock.doctor.run import Options, run

    options = Options(
        urls=urls_of(urls or redis, redis_url_file),
        ttl=ttl,
        namespace=namespace,
        timeout=timeout,
        sample=sample,
        as_json=as_json,
    )
    raise typer.Exit(run(options))


lock_commands.add(app, demo, "demo", "demo --events ledger.jsonl --workers 8")
lock_commands.add(app, doctor, "doctor", "doctor redis+cluster://h1,h2 --ttl 5 --json")


def main() -> None:
    """Run the command and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a sign gets a question mark.
            stream.reconfigure(errors="replace")
    command = typer.main.get_command(app)
    try:
        status = command.main(prog_name="aiodistlock", standalone_mode=False)
        sys.stdout.flush()  # not as Python exits, where nobody could take in that it fails
    except BrokenPipeError:
        # Whoever read has gone, as `head` does.  What is left to say goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except Exception as error:  # noqa: BLE001 - raised again if unknown
        status = _explain(error)
    sys.exit(status)


def _explain(error: Exception) -> int:
    """Print one line for what the user can mend; everything else is a bug."""
    if isinstance(error, CommandError):
        if error.args[0]:  # it is empty where the user wants to hear nothing
            print(f"aiodistlock: {error}", file=sys.stderr)
        return error.status
    if isinstance(error, typer.Abort):
        print("aiodistlock: interrupted", file=sys.stderr)
        return 130
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
