"""The commands that work on locks: ``run``, ``ls``, ``inspect``, ``top``, ``release``."""

from __future__ import annotations

from collections.abc import Callable
from inspect import getdoc
from pathlib import Path
from typing import Annotated

import typer

from aiodistlock.console.errors import EXIT_NOT_ACQUIRED, EXIT_USAGE, CommandError
from aiodistlock.core.options import ClientOptions

from .connection import urls_of

Urls = Annotated[
    list[str] | None,
    typer.Option(
        "--redis",
        metavar="URL",
        show_default=False,
        help="redis://, rediss:// (TLS), unix://, redis+sentinel://h1,h2/service or "
        "redis+cluster://h1,h2; user and password of an ACL go before the host. Several: the "
        "nodes of a quorum. Default: $REDIS_URL. A URL with a password belongs there, or in "
        "--redis-url-file: command lines are seen by everybody on the host, in ps.",
    ),
]
UrlFile = Annotated[
    Path | None,
    typer.Option(
        "--redis-url-file",
        metavar="FILE",
        show_default=False,
        help="File with the URL, or with those of a quorum, one a line.",
    ),
]
Namespace = Annotated[str, typer.Option(help="Prefix of the keys of your locks.")]
Timeout = Annotated[
    float, typer.Option(min=0.01, help="How long to wait for an answer of Redis, seconds.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="Of the lock.")]
Pattern = Annotated[
    str,
    typer.Argument(metavar="PATTERN", show_default=False, help="Of names: *, ? and [...]."),
]

_QUARANTINE = ClientOptions().quarantine

Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Say nothing if it is not acquired in time.")
]
ConflictExitCode = Annotated[
    int,
    typer.Option(
        "--conflict-exit-code",
        "-E",
        min=0,
        max=255,
        help="Exit status if it is not acquired in time.",
    ),
]
Quarantine = Annotated[
    float,
    typer.Option(
        help="On a quorum: seconds for which a node that came up without its data is not "
        "counted; as for all other clients."
    ),
]
OnceEvery = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        show_default=False,
        help="Run COMMAND once in each window of that length, on one of the hosts: 1d, 12h, "
        "30min, 90 (seconds). Redis' clock, in UTC from 1970 on, is divided by it.",
    ),
]
AtLeast = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        show_default=False,
        help="Without windows: keep the lock up to that time after the start, so that a host that "
        "starts a little later does not run a short COMMAND again. Does not wait.",
    ),
]
Command = Annotated[
    list[str],
    typer.Argument(metavar="COMMAND", show_default=False, help="What to run, behind --."),
]
UnavailableAfter = Annotated[float, typer.Option(help="How long to try to reach Redis, seconds.")]
KeepRedisUrl = Annotated[
    bool,
    typer.Option("--keep-redis-url", help="Leave REDIS_URL in the environment of COMMAND."),
]


