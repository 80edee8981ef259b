"""The commands of elections: ``lead`` and ``leader``."""

from __future__ import annotations

from typing import Annotated

import typer

from aiodistlock.console.errors import EXIT_NOT_ACQUIRED

from .connection import urls_of
from .lock_commands import (
    AsJson,
    Command,
    KeepRedisUrl,
    Namespace,
    Timeout,
    UnavailableAfter,
    UrlFile,
    Urls,
    add,
)

Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="Of the election.")]


def lead(
    name: Name,
    command: Command,
    *,
    redis: Urls = None,
    redis_url_file: UrlFile = None,
    value: Annotated[
        str, typer.Option(help="What observers are told: an address, say.", show_default=False)
    ] = "",
    ttl: Annotated[
        float,
        typer.Option(
            help="Length of the lease, seconds; it is renewed. Also how long the leader is missed "
            "if this host dies."
        ),
    ] = 10.0,
    grace: Annotated[
        float, typer.Option(help="When the term is lost: seconds from SIGTERM to SIGKILL.")
    ] = 5.0,
    unavailable_after: UnavailableAfter = 10.0,
    keep_redis_url: KeepRedisUrl = False,
    namespace: Namespace = "lock:",
) -> None:
    """
    Run COMMAND on one of the hosts: on the one that leads.

    The others wait for their turn. If the term is lost, COMMAND is ended, and started again under
    the next term of this host, if there is one. All else is as for run: the environment, with
    the term as AIODISTLOCK_FENCING_TOKEN, the signals, and what ends COMMAND if this process
    is killed or stopped.

    Exit status: that of COMMAND, once it ends by itself; 128+n if signal n ended it (or us, while
    waiting). 69: Redis is unavailable. 70: the term was lost when COMMAND had ended. 126: COMMAND
    cannot be executed. 127: it is not found. 2: wrong usage.
    """
    from .run.run import Options
    from .run.run import run as run_command

    options = Options(
        urls=urls_of(redis, redis_url_file),
        name=name,
        command=command,
        namespace=namespace,
        ttl=ttl,
        timeout=None,
        quiet=False,
        conflict_exit_code=EXIT_NOT_ACQUIRED,
        grace=grace,
        unavailable_after=unavailable_after,
        quarantine=ttl,
        keep_redis_url=keep_redis_url,
        once_every=None,
        at_least=None,
        proclaims=value,
    )
    raise typer.Exit(run_command(options))


def leader(
    name: Name,
    *,
    redis: Urls = None,
    redis_url_file: UrlFile = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on, with a line for each change.")
    ] = False,
    namespace: Namespace = "lock:",
    timeout: Timeout = 3.0,
    as_json: AsJson = False,
) -> None:
    """
    Tell who leads: what it proclaims, its term, and its token, which has host and pid.

    With --watch it goes on until it is interrupted. --json prints an object a line: term, value
    (null: nothing proclaimed yet) and token; null where nobody leads.

    Exit status: 0; 1 if nobody leads; 69 if Redis is unavailable, 2 for wrong usage.
    """
    from .leader import show_leader

    urls = urls_of(redis, redis_url_file)
    raise typer.Exit(show_leader(urls, name, namespace, timeout, watch=watch, as_json=as_json))


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    add(
        app,
        lead,
        "lead scheduler -- ./scheduler.sh",
        "lead scheduler --value 10.0.0.7:8000 --ttl 5 -- python -m scheduler",
    )
    add(app, leader, "leader scheduler", "leader scheduler --watch --json")
