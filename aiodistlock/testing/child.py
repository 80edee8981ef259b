"""Start a child process that cannot outlive this one.

Rules. The child dies with this process, however this process dies. It never
sees the terminal's Ctrl-C.

Dying with the parent is Linux's ``PR_SET_PDEATHSIG``. Two traps in it:

- The signal is sent when the *thread* that forked ends, not the process.
  Every child is therefore started by one thread that lives as long as the
  process (:class:`_Spawner`).
- It has to be set in the child. A ``preexec_fn`` runs Python between fork and
  exec, which may deadlock where other threads hold locks, and warns since
  Python 3.12. A small launcher that sets it and then becomes the command
  costs about 30 ms and has neither problem.

Elsewhere than on Linux a child outlives a parent that is killed.
"""

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import IO, Final

_STOP_SECONDS: Final = 3.0
_LOG_TAIL_LINES: Final = 15

# Runs in the child before it becomes the command. The parent may have died
# before prctl took effect: then nobody would send the signal any more.
_LAUNCHER: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""

Process = subprocess.Popen[bytes]


def spawn(command: Sequence[str], output: IO[bytes]) -> Process:
    """Start ``command``, an absolute path and arguments, as a bound child."""
    if sys.platform == "linux":
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER]
        command = [*launcher, str(os.getpid()), *command]
    return _spawner().run(
        lambda: subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Its own session: the terminal's Ctrl-C is not for it.
            start_new_session=True,
        )
    )


def end(process: Process) -> None:
    """End a child with SIGTERM, frozen or not; with SIGKILL if it takes long."""
    if process.poll() is not None:
        return
    process.terminate()
    # A frozen process takes the SIGTERM only when it goes on.
    process.send_signal(signal.SIGCONT)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass(slots=True)
class Remains:
    """What a server leaves behind if nobody stops it."""

    owner_pid: int
    process: Process | None = None
    log: IO[bytes] | None = None
    directory: str | None = None

    def end_process(self) -> None:
        """End the process, keep its folder."""
        if self.process is not None:
            end(self.process)
            self.process = None
        if self.log is not None:
            self.log.close()
            self.log = None

    def remove(self) -> None:
        """End the process and delete its folder."""
        # A child forked from the owner inherits the object, not the server.
        if os.getpid() != self.owner_pid:
            return
        self.end_process()
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory = None


def log_tail(log: IO[bytes]) -> str:
    """Return the last lines of a log, introduced; nothing if it is empty."""
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    return "; its log ends:\n" + "\n".join(lines) if lines else ""


class _Spawner:
    """Runs calls in one thread that lives as long as the process."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Future[Process], Callable[[], Process]]]
        self._calls = queue.SimpleQueue()
        threading.Thread(target=self._work, name="aiodistlock-spawner", daemon=True).start()

    def run(self, call: Callable[[], Process]) -> Process:
        future: Future[Process] = Future()
        self._calls.put((future, call))
        return future.result()

    def _work(self) -> None:
        while True:
            future, call = self._calls.get()
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - raised again in run()
                future.set_exception(error)
            # Or the last Popen would live until the next call.
            del future, call


# By process id: a forked child has none of its parent's threads.
_spawners: dict[int, _Spawner] = {}


def _spawner() -> _Spawner:
    pid = os.getpid()
    if pid not in _spawners:
        _spawners[pid] = _Spawner()
    return _spawners[pid]
