"""``aiodistlock ls``, ``inspect`` and ``top --once``: real locks, seen from outside."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
import redis as redis_sync
from redis.asyncio import RedisCluster
from typer.testing import CliRunner

import aiodistlock
from aiodistlock import AsyncLock, LockClient, Run
from aiodistlock.cli.app import app
from aiodistlock.cli.release import take
from aiodistlock.cli.survey.survey import Survey
from aiodistlock.core.keys import LockKeys
from aiodistlock.testing.embedded import EmbeddedRedis, TlsFiles
from tests.integrations.doctor_command import Start, form_cluster
from tests.integrations.in_process import run_here
from tests.integrations.lock_command import (
    COMMAND,
    PATIENCE,
    command,
    environment,
    refused,
    started,
)

PASSWORD = "s3cret-never-shown"


async def shown(url: str, *args: str) -> Any:
    """Run a command with --json, while locks of ours are held; return what it prints."""
    done = await anyio.to_thread.run_sync(lambda: command(url, *args, "--json"))
    assert (done.returncode, done.stderr) == (0, ""), done
    return json.loads(done.stdout)


@pytest.fixture
async def locks(redis_url: str) -> AsyncIterator[LockClient]:
    """A client that holds."""
    async with LockClient.from_url(redis_url) as locks:
        yield locks


@pytest.mark.bounded(60)
async def test_the_permits_of_a_semaphore_are_listed(
    locks: LockClient, redis_url: str, namespace: str
) -> None:
    """By their slots, with who has them; and nobody takes one by force."""
    where = ("--namespace", namespace)
    semaphore = locks.semaphore("gpu", 3, ttl=30.0, namespace=namespace)
    async with (
        semaphore as one,
        semaphore.hold(permits=2) as two,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(semaphore.acquire)
        with anyio.fail_after(20):
            while not (await semaphore.inspect()).waiters:
                await anyio.sleep(0.01)
        (listed,) = await shown(redis_url, "ls", *where)
        assert (listed["name"], listed["holder"], len(listed["waiters"])) == ("gpu", None, 1)
        assert [(each["token"], each["slots"]) for each in listed["permits"]] == [
            (one.token, [0]),
            (two.token, [1, 2]),
        ]
        assert listed["fencing_token"] == two.fencing_token
        assert 0 < listed["permits"][0]["ttl"] <= 30
        done = await anyio.to_thread.run_sync(lambda: command(redis_url, "inspect", "gpu", *where))
        assert "3 permits" in done.stdout
        assert "slot 1, 2" in done.stdout
        done = await anyio.to_thread.run_sync(lambda: command(redis_url, "ls", *where))
        assert "3 permits" in done.stdout
        done = await anyio.to_thread.run_sync(
            lambda: command(redis_url, "top", "--once", "--interval", "0.2", *where)
        )
        assert "3 permits" in done.stdout
        done = await anyio.to_thread.run_sync(
            lambda: command(redis_url, "release", "gpu", "--force", "--yes", *where)
        )
        assert done.returncode == 1
        assert "is a semaphore" in done.stderr
        tasks.cancel_scope.cancel()


@pytest.mark.bounded(60)
async def test_what_is_held_and_waited_for_is_listed(
    locks: LockClient, redis_url: str, namespace: str
) -> None:
    """Holder, fence, ttl, queue: as the holder knows them; other keys are no locks."""
    async with LockClient.from_url(redis_url) as others, anyio.create_task_group() as tasks:
        held = await locks.lock("wallet:{42}", namespace=namespace, ttl=20).acquire()
        lease = await locks.lock("job", namespace=namespace).acquire()
        await (await locks.lock("free", namespace=namespace).acquire()).release()
        waiting = others.lock("job", namespace=namespace)
        tasks.start_soon(waiting.acquire)
        while not (await waiting.inspect()).waiters:
            await anyio.sleep(0.01)  # nobody tells of a waiter
        with redis_sync.Redis.from_url(redis_url) as redis:
            redis.hset(f"{namespace}config", "a", "b")
            try:
                seen = await shown(redis_url, "ls", "--namespace", namespace)
                some = await shown(redis_url, "ls", "wallet:*", "--namespace", namespace)
                one = await shown(redis_url, "inspect", "job", "--namespace", namespace)
                pictures = await shown(
                    redis_url, "top", "--once", "-n", "0.2", "--namespace", namespace
                )
            finally:
                redis.delete(f"{namespace}config")
        tasks.cancel_scope.cancel()
    await lease.release()
    await held.release()
    job, wallet = seen
    assert [each["name"] for each in seen] == ["job", "wallet:{42}"]
    assert some[0] == {**wallet, "ttl": some[0]["ttl"]}
    assert wallet["holder"] == {
        "token": held.token,
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }
    assert (wallet["fencing_token"], wallet["waiters"]) == (held.fencing_token, [])
    assert 10 < wallet["ttl"] <= 20
    (waiter,) = job["waiters"]
    assert waiter["pid"] == os.getpid()
    assert 0 <= waiter["waited"] < 20
    assert one["holder"] == job["holder"]
    assert one["waiters"][0]["waited"] >= waiter["waited"]
    assert (pictures["held"], pictures["waiting"]) == (2, 1)
    assert pictures["locks"][0]["name"] == "job"
    assert pictures["longest_wait"] >= waiter["waited"]


@pytest.mark.bounded(60)
async def test_what_may_linger_is_told(redis_url: str, namespace: str) -> None:
    """Of a lease that stays with its process, by each command; and of no other."""
    at = ("--namespace", namespace)
    async with LockClient.from_url(redis_url) as locks:
        async with locks.lock("stays", namespace=namespace, ttl=600.0, linger=600.0):
            pass
        async with locks.lock("plain", namespace=namespace, ttl=600.0):
            one = await shown(redis_url, "inspect", "stays", *at)
            picture = await shown(redis_url, "top", "--once", "-n", "0.2", *at)
            listed = (await anyio.to_thread.run_sync(lambda: command(redis_url, "ls", *at))).stdout
    found = {each["name"]: each["may_linger"] for each in picture["locks"]}
    assert found == {"stays": True, "plain": False}
    assert one["may_linger"] is True
    _, plain, stays = listed.splitlines()
    assert f"pid {os.getpid()}, may linger  " in stays
    assert "linger" not in plain


@pytest.mark.bounded(60)
async def test_a_kept_name_and_a_proclamation_are_told(redis_url: str, namespace: str) -> None:
    """Who keeps it, by each command; what a leader says by ``inspect``, while it leads."""
    at = ("--namespace", namespace)

    async def job(run: Run) -> None:
        run.check()

    async with LockClient.from_url(redis_url) as locks:
        once = locks.once("job", at_least=600.0, namespace=namespace)
        election = locks.election("led", value="10.0.0.7", namespace=namespace, ttl=600.0)
        await once.run(job)
        async with election.lead() as term:
            await term.proclaim("10.0.0.8\n")
            leader = await shown(redis_url, "inspect", "led", *at)
            (told,) = [
                line
                for line in (await here("inspect", "led", *at, url=redis_url)).splitlines()
                if "proclaims" in line
            ]
            listed = await here("ls", *at, url=redis_url)
            picture = await shown(redis_url, "top", "--once", "-n", "0.2", *at)
        after = await shown(redis_url, "inspect", "led", *at)
        kept = await shown(redis_url, "inspect", "job", *at)
        source: Any = locks._source
        await source.delete(once._keys.done, once._keys.key)
    assert leader["proclaimed"] == "10.0.0.8\n"
    assert told.split()[-1] == r"10.0.0.8\x0a"
    assert (after["holder"], after["proclaimed"]) == (None, None)
    assert {each["name"]: each["kept"] for each in picture["locks"]} == {"led": False, "job": True}
    assert (kept["kept"], kept["holder"]["pid"]) == (True, os.getpid())
    assert kept["mark"]["state"] == "done"
    _, job_line, led_line = listed.splitlines()
    assert f"pid {os.getpid()}, done: the name is kept  " in job_line
    assert "kept" not in led_line


async def here(*args: str, url: str) -> str:
    """Run a command, while locks of ours are held; return what it prints for people."""
    done = await anyio.to_thread.run_sync(lambda: command(url, *args))
    assert done.returncode == 0, done
    return str(done.stdout)


@pytest.mark.bounded(60)
async def test_who_reads_is_told(redis_url: str, namespace: str) -> None:
    """Each process once; and a group is no holder of its own."""
    at = ("--namespace", namespace)
    async with LockClient.from_url(redis_url) as one, LockClient.from_url(redis_url) as other:
        leases = [
            await each.rwlock("page", namespace=namespace, ttl=600.0).read().acquire()
            for each in (one, one, other)
        ]
        told = await shown(redis_url, "inspect", "page", *at)
        listed = await here("ls", *at, url=redis_url)
        whole = await here("inspect", "page", *at, url=redis_url)
        for lease in leases:
            await lease.release()
    assert sorted(told["readers"]) == sorted({each.token for each in leases})
    assert told["fencing_token"] == leases[0].fencing_token
    assert " 2 readers " in listed.splitlines()[-1]
    assert whole.count(f"pid {os.getpid()}") == 2


async def test_handoffs_are_counted(locks: LockClient, redis_url: str, namespace: str) -> None:
    """A lock that changes hands again and again shows so, also if it is free at that instant."""
    lock = AsyncLock(locks, "busy", namespace=namespace, local_handoffs=0)

    async def work() -> None:
        while True:
            async with lock:
                await anyio.sleep(0.05)  # on a busy machine `top` looks a few times only

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        picture = await shown(redis_url, "top", "--once", "--namespace", namespace)
        tasks.cancel_scope.cancel()
    (busy,) = picture["locks"]
    # How often `top` looks depends on the machine: one change in a little over a second counts.
    assert 0 < busy["handoffs_per_second"] <= 12


def test_people_get_a_table(redis_url: str, namespace: str) -> None:
    """What another library holds for ever is shown as it is; that there is nothing is told."""
    at = ("--namespace", namespace)
    for pattern, told in (((), "no lock is held or waited for"), (("w*",), "no lock 'w*'")):
        done = command(redis_url, "ls", *pattern, *at)
        assert (done.returncode, done.stdout) == (0, "")
        assert told in done.stderr
        assert namespace in done.stderr
    with redis_sync.Redis.from_url(redis_url) as redis:
        redis.set(f"{namespace}job", "somebody\x1b[2J")
        try:
            listed = command(redis_url, "ls", *at).stdout
            one = command(redis_url, "inspect", "job", *at).stdout
        finally:
            redis.delete(f"{namespace}job")
    head, row = listed.splitlines()
    assert head.split() == ["name", "holder", "fencing", "token", "ttl", "waiting"]
    assert row.split() == ["job", r"somebody\x1b[2J", "-", "none", "-"]
    assert r"somebody\x1b[2J" in one


async def test_a_cluster_is_scanned_whole(start: Start) -> None:
    """The locks of every primary are found; each can be taken from its holder."""
    nodes = [start("--cluster-enabled", "yes") for _ in range(3)]
    form_cluster(nodes)
    names = sorted(f"n{n}" for n in range(12))
    async with RedisCluster.from_url(nodes[0].url) as redis:
        for name in names:
            await redis.set(f"lock:{name}", "host:7:0a1b2c3d:1 42", px=60_000)
        survey = Survey([redis], "lock:")
        assert await survey.names() == names
        assert [state.holder for state in await survey.look(names)] == ["host:7:0a1b2c3d:1"] * 12
        assert await survey.fences(names) == [42] * 12
        for name in names:
            await take(redis, LockKeys(name, "lock:"), "host:7:0a1b2c3d:1")
        assert not any(state.holder for state in await survey.look(names))
        assert await survey.fences(names) == [0] * 12


@pytest.mark.bounded(60)
async def test_the_commands_work_on_a_cluster(start: Start) -> None:
    """``run`` holds a lock there that ``ls`` shows; ``release --force`` takes it."""
    nodes = [start("--cluster-enabled", "yes") for _ in range(3)]
    form_cluster(nodes)
    url = nodes[0].url.replace("redis://", "redis+cluster://")
    hold = "print('in', flush=True); import time; time.sleep(120)"
    run = ("run", "job", "--", sys.executable, "-c", hold)
    with started(url, *run) as holder:
        assert holder.stdout is not None
        assert await anyio.to_thread.run_sync(holder.stdout.readline) == "in\n"
        (seen,) = await shown(url, "ls")
        assert seen["holder"]["token"]
        # Two of these nodes know nothing of it, and stand for the whole cluster all the same.
        for node in nodes[:2]:
            (same,) = await shown(node.url, "ls")
            assert same["holder"] == seen["holder"]
        forced = ("release", "job", "--force", "--yes")
        done = await anyio.to_thread.run_sync(command, url, *forced)
        assert done.returncode == 0, done.stderr
        holder.kill()


async def test_run_refuses_one_node_of_a_cluster(start: Start) -> None:
    """It says what the URL must be, and locks nothing that other clients would not know of."""
    node = start("--cluster-enabled", "yes")
    form_cluster([node])
    done = await anyio.to_thread.run_sync(command, node.url, "run", "job", "--", "true")
    assert done.returncode == 69
    assert "one node of a Redis Cluster" in done.stderr
    assert "redis+cluster://" in done.stderr


async def test_a_quorum_shows_what_a_majority_says(start: Start) -> None:
    """Votes are counted, a split vote is nobody's, a silent node is told of; two are too many."""
    nodes = [start() for _ in range(3)]
    urls = " ".join(node.url for node in nodes)
    async with LockClient.from_url([node.url for node in nodes]) as locks:
        lease = await locks.lock("job").acquire()
        (seen,) = await shown(urls, "ls")
        assert (seen["holder"]["token"], seen["votes"], seen["nodes"]) == (lease.token, 3, 3)
        assert (seen["holder"]["host"], seen["holder"]["pid"]) == (
            socket.gethostname(),
            os.getpid(),
        )
        assert seen["fencing_token"] == lease.fencing_token
        nodes[0].kill()
        done = await anyio.to_thread.run_sync(command, urls, "inspect", "job", "--json")
        one = json.loads(done.stdout)
        assert (one["votes"], one["seen"][0]) == (2, None)
        assert one["seen"][1]["holder"] == seen["holder"]
        assert "node 1 does not count" in done.stderr
        assert done.stderr.count("\n") == 1
        await lease.release()
    nodes[1].kill()
    told = refused(command(urls, "ls"), 69)
    assert "2 of 3 nodes do not answer" in told


