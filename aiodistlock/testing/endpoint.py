"""Where a server listens: how it is told, how clients reach it, and whether it is there."""

import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from aiodistlock.testing.child import log_tail
from aiodistlock.testing.discovery import LOOPBACK


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files that make a server speak TLS instead of plain TCP."""

    cert: Path
    key: Path
    ca: Path


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    A port on the loopback interface, and a unix socket besides, if that is given.

    :param port: plain TCP, or TLS where ``tls`` has the files for it
    :param socket_path: what clients then connect to
    """

    port: int
    socket_path: Path | None
    tls: TlsFiles | None

    @property
    def url(self) -> str:
        """Where clients connect: unix socket, TLS or TCP."""
        if self.socket_path is not None:
            return f"unix://{self.socket_path}"
        scheme = "rediss" if self.tls else "redis"
        return f"{scheme}://{LOOPBACK}:{self.port}"

    @property
    def args(self) -> list[str]:
        """The arguments of redis-server that make it listen there."""
        args = ["--bind", LOOPBACK, "--port", str(self.port)]
        if self.tls is not None:
            args = ["--bind", LOOPBACK, "--port", "0", "--tls-port", str(self.port)]
            args += ["--tls-cert-file", str(self.tls.cert)]
            args += ["--tls-key-file", str(self.tls.key)]
            args += ["--tls-ca-cert-file", str(self.tls.ca)]
            args += ["--tls-auth-clients", "no"]
        if self.socket_path is not None:
            args += ["--unixsocket", str(self.socket_path)]
        return args

    def answers(self, pid: int, log: IO[bytes]) -> bool:
        """Ask PING, and INFO whether it is our process that answers there."""
        replies, ours = b"", f"process_id:{pid}\r".encode()
        # Anything may go wrong at the end of a connection: what was said counts.
        with suppress(OSError), self._connect() as connection:
            connection.sendall(b"PING\r\nINFO server\r\nQUIT\r\n")
            # Not to the end: Redis 7's sentinel knows no QUIT.
            while ours not in replies and (chunk := connection.recv(65536)):
                replies += chunk
        if replies.startswith(b"-"):
            # Loading its file, or, with a password, mute about it: the log tells.
            return "Ready to accept connections" in log_tail(log)
        return ours in replies

    def _connect(self) -> socket.socket:
        if self.socket_path is not None:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(1)
            try:
                connection.connect(str(self.socket_path))
            except OSError:
                connection.close()
                raise
            return connection
        plain = socket.create_connection((LOOPBACK, self.port), timeout=1)
        if self.tls is None:
            return plain
        context = ssl.create_default_context(cafile=str(self.tls.ca))
        context.check_hostname = False
        try:
            return context.wrap_socket(plain)
        except OSError:
            plain.close()
            raise
