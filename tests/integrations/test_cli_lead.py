"""``aiodistlock lead`` and ``leader``: real processes, a real Redis."""

import json
import signal
from pathlib import Path

import pytest

from tests.integrations.lock_command import Seen, command, ended, refused, runs, started, until


@pytest.fixture
def seen(redis_url: str, namespace: str) -> Seen:
    """The lock of the election, as Redis has it."""
    return Seen(redis_url, "job", namespace)


def lines(file: Path) -> list[str]:
    """Return the whole lines of a file that may not be there yet."""
    return file.read_text().splitlines() if file.exists() else []


def leader(url: str, namespace: str) -> dict[str, object] | None:
    """Ask who leads."""
    done = command(url, "leader", "job", "--namespace", namespace, "--json")
    told: dict[str, object] | None = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0 if told else 1, "")
    return told


def test_the_command_runs_where_it_leads_and_observers_are_told(
    redis_url: str, namespace: str, seen: Seen, tmp_path: Path
) -> None:
    """It finds its term; its status is ours; nobody leads behind it."""
    file = tmp_path / "told"
    script = f"echo $AIODISTLOCK_LOCK_NAME $AIODISTLOCK_FENCING_TOKEN > {file}; read x; exit 3"
    args = ("lead", "job", "--value", "10.0.0.7:8000", "--namespace", namespace, "--")
    watching = ("leader", "job", "--watch", "--namespace", namespace)
    with started(redis_url, *watching) as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline() == "nobody leads\n"
        with started(redis_url, *args, "sh", "-c", "sleep 1000 & wait") as process:
            until(lambda: seen.holder is not None, "it leads")
            told = watch.stdout.readline()
            while told.startswith("-"):  # its term had begun, its value was not there yet
                told = watch.stdout.readline()
            value, word, term, token = told.split()
            assert (value, word) == ("10.0.0.7:8000", "term")
            assert leader(redis_url, namespace) == {
                "term": int(term),
                "value": value,
                "token": token,
            }
            process.send_signal(signal.SIGTERM)
            assert ended(process).returncode == 143
        assert watch.stdout.readline() == "nobody leads\n"
        watch.send_signal(signal.SIGINT)
        assert "Traceback" not in ended(watch).stderr
    assert leader(redis_url, namespace) is None
    done = command(redis_url, *args, "sh", "-c", script)
    assert (done.returncode, done.stderr) == (3, "")
    assert lines(file)[0].split()[0] == "job"
    assert seen.holder is None


def test_a_lost_term_ends_the_command_and_the_next_one_starts_it_again(
    redis_url: str, namespace: str, seen: Seen, tmp_path: Path
) -> None:
    """The whole group has ended before; each start has a higher term."""
    file = tmp_path / "told"
    script = f"sleep 1000 & echo $AIODISTLOCK_FENCING_TOKEN $! >> {file}; wait"
    args = ("lead", "job", "--ttl", "1.5", "--namespace", namespace, "--", "sh", "-c", script)
    with started(redis_url, *args) as process:
        until(lambda: len(lines(file)) == 1, "it leads")
        seen.ask("DEL", seen.keys.key)
        until(lambda: len(lines(file)) == 2, "it leads again")
        (first, child), (second, _) = (line.split() for line in lines(file))
        assert int(first) < int(second)
        assert not runs(int(child))
        process.send_signal(signal.SIGTERM)
        done = ended(process)
    assert done.returncode == 143
    assert "lost" in done.stderr
    assert done.stderr.count("a candidate again") == done.stderr.count("\n")


def test_the_next_host_leads_when_the_first_one_ends(
    redis_url: str, namespace: str, seen: Seen, tmp_path: Path
) -> None:
    """And never beside it: its whole group has ended by then."""
    file = tmp_path / "told"
    script = f"echo $$ >> {file}; sleep 1000 & wait"
    args = ("lead", "job", "--namespace", namespace, "--", "sh", "-c", script)
    with started(redis_url, *args) as first:
        until(lambda: len(lines(file)) == 1, "the first one leads")
        with started(redis_url, *args) as second:
            until(lambda: seen.waiters == 1, "the second one waits")
            first.send_signal(signal.SIGTERM)
            assert ended(first).returncode == 143
            until(lambda: len(lines(file)) == 2, "the second one leads")
            assert not runs(int(lines(file)[0]))
            second.send_signal(signal.SIGTERM)
            assert ended(second).returncode == 143


def test_a_signal_ends_a_candidate(redis_url: str, namespace: str, seen: Seen) -> None:
    """It waits no more, and its command never ran."""
    seen.ask("SET", seen.keys.key, "web-1:77:0a1b2c3d:5", "PX", 60_000)
    try:
        with started(
            redis_url, "lead", "job", "--namespace", namespace, "--", "echo", "ran"
        ) as process:
            until(lambda: seen.waiters == 1, "it waits")
            process.send_signal(signal.SIGTERM)
            done = ended(process)
        assert (done.returncode, done.stdout) == (143, "")
        until(lambda: seen.waiters == 0, "it has left")
    finally:
        seen.ask("DEL", seen.keys.key)


@pytest.mark.parametrize("name", ["lead", "leader"])
def test_a_quorum_and_a_wrong_name_are_told(redis_url: str, name: str) -> None:
    """In one line, before any I/O."""
    rest = ["--", "true"] if name == "lead" else []
    quorum = ["--redis", redis_url, "--redis", f"{redis_url}/1"]
    assert "quorum" in refused(command(None, name, "job", *quorum, *rest), 2)
    refused(command(redis_url, name, "{job", *rest), 2)


def test_redis_that_is_away_is_told() -> None:
    """69, as with all commands."""
    url = "redis://127.0.0.1:1"
    refused(command(url, "leader", "job", "--timeout", "0.3"), 69)
    refused(command(url, "lead", "job", "--unavailable-after", "0.3", "--", "true"), 69)
