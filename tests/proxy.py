"""A TCP proxy between client and Redis that misbehaves on command.

Rules. It sees frames, not bytes: requests on the way to the server, replies and
pushes (published messages, and what confirms a subscription) on the way back.
For each frame the rules are asked in order, and the first that answers decides.
A frame nobody decides about passes. Whatever happens to a frame, the frames
behind it in the same direction come after it, as in TCP.

A lost reply, as networks lose them, is ``CUT_BEFORE`` on the reply: the server
did it, the client never hears. ``DROP`` of a reply that others follow makes the
client take the next one for it; nothing in RESP can tell.

A batch is a frame of each script that it runs: the first rule that answers for any of
them decides about it as a whole.
"""

import asyncio
import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

from aiodistlock.protocol import scripts
from aiodistlock.testing.discovery import LOOPBACK, free_port
from tests.resp import flat_blobs, frame_end

Kind = Literal["request", "reply", "push"]

_BIND_TRIES = 10


@dataclass(frozen=True)
class Frame:
    """One request, reply or push.

    ``name`` is the command in capitals, or the script's name where
    ``script_names`` knows it. A reply is named after its request, a push after
    its first element (``MESSAGE``, ``SUBSCRIBE``). ``number`` counts frames of
    the same kind and name over all connections, from 1.
    """

    kind: Kind
    name: str
    number: int
    connection: int
    args: list[bytes] = field(repr=False)
    raw: bytes = field(repr=False)


class Do(Enum):
    """What may happen to a frame, besides the actions that have a parameter."""

    PASS = "passes on"
    DROP = "vanishes, the connection stays"
    CUT_BEFORE = "connection is cut, the frame does not arrive"
    CUT_AFTER = "frame arrives, then the connection is cut"
    BLACK_HOLE = "this frame and all later ones on the connection vanish, both ways"


@dataclass(frozen=True)
class Delay:
    """The frame arrives this many seconds later."""

    seconds: float


@dataclass(frozen=True)
class Hold:
    """The frame arrives when the event is set."""

    until: asyncio.Event


@dataclass(frozen=True)
class Repeat:
    """The frame arrives several times.

    A request runs several times at the server, as if it had been re-sent; the
    client gets the last reply only. A reply or push reaches the client each time.
    """

    times: int = 2


@dataclass(frozen=True)
class Replace:
    """This arrives in the frame's place; ``<tag>`` in it is what the frame has behind its code."""

    raw: bytes


Action = Do | Delay | Hold | Repeat | Replace
Rule = Callable[[Frame], Action | None]


def on(kind: Kind, name: str, action: Action, *, number: int | None = None) -> Rule:
    """Make a rule for frames of a kind and name; for all, or for the number-th."""

    def rule(frame: Frame) -> Action | None:
        if (frame.kind, frame.name) != (kind, name):
            return None
        return action if number in (None, frame.number) else None

    return rule


_BY_LETTER = {
    script.letter[-3:-2]: (name, script.keys - 3 + script.args)
    for name, script in vars(scripts).items()
    if isinstance(script, scripts.Script) and script.letter
}


def scripts_in(args: list[bytes]) -> list[str]:
    """Name the scripts that a batch runs, in order."""
    rest = deque(args[3 + int(args[2]) : -1])
    found = []
    while rest:
        name, count = _BY_LETTER[rest.popleft()]
        found.append(name)
        for _ in range(count):
            rest.popleft()
    return found