def test_a_reader_may_look(start: Start) -> None:
    """An ACL user who may only read, over the password of the URL, which is never shown."""
    server = start()
    with redis_sync.Redis.from_url(server.url) as admin:
        admin.set("lock:job", "somebody", px=60_000)
        rules = ["reset", "on", f">{PASSWORD}", "~*", "+get", "+pttl", "+zrange", "+scan", "+time"]
        admin.execute_command("ACL", "SETUSER", "reader", *rules)
    url = server.url.replace("://", f"://reader:{PASSWORD}@")
    for args in (("ls",), ("inspect", "job"), ("top", "--once", "-n", "0.1")):
        done = command(url, *args)
        assert (done.returncode, done.stderr) == (0, "")
        assert "somebody" in done.stdout
    told = refused(command(url, "run", "job", "--unavailable-after", "0.2", "--", "true"), 69)
    wrong = server.url.replace("://", f"://reader:{PASSWORD}x@")
    told += refused(command(wrong, "ls"), 69)
    told += refused(command(f"redis://:{PASSWORD}/x@localhost", "ls"), 2)
    told += refused(command(f"redis://:{PASSWORD}@localhost:port", "ls"), 2)
    told += refused(command(f"redis://:{PASSWORD}@127.0.0.1:1/0?nonsense=1", "ls"), 2)
    told += refused(command(f"redis://:{PASSWORD}@127.0.0.1:1", "ls"), 69)
    assert PASSWORD not in told


