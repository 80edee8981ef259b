"""The commands on a terminal: foreground, Ctrl-C, Ctrl-Z, the screen, the question."""

import re
import shlex
import signal
from pathlib import Path

import pytest

from tests.integrations.lock_command import COMMAND, Seen, until
from tests.integrations.terminal import CTRL_C, CTRL_Z, terminal

ENTER_SCREEN, LEAVE_SCREEN, SHOW_CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"


@pytest.fixture
def seen(redis_url: str, namespace: str) -> Seen:
    """The lock of the test, as Redis has it."""
    return Seen(redis_url, "job", namespace)


def test_a_command_may_ask_its_user(redis_url: str, namespace: str) -> None:
    """It reads from the terminal: its group is in the foreground from the beginning."""
    foreground = "[ $(ps -o tpgid= -p $$) -eq $$ ]"
    script = f'{foreground} && printf "name? "; read name; echo "hello $name"; exit 5'
    line = [*COMMAND, "run", "job", "--namespace", namespace, "--", "sh", "-c", script]
    with terminal(redis_url, line) as tty:
        tty.wait_for(r"name\?")
        tty.type(b"you\n")
        tty.wait_for("hello you")
        assert tty.ended() == 5


def test_ctrl_c_is_the_commands(redis_url: str, namespace: str, seen: Seen) -> None:
    """It dies of it, and so do we (130 in a shell); the lock is free, no traceback is seen."""
    script = "echo ready; exec sleep 1000"
    line = [*COMMAND, "run", "job", "--namespace", namespace, "--", "sh", "-c", script]
    with terminal(redis_url, line) as tty:
        tty.wait_for("ready")
        tty.type(CTRL_C)
        assert tty.ended() == -signal.SIGINT
        assert "Traceback" not in tty.seen
    assert seen.holder is None


@pytest.mark.parametrize("waits", [False, True], ids=["runs", "waits"])
def test_ctrl_c_ends_the_script_that_runs_us(
    redis_url: str, namespace: str, seen: Seen, waits: bool
) -> None:
    """A shell goes on with its next line, unless it sees SIGINT, and its child die of that."""
    run = shlex.join([*COMMAND, "run", "job", "--namespace", namespace, "--"])
    script = f"{run} sh -c 'echo ready; exec sleep 1000'; echo 'goes on'"
    if waits:
        seen.ask("SET", seen.keys.key, "somebody", "PX", 30_000)
    try:
        with terminal(redis_url, ["bash", "-c", script]) as tty:
            if waits:
                until(lambda: seen.waiters == 1, "it waits")
            else:
                tty.wait_for("ready")
            tty.type(CTRL_C)
            assert tty.ended() == -signal.SIGINT
            assert "goes on" not in tty.seen
        assert seen.waiters == 0
    finally:
        seen.ask("DEL", seen.keys.key)


def test_who_ignores_ctrl_c_goes_on(redis_url: str, namespace: str) -> None:
    """As a shell's background job does: 130 is then a status like any other."""
    run = shlex.join([*COMMAND, "run", "job", "--namespace", namespace, "--"])
    script = f"trap '' INT; exec {run} sh -c 'exit 130'"
    with terminal(redis_url, ["bash", "-c", script]) as tty:
        assert tty.ended() == 130


def test_a_pager_behind_us_keeps_the_terminal(redis_url: str, namespace: str) -> None:
    """In a pipeline the command is not put into the foreground: its reader may need that."""
    run = shlex.join([*COMMAND, "run", "job", "--namespace", namespace, "--"])
    pager = 'read line; read key < /dev/tty; echo "key $key"'
    script = f"{run} sh -c 'echo out; exec sleep 1000' | sh -c '{pager}'"
    with terminal(redis_url, ["bash", "-c", script]) as tty:
        tty.type(b"q\n")
        tty.wait_for("key q")
        tty.type(CTRL_C)
        assert tty.ended() != 0


def test_in_a_pipeline_a_command_may_ask_its_user_all_the_same(
    redis_url: str, namespace: str
) -> None:
    """It is put into the foreground when it reads from the terminal; its job is not stopped."""
    run = shlex.join([*COMMAND, "run", "job", "--namespace", namespace, "--"])
    script = f"{run} sh -c 'echo ready; read name; echo \"hello $name\"' | cat"
    with terminal(redis_url, ["bash", "--norc", "-i"]) as tty:
        tty.wait_for(r"\$ ")
        tty.type(f"{script}; echo status $?\n".encode())
        tty.wait_for(r"[\r\n]ready")
        tty.type(b"you\n")
        tty.wait_for("hello you")
        tty.wait_for("status 0")
        assert "Stopped" not in tty.seen


def test_a_killed_command_leaves_no_broken_terminal(redis_url: str, namespace: str) -> None:
    """Who switched the echo off and died cannot switch it on: we do."""
    script = "stty -echo -icanon; echo ready; kill -KILL $$"
    line = [*COMMAND, "run", "job", "--namespace", namespace, "--", "sh", "-c", script]
    with terminal(redis_url, line) as tty:
        before = tty.modes
        assert tty.ended() == 137
        assert tty.modes == before


def test_ctrl_z_stops_us_with_the_command(redis_url: str, namespace: str) -> None:
    """The shell has its prompt back; brought to the foreground, the command goes on."""
    script = 'echo ready; read word; echo "got $word"'
    ours = [*COMMAND, "run", "job", "--ttl", "30", "--namespace", namespace, "--", "sh", "-c"]
    with terminal(redis_url, ["bash", "--norc", "-i"]) as tty:
        tty.wait_for(r"\$ ")
        tty.type(" ".join([*ours, f"'{script}'"]).encode() + b"\n")
        tty.wait_for(r"[\r\n]ready")
        tty.type(CTRL_Z)
        tty.wait_for("Stopped")
        tty.type(b"fg\n")
        tty.wait_for("aiodistlock")
        tty.type(b"something\n")
        tty.wait_for("got something")
        tty.type(b"exit 0\n")
        assert tty.ended() == 0


