"""Hears what a server says to a connection that it does not want."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import anyio
from redis.asyncio.connection import SSLConnection

from .targets import Endpoint

CROWDED: Final = "max number of clients"
"""What a server at its ``maxclients`` says of it, among other words."""

_PATIENCE: Final = 0.5
"""Seconds: it speaks at once, or waits for us to speak."""


async def parting_words(endpoint: Endpoint, timeout: float) -> str:
    """
    Connect, say nothing, and return what the server says before it hangs up.

    Whoever speaks to a server that has hung up may be told of that instead of the reason.
    Empty: it is silent, as one that wants us is; or TLS is asked for, which would first
    have to be agreed on.
    """
    options = endpoint.options
    if options.get("connection_class") is SSLConnection:
        return ""
    said = b""
    with suppress(OSError, anyio.EndOfStream, anyio.BrokenResourceError):
        with anyio.move_on_after(min(timeout, _PATIENCE)):
            if "path" in options:
                stream: anyio.abc.ByteStream = await anyio.connect_unix(options["path"])
            else:
                stream = await anyio.connect_tcp(options["host"], options["port"])
            async with stream:
                said = await stream.receive(512)
    return said.decode(errors="replace").removeprefix("-ERR ").strip() if said[:1] == b"-" else ""
