"""The code in README and in the pages of docs/ runs as it stands, on our Redis."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aiodistlock.testing.embedded import EmbeddedRedis

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# What a page says where its reader has a Redis.
THEIR_URL = "redis://localhost:6379"

BLOCK = re.compile(
    r"^(?:<!-- types: (?P<untyped>[^\n]+) -->\n)?"
    r"```python\n(?P<code>.*?)^```$"
    r"(?:\n\n<!-- prints -->\n```text\n(?P<prints>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """
    One Python block of a page.

    :ivar line: where its code begins in the page
    :ivar prints: what stands behind it below ``<!-- prints -->``; ``...`` is anything
    :ivar typed: whether type checkers are asked: not where ``<!-- types: why -->`` says why not
    """

    page: Path
    line: int
    code: str
    prints: str
    typed: bool

    @property
    def file(self) -> str | None:
        """The file that its first line says it is, for other blocks of the page to import."""
        found = re.match(r"# (\w+\.py)\n", self.code)
        return found[1] if found else None

    @property
    def place(self) -> str:
        """Page and line."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks() -> Iterator[Block]:
    """Find the Python blocks of all pages."""
    for page in PAGES:
        text = page.read_text()
        for found in BLOCK.finditer(text):
            line = text[: found.start("code")].count("\n") + 1
            typed = found["untyped"] is None
            yield Block(page, line, found["code"], found["prints"] or "", typed)


def files_of(page: Path) -> dict[str, Block]:
    """Return the blocks of a page that are files, by their names."""
    return {each.file: each for each in blocks() if each.page == page and each.file}


def run(folder: Path, *args: str, redis_url: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, as its reader would."""
    return subprocess.run(
        [sys.executable, *args],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def missing(lines: list[str], printed: str) -> list[str]:
    """Return those of ``lines`` that do not follow in ``printed``; ``...`` is anything."""
    rest = iter(printed.splitlines())
    patterns = [".*".join(map(re.escape, line.split("..."))) for line in lines]
    return [
        line
        for line, pattern in zip(lines, patterns, strict=True)
        if not any(re.fullmatch(pattern, each) for each in rest)
    ]


def test_each_python_block_is_found() -> None:
    """None is written so that the pattern passes it by; README and docs/ have some."""
    written = sum(page.read_text().count("```python") for page in PAGES)
    found = list(blocks())
    assert len(found) == written > 30
    assert {"README.md", "docs"} <= {each.place.split("/")[0].split(":")[0] for each in found}


@pytest.mark.bounded(90)
@pytest.mark.parametrize("block", [pytest.param(each, id=each.place) for each in blocks()])
def test_a_block_runs(tmp_path: Path, embedded_redis: EmbeddedRedis, block: Block) -> None:
    """Each runs on its own, beside the files of its page, and prints what the page says."""
    # A server of its own: the names of pages are nobody's namespace, and their counters stay.
    redis_url = embedded_redis.url
    for name, each in files_of(block.page).items():
        (tmp_path / name).write_text(each.code.replace(THEIR_URL, redis_url))
    if block.file is not None and block.file.startswith("test_"):
        done = run(tmp_path, "-m", "pytest", "-q", block.file, redis_url=redis_url)
        assert done.returncode == 0, done.stdout + done.stderr
        assert missing(block.prints.splitlines(), done.stdout) == [], done.stdout
        return
    script = tmp_path / f"{block.page.stem}_{block.line}.py"
    # In the lines where the page has it, so that a traceback tells the right ones.
    script.write_text("\n" * (block.line - 1) + block.code.replace(THEIR_URL, redis_url))
    done = run(tmp_path, script.name, redis_url=redis_url)
    # What the log says of a lease that is lost on purpose may be there, and nothing else.
    lost = ("lease on ", "no connection to Redis at ") if "LeaseLost" in block.code else ()
    unexpected = [line for line in done.stderr.splitlines() if not line.startswith(lost)]
    assert (done.returncode, unexpected) == (0, [])
    assert missing(block.prints.splitlines(), done.stdout) == [], done.stdout
