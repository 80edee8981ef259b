"""A real redis-server as a child process, for tests and the demo.

Rules. The server is a child of this process and dies with it, however this
process dies. It keeps nothing on disk. It never sees the terminal's Ctrl-C.
It listens on the loopback interface only.

How it dies with its parent is told in :mod:`aiodistlock.testing.child`.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from aiodistlock.testing.child import Process, Remains, log_tail, spawn
from aiodistlock.testing.discovery import (
    EmbeddedRedisError,
    ServerNotFound,
    find_server,
    free_port,
)
from aiodistlock.testing.endpoint import Endpoint, TlsFiles

__all__ = [
    "EmbeddedRedis",
    "EmbeddedRedisError",
    "ServerNotFound",
    "TlsFiles",
    "find_server",
]

_BIND_TRIES: Final = 10
_CTRL_C: Final = {-signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP}


class EmbeddedRedis:
    """A real Redis server, private to this process, that leaves nothing behind.

    :param binary: the server to run; None looks for one with
        :func:`find_server`.
    :param args: further redis-server arguments, for example
        ``["--maxmemory", "2mb"]``; they win over the defaults. With any, the server
        has a folder to write to, which :meth:`stop` removes.
    :param config: a file to start from; ``args`` win over it.
    :param unix_socket: also listen on a unix socket, and make it the ``url``.
    :param tls: speak TLS on the port, with these files, instead of plain TCP.
    :param start_timeout: how long a start may take, seconds.
    :raises ServerNotFound: if no binary is given and none is found.

    The methods are synchronous and short (a start takes about 60 ms). They are
    not meant to be called from several threads at once.
    """

    def __init__(
        self,
        *,
        binary: str | os.PathLike[str] | None = None,
        args: Sequence[str] = (),
        config: Path | None = None,
        unix_socket: bool = False,
        tls: TlsFiles | None = None,
        start_timeout: float = 10.0,
    ) -> None:
        found = Path(binary) if binary is not None else find_server()
        if found is None:
            raise ServerNotFound
        self.binary = found
        self._args = tuple(args)
        self._config = () if config is None else (str(config),)
        self._unix_socket = unix_socket
        self._tls = tls
        self._start_timeout = start_timeout
        self._port: int | None = None
        self._remains = Remains(os.getpid())
        weakref.finalize(self, self._remains.remove)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The TCP port; the same over restarts."""
        if self._port is None:
            raise EmbeddedRedisError("the server has not been started")
        return self._port

    @property
    def socket_path(self) -> Path:
        """The unix socket (only with ``unix_socket=True``)."""
        if self._remains.directory is None or not self._unix_socket:
            raise EmbeddedRedisError("the server has no unix socket")
        return Path(self._remains.directory) / "redis.sock"

    @property
    def url(self) -> str:
        """Where clients connect: unix socket, TLS or TCP, as configured."""
        return self._endpoint.url

    @property
    def _endpoint(self) -> Endpoint:
        path = self.socket_path if self._unix_socket else None
        return Endpoint(self.port, path, self._tls)

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self._running().pid

    @property
    def version(self) -> str:
        """The version the binary reports, for example ``"7.0.15"``."""
        shown = subprocess.run(
            [self.binary, "--version"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout
        found = re.search(r"v=(\S+)", shown)
        return found[1] if found else shown.strip()

    @property
    def is_running(self) -> bool:
        """Whether the process exists, frozen or not."""
        process = self._remains.process
        return process is not None and process.poll() is None

    def start(self) -> None:
        """Start the server and wait until it answers PING.

        :raises EmbeddedRedisError: if it runs already, ends at once, or does
            not answer within ``start_timeout``; the message ends with what the
            server logged last.
        """
        if self.is_running:
            raise EmbeddedRedisError("the server runs already")
        remains = self._remains
        if remains.directory is None:
            remains.directory = tempfile.mkdtemp(prefix="aiodistlock-redis-")
        keep_port = self._port is not None
        try:
            for _ in range(_BIND_TRIES):
                if not keep_port:
                    self._port = free_port()
                if self._launch():
                    self._drop_unused_directory()
                    return
                # Somebody took the port meanwhile. Where it has to be kept,
                # they may go again: it takes a prober like free_port() no time.
        except BaseException:
            self.stop()
            raise
        self.stop()
        raise EmbeddedRedisError(f"no port was free, or it was interrupted, in {_BIND_TRIES} tries")

    def stop(self) -> None:
        """End the server, frozen or not, and remove what it left. May be repeated."""
        self._remains.remove()

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would; :meth:`restart` revives it."""
        process = self._running()
        process.kill()
        process.wait()
        self._remains.end_process()

    def restart(self) -> None:
        """Start anew on the same port, ending the server first if it still runs.

        Data and loaded scripts are gone, unless ``args`` switch persistence on.
        """
        self._remains.end_process()
        self.start()

    def freeze(self) -> None:
        """Freeze the server with SIGSTOP: connections stay, answers do not come."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        if sys.platform == "linux":
            # The signal is on its way: the server may serve one more request.
            flags = os.WSTOPPED | os.WEXITED | os.WNOWAIT
            os.waitid(os.P_PID, process.pid, flags)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._running().send_signal(signal.SIGCONT)

    def _drop_unused_directory(self) -> None:
        """Delete the folder while the server sits in it, if nothing needs it.

        Else it would stay behind when this process is killed. A server that is
        asked to save after all gets an error, not a file somewhere.
        """
        if self._remains.directory is not None and not (self._unix_socket or self._args):
            os.rmdir(self._remains.directory)
            self._remains.directory = None

    def _running(self) -> Process:
        process = self._remains.process
        if process is None or process.poll() is not None:
            raise EmbeddedRedisError("the server is not running")
        return process

    def _command(self) -> list[str]:
        listen = self._endpoint.args
        defaults = ["--save", "", "--appendonly", "no"]
        folder = ["--dir", str(self._remains.directory), "--daemonize", "no"]
        return [str(self.binary), *self._config, *listen, *defaults, *folder, *self._args]

    def _launch(self) -> bool:
        """Start the process and wait for it; False if it has to be another one.

        The port was taken. Or Ctrl-C reached it when it had no session of its own
        yet; then it reached us, too, and ends us if it is to.
        """
        # Unnamed: the log goes with the process, killed or not.
        log = self._remains.log = tempfile.TemporaryFile()  # noqa: SIM115 - end_process
        process = self._remains.process = spawn(self._command(), log)
        give_up_at = time.monotonic() + self._start_timeout
        while process.poll() is None:
            if self._endpoint.answers(process.pid, log):
                return True
            if time.monotonic() > give_up_at:
                raise EmbeddedRedisError(
                    f"{self.binary} did not answer PING within "
                    f"{self._start_timeout} s{log_tail(log)}"
                )
            # Polls: a starting server has no other way to say that it is up.
            time.sleep(0.005)
        tail = log_tail(log)
        self._remains.end_process()
        if "Address already in use" in tail or process.returncode in _CTRL_C:
            return False
        raise EmbeddedRedisError(f"{self.binary} ended with status {process.returncode}{tail}")