class ChaosProxy:
    """Listens on a port of its own and connects each client to the server.

    :param rules: asked for each frame; may be changed at any time.
    :param script_names: name of each script by its SHA-1, to tell one EVALSHA
        from another.
    """

    def __init__(
        self,
        host: str,
        port: int,
        rules: Rule | Iterable[Rule] = (),
        *,
        script_names: Mapping[str, str] | None = None,
    ) -> None:
        self.rules: list[Rule] = [rules] if callable(rules) else list(rules)
        self.script_names = dict(script_names or {})
        self.counts: Counter[tuple[Kind, str]] = Counter()
        self.frames: deque[Frame] = deque(maxlen=10_000)
        self.connections = 0
        self.port = free_port()
        self._upstream = (host, port)
        self._url = urlsplit(f"redis://{host}:{port}")
        self._mode: Literal["pass", "black hole"] = "pass"
        self._server: asyncio.Server | None = None
        self._links: dict[_Link, asyncio.Task[None]] = {}
        self._seen = asyncio.Event()

    @classmethod
    def before(cls, url: str) -> Self:
        """Make a proxy before the server of a ``redis://`` URL."""
        parts = urlsplit(url)
        if parts.scheme != "redis" or parts.hostname is None:
            raise ValueError(f"only plain TCP can be proxied: {url}")
        proxy = cls(parts.hostname, parts.port or 6379)
        proxy._url = parts
        return proxy

    @property
    def url(self) -> str:
        """Where clients connect; with the user, password and database of the server."""
        user = self._url.netloc.rpartition("@")[:2]
        return self._url._replace(netloc="".join(user) + f"{LOOPBACK}:{self.port}").geturl()

    @property
    def requests(self) -> Counter[str]:
        """How many requests were seen, by name."""
        found = {n: c for (kind, n), c in self.counts.items() if kind == "request"}
        return Counter(found)

    async def __aenter__(self) -> Self:
        for _ in range(_BIND_TRIES):
            try:
                await self.accept()
            except OSError:
                # Somebody took the port meanwhile.
                self.port = free_port()
            else:
                return self
        raise OSError("no port to listen on")

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.refuse()
        # A connection accepted just before registers itself in the next turns.
        for _ in range(3):
            await asyncio.sleep(0)
        await self.cut()

    async def accept(self) -> None:
        """Serve new connections, after :meth:`refuse` or :meth:`black_hole` too."""
        self._mode = "pass"
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port, backlog=512)

    async def refuse(self) -> None:
        """Refuse new connections; those that are open stay."""
        if self._server is not None:
            self._server.close()
            self._server = None
            # The loop closes the listening socket in its next turn.
            await asyncio.sleep(0)

    def lead_to(self, url: str) -> None:
        """Connect new clients to another server; those that are connected stay where they are."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._upstream = (parts.hostname, parts.port or 6379)

    def push(self, raw: bytes) -> None:
        """Send bytes to all clients, as if the server had."""
        for link in self._links:
            link.push(raw)

    async def cut(self) -> None:
        """Cut all open connections."""
        tasks = list(self._links.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def part(self, connection: int) -> None:
        """End the client's side of a connection; what is held of it still goes to the server."""
        for link in self._links:
            if link.number == connection:
                link.part()

    async def ended(self, connection: int) -> None:
        """Wait until the server has got all of a connection, and has hung up."""
        for link, task in list(self._links.items()):
            if link.number == connection:
                await asyncio.wait([task])

    def black_hole(self) -> None:
        """Swallow all that comes, on open and on new connections, and answer nothing.

        :meth:`accept` ends it for new connections only: what was swallowed is gone.
        """
        self._mode = "black hole"
        for link in self._links:
            link.swallows = True

    async def seen(self, kind: Kind, name: str, count: int = 1) -> None:
        """Wait until so many frames of a kind and name have come to the proxy."""
        while self.counts[kind, name] < count:
            await self._seen.wait()

    def decide(
        self, kind: Kind, name: str, connection: int, args: list[bytes], raw: bytes
    ) -> Action:
        """Count a frame and ask the rules what happens to it."""
        frames = []
        for each in name.split("+"):
            self.counts[kind, each] += 1
            number = self.counts[kind, each]
            frames.append(Frame(kind, each, number, connection, args, raw))
        self.frames.extend(frames)
        self._seen.set()
        self._seen = asyncio.Event()
        decided = (rule(frame) for frame in frames for rule in self.rules)
        return next((action for action in decided if action is not None), Do.PASS)

    def name_of(self, args: list[bytes]) -> str:
        """Name a request: its script if that is known, else its command."""
        command = args[0].decode().upper()
        if command == "EVALSHA":
            sha = args[1].decode()
        elif command == "EVAL":
            # EVALSHA names scripts by this hash; nothing is protected by it.
            sha = hashlib.sha1(args[1]).hexdigest()
        else:
            return command
        if self.script_names and sha == scripts.BATCH.sha.decode():
            return "+".join(scripts_in(args))
        return self.script_names.get(sha, command)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        link = _Link(self, self.connections, reader, writer)
        link.swallows = self._mode == "black hole"
        task = asyncio.current_task()
        assert task is not None
        self._links[link] = task
        # Cancelled by cut() only: that is how a connection ends here, and asyncio's
        # stream callback would report it as an error.
        with suppress(asyncio.CancelledError, OSError):
            try:
                await link.run(self._upstream)
            finally:
                del self._links[link]
                writer.close()


