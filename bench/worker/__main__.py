"""Runs one worker; see the package."""

from __future__ import annotations

import asyncio
import importlib
import os
import resource
import sys
from typing import Any

from bench.worker import channel
from bench.worker.spec import Spec
from bench.worker.trouble import in_one_line


def main() -> None:
    """Do what the first line of standard input asks for."""
    spec = Spec.load(sys.stdin.readline())
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        if spec.loop == "threads":
            _run_threads(spec)
        else:
            _run(spec)
    except Exception as error:  # noqa: BLE001  # the parent shows it, whatever it is
        channel.send({"error": in_one_line(error)})
    # Threads that wait for a lock would keep the process for seconds.
    os._exit(0)


def _run_threads(spec: Spec) -> None:
    threads = importlib.import_module("bench.worker.threads")
    module = importlib.import_module(f"bench.peers.{spec.peer}")
    getattr(threads, spec.kind)(spec, module.connect(spec.url, spec.tasks, spec.ttl))


def _run(spec: Spec) -> None:
    if spec.loop == "uvloop":
        uvloop = importlib.import_module("uvloop")
        uvloop.run(_main(spec))
    else:
        asyncio.run(_main(spec))


async def _main(spec: Spec) -> None:
    workload: Any = importlib.import_module(f"bench.worker.{spec.kind}")
    if spec.kind == "pipe":
        await workload.run(spec)
        return
    if spec.sibling:
        siblings: Any = importlib.import_module(f"bench.peers.{spec.peer}_siblings")
        async with siblings.connect(spec.url, spec.tasks, spec.ttl, spec.sibling) as peer:
            await workload.run(spec, peer)
        return
    module: Any = importlib.import_module(f"bench.peers.{spec.peer}")
    if spec.kind == "herd":
        await workload.run(spec, module.connect)
        return
    async with module.connect(spec.url, spec.tasks, spec.ttl) as peer:
        await workload.run(spec, peer)


main()
