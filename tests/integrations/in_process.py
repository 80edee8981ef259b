"""Runs the command ``aiodistlock`` in this process: another one takes a second to load it."""

import io
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout

import pytest

from aiodistlock.cli.app import main


def run_here(*args: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as in a pipe; only ``environment`` may name a Redis."""
    out, err = io.StringIO(), io.StringIO()
    line = ["aiodistlock", *args]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", line)
        patch.setattr(sys, "stdin", io.StringIO())
        patch.setattr(tempfile, "tempdir", None)  # so that TMPDIR is looked at
        patch.delenv("REDIS_URL", raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
    status = ended.value.code
    assert isinstance(status, int)
    return subprocess.CompletedProcess(line, status, out.getvalue(), err.getvalue())
