"""The examples run as their reader runs them, on a real Redis, and print what they say."""

import ast
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest
import redis as redis_sync

from aiodistlock.testing.discovery import free_port
from aiodistlock.testing.embedded import EmbeddedRedis

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

# Found in the folder, so none is forgotten; what begins with _ is a part of others.
FILES = sorted(
    path.relative_to(EXAMPLES).as_posix()
    for path in EXAMPLES.rglob("*.py")
    if not path.name.startswith("_")
)
# test_pytest_plugin runs the others.
SCRIPTS = [name for name in FILES if not name.startswith("test_")]

# What stands last in the README of the examples, and says so.
OTHER_ARGUMENTS = {"telemetry/wallets.py", "make_ledger.py"}


def promised(script: Path) -> list[str]:
    """Return the lines that a script says it prints, in the block behind ``prints::``."""
    doc = ast.get_docstring(ast.parse(script.read_text())) or ""
    found = re.search(r"\bprints::\n\n((?:    .*(?:\n|\Z)|\n)+)", doc)
    return textwrap.dedent(found[1]).strip("\n").splitlines() if found else []


def missing(lines: list[str], printed: str) -> list[str]:
    """Return those of ``lines`` that do not follow in ``printed``; ``...`` is anything."""
    rest = iter(printed.splitlines())
    patterns = [".*".join(map(re.escape, line.split("..."))) for line in lines]
    return [
        line
        for line, pattern in zip(lines, patterns, strict=True)
        if not any(re.fullmatch(pattern, each) for each in rest)
    ]


def run(
    script: Path, *args: str, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    return subprocess.run(
        [sys.executable, str(script), *args],
        cwd=script.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_runs(tmp_path: Path, embedded_redis: EmbeddedRedis, name: str) -> None:
    """It ends by itself, without an error or a warning, and prints what its top says.

    It runs on the Redis of its argument. Nothing stays behind there but fencing counters.
    """
    folder = shutil.copytree(EXAMPLES, tmp_path / "examples")
    if name in OTHER_ARGUMENTS:
        done = run(folder / name, environ={"REDIS_URL": embedded_redis.url})
    else:
        elsewhere = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}"}
        done = run(folder / name, embedded_redis.url, environ=elsewhere)
    # What the log says of a lease that is lost on purpose may be there, and nothing else.
    unexpected = [line for line in done.stderr.splitlines() if not line.startswith("lease on ")]
    assert (done.returncode, unexpected) == (0, [])
    assert done.stdout
    assert missing(promised(EXAMPLES / name), done.stdout) == [], done.stdout
    with redis_sync.Redis.from_url(embedded_redis.url) as client:
        left = [key for key in client.scan_iter() if not key.startswith(b"aiodistlock:fence")]
    assert left == []


@pytest.mark.parametrize("name", FILES)
def test_an_example_is_listed(name: str) -> None:
    """The README of the examples tells of each, by its name or that of its folder."""
    listed = re.findall(r"\]\((.*?)/?\)", (EXAMPLES / "README.md").read_text())
    assert {name, name.rpartition("/")[0]} & set(listed)


@pytest.mark.parametrize(
    ("args", "environ", "chosen"),
    [
        (["redis://argument"], {"REDIS_URL": "redis://variable"}, "redis://argument"),
        ([], {"REDIS_URL": "redis://variable"}, "redis://variable"),
        ([], {"REDIS_URL": ""}, "redis://127.0.0.1:..."),
    ],
    ids=["argument", "REDIS_URL", "embedded"],
)
def test_the_reader_names_the_redis(
    tmp_path: Path, redis_binary: Path, args: list[str], environ: dict[str, str], chosen: str
) -> None:
    """By an argument, or ``REDIS_URL``; else there is an embedded one."""
    shutil.copy(EXAMPLES / "_server.py", tmp_path)
    script = tmp_path / "script.py"
    script.write_text("from _server import redis_url\nwith redis_url() as url: print(url)\n")
    # So that the embedded one is found: first on PATH.
    (tmp_path / "redis-server").symlink_to(redis_binary)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    done = run(script, *args, environ={**environ, "PATH": path})
    assert (done.stderr, missing([chosen], done.stdout)) == ("", [])


def test_what_is_missing_is_found() -> None:
    """A line that is not printed, or not in its place, is told."""
    printed = "one under 17\nthree\ntwo\n"
    assert missing(["one under ...", "two"], printed) == []
    assert missing(["one under ...", "two", "three"], printed) == ["three"]
    assert missing(["one"], printed) == ["one"]


@pytest.mark.parametrize("name", ["cron_once.py", "migrate_from_redis_py.py", "wallet_transfer.py"])
def test_what_an_example_prints_is_read(name: str) -> None:
    """The check sees the lines that these say they print."""
    assert len(promised(EXAMPLES / name)) >= 3
