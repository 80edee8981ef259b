"""A cron job that runs on every host of a fleet, and does its work once.

``python examples/cron_once.py [URL]`` starts three processes at "the same minute", and one
more that comes late. One of them does the work; the others wait for its end, and are told that
it is done, also the one that comes when all is over. It prints::

    host ...: sends the report of 2026-03-01 06:00 under fencing token ...
    host ...: done, nothing to do
    host ...: done, nothing to do
    a host whose clock is late: done, nothing to do
    4 runs were started, 1 report was sent

Why wait, and not just leave? If the host that works dies, its lease runs out and the next one
takes over. So a run that dies in the middle is repeated: exactly once is only what the report's
receiver can make of it, by refusing a fencing token that is lower than one it has seen.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from uuid import uuid4

from redis.asyncio import Redis

from _server import redis_url
from aiodistlock import LockClient, Run, Skipped

MINUTE = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)
"""The minute for which cron starts the job; not the time at which a process gets to it."""


async def host_main(url: str, job: str, host: str) -> None:
    """Be one host of the fleet."""
    async with Redis.from_url(url) as redis, LockClient(redis) as locks:

        async def send_report(run: Run) -> None:
            """Do the work; it is counted, to be sure of it."""
            minute = f"{run.window:%Y-%m-%d %H:%M}"
            print(f"{host}: sends the report of {minute} under fencing token {run.fencing_token}")
            await asyncio.sleep(0.2)  # longer than it takes the others to come
            run.check()
            await redis.incr(f"{job}:sent")

        outcome = await locks.once(job).run(send_report, window=MINUTE)
        if isinstance(outcome, Skipped):
            print(f"{host}: {outcome.reason}, nothing to do")


async def start_host(url: str, job: str, host: str) -> str:
    """Start one host as a process, and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, url, job, host, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    if process.returncode:
        raise SystemExit(f"{host} ended with status {process.returncode}")
    return printed.decode()


async def main(url: str) -> None:
    """Start the fleet, wait for it, and count."""
    job = f"cron-report-{uuid4().hex[:6]}"
    printed = await asyncio.gather(*(start_host(url, job, f"host {n}") for n in (1, 2, 3)))
    print(*sorted(printed, key=lambda line: "sends" not in line), sep="", end="")
    print(await start_host(url, job, "a host whose clock is late"), end="")
    async with Redis.from_url(url) as redis:
        sent = int(await redis.get(f"{job}:sent") or 0)
        # The mark would go by itself, after a week.
        await redis.delete(f"{job}:sent", f"aiodistlock:done:{{lock:{job}}}")
    print(f"4 runs were started, {sent} report was sent")
    if sent != 1:
        raise SystemExit("the report was not sent once")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        asyncio.run(host_main(*sys.argv[1:]))
    else:
        with redis_url() as url:
            asyncio.run(main(url))
