"""The network: connections whose bytes come late, in pieces, or not at all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.simulation.process import Process
from tests.simulation.redis.server import RedisServer
from tests.simulation.redis.session import Session
from tests.simulation.timeline import Timeline

TICK = 1e-7
"""Seconds by which what is sent on one connection arrives behind what was sent before."""

SERVICE = 15e-6
"""Seconds that a server needs for what arrived together."""


@dataclass
class Weather:
    """
    How the network is.

    :param least: seconds that one way takes at least
    :param usual: and at most, as a rule
    :param spikes: share of what is sent that takes up to ``spike`` seconds
    :param pieces: share of what is sent that comes in pieces, down to single bytes
    """

    least: float = 0.0001
    usual: float = 0.0005
    spikes: float = 0.0
    spike: float = 0.3
    pieces: float = 0.0

    def delay(self, rng: Random) -> float:
        """Draw how long one way takes."""
        if self.spikes and rng.random() < self.spikes:
            return rng.uniform(self.least, self.spike)
        return rng.uniform(self.least, self.usual)

    def cut_up(self, data: bytes, rng: Random) -> list[bytes]:
        """Return the pieces in which bytes come."""
        if not self.pieces or len(data) < 2 or rng.random() >= self.pieces:
            return [data]
        if len(data) < 60 and rng.random() < 0.3:
            return [data[at : at + 1] for at in range(len(data))]
        cuts = sorted({rng.randrange(1, len(data)) for _ in range(rng.randint(1, 4))})
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


class Way:
    """One direction of a connection: first in, first out."""

    def __init__(
        self, network: Network, rng: Random, arrive: Callable[[bytes | None], object]
    ) -> None:
        self._network = network
        self._rng = rng
        self._arrive = arrive
        self._queue: deque[bytes | None] = deque()
        self._last_at = 0.0
        self.held_until = 0.0
        self.swallows = False
        """Whether what is sent from now on never arrives."""
        self.repeats = False
        """Whether what is sent next arrives twice."""
        self.left: int | None = None
        """After how many bytes the connection breaks."""
        self.is_cut = False
        """Whether it has broken: nothing arrives any more but that."""
        self.on_cut: Callable[[], object] = lambda: None

    def send(self, data: bytes | None, later: float = 0.0) -> None:
        """Send bytes, some seconds later; ``None``: that there will be no more."""
        network = self._network
        timeline, weather = network.timeline, network.weather
        if self.repeats and data is not None:
            self.repeats = False
            data += data
        for piece in (None,) if data is None else weather.cut_up(data, self._rng):
            if self.swallows:
                return
            self._queue.append(piece)
            at = max(self._last_at + TICK, timeline.now + later + weather.delay(self._rng))
            self._last_at = at
            timeline.at(at, self._next)

    def _next(self) -> None:
        timeline = self._network.timeline
        if timeline.now < self.held_until:
            timeline.at(self.held_until, self._next)
            return
        data = self._queue.popleft()
        if self.left is None or data is None:
            if data is None or not self.is_cut:
                self._arrive(data)
            return
        arrives, self.left = data[: self.left], self.left - len(data)
        if arrives:
            self._arrive(arrives)
        if self.left <= 0:
            self.left, self.is_cut = None, True
            self.on_cut()

    def hold(self, until: float) -> None:
        """Let nothing through before an instant; what is sent meanwhile comes then."""
        self.held_until = max(self.held_until, until)

    def swallow(self) -> None:
        """Lose whatever is sent from now on."""
        self.swallows = True


class ClientEnd(asyncio.Transport):
    """A process's end of a connection, as asyncio gives it to a protocol."""

    def __init__(self, process: Process, connection: Connection) -> None:
        super().__init__({"peername": (connection.host.server.name, 6379)})
        self._process = process
        self._connection = connection
        self._protocol: Any = None
        self._unread = b""
        self._end: Exception | bool = False
        """Whether the other side has ended it: by an error, or so."""
        self._planned = False
        self._closed = False

    def set_protocol(self, protocol: Any) -> None:
        """Deliver to a protocol."""
        self._protocol = protocol

    def get_protocol(self) -> Any:
        """Return whom it delivers to."""
        return self._protocol

    def is_closing(self) -> bool:
        """Tell whether it is closed."""
        return self._closed

    def pause_reading(self) -> None:
        """Nobody reads so slowly here."""

    def resume_reading(self) -> None:
        """As above."""

    def write(self, data: Any) -> None:
        """Send."""
        if not self._closed:
            self._connection.out.send(bytes(data), self._process.slipped)

    def writelines(self, list_of_data: Any) -> None:
        """Send several."""
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """Close; what was written goes out before."""
        if self._closed:
            return
        self._closed = True
        self._process.ends.pop(self, None)
        self._connection.out.send(None)
        self._process.loop.call_soon(self._lost, None)

    abort = close

    def _lost(self, error: Exception | None) -> None:
        if self._protocol is not None:
            self._protocol.connection_lost(error)

    def arrive(self, data: bytes | None) -> None:
        """Take in what comes by the network; the process reads it in its next turn."""
        if data is None:
            self.ended(True)  # no error, as opposed to one
            return
        self._unread += data
        self._plan()

    def ended(self, error: Exception | bool) -> None:  # as above
        """Take in that the other side has ended it."""
        self._end = error
        self._plan()

    def _plan(self) -> None:
        process = self._process
        if self._planned or process.dead or self._closed or self._protocol is None:
            return
        self._planned = True
        process.loop.call_soon(self._read)
        process.poke()

    def _read(self) -> None:
        self._planned = False
        if self._closed:
            return
        data, self._unread = self._unread, b""
        if data:
            self._protocol.data_received(data)
        if self.is_closing() or not self._end:
            return
        if isinstance(self._end, Exception):
            self._closed = True
            self._process.ends.pop(self, None)
            self._connection.out.swallow()
            self._protocol.connection_lost(self._end)
        elif not self._protocol.eof_received():
            self.close()

    def die(self, *, silently: bool) -> None:
        """End with the process."""
        self._closed = True
        if silently:
            self._connection.silent()
        else:
            self._connection.out.send(None)


