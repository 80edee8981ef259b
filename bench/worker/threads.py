"""The same workloads for a lock that blocks its thread."""

from __future__ import annotations

import threading
import time

from bench.peers.base import ThreadPeer
from bench.worker import channel
from bench.worker.guard import guards
from bench.worker.record import Recorder
from bench.worker.spec import Spec
from bench.worker.warmup import pauses


def cycles(spec: Spec, peer: ThreadPeer) -> None:
    """Measure one worker's cycles; its threads end with the process."""
    recorder = Recorder(spec.tasks)
    shared = guards(spec.tasks, hot=spec.hot, page=spec.page)
    errors: list[Exception] = []

    def work(task: int) -> None:
        guard, body, clock = shared[task], spec.body, time.perf_counter
        name = spec.prefix if spec.hot else f"{spec.prefix}:{spec.number}:{task}"
        who = 1 + spec.number * spec.tasks + task
        lock = peer.lock(name)
        try:
            while True:
                recorder.pending[task] = began = clock()
                with lock:
                    recorder.note(task, began, clock())
                    recorder.pending[task] = 0.0
                    guard.enter(who)
                    if body is not None:
                        time.sleep(body)
                    guard.leave(who)
        except Exception as error:  # noqa: BLE001  # reported to the parent, whatever it is
            errors.append(error)

    for task in range(spec.tasks):
        threading.Thread(target=work, args=(task,), daemon=True).start()
    for pause in pauses(spec, recorder.everybody_had_a_turn):
        if errors:
            raise errors[0]
        time.sleep(pause)
    channel.send({"ready": True})
    if channel.receive() != "go":
        return
    recorder.begin()
    time.sleep(spec.seconds)
    figures = recorder.end()
    if errors:
        raise errors[0]
    channel.send({**figures, "overlaps": sum(guard.overlaps for guard in set(shared))})


def handoff(spec: Spec, peer: ThreadPeer) -> None:
    """Acquire and release at the parent's word; see ``handoff.py``."""
    lock = peer.lock(spec.prefix)
    channel.send({"ready": True})
    while True:
        command = channel.receive()
        if command == "acquire":
            lock.__enter__()
            channel.send({"at": time.monotonic()})
        elif command == "release":
            began = time.monotonic()
            lock.__exit__(None, None, None)
            channel.send({"at": began})
        else:
            return
