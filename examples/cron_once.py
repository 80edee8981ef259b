"""A cron job that runs on every host of a fleet, and does its work once.

``python examples/cron_once.py [URL]`` starts three processes at "the same minute", and one
more that comes late. The lock has them come one after the other; the note of what was done
has the others do nothing, also the one that comes when the lock is free again. It prints::

    host ...: sends the report of 2026-03-01 06:00 under fencing token ...
    host ...: 2026-03-01 06:00 is done, nothing to do
    host ...: 2026-03-01 06:00 is done, nothing to do
    a host whose clock is late: 2026-03-01 06:00 is done, nothing to do
    4 runs were started, 1 report was sent

Why wait for the lock, and not just leave? If the host that works dies, its lease runs out
and the next one takes over. So a run that dies in the middle is repeated: exactly once is
only what the report's receiver can make of it, by refusing a fencing token that is lower
than one it has seen.
"""

from __future__ import annotations

import asyncio
import sys
from uuid import uuid4

from redis.asyncio import Redis

from _server import redis_url
from aiodistlock import AsyncLock, Lease

MINUTE = "2026-03-01 06:00"
"""The minute for which cron starts the job; not the time at which a process gets to it."""

NOTE_DONE = """
-- KEYS[1]: hash with the last minute done. ARGV: minute, fencing token.
-- A run whose lease was lost must not undo what a later one has noted.
if tonumber(redis.call('HGET', KEYS[1], 'fence') or 0) > tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'minute', ARGV[1], 'fence', ARGV[2])
return 1
"""


async def send_report(redis: Redis, job: str, lease: Lease) -> None:
    """Do the work; it is counted, to be sure of it."""
    await asyncio.sleep(0.2)  # longer than it takes the others to come
    lease.check()
    await redis.incr(f"{job}:sent")


async def run(redis: Redis, job: str, host: str, minute: str) -> None:
    """Do the job's work for a minute, unless it has been done for it."""
    async with AsyncLock(redis, job, ttl=10.0) as lease:
        last = str(await redis.hget(f"{job}:done", "minute") or "")
        if last >= minute:
            print(f"{host}: {minute} is done, nothing to do")
            return
        print(f"{host}: sends the report of {minute} under fencing token {lease.fencing_token}")
        await send_report(redis, job, lease)
        await redis.eval(NOTE_DONE, 1, f"{job}:done", minute, lease.fencing_token)


async def host_main(url: str, job: str, host: str) -> None:
    """Be one host of the fleet."""
    async with Redis.from_url(url, decode_responses=True) as redis:
        await run(redis, job, host, MINUTE)


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
        await redis.delete(f"{job}:sent", f"{job}:done")
    print(f"4 runs were started, {sent} report was sent")
    if sent != 1:
        raise SystemExit("the report was not sent once")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        asyncio.run(host_main(*sys.argv[1:]))
    else:
        with redis_url() as url:
            asyncio.run(main(url))
