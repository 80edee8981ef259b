"""Runs pytest in one copy of the package after the other, each in a process of its own.

It has imported already what all of them need but the package and its tests, which takes longer than
most tests. It reads a line of JSON for each run, and writes one of how that ended.
"""

from __future__ import annotations

import json
import os
import sys

import anyio.pytest_plugin
import hypothesis
import pytest
import pytest_asyncio
import redis.asyncio
import trustme

NEEDED = (anyio.pytest_plugin, hypothesis, pytest_asyncio, redis.asyncio, trustme)


def run(root: str, options: list[str], said: str) -> int:
    """
    Run pytest; return its exit status.

    :param root: the copy
    :param said: file for what it says
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.chdir(root)
    os.environ["PYTHONPATH"] = sys.path[0] = root
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for each in (1, 2):
        os.dup2(file, each)
    status = pytest.main(options)
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)