def test_tls_and_sockets_are_reached(tls_redis: EmbeddedRedis, tls_files: TlsFiles) -> None:
    """By the options of redis-py's URLs."""
    url = f"{tls_redis.url}?ssl_ca_certs={tls_files.ca}"
    done = command(url, "run", "job", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert "no lock is held" in command(url, "ls").stderr


def test_a_frozen_redis_is_given_up(start: Start) -> None:
    """After the timeout, in one line."""
    server = start()
    server.freeze()
    try:
        for args in (("ls",), ("inspect", "job"), ("release", "job", "--force", "--yes")):
            assert "unavailable" in refused(command(server.url, *args, "--timeout", "0.2"), 69)
    finally:
        server.thaw()


@pytest.mark.parametrize(
    "args", [("ls",), ("inspect", "x"), ("top", "--once"), ("run", "x", "true")]
)
def test_without_a_url_nothing_is_guessed(args: tuple[str, ...]) -> None:
    """Status 2, and the variable to set."""
    assert "REDIS_URL" in refused(run_here(*args, environment={}), 2)


def test_the_version_is_told() -> None:
    """That of the package, and nothing else is needed for it."""
    done = run_here("--version", environment={})
    told = (done.returncode, done.stdout, done.stderr)
    assert told == (0, f"aiodistlock {aiodistlock.__version__}\n", "")


def test_a_shell_completes_the_commands() -> None:
    """Typer's completion is on, for our entry point."""
    done = subprocess.run(
        COMMAND,
        env=environment(
            None,
            _AIODISTLOCK_COMPLETE="complete_bash",
            COMP_WORDS="aiodistlock in",
            COMP_CWORD="1",
        ),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout.split() == ["inspect"]


def test_what_only_looks_like_a_lock_hides_none(redis_url: str, namespace: str) -> None:
    """Sorted sets of others have no waiters; keys of other types are no locks."""
    with redis_sync.Redis.from_url(redis_url) as redis:
        odd: dict[bytes | str, float] = {"a b": 1, b"\xff": float("inf"), "0 b": float("-inf")}
        keys = [f"aiodistlock:queue:{{{namespace}job}}", f"{namespace}list"]
        redis.zadd(keys[0], {**odd, "1 inbox secret token": 1e400})
        redis.rpush(keys[1], "x")
        redis.set(f"{namespace}job", "somebody", px=60_000)
        try:
            done = command(redis_url, "ls", "--json", "--namespace", namespace)
        finally:
            redis.delete(f"{namespace}job", *keys)
    (seen,) = json.loads(done.stdout)
    assert (seen["name"], seen["holder"]["token"], seen["waiters"]) == ("job", "somebody", [])


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("flags", [(), ("--json",)], ids=["table", "json"])
def test_a_pipe_that_is_closed_ends_a_command_silently(
    redis_url: str, namespace: str, flags: tuple[str, ...], unbuffered: str
) -> None:
    """As ``| head`` does: no message, no traceback, status 1."""
    reads, writes = os.pipe()
    os.close(reads)
    with redis_sync.Redis.from_url(redis_url) as redis:
        redis.set(f"{namespace}job", "somebody", px=60_000)
        try:
            done = subprocess.run(
                [*COMMAND, "ls", "--namespace", namespace, *flags],
                env={**environment(redis_url), "PYTHONUNBUFFERED": unbuffered},
                stdout=writes,
                stderr=subprocess.PIPE,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        finally:
            os.close(writes)
            redis.delete(f"{namespace}job")
    assert (done.returncode, done.stderr) == (1, "")


def test_a_row_is_one_line_for_grep(redis_url: str, namespace: str) -> None:
    """However long its name: nobody sees the width of a pipe."""
    name = "wallet:" + "x" * 150
    with redis_sync.Redis.from_url(redis_url) as redis:
        redis.set(f"{namespace}{name}", "web-1:77:0a1b2c3d:5", px=60_000)
        try:
            done = subprocess.run(
                [*COMMAND, "ls", "--namespace", namespace],
                env={key: each for key, each in environment(redis_url).items() if key != "COLUMNS"},
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        finally:
            redis.delete(f"{namespace}{name}")
    _, row = done.stdout.splitlines()
    assert row.split()[:4] == [name, "web-1", "pid", "77"]


@pytest.mark.parametrize("name", ["run", "ls", "inspect", "top", "release", "demo", "doctor"])
def test_help_has_examples_and_statuses(name: str) -> None:
    """What a user of a script must know is in --help."""
    text = CliRunner().invoke(app, [name, "--help"]).output
    for words in ("Examples:", f"aiodistlock {name} ", "Exit status:", "REDIS_URL"):
        assert words in text, words
