"""A process whose tasks read, write, and read and then write, one name.

    python -m tests.faults.readwrite_main URL NAMESPACE TTL

Until it is killed, or told to end by SIGTERM, it says what it does, one line for each act: whether
it reads or writes, under which fencing token, and ``time.monotonic()`` from before the lease was
asked whether it can be relied on, which is one clock for all processes of a machine.
"""

import asyncio
import contextlib
import random
import signal
import sys
import time

from aiodistlock import LeaseLost, LockClient, LockError, ReadWriteLease
from tests.faults.world import EAGER

READERS, WRITERS = 4, 1


async def act(lease: ReadWriteLease) -> None:
    """Read or write for a moment, as long as the lease can be relied on."""
    for _ in range(random.randint(1, 4)):
        now = time.monotonic()
        if not lease.is_held:
            return
        what = "w" if lease.mode == "write" else "r"
        sys.stdout.write(f"{what} {lease.fencing_token} {now}\n")
        sys.stdout.flush()
        await asyncio.sleep(random.uniform(0.0, 0.005))


async def main(url: str, namespace: str, ttl: float) -> None:
    """Read and write until told to end."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    async with LockClient.from_url(url, claim_window=0.3) as locks:
        rw = locks.rwlock("n", ttl=ttl, namespace=namespace, backoff=EAGER)

        async def work(mode: str) -> None:
            side = {"r": rw.read, "w": rw.write, "u": rw.upgradeable}[mode]()
            while not told.is_set():
                with contextlib.suppress(LockError, LeaseLost):
                    async with side as lease:
                        await act(lease)
                        if mode == "u":
                            await lease.upgrade(5.0)
                            await act(lease)
                            await lease.downgrade()
                            await act(lease)
                await asyncio.sleep(random.uniform(0.0, 0.01))

        await asyncio.gather(*map(work, "r" * READERS + "w" * WRITERS + "u"))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