class ServerEnd:
    """The server's end."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, data: bytes) -> None:
        """Send to the client."""
        self._connection.back.send(data)

    def hang_up(self) -> None:
        """Close the connection."""
        self._connection.back.send(None)


class Connection:
    """One connection, from one process to one server."""

    def __init__(self, network: Network, process: Process, host: Host, rng: Random) -> None:
        self.process = process
        self.host = host
        self.life = host.server.lives
        self.client = ClientEnd(process, self)
        self.session: Session | None = None
        self.out = Way(network, rng, lambda data: host.take(self, data))
        self.back = Way(network, rng, self.client.arrive)

    @property
    def over(self) -> bool:
        """Whether the client has no more use for it."""
        return self.client.is_closing()

    def silent(self) -> None:
        """Have nothing arrive any more, and nobody told."""
        self.out.swallow()
        self.back.swallow()

    def reset(self) -> None:
        """Break it, and have both ends know."""
        self.client.ended(ConnectionResetError("reset"))
        self.reset_at_server()

    def reset_at_server(self) -> None:
        """Have the server only know that it is over."""
        self.back.swallow()
        if self.session is not None:
            self.session.end()

    def reset_at_client(self) -> None:
        """Have the client only know that it is over; what it sent may still come."""
        self.client.ended(ConnectionResetError("reset"))


class Host:
    """A server on the network: takes in one thing after the other."""

    def __init__(self, network: Network, server: RedisServer) -> None:
        self.server = server
        self._timeline = network.timeline
        self._arrived: deque[tuple[Connection, bytes | None]] = deque()
        self._busy_until = 0.0
        self._planned = False

    def take(self, connection: Connection, data: bytes | None) -> None:
        """Take in what arrives."""
        self._arrived.append((connection, data))
        self.plan()

    def plan(self) -> None:
        """Work as soon as it can."""
        if self._arrived and not self._planned and not self.server.frozen:
            self._planned = True
            self._timeline.at(self._busy_until, self._work)

    def _work(self) -> None:
        self._planned = False
        if self.server.frozen or not self._arrived:
            return
        connection, data = self._arrived.popleft()
        if connection.life == self.server.lives and self.server.up:
            self._serve(connection, data)
        self._busy_until = self._timeline.now + SERVICE
        self.plan()

    def _serve(self, connection: Connection, data: bytes | None) -> None:
        if connection.session is None:
            connection.session = self.server.accept(ServerEnd(connection), connection.process)
        elif data is None:
            connection.session.end()
            connection.back.send(None)
        elif not connection.session.over:
            connection.session.receive(data)


class Network:
    """
    All connections of a world.

    :param seed: from which each connection draws its own luck
    """

    def __init__(self, timeline: Timeline, weather: Weather, seed: object) -> None:
        self.timeline = timeline
        self.weather = weather
        self.hosts: dict[str, Host] = {}
        self.connections: list[Connection] = []
        self._seed = seed
        self._blocked: dict[tuple[Process, str], float] = {}

    def add(self, server: RedisServer) -> None:
        """Put a server on the network, at its name."""
        self.hosts[server.name] = Host(self, server)

    def block(self, process: Process, name: str, until: float) -> None:
        """Let nothing through between a process and a server, either way."""
        self._blocked[process, name] = until
        for each in self.open(process):
            if each.host.server.name == name:
                each.out.hold(until)
                each.back.hold(until)

    def open(self, process: Process | None = None) -> list[Connection]:
        """Return the connections that are in use, of one process or of all."""
        self.connections = [each for each in self.connections if not each.over]
        return [each for each in self.connections if process in (None, each.process)]

    def clear_up(self) -> None:
        """Have all be well from now on, and nothing be held."""
        self.weather = Weather()
        self._blocked.clear()
        for each in self.connections:
            each.out.held_until = each.back.held_until = 0.0
            each.out.left = each.back.left = None

    async def connect(self, process: Process, name: str, _port: int) -> ClientEnd:
        """Open a connection."""
        host = self.hosts[name]
        rng = Random(f"{self._seed}:{len(self.connections)}:{process.label}:{self.timeline.count}")
        until = self._blocked.get((process, name), 0.0)
        opened: asyncio.Future[ClientEnd] = process.loop.create_future()
        at = max(until, self.timeline.now) + self.weather.delay(rng)
        self.timeline.at(at, self._arrived, opened, process, host, rng)
        try:
            return await opened
        except asyncio.CancelledError:
            if opened.done() and not opened.cancelled() and opened.exception() is None:
                opened.result().abort()
            raise

    def _arrived(
        self, opened: asyncio.Future[ClientEnd], process: Process, host: Host, rng: Random
    ) -> None:
        if process.dead or opened.done():
            return
        back_at = self.timeline.now + self.weather.delay(rng)
        if not host.server.up:
            refused = ConnectionRefusedError(f"nobody listens at {host.server.name}")
            self.timeline.at(back_at, self._tell, opened, process, refused, None)
            return
        connection = Connection(self, process, host, rng)
        self.connections.append(connection)
        host.take(connection, b"")  # there it begins
        self.timeline.at(back_at, self._tell, opened, process, None, connection)

    def _tell(
        self,
        opened: asyncio.Future[ClientEnd],
        process: Process,
        error: Exception | None,
        connection: Connection | None,
    ) -> None:
        if process.dead or opened.done():
            if connection is not None:
                connection.out.send(None)
            return
        if connection is None:
            assert error is not None
            opened.set_exception(error)
        else:
            opened.set_result(connection.client)
        process.poke()
