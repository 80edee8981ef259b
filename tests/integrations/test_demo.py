"""``aiodistlock demo``: the real command, with its processes, Redis and SQLite."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis as redis_sync

from aiodistlock.console.errors import CommandError
from aiodistlock.demo import server
from aiodistlock.testing.embedded import EmbeddedRedis, ServerNotFound
from tests.integrations.in_process import run_here

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "examples" / "ledger.jsonl"
COMMAND = [sys.executable, "-m", "aiodistlock", "demo"]

# A whole run takes 7 s on two idle cores, most of it waiting for leases to expire.
PATIENCE = 100


def environment(folder: Path, redis_url: str | None = None) -> dict[str, str]:
    """Let the demo keep its temporary files in a folder of the test's own."""
    variables = {**os.environ, "TMPDIR": str(folder), "COLUMNS": "200"}
    variables.pop("REDIS_URL", None)
    return variables | ({"REDIS_URL": redis_url} if redis_url is not None else {})


def demo(
    folder: Path, *args: str | Path, redis_url: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, args)],
        cwd=ROOT,
        env=environment(folder, redis_url),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@contextmanager
def demo_until(folder: Path, line: str, *args: str) -> Iterator["subprocess.Popen[str]"]:
    """Start the demo and enter the block when it has written a line with this in it."""
    process = subprocess.Popen(
        [*COMMAND, *args],
        cwd=ROOT,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Its own process group, as a shell gives to what it starts.
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert any(line in shown for shown in process.stdout)
        yield process
    finally:
        process.kill()
        process.communicate()


def of_the_demo(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """List the demo's own processes: workers and server."""
    return psutil.Process(process.pid).children(recursive=True)


def demo_keys(url: str) -> list[bytes]:
    """List what demos have left in a Redis."""
    with redis_sync.from_url(url) as client:
        return list(client.scan_iter("*aiodistlock-demo:*", count=1000))


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    """Check that a run was refused with one line and status 2; return the line."""
    assert result.returncode == 2, result
    assert result.stdout == ""
    assert result.stderr.startswith("aiodistlock: ")
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The figures of one quick run on a server of its own."""
    folder = tmp_path_factory.mktemp("demo")
    result = demo(folder, "--json", "--limit", "600", "--events", SAMPLE)
    assert (result.returncode, result.stderr) == (0, "")
    assert list(folder.iterdir()) == []
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_without_a_lock_updates_are_lost(figures: dict[str, Any]) -> None:
    """Act 1 loses updates, and says how many balances are wrong and by how much."""
    act = figures["no_lock"]
    assert act["events"] == 600
    assert act["deliveries"] == 660
    assert act["lost_updates"] > 0
    assert act["wrong_wallets"] > 0
    assert act["wrong_cents"] > 0


def test_a_naive_lock_dead_locks(figures: dict[str, Any]) -> None:
    """Act 2 stops for ever on the key of a dead worker that has no ttl."""
    act = figures["naive_setnx"]
    assert act["dead_lock"] is True
    assert act["killed_workers"] == 1
    assert act["applied"] < act["events"]
    assert act["seconds_without_progress"] >= 2
    assert act["holder"].startswith("worker-")
    assert act["ttl"] is None


def test_async_lock_is_exact(figures: dict[str, Any]) -> None:
    """Act 3 applies each event exactly once through two kills and a freeze."""
    act = figures["async_lock"]
    assert act["exact"] is True
    assert (act["killed_workers"], act["frozen_workers"]) == (2, 1)
    wrong = ("missing_events", "lost_updates", "applied_twice", "wrong_wallets", "wrong_cents")
    assert {act[what] for what in wrong} == {0}
    assert act["deliveries"] > act["events"]
    assert act["redelivered"] > 0
    assert act["refused_stale_writes"] >= 1
    assert act["events_per_second"] > 0
    assert 0 < act["acquire_p50_ms"] <= act["acquire_p99_ms"]


def test_wallets_that_come_back_are_measured_with_lingering_and_without(
    figures: dict[str, Any],
) -> None:
    """In that very run; and their balances are right."""
    back = figures["coming_back"]
    assert back["exact"] is True
    assert back["events_per_second"] > 0
    assert back["lingering_events_per_second"] > 0


def test_the_next_grant_comes_within_ttl_and_a_second(figures: dict[str, Any]) -> None:
    """After each kill and the freeze the lock goes on within its ttl + 1 s (P3)."""
    act = figures["async_lock"]
    waits = act["kill_to_next_grant_s"] + act["freeze_to_next_grant_s"]
    assert len(waits) == 3
    # Not at once either: the dead holder's lease is respected.
    # The second of theirs, and one more for a busy machine.
    assert all(0.5 < wait < act["ttl"] + 1 + 1 for wait in waits)


def test_a_log_tells_the_story_and_a_users_redis_is_left_clean(
    tmp_path: Path, embedded_redis: EmbeddedRedis
) -> None:
    """On REDIS_URL, into a pipe: three acts, a table, few lines, no key left."""
    result = demo(tmp_path, "--limit", "60", "--workers", "2", redis_url=embedded_redis.url)
    assert (result.returncode, result.stderr) == (0, "")
    for part in (
        *("Act 1 of 3", "Act 2 of 3", "Act 3 of 3", "updates lost", "Dead-lock"),
        *("SIGKILL", "SIGSTOP", "is refused", "exactly once", "As told"),
    ):
        assert part in result.stdout
    assert len(result.stdout.splitlines()) < 60
    assert "\x1b" not in result.stdout
    assert demo_keys(embedded_redis.url) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--workers", "0"], "--workers must be 1 to 64, got 0"),
        (["--workers", "-1"], "--workers must be 1 to 64, got -1"),
        (["--workers", "many"], "--workers"),
        (["--limit", "2"], "--limit must be at least 3"),
        (["--events", "/nonexistent.jsonl"], "/nonexistent.jsonl: No such file"),
        (["--redis", "redis://u:secret@127.0.0.1:1"], "redis://127.0.0.1:1 (from --redis)"),
        (["--redis", "redis://u:secret@nowhere.invalid"], "redis://nowhere.invalid"),
        (["--redis", "unix:///nonexistent.sock"], "unix:///nonexistent.sock"),
        (["--redis", "secret"], "--redis is no Redis URL"),
        (["--redis", ""], "--redis is no Redis URL"),
        (["--unknown"], "--unknown"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path: Path, args: list[str], told: str) -> None:
    """What the user can mend is said in one line, without traceback or password."""
    shown = one_line(run_here("demo", *args, environment=environment(tmp_path)))
    assert told in shown
    assert "secret" not in shown


def test_a_malformed_event_stops_before_anything_starts(tmp_path: Path) -> None:
    """A bad line is named with file and line, before the Redis is even looked for."""
    path = tmp_path / "in.jsonl"
    lines = SAMPLE.read_text().splitlines()[:50]
    path.write_text("\n".join([*lines, '{"event_id":"x","wallet":"w","amount":"1"}']))
    args = ("--events", str(path), "--redis", "redis://127.0.0.1:1")
    shown = one_line(run_here("demo", *args, environment=environment(tmp_path)))
    assert f"{path}:51: amount must be whole cents" in shown
    assert list(tmp_path.iterdir()) == [path]


def test_too_few_events_are_refused(tmp_path: Path) -> None:
    """A stream with fewer events than strikes cannot tell the story."""
    path = tmp_path / "in.jsonl"
    path.write_text('{"event_id":"x","wallet":"w","amount":1}')
    args = ("--events", str(path))
    done = run_here("demo", *args, environment=environment(tmp_path))
    assert "too few events" in one_line(done)


def test_a_wrong_password_is_not_shown(tmp_path: Path, redis_binary: Path) -> None:
    """A Redis that refuses the login is named without what was tried."""
    with EmbeddedRedis(binary=redis_binary, args=["--requirepass", "right"]) as locked:
        url = locked.url.replace("redis://", "redis://:secret@")
        shown = one_line(run_here("demo", environment=environment(tmp_path, url)))
    assert f"{locked.url} (from REDIS_URL): user or password missing or wrong" in shown
    assert "secret" not in shown


async def test_a_machine_without_redis_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With no URL and no server binary the error says what to install."""

    def find_nothing() -> None:
        raise ServerNotFound

    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setattr(server, "EmbeddedRedis", find_nothing)
    with pytest.raises(CommandError, match="install"):
        async with server.open_server(None, "demo:"):
            pass


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "Act 1 of 3"),
        (signal.SIGINT, "frozen (SIGSTOP)"),
        (signal.SIGTERM, "killed (SIGKILL)"),
    ],
    ids=["ctrl-c-at-once", "ctrl-c-with-a-frozen-worker", "sigterm"],
)
def test_a_signal_leaves_nothing_running(
    tmp_path: Path, number: signal.Signals, moment: str
) -> None:
    """Ctrl-C or SIGTERM: status 130, no process, no temporary file, one line."""
    with demo_until(tmp_path, moment, "--limit", "300") as process:
        own = of_the_demo(process)
        assert own
        # As the terminal does: to the whole group.
        os.killpg(process.pid, number)
        _, told = process.communicate(timeout=20)
        interrupted = "aiodistlock: interrupted; nothing is left running\n"
        assert (process.returncode, told) == (130, interrupted)
        assert psutil.wait_procs(own, timeout=5)[1] == []
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_no_key_in_a_users_redis(
    tmp_path: Path, embedded_redis: EmbeddedRedis
) -> None:
    """Interrupted inside the critical section, the demo still sweeps its keys."""
    args = ("--limit", "300", "--redis", embedded_redis.url)
    with demo_until(tmp_path, "frozen (SIGSTOP)", *args) as process:
        assert demo_keys(embedded_redis.url) != []
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert demo_keys(embedded_redis.url) == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_a_killed_demo_leaves_no_process(tmp_path: Path) -> None:
    """Even after SIGKILL the workers, a frozen one among them, and the server end."""
    with demo_until(tmp_path, "frozen (SIGSTOP)", "--limit", "300") as process:
        own = of_the_demo(process)
        # The kernel stops a process some time after the signal was sent. It stays so
        # for its ttl, a second.
        give_up_at = time.monotonic() + 0.8
        while psutil.STATUS_STOPPED not in {child.status() for child in own}:
            assert time.monotonic() < give_up_at
            time.sleep(0.01)
        process.kill()
        process.communicate()
        assert psutil.wait_procs(own, timeout=5)[1] == []


def test_the_sample_can_be_made_again(tmp_path: Path) -> None:
    """``examples/make_ledger.py`` writes the committed sample, byte for byte."""
    path = tmp_path / "ledger.jsonl"
    subprocess.run(
        [sys.executable, ROOT / "examples" / "make_ledger.py", path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    assert path.read_bytes() == SAMPLE.read_bytes()
