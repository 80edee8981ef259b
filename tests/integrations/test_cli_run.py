"""``aiodistlock run``: real processes, a real Redis, and what befalls them."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from aiodistlock.testing.embedded import EmbeddedRedis
from tests.integrations.doctor_command import Start
from tests.integrations.in_process import run_here
from tests.integrations.lock_command import (
    COMMAND,
    Seen,
    command,
    ended,
    kill,
    refused,
    runs,
    started,
    until,
)

# Tells its pid and that of a child of its own, and goes on for ever.
FAMILY = "sleep 1000 & echo $$ $! > {}; wait"
# The same, and no SIGTERM impresses it or its child.
STUBBORN = f"trap '' TERM; {FAMILY}"


@pytest.fixture
def seen(redis_url: str, namespace: str) -> Seen:
    """The lock of the test, as Redis has it."""
    return Seen(redis_url, "job", namespace)


def pids(file: Path) -> list[int]:
    """Wait for the pids that a command tells."""
    until(lambda: file.exists() and file.read_text().endswith("\n"), "the command has started")
    return [int(each) for each in file.read_text().split()]


def gone(family: list[int]) -> bool:
    """Tell whether none of these processes runs."""
    return not any(runs(each) for each in family)


def test_the_command_runs_under_the_lock(redis_url: str, namespace: str, seen: Seen) -> None:
    """It finds name and fencing token; its output and status are ours; the lock is free then."""
    script = (
        f"{shlex.quote(sys.executable)} -c 'import sys, redis; "
        f"print(redis.Redis.from_url(sys.argv[1]).get(sys.argv[2]).decode())' "
        f"{redis_url} {namespace}job; echo $AIODISTLOCK_LOCK_NAME $AIODISTLOCK_FENCING_TOKEN; "
        f"ps -o pgid= -p $$; echo $$; exit 3"
    )
    done = command(redis_url, "run", "job", "--namespace", namespace, "--", "sh", "-c", script)
    token, environment, group, pid = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (3, "")
    assert token.count(":") == 3
    assert environment == f"job {seen.fence}"
    assert group.strip() == pid
    assert seen.holder is None


@pytest.mark.parametrize(
    ("line", "status", "told"),
    [
        (["sh", "-c", "kill -KILL $$"], 137, ""),
        (["no-such-command"], 127, "not found"),
        (["./no-such-command"], 127, "not found"),
        (["/etc/passwd"], 126, "cannot be executed"),
        (["/"], 126, "cannot be executed"),
    ],
)
def test_a_shells_statuses_are_ours(
    redis_url: str, namespace: str, line: list[str], status: int, told: str
) -> None:
    """128+n for signal n, 127 not found, 126 not executable: these before any lock is taken."""
    done = command(redis_url, "run", "job", "--namespace", namespace, "--", *line)
    assert done.returncode == status
    assert told == done.stderr or told in refused(done, status)


def test_what_exec_refuses_is_one_line(redis_url: str, namespace: str, tmp_path: Path) -> None:
    """A script without an interpreter is only found out by running it."""
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    done = command(redis_url, "run", "job", "--namespace", namespace, "--", str(script))
    assert str(script) in refused(done, 127)


def test_who_does_not_get_the_lock_says_who_has_it(
    redis_url: str, namespace: str, seen: Seen
) -> None:
    """Status 75, at once or in time, and the command never runs."""
    seen.ask("SET", seen.keys.key, "web-1:77:0a1b2c3d:5", "PX", 30_000)
    try:
        for flags in (["--no-wait"], ["--timeout", "1"]):
            done = command(
                redis_url, "run", "job", *flags, "--namespace", namespace, "--", "echo", "ran"
            )
            assert "web-1:77" in refused(done, 75)
        assert seen.waiters == 0
    finally:
        seen.ask("DEL", seen.keys.key)


def test_four_processes_lose_no_update(redis_url: str, namespace: str, tmp_path: Path) -> None:
    """Read, pause, write: without the lock they would all write the same number."""
    count = tmp_path / "count"
    count.write_text("0")
    # Longer than their starts are apart.
    script = f"n=$(cat {count}); sleep 0.3; echo $((n + 1)) > {count}"
    line = ("run", "job", "--namespace", namespace, "--", "sh", "-c", script)
    with ExitStack() as stack:
        processes = [stack.enter_context(started(redis_url, *line)) for _ in range(4)]
        assert [ended(each).returncode for each in processes] == [0] * 4
    assert count.read_text().strip() == "4"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signals_are_the_commands(
    redis_url: str, namespace: str, tmp_path: Path, number: signal.Signals
) -> None:
    """It is told, decides what to do, and its status is ours."""
    name = number.name.removeprefix("SIG")
    # Its child tells its pid, once it is another program: between fork and exec it would
    # take a signal for its parent's, and sleep on with our output open.
    child = f"sh -c 'echo $$ > {tmp_path}/pid; exec sleep 1000'"
    script = f"trap 'echo told; exit 9' {name}; {child} & wait"
    with started(
        redis_url, "run", "job", "--namespace", namespace, "--", "sh", "-c", script
    ) as process:
        pids(tmp_path / "pid")
        process.send_signal(number)
        done = ended(process)
    assert (done.returncode, done.stdout, done.stderr) == (9, "told\n", "")


def test_a_signal_ends_the_wait(redis_url: str, namespace: str, seen: Seen) -> None:
    """128+n; the command never runs, and the queue is left."""
    seen.ask("SET", seen.keys.key, "somebody", "PX", 30_000)
    try:
        with started(
            redis_url, "run", "job", "--namespace", namespace, "--", "echo", "ran"
        ) as process:
            until(lambda: seen.waiters == 1, "it waits")
            process.send_signal(signal.SIGINT)
            done = ended(process)
        assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
        assert seen.waiters == 0
    finally:
        seen.ask("DEL", seen.keys.key)


def test_ignored_signals_stay_ignored(redis_url: str, namespace: str, tmp_path: Path) -> None:
    """Under nohup a hang-up ends neither us nor the command."""
    script = f"echo $$ > {tmp_path}/pid; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; exit 4"
    ours = ("run", "job", "--namespace", namespace, "--redis", redis_url)
    line = shlex.join([*COMMAND, *ours, "--", "sh", "-c", script])
    with subprocess.Popen(["sh", "-c", f"trap '' HUP; exec {line}"]) as process:
        (pid,) = pids(tmp_path / "pid")
        process.send_signal(signal.SIGHUP)
        os.kill(pid, signal.SIGHUP)
        (tmp_path / "go").touch()
        assert process.wait(30) == 4


def test_a_frozen_redis_ends_the_command_in_time(
    embedded_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    """Silence until the deadline: SIGTERM to the whole group before the ttl is over, status 70."""
    with started(
        embedded_redis.url,
        *("run", "job", "--ttl", "1", "--", "sh", "-c", FAMILY.format(tmp_path / "pid")),
    ) as process:
        family = pids(tmp_path / "pid")
        embedded_redis.freeze()
        try:
            frozen_at = time.monotonic()
            until(lambda: gone(family), "the group has ended")
            # The ttl is 1 s, the rest for a busy machine; SIGKILL would follow after 10 s.
            assert time.monotonic() - frozen_at < 5.0
            done = ended(process)
        finally:
            embedded_redis.thaw()
    assert "lost" in refused(done, 70)


def test_who_ignores_sigterm_is_killed_after_the_grace(
    redis_url: str, namespace: str, seen: Seen, tmp_path: Path
) -> None:
    """Not before it, and with its children."""
    with started(
        redis_url,
        *("run", "job", "--namespace", namespace, "--ttl", "1.5", "--grace", "0.4"),
        *("--", "sh", "-c", STUBBORN.format(tmp_path / "pid")),
    ) as process:
        family = pids(tmp_path / "pid")
        taken_at = time.monotonic()
        seen.ask("DEL", seen.keys.key)
        done = ended(process)
        assert time.monotonic() - taken_at >= 0.4
        assert gone(family)
    assert "lost" in refused(done, 70)


def test_the_command_ends_if_we_are_killed(
    redis_url: str, namespace: str, seen: Seen, tmp_path: Path
) -> None:
    """Nobody renews its lease any more: the whole group goes, the next holder comes."""
    with started(
        redis_url,
        *("run", "job", "--namespace", namespace, "--ttl", "1", "--grace", "0.2"),
        *("--", "sh", "-c", STUBBORN.format(tmp_path / "pid")),
    ) as process:
        family = pids(tmp_path / "pid")
        process.kill()
        until(lambda: gone(family), "the group has ended")
    done = command(redis_url, "run", "job", "--namespace", namespace, "--", "echo", "next")
    assert (done.returncode, done.stdout) == (0, "next\n")


@pytest.mark.parametrize("renewed", [False, True])
def test_the_command_ends_if_we_stand_still(
    redis_url: str, namespace: str, tmp_path: Path, renewed: bool
) -> None:
    """Stopped, we renew nothing and notice nothing: the group ends with the lease all the same."""
    with started(
        redis_url,
        *("run", "job", "--namespace", namespace, "--ttl", "1.5", "--grace", "0.2"),
        *("--", "sh", "-c", STUBBORN.format(tmp_path / "pid")),
    ) as process:
        family = pids(tmp_path / "pid")
        if renewed:
            time.sleep(1.8)  # real time: it runs for longer than a ttl, as long as we renew
        assert not gone(family)
        process.send_signal(signal.SIGSTOP)
        until(lambda: gone(family), "the group has ended")
        process.send_signal(signal.SIGCONT)
        done = ended(process)
    assert "lost" in refused(done, 70)


def test_who_waits_is_not_outlived_either(redis_url: str, namespace: str, seen: Seen) -> None:
    """Killed while it waits for the lock, it leaves no process behind."""
    seen.ask("SET", seen.keys.key, "somebody", "PX", 30_000)
    try:
        with started(
            redis_url, "run", "job", "--namespace", namespace, "--", "echo", "ran"
        ) as process:
            until(lambda: seen.waiters == 1, "it waits")
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            assert len(children) == 2
            process.kill()
            assert ended(process).stdout == ""
            until(lambda: gone([int(each) for each in children]), "its children are gone")
    finally:
        seen.ask("DEL", seen.keys.key)
        seen.ask("DEL", seen.keys.queue)


def test_a_killed_guardian_does_not_keep_the_command_alive(
    redis_url: str, namespace: str, seen: Seen, tmp_path: Path
) -> None:
    """Who would end the group is gone: a lost lease ends it all the same."""
    with started(
        redis_url,
        *("run", "job", "--namespace", namespace, "--ttl", "1.5"),
        *("--", "sh", "-c", FAMILY.format(tmp_path / "pid")),
    ) as process:
        family = pids(tmp_path / "pid")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        (guardian,) = {int(each) for each in children} - {family[0]}
        kill(guardian)
        seen.ask("DEL", seen.keys.key)
        done = ended(process)
        assert gone(family)
    assert "lost" in refused(done, 70)


def test_a_stopped_guardian_does_not_stop_us() -> None:
    """It reads nothing, for longer than the pipe has room: we go on telling."""
    script = (
        "import os, signal; from aiodistlock.cli.run.guardian import Guardian; it = Guardian(); "
        "os.kill(it.pid, signal.SIGSTOP); [it.expect_news(n) for n in range(10_000)]; "
        "os.kill(it.pid, signal.SIGKILL); os.waitpid(it.pid, 0)"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=30, check=False).returncode == 0


def test_what_the_command_leaves_running_goes_on(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """As with flock(1): a process in the background is not waited for, nor ended."""
    script = f"sleep 1000 > /dev/null 2>&1 & echo $! > {tmp_path / 'pid'}"
    done = command(redis_url, "run", "job", "--namespace", namespace, "--", "sh", "-c", script)
    (left,) = pids(tmp_path / "pid")
    try:
        assert (done.returncode, runs(left)) == (0, True)
    finally:
        kill(left)


def test_a_closed_pipe_ends_the_commands_writers(redis_url: str, namespace: str) -> None:
    """Python ignores SIGPIPE, and what it starts does not inherit that."""
    script = "yes | head -n 1"
    done = command(redis_url, "run", "job", "--namespace", namespace, "--", "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "y\n", "")


def test_an_unreachable_redis_is_one_line(start: Start) -> None:
    """Status 69, after as long as was asked for; so for one that is frozen."""
    flags = ("run", "job", "--unavailable-after", "0.3")
    assert "unavailable" in refused(command("redis://127.0.0.1:1", *flags, "--", "true"), 69)
    server = start()
    server.freeze()
    try:
        refused(command(server.url, *flags, "--no-wait", "--", "true"), 69)
        refused(command(server.url, "run", "job", "--timeout", "0.2", "--", "true"), 69)
    finally:
        server.thaw()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["job", "--ttl", "0", "--", "true"], "ttl must be"),
        (["job", "--grace", "-1", "--", "true"], "grace must be"),
        (["job", "--timeout", "-1", "--", "true"], "timeout must be"),
        (["job", "--unavailable-after", "0", "--", "true"], "unavailable_after must be"),
        (["", "--", "true"], "name must not be empty"),
        (["job"], "COMMAND"),
        (["job", "--namespace", "{", "--", "true"], "braces"),
        (["job", "--no-wait", "--timeout", "3", "--", "true"], "exclude each other"),
        (["job", "-E", "256", "--", "true"], "255"),
        (
            ["", "--ttl", "-1", "--grace", "-1", "--", "true"],
            "name must not be empty: .*; ttl must .*; grace must",
        ),
        (["job", "--ttl", "86400", "--quarantine", "0", "--", "true"], "quarantine must be"),
    ],
)
def test_what_is_wrong_is_one_line(args: list[str], told: str) -> None:
    """Status 2, and what to do."""
    done = run_here("run", *args, environment={"REDIS_URL": "redis://127.0.0.1:1"})
    assert re.search(told, refused(done, 2))


@pytest.mark.parametrize(
    ("flags", "status"),
    [(["--quiet"], 75), (["-q", "-E", "0"], 0), (["--conflict-exit-code", "9"], 9)],
)
def test_who_does_not_get_the_lock_may_end_as_it_likes(
    redis_url: str, namespace: str, seen: Seen, flags: list[str], status: int
) -> None:
    """Without a word, with a status of its own, as with flock -E."""
    told = "held by somebody" if "9" in flags else ""
    seen.ask("SET", seen.keys.key, "somebody", "PX", 30_000)
    try:
        for how in (["--no-wait"], ["--timeout", "1"]):
            line = ["run", "job", *how, *flags, "--namespace", namespace, "--", "echo", "ran"]
            done = command(redis_url, *line)
            assert (done.returncode, done.stdout) == (status, "")
            assert bool(done.stderr) is bool(told)
            assert told in done.stderr
    finally:
        seen.ask("DEL", seen.keys.key)


def test_what_is_no_conflict_has_its_own_status_and_is_told() -> None:
    """Redis is not there: 69, in one line, whatever -q and -E say."""
    flags = ["--no-wait", "-q", "-E", "0", "--unavailable-after", "0.1"]
    done = command("redis://127.0.0.1:1", "run", "job", *flags, "--", "true")
    assert "unavailable" in refused(done, 69)


@pytest.mark.parametrize(
    ("flags", "given"), [([], False), (["--keep-redis-url"], True)], ids=["by default", "if asked"]
)
def test_the_command_does_not_learn_the_url(
    redis_url: str, namespace: str, flags: list[str], given: bool
) -> None:
    """There may be a password in it; what else is in the environment stays."""
    script = 'echo "${REDIS_URL-none} $COLUMNS"; tr "\\0" "\\n" < /proc/$$/environ'
    line = ["run", "job", *flags, "--namespace", namespace, "--", "sh", "-c", script]
    done = command(redis_url, *line)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{redis_url if given else 'none'} 100\n")
    assert (redis_url in done.stdout) is given


def test_the_url_may_stand_in_a_file(
    redis_url: str, namespace: str, tmp_path: Path, quorum_urls: list[str], quorum_namespace: str
) -> None:
    """So it is in no list of processes; one a line for a quorum, and it wins over REDIS_URL."""
    one, several, empty = (tmp_path / name for name in ("one", "several", "empty"))
    one.write_text(f"{redis_url}\n")
    several.write_text("\n".join(quorum_urls))
    empty.write_text("\n")
    for file, at in ((one, namespace), (several, quorum_namespace)):
        where = ["--redis-url-file", str(file), "--namespace", at]
        done = command("redis://127.0.0.1:1", "run", "job", *where, "--", "echo", "ran")
        assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")
        assert "no lock is held" in command(None, "ls", *where).stderr
    assert "no URL in it" in refused(command(None, "ls", "--redis-url-file", str(empty)), 2)
    assert "No such file" in refused(command(None, "ls", "--redis-url-file", "nowhere"), 2)
    both = ["--redis-url-file", str(one), "--redis", redis_url]
    assert "not both" in refused(command(None, "ls", *both), 2)
    doctor = command(None, "doctor", "--redis-url-file", str(one), "--json")
    assert doctor.returncode in (0, 1), doctor.stderr


def test_a_quorums_quarantine_is_told(quorum_urls: list[str], quorum_namespace: str) -> None:
    """The same as all other clients have; no ttl may be longer."""
    line = ["--namespace", quorum_namespace, "--", "echo", "ran"]
    urls = " ".join(quorum_urls)
    done = command(urls, "run", "job", "--quarantine", "5", "--ttl", "5", *line)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")
    done = command(urls, "run", "job", "--quarantine", "5", "--ttl", "6", *line)
    assert "quarantine of 5 s" in refused(done, 2)


def test_a_quorum_is_several_urls(quorum_urls: list[str], quorum_namespace: str) -> None:
    """In the variable, separated by spaces, or one option each."""
    line = ["run", "job", "--namespace", quorum_namespace, "--", "echo", "ran"]
    done = command(" ".join(quorum_urls), *line)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")