def run(
    name: Name,
    command: Command,
    *,
    redis: Urls = None,
    redis_url_file: UrlFile = None,
    ttl: Annotated[
        float,
        typer.Option(
            help="Length of the lease, seconds; it is renewed. Also how long others wait if "
            "this host dies."
        ),
    ] = 10.0,
    timeout: Annotated[
        float | None,
        typer.Option(show_default=False, help="Wait for the lock so many seconds, not for ever."),
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait at all.")] = False,
    once_every: OnceEvery = None,
    at_least: AtLeast = None,
    quiet: Quiet = False,
    conflict_exit_code: ConflictExitCode = EXIT_NOT_ACQUIRED,
    grace: Annotated[
        float, typer.Option(help="When the lease is lost: seconds from SIGTERM to SIGKILL.")
    ] = 5.0,
    unavailable_after: UnavailableAfter = 10.0,
    quarantine: Quarantine = _QUARANTINE,
    keep_redis_url: KeepRedisUrl = False,
    namespace: Namespace = "lock:",
) -> None:
    """
    Hold a lock while COMMAND runs: flock(1) for a fleet.

    A Cluster has to be named by redis+cluster://: by a URL of one of its nodes nothing is locked.

    COMMAND finds AIODISTLOCK_FENCING_TOKEN and AIODISTLOCK_LOCK_NAME in its environment, and no
    REDIS_URL, which may have a password in it, unless with --keep-redis-url. It runs in a process
    group of its own, in the foreground of the terminal if it writes there. Signals are forwarded
    to the group. If the lease is lost, or this process is killed or stopped, the group gets
    SIGTERM, and after --grace SIGKILL: until then it may run beside the next holder, so have what
    it writes to check the fencing token.

    With --once-every and --at-least a COMMAND that ends with status 0 is done, and a host that
    comes later has nothing to do: status 0. One that fails, or whose host dies, is done by the
    next host that waits, or comes. --once-every waits for the host that runs it now.
    AIODISTLOCK_WINDOW is the window's beginning. Not on a quorum.

    Exit status: that of COMMAND, 128+n if signal n ended it (or us, while waiting). 69: Redis
    is unavailable. 70: the lease was lost. 75, or -E: not acquired in time. 126: COMMAND cannot be
    executed. 127: it is not found. 2: wrong usage.
    """
    from .run.run import Options
    from .run.run import run as run_command

    if no_wait and timeout is not None:
        raise CommandError("--no-wait and --timeout exclude each other", EXIT_USAGE)
    options = Options(
        urls=urls_of(redis, redis_url_file),
        name=name,
        command=command,
        namespace=namespace,
        ttl=ttl,
        timeout=0.0 if no_wait else timeout,
        once_every=once_every,
        at_least=at_least,
        quiet=quiet,
        conflict_exit_code=conflict_exit_code,
        grace=grace,
        unavailable_after=unavailable_after,
        quarantine=quarantine,
        keep_redis_url=keep_redis_url,
    )
    raise typer.Exit(run_command(options))


def ls(
    pattern: Pattern = "*",
    *,
    redis: Urls = None,
    redis_url_file: UrlFile = None,
    namespace: Namespace = "lock:",
    timeout: Timeout = 3.0,
    as_json: AsJson = False,
) -> None:
    """
    List the locks that are held or waited for.

    Found by SCAN, so that Redis goes on working; over a quorum as a majority sees them. A URL of
    one node of a Cluster stands for the whole Cluster.

    --json prints an array of objects: name, holder (token, host, pid; null: free),
    fencing_token, ttl (seconds; null: none), may_linger, kept (the job of the name is done, and
    the name kept for a while), waiters (token, host, pid, waited); of a semaphore also permits
    (token, host, pid, slots, fencing_token, ttl); over a quorum also votes and nodes.

    Exit status: 0; 69 if Redis is unavailable, 2 for wrong usage.
    """
    from .survey.run import list_locks, where

    list_locks(
        where(urls_of(redis, redis_url_file), namespace, timeout),
        pattern,
        as_json=as_json,
    )


def inspect(
    name: Name,
    *,
    redis: Urls = None,
    redis_url_file: UrlFile = None,
    namespace: Namespace = "lock:",
    timeout: Timeout = 3.0,
    as_json: AsJson = False,
) -> None:
    """
    Show one lock: holder, fencing token, remaining ttl, and who waits for how long.

    --json prints an object as of ls, with mark (window, state: done or begun, at, by; null: none is
    known), the last window that was done once, and proclaimed, what the leader of an election
    says (null: nothing); over a quorum with seen, what each node says.

    Exit status: 0, also if it is free; 69 if Redis is unavailable, 2 for wrong usage.
    """
    from .survey.run import inspect_lock, where

    inspect_lock(where(urls_of(redis, redis_url_file), namespace, timeout), name, as_json=as_json)


def top(
    pattern: Pattern = "*",
    *,
    redis: Urls = None,
    redis_url_file: UrlFile = None,
    interval: Annotated[
        float, typer.Option("--interval", "-n", help="Between two pictures, seconds.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="One picture, after an interval.")] = False,
    namespace: Namespace = "lock:",
    timeout: Timeout = 3.0,
    as_json: AsJson = False,
) -> None:
    """
    Watch locks: who holds them, who waits for how long, how often they change hands.

    Hand-offs are counted by fencing tokens that rise between two looks, ten in a second: at
    least so many. Locks with the most waiters come first.

    --json prints an object a line for each picture: at, held, waiting, handoffs_per_second,
    longest_wait, and locks as of ls, each with the latter two.

    The key q ends it, as Ctrl-C does.

    Exit status: 0, also after q and Ctrl-C; 128+n after signal n, 69 if Redis is unavailable, 2 for
    wrong usage.
    """
    from .survey.run import where
    from .top.run import Options
    from .top.run import run as run_top

    options = Options(pattern=pattern, interval=interval, once=once, as_json=as_json)
    raise typer.Exit(run_top(where(urls_of(redis, redis_url_file), namespace, timeout), options))


def release(
    name: Name,
    *,
    redis: Urls = None,
    redis_url_file: UrlFile = None,
    force: Annotated[
        bool, typer.Option("--force", help="Needed: only its holder gives a lock up in peace.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    namespace: Namespace = "lock:",
    timeout: Timeout = 3.0,
) -> None:
    """
    Take a stuck lock from its holder; the next waiter gets it.

    The fencing token rises above all that the holder may have used, so that whatever checks
    tokens refuses its writes, once it has seen a newer one. The holder itself hears of it at
    its next renewal, within a third of its ttl, and may write until then. For a holder that
    died there is no need: its lease ends by itself.

    Exit status: 0 if it was taken; 1 if nobody holds it, it has changed hands, or the answer
    was no; 69 if Redis is unavailable, 2 for wrong usage.
    """
    from .release import run as run_release
    from .survey.run import where

    raise typer.Exit(
        run_release(
            where(urls_of(redis, redis_url_file), namespace, timeout), name, force=force, yes=yes
        )
    )


def add(app: typer.Typer, function: Callable[..., None], *examples: str) -> None:
    """Add a command, with its docstring as help."""
    # typer wraps lines to the terminal, but keeps the docstring's breaks as well.
    paragraphs = getdoc(function) or ""
    text = "\n\n".join(" ".join(each.split()) for each in paragraphs.split("\n\n"))
    # \b: leaves the lines of such a paragraph as they are.
    epilog = "\n".join(("\b", "Examples:", *(f"  aiodistlock {each}" for each in examples)))
    app.command(help=text, epilog=epilog)(function)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    add(
        app,
        run,
        "run nightly-report -- ./report.sh --all",
        "run --no-wait --quiet -E 0 cleanup -- find /srv/tmp -mtime +7 -delete",
        "run --once-every 1d --quiet nightly-report -- ./report.sh --all",
        "run deploy --timeout 600 --ttl 30 -- make deploy",
    )
    add(app, ls, "ls 'wallet:*'", "ls --json")
    add(app, inspect, "inspect wallet:42", "inspect wallet:42 --json")
    add(app, top, "top", "top 'wallet:*' --once --json")
    add(app, release, "release wallet:42 --force")
