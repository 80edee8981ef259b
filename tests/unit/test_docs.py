"""README's code runs as it stands, for the reader's server read ours."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiodistlock.testing.embedded import EmbeddedRedis

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"

# What README says where its reader has a Redis.
THEIR_URL = "redis://localhost:6379"


def blocks() -> Iterator[tuple[int, str]]:
    """Find the Python blocks of README: the line they begin at, and their text."""
    text = README.read_text()
    for found in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield text[: found.start(1)].count("\n") + 1, found[1]


def run(script: Path, redis_url: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, as its reader would."""
    return subprocess.run(
        [sys.executable, str(script)],
        cwd=script.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), "REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def check(done: subprocess.CompletedProcess[str]) -> None:
    """Let pass what the log says of a lease that is lost on purpose, and nothing else."""
    unexpected = [line for line in done.stderr.splitlines() if not line.startswith("lease on ")]
    assert (done.returncode, unexpected) == (0, [])


def test_readme_has_code() -> None:
    """README shows how the lock is used, in blocks that the next test finds."""
    assert len(list(blocks())) >= 1


@pytest.mark.parametrize(("line", "code"), [pytest.param(*b, id=f"line {b[0]}") for b in blocks()])
def test_a_block_of_readme_runs(
    tmp_path: Path, embedded_redis: EmbeddedRedis, line: int, code: str
) -> None:
    """Each Python block runs on its own, without an error or a warning."""
    # A server of its own: README's names are nobody's namespace, and their counters stay.
    redis_url = embedded_redis.url
    script = tmp_path / "README.py"
    # In the lines where README has it, so that a traceback tells the right ones.
    padding = f"redis_url = {redis_url!r}" + "\n" * (line - 1)
    script.write_text(padding + code.replace(THEIR_URL, redis_url))
    done = run(script, redis_url)
    check(done)
