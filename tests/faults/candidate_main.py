"""A candidate of an election, as a process: leads, and writes as fast as it can.

    python -m tests.faults.candidate_main URL NAMESPACE TTL

It proclaims its pid.  It writes by a connection that nothing of ours looks after, and never asks
whether it still leads: what comes too late is for the store to refuse.
"""

import asyncio
import os
import sys

import redis

from aiodistlock import LockClient, Term
from tests.faults.fenced_store import WRITE, store_of


async def main(url: str, namespace: str, ttl: str) -> None:
    """Stand for election until killed."""
    with redis.Redis.from_url(url) as direct:

        async def lead(term: Term) -> None:
            while True:
                direct.eval(WRITE, 1, store_of(namespace), term.fencing_token, os.getpid())
                await asyncio.sleep(0.005)

        async with LockClient.from_url(url) as locks:
            election = locks.election(
                "e", value=str(os.getpid()), ttl=float(ttl), namespace=namespace
            )
            await election.run(lead)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
