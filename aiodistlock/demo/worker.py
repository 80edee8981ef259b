"""One worker process: takes deliveries from stdin, reconciles them, reports to stdout.

Rules. All work on the ledger is done by one thread, blocking, as in many a real
service: cancelling the task that waits for it does not stop it. What a frozen
worker writes late is therefore for the fencing token to refuse. The same thread
is the one that waits in a trap, so no transaction is open there, and a process
that is frozen in one blocks nobody.

The worker never outlives the demo: it ends when its stdin does, and the kernel
kills it (Linux), frozen or not, when the demo dies.
"""

from __future__ import annotations

import asyncio
import ctypes
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import anyio

from aiodistlock import LeaseLost

from . import messages
from .guards import Guard, open_guard
from .ledger import Ledger, Outcome, Row
from .messages import Deliver, Setup
from .root_cause import root_cause

# Stands for the call to another service that real reconciling makes between read
# and write, and that makes check-then-set race.
_FRAUD_CHECK: Final = 0.001

_ACK_PAUSE: Final = 0.02
_PR_SET_PDEATHSIG: Final = 1


class Link:
    """The pipes to and from the demo. Any thread may send."""

    def __init__(self) -> None:
        self._lines = messages.read_lines(0)
        # Whatever else prints to stdout must not end up between the messages.
        self._out = os.dup(1)
        os.dup2(2, 1)
        self._writing = threading.Lock()

    def orders(self) -> Iterator[messages.Order]:
        """Yield what the demo orders, blocking, until it is gone."""
        for line in self._lines:
            order = messages.decode(line)
            assert isinstance(order, messages.Order)
            yield order

    def send(self, report: messages.Report) -> None:
        """Send a report, whole."""
        line = messages.encode(report)
        with self._writing:
            while line:
                line = line[os.write(self._out, line) :]


class Worker:
    """Applies deliveries, several at once."""

    def __init__(self, setup: Setup, link: Link, guard: Guard) -> None:
        self._setup = setup
        self._link = link
        self._guard = guard
        self._ledger = Ledger(Path(setup.ledger))
        self._thread = ThreadPoolExecutor(1)
        self._go_on = threading.Event()
        self._watched: set[str] = set()
        self._awaiting_write: set[str] = set()
        self._trapped: set[int] = set()
        self._acked: list[int] = []
        self._waits: list[int] = []
        send, receive = anyio.create_memory_object_stream[Deliver](math.inf)
        self._inbox, self._deliveries = send, receive

    async def run(self) -> None:
        """Work until the demo says that nothing more will come."""
        finish = anyio.Event()
        loop = asyncio.get_running_loop()

        def take(order: messages.Order) -> None:
            match order:
                case Deliver():
                    self._inbox.send_nowait(order)
                case messages.Watch():
                    self._watched.add(order.wallet)
                case messages.Finish():
                    finish.set()

        async with anyio.create_task_group() as tasks:
            for _ in range(self._setup.tasks):
                tasks.start_soon(self._consume)
            tasks.start_soon(self._report_acks)
            threading.Thread(target=self._listen, args=(loop, take), daemon=True).start()
            self._link.send(messages.Ready())
            await finish.wait()
            tasks.cancel_scope.cancel()

    def _listen(
        self, loop: asyncio.AbstractEventLoop, take: Callable[[messages.Order], None]
    ) -> None:
        for order in self._link.orders():
            if isinstance(order, messages.GoOn):
                self._go_on.set()
            else:
                loop.call_soon_threadsafe(take, order)
        os._exit(1)  # the demo is gone; nothing here is worth saving

    async def _consume(self) -> None:
        async for delivery in self._deliveries:
            while not await self._settled(delivery):
                pass
            self._acked.append(delivery.delivery)

    async def _settled(self, delivery: Deliver) -> bool:
        """Apply the event once more unless it is applied; False: needs a new lease."""
        asked_at = time.perf_counter()
        try:
            async with self._guard(delivery.wallet) as fence:
                self._waits.append(int((time.perf_counter() - asked_at) * 1e6))
                self._report_grant(delivery.wallet, fence)
                outcome = await self._reconcile(delivery, fence)
        except LeaseLost:
            # What was read under it may be out of date by now. Whether the write
            # got through is asked under the next lease: the ledger knows.
            return False
        return outcome is not Outcome.REFUSED

    async def _reconcile(self, delivery: Deliver, fence: int | None) -> Outcome:
        loop = asyncio.get_running_loop()
        event = delivery.event
        row = await loop.run_in_executor(self._thread, self._ledger.read, event, fence)
        if row is None:
            return Outcome.REFUSED
        if row.applied:
            return Outcome.SKIPPED
        await anyio.sleep(_FRAUD_CHECK)
        return await loop.run_in_executor(self._thread, self._write, delivery, row, fence)

    def _write(self, delivery: Deliver, row: Row, fence: int | None) -> Outcome:
        """Write in the thread; here, between read and write, is the trap."""
        if delivery.trapped and delivery.delivery not in self._trapped:
            self._trapped.add(delivery.delivery)
            inside = messages.Inside(delivery.delivery, delivery.wallet, fence)
            self._link.send(inside)
            self._go_on.wait()
            self._go_on.clear()
        outcome = self._ledger.write(delivery.event, row, fence)
        if outcome is Outcome.REFUSED and fence is not None:
            refused = messages.Refused(delivery.event_id, delivery.wallet, fence)
            self._link.send(refused)
        elif delivery.wallet in self._awaiting_write:
            self._awaiting_write.discard(delivery.wallet)
            self._link.send(messages.Wrote(delivery.wallet, fence))
        return outcome

    def _report_grant(self, wallet: str, fence: int | None) -> None:
        if wallet in self._watched:
            self._watched.discard(wallet)
            self._awaiting_write.add(wallet)
            self._link.send(messages.Granted(wallet, fence, time.monotonic()))

    async def _report_acks(self) -> None:
        while True:
            await anyio.sleep(_ACK_PAUSE)
            if self._acked:
                self._link.send(messages.Acked(self._acked, self._waits))
                self._acked, self._waits = [], []


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)  # it died before the kernel was told


async def _serve(link: Link, setup: Setup) -> None:
    async with open_guard(setup) as guard:
        await Worker(setup, link, guard).run()


def main() -> None:
    """Run one worker: ``python -m aiodistlock.demo.worker PARENT_PID``."""
    die_with_parent(int(sys.argv[1]))
    link = Link()
    first = next(link.orders())
    assert isinstance(first, Setup)
    try:
        anyio.run(_serve, link, first)
    except Exception as error:  # noqa: BLE001 - told to the demo, which ends all
        cause = root_cause(error)
        link.send(messages.Failed(f"{type(cause).__name__}: {cause}"))
        os._exit(1)  # not sys.exit, which would wait for a thread in a trap


if __name__ == "__main__":
    main()
