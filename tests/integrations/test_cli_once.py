"""``aiodistlock run --once-every`` and ``--at-least``: real processes, a real Redis."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integrations.lock_command import Done, Seen, command, ended, refused, started, until


@pytest.fixture
def seen(redis_url: str, namespace: str) -> Iterator[Seen]:
    """The lock of the test, as Redis has it; its mark goes at the end."""
    seen = Seen(redis_url, "job", namespace)
    yield seen
    seen.ask("DEL", seen.keys.done, seen.keys.key)


def line(namespace: str, *args: str) -> list[str]:
    """Return a command line for the lock of the test."""
    return ["run", "job", "--namespace", namespace, *args]


def nothing_to_do(done: Done) -> str:
    """Check that there was nothing to do, and return what was told."""
    assert (done.returncode, done.stdout) == (0, ""), done
    assert "has nothing to do: it was done by" in done.stderr
    return done.stderr


def test_a_window_is_done_once(redis_url: str, namespace: str, seen: Seen) -> None:
    """By the first; later ones have nothing to do, and say so unless they are quiet."""
    # A window so long that the test is not at its boundary.
    once = ("--once-every", "300d", "--", "sh", "-c", "echo ran $AIODISTLOCK_WINDOW")
    done = command(redis_url, *line(namespace, *once))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ran 20")
    assert nothing_to_do(command(redis_url, *line(namespace, *once))).endswith(" UTC\n")
    quiet = command(redis_url, *line(namespace, "--quiet", *once))
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    assert seen.holder is None
    shown = command(redis_url, "inspect", "job", "--namespace", namespace, "--json")
    mark = json.loads(shown.stdout)["mark"]
    assert (mark["state"], mark["by"]["host"] is not None) == ("done", True)
    assert mark["window"] == done.stdout.split()[1]
    told = command(redis_url, "inspect", "job", "--namespace", namespace).stdout
    assert "last window" in told
    assert "done by" in told
    listed = command(redis_url, "ls", "--namespace", namespace, "--json")
    assert json.loads(listed.stdout) == []


def test_what_fails_is_done_by_the_next(redis_url: str, namespace: str, seen: Seen) -> None:
    """Its status is ours; the window is not done."""
    once = ("--once-every", "300d", "--", "sh", "-c")
    assert command(redis_url, *line(namespace, *once, "exit 3")).returncode == 3
    assert command(redis_url, *line(namespace, *once, "echo again")).stdout == "again\n"
    nothing_to_do(command(redis_url, *line(namespace, *once, "echo again")))
    assert seen.holder is None


def test_of_several_hosts_one_runs_it(
    redis_url: str, namespace: str, seen: Seen, tmp_path: Path
) -> None:
    """The others wait for its end, and are told."""
    script = f"echo >> {tmp_path}/runs; until [ -e {tmp_path}/go ]; do sleep 0.05; done"
    once = line(namespace, "--once-every", "300d", "--", "sh", "-c", script)
    with ExitStack() as stack:
        processes = [stack.enter_context(started(redis_url, *once)) for _ in range(3)]
        until(lambda: seen.waiters == 2, "two wait")
        (tmp_path / "go").touch()
        all_ended = [ended(each) for each in processes]
    assert [each.returncode for each in all_ended] == [0, 0, 0]
    assert sum("nothing to do" in each.stderr for each in all_ended) == 2
    assert (tmp_path / "runs").read_text() == "\n"


def test_a_host_that_dies_is_followed(
    redis_url: str, namespace: str, seen: Seen, tmp_path: Path
) -> None:
    """By one that waits; the command of the dead one is ended."""
    first = line(
        namespace, "--ttl", "2", "--once-every", "300d", "--", "sh", "-c",
        f"echo $$ > {tmp_path}/pid; sleep 1000",
    )  # fmt: skip
    second = line(namespace, "--ttl", "2", "--once-every", "300d", "--", "echo", "followed")
    with started(redis_url, *first) as dying:
        until(lambda: (tmp_path / "pid").exists(), "the first one runs it")
        with started(redis_url, *second) as waiting:
            until(lambda: seen.waiters == 1, "the second one waits")
            dying.kill()
            done = ended(waiting)
    assert (done.returncode, done.stdout, done.stderr) == (0, "followed\n", "")


def test_a_signal_ends_who_waits(redis_url: str, namespace: str, seen: Seen) -> None:
    """Status 128 and its number, and nobody is left in the queue."""
    seen.ask("SET", seen.keys.key, "web-1:77:0a1b2c3d:5", "PX", 60_000)
    once = line(namespace, "--once-every", "300d", "--", "echo", "ran")
    with started(redis_url, *once) as process:
        until(lambda: seen.waiters == 1, "it waits")
        process.send_signal(signal.SIGTERM)
        done = ended(process)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, "")
    assert seen.waiters == 0


def test_a_signal_is_the_commands(
    redis_url: str, namespace: str, seen: Seen, tmp_path: Path
) -> None:
    """What ends by it has not ended well: no mark."""
    once = line(
        namespace, "--once-every", "300d", "--", "sh", "-c", f"touch {tmp_path}/on; sleep 1000"
    )
    with started(redis_url, *once) as process:
        until(lambda: (tmp_path / "on").exists(), "it runs")
        process.send_signal(signal.SIGTERM)
        assert ended(process).returncode == 128 + signal.SIGTERM
    assert seen.holder is None
    assert seen.ask("GET", seen.keys.done) is None


def test_a_lost_lease_ends_the_command(
    redis_url: str, namespace: str, seen: Seen, tmp_path: Path
) -> None:
    """Status 70, no mark, and the group is gone before the end is told."""
    script = f"echo $$ > {tmp_path}/pid; sleep 1000"
    once = line(namespace, "--ttl", "4", "--once-every", "300d", "--", "sh", "-c", script)
    with started(redis_url, *once) as process:
        file = tmp_path / "pid"
        until(lambda: file.exists() and file.read_text().endswith("\n"), "it runs")
        pid = int(file.read_text())
        seen.ask("SET", seen.keys.key, "somebody else", "PX", 60_000)
        done = ended(process)
    assert done.returncode == 70
    assert "the command was ended" in done.stderr
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)
    assert seen.holder == b"somebody else"
    assert seen.ask("GET", seen.keys.done) is None


def test_who_does_not_wait_is_told_who_runs_it(redis_url: str, namespace: str, seen: Seen) -> None:
    """Status 75, or what is wished, as without windows."""
    seen.ask("SET", seen.keys.key, "web-1:77:0a1b2c3d:5", "PX", 60_000)
    for once in (("--no-wait", "--once-every", "300d"), ("--at-least", "60")):
        done = command(redis_url, *line(namespace, *once, "--", "echo", "ran"))
        assert "it is held by web-1 pid 77" in refused(done, 75)
    quiet = ("-q", "-E", "3", "--at-least", "60", "--", "echo", "ran")
    done = command(redis_url, *line(namespace, *quiet))
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


def test_a_short_command_keeps_its_name(redis_url: str, namespace: str, seen: Seen) -> None:
    """Who starts a little later has nothing to do, and ``ls`` shows by whom it is kept."""
    once = line(namespace, "--at-least", "1h", "--", "echo", "ran")
    assert command(redis_url, *once).stdout == "ran\n"
    nothing_to_do(command(redis_url, *once))
    listed = json.loads(command(redis_url, "ls", "--namespace", namespace, "--json").stdout)
    assert listed[0]["holder"]["token"].startswith("kept:")
    assert 3000 < listed[0]["ttl"] <= 3600


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--once-every", "soon"], "--once-every must be a number of seconds"),
        (["--at-least", "-3"], "--at-least must be a number of seconds"),
        (["--once-every", "1d", "--at-least", "60"], "exclude each other"),
        (["--at-least", "60", "--timeout", "5"], "omit --timeout"),
        (["--once-every", "0.001"], "every must be"),
        (["--once-every", "1d", "--redis", "redis://a", "--redis", "redis://b"], "quorum"),
    ],
)
def test_what_is_wrong_is_told(redis_url: str, namespace: str, args: list[str], told: str) -> None:
    """Status 2, before any I/O."""
    done = command(redis_url, *line(namespace, *args, "--", "echo", "ran"))
    assert told in refused(done, 2)
