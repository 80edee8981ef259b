"""Peers that need an environment of their own; made once, kept in a cache folder."""

from __future__ import annotations

import functools
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

AIOREDLOCK = "0.7.3"
NODE_REDLOCK = "5.0.0-beta.2"
IOREDIS = "5"

ROOT = Path(__file__).parents[2]

_LONGEST = 180.0
"""Seconds that an installation may take."""

_OLD_PYTHONS = ("3.9", "3.10", "3.8")


class NotInstallable(Exception):
    """A peer cannot be measured here; says why."""


def cache() -> Path:
    """Return the folder where environments are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "aiodistlock-bench"


@functools.cache
def aioredlock_python() -> str:
    """
    Return the Python of an environment in which aioredlock works.

    aioredlock 0.7.3 needs aioredis 1.3, which no Python after 3.10 imports.

    :raises NotInstallable: if there is no such Python, or pip fails
    """
    folder = cache() / f"aioredlock-{AIOREDLOCK}"
    python = folder / "bin" / "python"
    if _imports(python):
        return str(python)
    for base in _old_pythons():
        shutil.rmtree(folder, ignore_errors=True)
        _run([base, "-m", "venv", str(folder)])
        _run([str(python), "-m", "pip", "install", "-q", f"aioredlock=={AIOREDLOCK}"])
        if _imports(python):
            return str(python)
    raise NotInstallable("it needs aioredis 1.3 and Python 3.8 to 3.10; none works here")


def _imports(python: Path) -> bool:
    if not python.exists():
        return False
    return (
        subprocess.run(
            [python, "-c", "import aioredlock"], capture_output=True, check=False
        ).returncode
        == 0
    )


def _old_pythons() -> list[str]:
    found = [shutil.which(f"python{version}") for version in _OLD_PYTHONS]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found += [
        str(path) for version in _OLD_PYTHONS for path in pyenv.glob(f"{version}.*/bin/python")
    ]
    # pyenv puts shims on PATH for versions that are not switched on.
    return [path for path in found if path is not None and _works(path)]


def _works(python: str) -> bool:
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


@functools.cache
def node_command() -> list[str]:
    """
    Return the command that runs the node-redlock worker.

    :raises NotInstallable: if there is no node or npm, or npm fails
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NotInstallable("no node and npm on PATH")
    folder = cache() / f"node-redlock-{NODE_REDLOCK}"
    if not (folder / "node_modules" / "redlock").exists():
        folder.mkdir(parents=True, exist_ok=True)
        packages = [f"redlock@{NODE_REDLOCK}", f"ioredis@{IOREDIS}"]
        _run([npm, "install", "--no-fund", "--no-audit", "--prefix", str(folder), *packages])
    # Node looks for packages beside the script.
    driver = Path(__file__).with_name("node_redlock.cjs")
    shutil.copyfile(driver, folder / driver.name)
    return [node, str(folder / driver.name)]


def short_commit(revision: str) -> str:
    """
    Return the short hash of a commit of this repository.

    :param revision: what git takes for one
    :raises NotInstallable: if there is no such commit, or no git
    """
    return _git("rev-parse", "--verify", "--short=10", f"{revision}^{{commit}}").decode().strip()


@functools.cache
def commit_command(commit: str) -> list[str]:
    """
    Return the command that runs our worker on the package as a commit has it.

    The worker is this tree's, and so are the Python and what is installed for it: only the
    package differs.

    :raises NotInstallable: if it cannot be imported so
    """
    folder = cache() / f"commit-{commit}"
    if not folder.exists():
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache()) as made:
            with tarfile.open(fileobj=io.BytesIO(_git("archive", commit, "aiodistlock"))) as tar:
                tar.extractall(made, filter="data")
            Path(made).rename(folder)
            Path(made).mkdir()  # for its manager to remove
    # -P: else the folder that it starts in, this tree, came first.
    python = ["env", f"PYTHONPATH={folder}{os.pathsep}{ROOT}", sys.executable, "-P"]
    program = "import aiodistlock, bench.peers.ours; print(aiodistlock.__file__)"
    found = subprocess.run([*python, "-c", program], capture_output=True, text=True, check=False)
    if not Path(found.stdout.strip()).is_relative_to(folder):
        last = (found.stderr or found.stdout).strip().splitlines()[-1:]
        raise NotInstallable(f"the package at {commit} does not run here: {' '.join(last)}")
    return [*python, "-m", "bench.worker"]


def _git(*arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
    except OSError as error:
        raise NotInstallable(f"{type(error).__name__}: {error}") from error
    if done.returncode:
        raise NotInstallable(f"git {arguments[0]}: {done.stderr.decode().strip()}")
    return done.stdout


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_LONGEST, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstallable(f"{type(error).__name__}: {error}") from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise NotInstallable(f"{' '.join(command[:3])}: {' '.join(last)}")