def test_a_lease_that_ran_out_in_a_stop_ends_the_command(
    redis_url: str, namespace: str, seen: Seen, tmp_path: Path
) -> None:
    """It never goes on without the lock, though it writes all the time: 70."""
    written = tmp_path / "written"
    script = f"exec 3> {written}; echo ready; while :; do echo more >&3; done"
    # With such a grace only a SIGTERM that is taken at once ends it in time.
    flags = ["--ttl", "1.5", "--grace", "60", "--namespace", namespace]
    ours = [*COMMAND, "run", "job", *flags, "--", "sh", "-c"]
    with terminal(redis_url, ["bash", "--norc", "-i"]) as tty:
        tty.wait_for(r"\$ ")
        tty.type(" ".join([*ours, f"'{script}'"]).encode() + b"; echo status $?\n")
        tty.wait_for(r"[\r\n]ready")
        tty.type(CTRL_Z)
        tty.wait_for("Stopped")
        until(lambda: seen.holder is None, "the lease runs out")
        size = written.stat().st_size
        tty.type(b"fg; echo status $?\n")
        tty.wait_for("status 70")
        assert written.stat().st_size == size
        tty.type(b"exit 0\n")
        assert tty.ended() == 0


@pytest.mark.parametrize(
    ("how", "status"),
    [(CTRL_C, 0), (b"q", 0), (b"xQ", 0), (signal.SIGTERM, 143)],
    ids=["ctrl-c", "q", "Q", "SIGTERM"],
)
def test_top_gives_the_terminal_back(
    redis_url: str, namespace: str, seen: Seen, how: bytes | signal.Signals, status: int
) -> None:
    """It shows what is held, anew at each interval; ended, screen, cursor and modes are back."""
    line = [*COMMAND, "top", "-n", "0.2", "--namespace", namespace]
    with terminal(redis_url, line) as tty:
        before = tty.modes
        tty.wait_for("no lock is held")
        assert ENTER_SCREEN in tty.seen
        seen.ask("SET", seen.keys.key, "web-1:77:0a1b2c3d:5", "PX", 30_000)
        try:
            tty.wait_for("web-1 pid 77")
        finally:
            seen.ask("DEL", seen.keys.key)
        if isinstance(how, bytes):
            tty.type(how)
        else:
            tty.process.send_signal(how)
        assert tty.ended() == status
        assert LEAVE_SCREEN in tty.seen
        assert tty.seen.rindex(SHOW_CURSOR) > tty.seen.index(ENTER_SCREEN)
        assert "Traceback" not in tty.seen
        assert tty.modes == before


@pytest.mark.parametrize("columns", [60, 40])
def test_top_is_readable_on_a_small_terminal(
    redis_url: str, namespace: str, seen: Seen, columns: int
) -> None:
    """Name, holder, ttl and figures are shown whole, in lines of their own."""
    line = [*COMMAND, "top", "-n", "0.2", "--namespace", namespace]
    seen.ask("SET", seen.keys.key, "web-1:77:0a1b2c3d:5", "PX", 273_610_000)
    try:
        with terminal(redis_url, line, columns) as tty:
            tty.wait_for("held 1  waiting 0")
            tty.wait_for("hand-offs/s ≥ 0.0")
            tty.wait_for(r"job.* 3 days 4 h")
            tty.wait_for("web-1 pid 77")
            tty.type(b"q")
            assert tty.ended() == 0
        assert "…" not in tty.seen
    finally:
        seen.ask("DEL", seen.keys.key)


def test_ctrl_z_gives_the_terminal_back_as_well(redis_url: str, namespace: str) -> None:
    """The shell has its screen and cursor while top is stopped; "fg" shows it again."""
    line = shlex.join([*COMMAND, "top", "-n", "0.2", "--namespace", namespace])
    with terminal(redis_url, ["bash", "--norc", "-i"]) as tty:
        tty.wait_for(r"\$ ")
        tty.type(line.encode() + b"\n")
        for _ in range(2):
            tty.wait_for("no lock is held")
            tty.type(CTRL_Z)
            tty.wait_for(re.escape(LEAVE_SCREEN))
            tty.wait_for("Stopped")
            tty.type(b"fg\n")
            tty.wait_for(re.escape(ENTER_SCREEN))
        tty.wait_for("no lock is held")
        tty.type(b"q")
        tty.wait_for(re.escape(LEAVE_SCREEN))
        tty.type(b"echo status $?\n")
        tty.wait_for("status 0")


@pytest.mark.parametrize(("answer", "status"), [(b"y\n", 0), (b"\n", 1), (CTRL_C, 130)])
def test_a_forced_release_asks_first(
    redis_url: str, namespace: str, seen: Seen, answer: bytes, status: int
) -> None:
    """It shows who holds the lock; anything but yes changes nothing."""
    seen.ask("SET", seen.keys.key, "web-1:77:0a1b2c3d:5", "PX", 30_000)
    try:
        line = [*COMMAND, "release", "job", "--force", "--namespace", namespace]
        with terminal(redis_url, line) as tty:
            tty.wait_for("web-1 pid 77")
            tty.wait_for(r"Take job from web-1 pid 77\? \[y/N\]")
            tty.type(answer)
            assert tty.ended() == status
            assert "Traceback" not in tty.seen
        assert (seen.holder is None) == (status == 0)
    finally:
        seen.ask("DEL", seen.keys.key)
