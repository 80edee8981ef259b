"""One host of a fleet that does windows, and whose wall clock is wrong.

    python -m tests.faults.once_main URL NAMESPACE TTL SKEW

Reads lines: ``run WINDOW``, and ``go WINDOW``, which lets a run of it end. Tells by lines: what
happens, the window, and the fencing token or the outcome.
"""

import asyncio
import sys
import time
from collections import defaultdict

from aiodistlock import LeaseLost, LockClient, Ran, Run


def set_wall_clock(skew: float) -> None:
    """Have this process's wall clock be wrong by some seconds."""
    right, right_ns = time.time, time.time_ns
    time.time = lambda: right() + skew
    time.time_ns = lambda: right_ns() + int(skew * 1e9)


def say(*words: object) -> None:
    """Tell something to the test."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def main(url: str, namespace: str, ttl: str, skew: str) -> None:
    """Do what is asked until the end of the input."""
    set_wall_clock(float(skew))
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    gates: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
    tasks = []
    async with LockClient.from_url(url) as locks:
        once = locks.once("job", ttl=float(ttl), namespace=namespace)

        async def do(window: int) -> None:
            async def job(run: Run) -> None:
                say("begun", window, run.fencing_token)
                await gates[window].wait()

            while True:
                try:
                    outcome = await once.run(job, window=window)
                except LeaseLost:  # of a machine under load
                    say("lost", window, 0)
                else:
                    say("ran" if isinstance(outcome, Ran) else outcome.reason, window, 0)
                    return

        say("ready", 0, 0)
        while line := (await reader.readline()).decode().split():
            if line[0] == "go":
                gates[int(line[1])].set()
            else:
                tasks.append(asyncio.create_task(do(int(line[1]))))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
