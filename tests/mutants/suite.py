"""Looks for a planted bug by tests of the suite."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

from tests.mutants.planting import environment

OPTIONS = (
    "-v --tb=no -p no:randomly -p no:cacheprovider -o faulthandler_timeout=60 "
    "-W ignore::pytest.PytestAssertRewriteWarning"  # what is imported already
)

_TOLD = re.compile(
    r"^(tests/\S+?\.py::.+?)(?: (PASSED|FAILED|ERROR|SKIPPED|XFAIL).*| Timeout .*|)$", re.MULTILINE
)
"""A test, and what came of it: nothing, where it was the last before all stood still."""


class Suite:
    """Runs tests in copies of the package, one run at a time; to be used in a ``with`` block."""

    def __init__(self) -> None:
        self._turn = Lock()

    def __enter__(self) -> Self:
        self._place = tempfile.TemporaryDirectory()
        self._runner = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("preloaded.py")],
            env=environment(Path(self._place.name)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._runner.kill()
        self._runner.communicate()
        self._place.cleanup()

    def first_failed(
        self, tests: Sequence[str], root: Path, besides: Collection[str]
    ) -> str | None:
        """
        Return the first test that fails; ``None``: all pass.

        :param tests: below ``tests``, as pytest takes them
        :param root: a copy of the package and its tests
        :param besides: tests that are left out
        """
        without = [f"--deselect=tests/{each}" for each in besides]
        return next(iter(self._failed(tests, root, "-x", *without)), None)

    def failed(self, tests: Sequence[str], root: Path) -> list[str]:
        """Return those that fail of some tests."""
        return self._failed(tests, root)

    def _failed(self, tests: Sequence[str], root: Path, *options: str) -> list[str]:
        """
        Run tests.

        :raises RuntimeError: if they cannot be run
        """
        with self._turn:
            return self._run(tests, root, *options)

    def _run(self, tests: Sequence[str], root: Path, *options: str) -> list[str]:
        said = Path(self._place.name, "said")
        paths = [f"tests/{each}" for each in tests]
        asked = {"root": str(root), "options": [*OPTIONS.split(), *options, *paths]}
        assert self._runner.stdin is not None
        assert self._runner.stdout is not None
        self._runner.stdin.write(json.dumps({**asked, "said": str(said)}) + "\n")
        self._runner.stdin.flush()
        status = json.loads(self._runner.stdout.readline())
        told: list[tuple[str, str]] = _TOLD.findall(said.read_text())
        failed = [test for test, what in told if what in ("FAILED", "ERROR", "")]
        if not failed and status != 0:
            raise RuntimeError(said.read_text())
        return [each.removeprefix("tests/") for each in failed] if status else []
