"""What the demo shows: figures, panels, URLs without secrets."""

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from aiodistlock.console.errors import CommandError
from aiodistlock.console.numbers import counted
from aiodistlock.demo.figures import AsyncLock, ComingBack, Figures, NaiveSetnx, NoLock
from aiodistlock.demo.fleet import State
from aiodistlock.demo.report import Progress, Reporter
from aiodistlock.demo.server import redacted

BARE = NoLock(
    events=10,
    deliveries=11,
    seconds=1,
    events_per_second=10,
    lost_updates=3,
    applied_twice=1,
    wrong_wallets=2,
    wrong_cents=99,
)
NAIVE = NaiveSetnx(
    events=10,
    applied=4,
    killed_workers=1,
    workers_waiting=4,
    seconds_without_progress=2,
    wallet="w1",
    holder="worker-1:1",
    ttl=None,
    dead_lock=True,
)
LOCK = AsyncLock(
    events=10,
    deliveries=14,
    redelivered=3,
    seconds=1,
    events_per_second=10,
    finished=True,
    missing_events=0,
    lost_updates=0,
    applied_twice=0,
    wrong_wallets=0,
    wrong_cents=0,
    killed_workers=2,
    frozen_workers=1,
    ttl=1,
    acquire_p50_ms=1,
    acquire_p99_ms=2,
    kill_to_next_grant_s=[1.0, 0.9],
    freeze_to_next_grant_s=[1.0],
    refused_stale_writes=1,
    exact=True,
)
BACK = ComingBack(
    seconds=0.5,
    linger=0.05,
    events_per_second=9_876.0,
    lingering_events_per_second=52_345.0,
    exact=True,
)
FIGURES = Figures(
    redis="Redis 7",
    workers=4,
    seconds=9,
    no_lock=BARE,
    naive_setnx=NAIVE,
    async_lock=LOCK,
    coming_back=BACK,
)


@pytest.mark.parametrize(
    ("figures", "as_told"),
    [
        (FIGURES, True),
        (replace(FIGURES, no_lock=replace(BARE, lost_updates=0)), False),
        (replace(FIGURES, naive_setnx=replace(NAIVE, dead_lock=False)), False),
        (replace(FIGURES, async_lock=replace(LOCK, exact=False)), False),
        (replace(FIGURES, coming_back=replace(BACK, exact=False)), False),
        (replace(FIGURES, async_lock=replace(LOCK, refused_stale_writes=0)), False),
    ],
)
def test_all_three_acts_decide(figures: Figures, as_told: bool) -> None:
    """Acts 1 and 2 must go wrong and act 3 must be exact and refuse a stale write."""
    assert figures.as_told is as_told
    assert figures.to_json()["as_told"] is as_told


def play(console: Console) -> None:
    """Report an act and the table."""
    reporter = Reporter(console)
    with reporter:
        reporter.open("Redis 7", 4, 10)
        reporter.begin(1, "no lock", "What happens.")
        workers = [(n, state, 5) for n, state in enumerate(State, 1)]
        for done in range(1000):
            reporter.progress(Progress(done, 1000, 0.5, workers))
        reporter.tell("A [red]worker[/red] is killed")
        reporter.end(False, "It went wrong.")
        reporter.summary(FIGURES)


def test_a_terminal_shows_panels_and_a_table() -> None:
    """In a terminal the act is a panel with bar, workers, story and result."""
    shown = StringIO()
    play(Console(file=shown, force_terminal=True, width=90, highlight=False))
    for part in ("╭", "Act 1 of 3: no lock", "frozen", "[red]worker[/red]", "dead-lock"):
        assert part in shown.getvalue()


def test_a_log_gets_each_line_once() -> None:
    """Elsewhere nothing is redrawn, however often progress is reported."""
    shown = StringIO()
    play(Console(file=shown, width=80, highlight=False))
    lines = shown.getvalue().splitlines()
    assert len(lines) < 30
    assert sum("[red]worker[/red] is killed" in line for line in lines) == 1
    assert any("As told" in line for line in lines)
    assert "52,345 events/s with linger=0.05, 9,876 without; every balance right" in lines[-1]


def test_nothing_is_shown_without_a_console() -> None:
    """With no console the reporter is silent."""
    reporter = Reporter(None)
    with reporter:
        reporter.begin(1, "no lock", "What happens.")
        reporter.tell("A worker is killed")
        reporter.end(True, "Well.")
        reporter.summary(FIGURES)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://user:secret@host:1/2", "redis://host:1/2"),
        ("rediss://:secret@host?password=secret", "rediss://host"),
        ("redis://host/0?password=a@secret", "redis://host/0"),
        ("unix://user:secret@/tmp/a@b.sock", "unix:///tmp/a@b.sock"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    """User, password and query of a URL are not shown."""
    assert redacted(url, "--redis") == shown


@pytest.mark.parametrize(
    "url",
    [
        "",
        "secret",
        "http://secret",
        "redis://host:secret",
        "redis://:sec/ret@host",
        "redis://:sec?ret@host",
        "redis://:sec#ret@host",
        "redis://[secret",
    ],
)
def test_what_is_no_redis_url_is_not_quoted(url: str) -> None:
    """The error names where the URL came from, and nothing of it."""
    with pytest.raises(CommandError, match="REDIS_URL is no Redis URL") as caught:
        redacted(url, "REDIS_URL")
    assert "sec" not in str(caught.value).replace("rediss", "")


def test_numbers_agree_with_their_nouns() -> None:
    """One is singular, everything else plural, thousands are parted."""
    assert counted(1, "update") == "1 update"
    assert counted(0, "update") == "0 updates"
    assert counted(1250, "open delivery") == "1,250 open deliveries"
    assert counted(2, "key") == "2 keys"