class _Link:
    """One client's connection and the one to the server that belongs to it."""

    def __init__(
        self,
        proxy: ChaosProxy,
        number: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.swallows = False
        self.number = number
        self._parted = False
        self._proxy = proxy
        self._reader = reader
        self._writer = writer
        # For each reply that is due: its request's name, and whether the client
        # is to get it.
        self._due: deque[tuple[str, bool]] = deque()
        self._subscribed = False
        self._resp3 = False
        self._is_cut = False

    async def run(self, upstream: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*upstream)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._requests(self._reader, writer))
                group.create_task(self._replies(reader, self._writer))
        except* OSError:
            pass  # Either side reset the connection: the other is closed as well.
        finally:
            writer.close()

    def part(self) -> None:
        """End the client's side alone."""
        self._parted = True
        self._writer.close()

    def push(self, raw: bytes) -> None:
        """Send bytes to the client."""
        self._writer.write(raw)

    def _cut(self) -> None:
        """End the client's side; that ends the requests, and so the server's side.

        The server still gets all that was sent to it, and the end behind it: what
        a cut connection leaves done at the server does not depend on luck.
        """
        self._is_cut = self.swallows = True
        self._writer.close()

    async def _requests(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        buffer = bytearray()
        while chunk := await reader.read(65536):
            buffer += chunk
            while (end := frame_end(buffer)) is not None:
                raw = bytes(buffer[:end])
                del buffer[:end]
                await self._request(raw, server)
                if self._is_cut:
                    # What was behind it on the connection went with it.
                    buffer.clear()
        self.swallows = True
        server.write_eof()

    async def _request(self, raw: bytes, server: asyncio.StreamWriter) -> None:
        args = flat_blobs(raw)
        name = self._proxy.name_of(args)
        action = self._proxy.decide("request", name, self.number, args, raw)
        await self._prepare(action)
        if action is Do.DROP or self.swallows:
            return
        self._note_mode(args)
        times = action.times if isinstance(action, Repeat) else 1
        for time in range(times):
            # Subscriptions are confirmed by pushes, they have no reply.
            if not name.endswith("SUBSCRIBE"):
                self._due.append((name, time == times - 1))
            server.write(raw)
        await server.drain()
        if action is Do.CUT_AFTER:
            self._cut()

    async def _prepare(self, action: Action) -> None:
        """Do what an action does before its frame could arrive."""
        if action is Do.BLACK_HOLE:
            self.swallows = True
        elif action is Do.CUT_BEFORE:
            self._cut()
        elif isinstance(action, Delay):
            await asyncio.sleep(action.seconds)
        elif isinstance(action, Hold):
            await action.until.wait()

    def _note_mode(self, args: list[bytes]) -> None:
        command = args[0].upper()
        if command == b"HELLO" and len(args) > 1:
            self._resp3 = args[1] == b"3"
        if command.endswith(b"SUBSCRIBE"):
            self._subscribed = True

    async def _replies(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        buffer = bytearray()
        while chunk := await reader.read(65536):
            buffer += chunk
            while (end := frame_end(buffer)) is not None:
                raw = bytes(buffer[:end])
                del buffer[:end]
                await self._reply(raw, client)
        # The server hung up.
        self._cut()

    async def _reply(self, raw: bytes, client: asyncio.StreamWriter) -> None:
        kind, name, wanted = self._classify(raw)
        if not wanted or self.swallows or self._parted:
            return
        args = flat_blobs(raw)
        action = self._proxy.decide(kind, name, self.number, args, raw)
        await self._prepare(action)
        if action is Do.DROP or self.swallows:
            return
        if isinstance(action, Replace):
            tag = b":%b\r\n" % args[1] if len(args) > 1 else b""
            raw = action.raw.replace(b"<tag>", tag)
        client.write(raw * (action.times if isinstance(action, Repeat) else 1))
        await client.drain()
        if action is Do.CUT_AFTER:
            self._cut()

    def _classify(self, raw: bytes) -> tuple[Kind, str, bool]:
        """Tell a push from a reply, name it, and say whether the client gets it."""
        if raw[:1] == b">" or (
            # RESP2 has no pushes: a subscribed connection gets arrays that only
            # their first word tells from replies.
            raw[:1] == b"*" and self._subscribed and not self._resp3
        ):
            word = flat_blobs(raw)[0].decode().upper()
            if raw[:1] == b">" or word.endswith(("SUBSCRIBE", "MESSAGE")):
                return "push", word, True
        name, wanted = self._due.popleft() if self._due else ("?", True)
        return "reply", name, wanted
