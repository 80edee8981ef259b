"""examples/container: what its file has a container engine do, done here in a folder.

Without an engine: the files that it copies are enough to install the command, by the line that
it runs, and its entry point is that command.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aiodistlock import __version__

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "examples" / "container" / "Containerfile").read_text().splitlines()
INSTALLED = "/opt/aiodistlock"


def arguments(word: str) -> list[str]:
    """Return what stands behind each instruction of this kind."""
    return [line.removeprefix(f"{word} ") for line in LINES if line.startswith(f"{word} ")]


def test_what_is_built_is_what_is_taken() -> None:
    """Both stages are of one Python that is supported; the second runs as nobody in particular."""
    (default,) = arguments("ARG")
    version = default.removeprefix("PYTHON=")
    assert f"Programming Language :: Python :: {version}" in (ROOT / "pyproject.toml").read_text()
    assert arguments("FROM") == ["python:${PYTHON}-slim AS build", "python:${PYTHON}-slim"]
    assert arguments("COPY")[-1] == f"--from=build {INSTALLED} {INSTALLED}"
    assert arguments("ENV") == [f"PATH={INSTALLED}/bin:$PATH"]
    (user,) = arguments("USER")
    assert all(int(number) > 0 for number in user.split(":"))


def test_what_it_copies_and_runs_makes_the_command(tmp_path: Path) -> None:
    """Installed from nothing but the copied files, it has the command that is the entry point."""
    source, installed = tmp_path / "src", tmp_path / "installed"
    source.mkdir()
    for copied in arguments("COPY")[:-1]:
        *names, place = copied.split()
        for name in names:
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, source / place, ignore=ignored)
            else:
                shutil.copy(ROOT / name, source / place)
    (line,) = arguments("RUN")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "python").symlink_to(sys.executable)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    # Whoever has no registry is not to wait for it.
    bounds = {"PIP_RETRIES": "1", "PIP_DEFAULT_TIMEOUT": "15"}
    done = subprocess.run(
        ["sh", "-c", line.replace(INSTALLED, str(installed))],
        cwd=source,
        env={**os.environ, **bounds, "PATH": path},
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    if re.search(r"No matching distribution|Could not find a version", done.stderr):
        pytest.skip(f"no package registry, or one without what is needed: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    (entry,), (default,) = (json.loads(arguments(word)[0]) for word in ("ENTRYPOINT", "CMD"))
    for words, told in ([default], "doctor"), (["--version"], __version__):
        said = subprocess.run(
            [installed / "bin" / entry, *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert said.returncode == 0, said.stderr
        assert told in said.stdout
