"""Scenes of event loops that are closed without an end of the tasks in them."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

ROOT = Path(__file__).parents[1]

SCENES = """
import asyncio, gc, json, logging, socket, sys, threading, warnings
from redis.asyncio import Redis
from aiodistlock import AcquireTimeout, AsyncLock, LockClient, LockError
from aiodistlock.compat import RedisPyLock

# A lease that nobody released is told of, loop or no loop: not what is asked here.
logging.getLogger("aiodistlock").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", "nobody has the lease")

urls, namespace, protocol, then, *scenes = sys.argv[1:]
urls = json.loads(urls)
url = urls if isinstance(urls, str) else urls[0]
options = {"protocol": int(protocol)}
server = socket.create_server(("127.0.0.1", 0))
if url.startswith("rediss:"):
    options["ssl_cert_reqs"] = "none"
redis = other = None
if "+" not in url:
    redis, other = Redis.from_url(url, **options), Redis.from_url(url, **options)

def lock(name, source=redis):
    return AsyncLock(source, name, namespace=namespace, ttl=1.0)

async def clients():
    global kept
    kept = [LockClient.from_url(urls, **options) for _ in range(2)]
    holder, waiter = (each.lock("n", namespace=namespace, ttl=1.0) for each in kept)
    async with waiter:
        pass
    lease = await holder.acquire()
    wait = asyncio.create_task(waiter.acquire())
    while not (await holder.inspect()).waiters:
        await asyncio.sleep(0)
    await lease.release()
    kept.append(await wait)

async def block():
    async with lock("n"):
        pass

async def held():
    global kept
    kept = await lock("n").acquire()

async def waited():
    lease = await lock("n").acquire()
    wait = asyncio.create_task(lock("n", other).acquire())
    while not (await lock("n").inspect()).waiters:
        await asyncio.sleep(0)
    await lease.release()
    return await (await wait).release()

async def timed_out():
    await lock("n", other).locked()
    async with lock("n"):
        try:
            await lock("n", other).acquire(timeout=0.05)
        except AcquireTimeout:
            pass

async def redis_py():
    async with redis.lock(namespace + "n", timeout=5, lock_class=RedisPyLock):
        pass

async def client():
    global kept
    kept = LockClient.from_url(url, **options)
    async with kept.lock("n", namespace=namespace):
        pass

async def memory():
    global kept
    kept = [LockClient.in_memory()]
    async with kept[0].lock("n"):
        kept.append(await kept[0].lock("m").acquire())

async def fails():
    async with lock("n"):
        raise ZeroDivisionError

async def unreachable():
    # The loop ends right after a try to connect: between two of them.
    failed = asyncio.Event()
    log, handler = logging.getLogger("aiodistlock"), logging.Handler()
    handler.emit = lambda record: "no connection" in record.getMessage() and failed.set()
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    nowhere = Redis(host="127.0.0.1", port=1, **options)
    wait = asyncio.create_task(AsyncLock(nowhere, "n").acquire(timeout=0.2))
    await asyncio.wait([wait])
    assert isinstance(wait.exception(), AcquireTimeout)
    failed.clear()
    await failed.wait()
    log.removeHandler(handler)
    log.setLevel(logging.ERROR)

async def silent():
    # Whoever connects is never answered: the connection is being opened when the loop ends.
    try:
        await AsyncLock(Redis(port=server.getsockname()[1], **options), "n").acquire(timeout=0.2)
    except AcquireTimeout:
        pass

async def bodies():
    # Tasks of the user's that are in a block, or wait, when the loop ends.
    global kept
    inside = asyncio.Event()
    entered = 0
    ways = []

    async def stay():
        nonlocal entered
        entered += 1
        if entered == len(ways):
            inside.set()
        await asyncio.Event().wait()

    async def plain():
        async with lock("plain"):
            await stay()

    async def hold():
        async with lock("hold").hold():
            await stay()

    async def leased():
        async with await lock("leased").acquire():
            await stay()

    async def released():
        lease = await lock("released").acquire()
        try:
            await stay()
        finally:
            await lease.release()

    async def compatible():
        async with redis.lock(namespace + "compatible", timeout=5, lock_class=RedisPyLock):
            await stay()

    async def opened():
        async with LockClient.from_url(url, **options) as client:
            async with client.lock("opened", namespace=namespace):
                await stay()

    async def unused():
        async with LockClient.from_url(url, **options):
            await stay()

    async def followed():
        async with lock("followed"):
            kept.append(asyncio.create_task(lock("followed").acquire()))
            await asyncio.sleep(0)
            await stay()

    async def iterated():
        async def items():
            async with lock("iterated"):
                yield 1
        async for _ in items():
            await stay()

    kept = []
    ways = [plain, hold, leased, released, compatible, opened, unused, followed, iterated]
    kept += [asyncio.create_task(way()) for way in ways]
    await inside.wait()
    for task in kept:
        # asyncio's own word on it is not ours to stop.
        task._log_destroy_pending = False

async def closing():
    # A client whose last request has no answer is being closed when the loop ends.
    global kept
    redis = Redis(port=server.getsockname()[1], **options)
    client = LockClient(redis)
    wait = asyncio.create_task(client.lock("n").acquire())
    await asyncio.sleep(0)
    kept = asyncio.create_task(client.aclose())
    await asyncio.wait([wait])
    assert isinstance(wait.exception(), LockError)
    kept._log_destroy_pending = False

def run(scene):
    loop = asyncio.new_event_loop()
    loop.slow_callback_duration = 100  # a busy machine is no matter here
    try:
        loop.run_until_complete(globals()[scene]())
    except ZeroDivisionError:
        pass
    loop.close()

async def collect():
    gc.collect()

for scene in scenes:
    run(scene)
if then != "exit":
    globals().pop("kept", None)
    del redis, other
if then == "collect":
    gc.collect()
elif then == "elsewhere":
    thread = threading.Thread(target=lambda: asyncio.run(collect(), debug=False))
    thread.start()
    thread.join()
server.close()
print("done")
"""


def close_loops(urls: str | list[str], *scenes: str, then: str = "exit", protocol: int = 3) -> None:
    """
    Close a loop after each scene; check that the process says nothing of it, to the end.

    What it holds by then expires: under a namespace of its own, which no fixture checks.
    """
    arguments = [f"closed:{uuid.uuid4().hex}:", str(protocol), then, *scenes]
    options = ["-X", "dev"]
    if set(scenes) & {*OPENING}:
        # A connection that is half open is redis-py's, and asyncio's to warn of.
        options += ["-W", "ignore::ResourceWarning"]
    ran = subprocess.run(
        [sys.executable, *options, "-c", SCENES, json.dumps(urls), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.stdout, ran.stderr) == ("done\n", ""), ran.stdout + ran.stderr


KINDS = ("block", "fails", "redis_py", "client", "memory")
STATES = ("held", "waited", "timed_out", "bodies")
OPENING = ("unreachable", "silent", "closing")
