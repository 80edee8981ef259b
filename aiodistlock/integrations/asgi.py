"""Ends requests that must not go on: their client is gone, or their lease is lost.

An ASGI server tells of a gone client through ``receive`` only, which nobody asks while a
handler runs.  Rules:

1. Watching begins when a request wants a lock; requests that want none cost a cancel
   scope each, no task.
2. One reads from the server at a time.  What the watch has read ahead, of a body that
   nobody wants yet, the application gets in order; it reads a few messages ahead at most.
3. Once the response has begun the watch ends no request any more: servers report the
   end of a response as the client's leaving, too, and background tasks may still run.
4. The cancellation is an anyio scope's, so code in worker threads, which cannot be
   stopped, keeps its lock until it returns.
5. No response begins under a lease that is lost, a 503 takes its place: a thread is not
   cancelled by the loss, nor is code that does not wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

import anyio

from aiodistlock import Lease, LeaseLost, NotHeld
from aiodistlock.integrations.problems import CLIENT_GONE, MEDIA_TYPE, problem_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_KEY = "aiodistlock.request"
SET_UP_APP = "aiodistlock.app"
"""Where a request has the outermost application with locks, also in one mounted below."""

_READ_AHEAD = 4
"""Messages of a request's body kept for the application; servers send 64 KiB in each."""


class LockedRequestMiddleware:
    """Lets :func:`watch_client` and :func:`covered` end requests."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        scope.setdefault(SET_UP_APP, scope.get("app"))
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = scope[_KEY] = _Request(receive, send)
        try:
            with request.cancellation:
                await self._app(scope, request.receive, request.send)
        except Exception as error:
            # Frameworks report an error after a response began, here: our own 503.
            if not (request.replaced and isinstance(error.__cause__ or error, LeaseLost)):
                raise
        finally:
            await request.stop()
        if request.cancellation.cancelled_caught and not request.begun:
            await _answer_nobody(send)


def watch_client(scope: Scope) -> None:
    """
    From now on end the request if its client goes before the response begins.

    :raises RuntimeError: if the application was not set up
    """
    if request := _request(scope):
        request.watch()


@contextmanager
def covered(scope: Scope, leases: Sequence[Lease]) -> Iterator[None]:
    """
    Have no response begin in this block once any of the leases is lost.

    :raises RuntimeError: if the application was not set up
    """
    request = _request(scope)
    if request is None:
        yield
        return
    request.leases.extend(leases)
    try:
        yield
    finally:
        for lease in leases:
            request.leases.remove(lease)


def _request(scope: Scope) -> _Request | None:
    """Return the request; ``None`` for a WebSocket, whose handler reads, and so learns."""
    if scope["type"] != "http":
        return None
    request: _Request | None = scope.get(_KEY)
    if request is None:
        raise RuntimeError("call setup_locks(app, ...) right after the app was made")
    return request


async def _answer_nobody(send: Send) -> None:
    """Send what outer middleware expects and access logs show; nobody reads it."""
    start = {"type": "http.response.start", "status": CLIENT_GONE, "headers": []}
    try:
        await send(start)
        await send({"type": "http.response.body", "body": b""})
    except OSError:
        return  # ASGI 2.4: the server says that the client is gone


class _Request:
    """One request, between server and application."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self.cancellation = anyio.CancelScope()
        self.leases: list[Lease] = []
        self.begun = False
        """Whether the application's response, or its replacement, has begun."""
        self.replaced = False
        """Whether the application's response was replaced by a 503."""
        self._receive = receive
        self._send = send
        self._task: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()
        self._ahead: deque[Message] = deque()
        self._changed = asyncio.Event()
        """Set when messages came or were taken, or the watch has ended."""

    def watch(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._watch(), name="aiodistlock client watch")
            self._task.add_done_callback(lambda _: self._changed.set())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            # Gathered, so that an error of the server's is nobody's unheard one.
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            async with self._reading:
                message = await self._receive()
            self._ahead.append(message)
            self._changed.set()
            if message["type"] == "http.disconnect":
                if not self.begun:
                    self.cancellation.cancel()
                return
            while len(self._ahead) >= _READ_AHEAD:
                await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def receive(self) -> Message:
        """Receive, for the application."""
        # The watch waits for the next message, mostly the last: what it has comes first.
        while self._task is not None and not self._task.done() and not self._ahead:
            await self._change()
        if not self._ahead:
            async with self._reading:
                return await self._receive()
        if self._ahead[0]["type"] == "http.disconnect":
            return self._ahead[0]  # and nothing else, however often it is asked
        self._changed.set()
        return self._ahead.popleft()

    async def send(self, message: Message) -> None:
        """Send, for the application."""
        if not self.begun:
            self.begun = True
            if lost := self._loss():
                self.replaced = True
                await _send_problem(self._send, lost)
                raise lost
        await self._send(message)

    def _loss(self) -> LeaseLost | None:
        for lease in self.leases:
            try:
                lease.check()
            except LeaseLost as lost:
                return lost
            except NotHeld:
                continue  # released by hand, before its time
        return None


async def _send_problem(send: Send, error: LeaseLost) -> None:
    problem = problem_of(error)
    headers = {
        "content-type": MEDIA_TYPE,
        "content-length": str(len(problem.body)),
        **problem.headers,
    }
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": pairs})
    await send({"type": "http.response.body", "body": problem.body})
