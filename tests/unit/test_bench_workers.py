"""What the bench's workers have in common, whatever lock they measure."""

import sys
from collections.abc import Callable

import pytest

pytest.importorskip("matplotlib", reason="needs the dependency group plots")

from bench.peers import catalog
from bench.peers.catalog import PeerInfo, Side
from bench.processes import Worker, WorkerFailed
from bench.worker.spec import Spec
from bench.worker.trouble import in_one_line

Program = Callable[[str], Side]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Program:
    """Let a worker run this program, as the worker of a peer ``broken``."""

    def build(code: str) -> Side:
        command = [sys.executable, "-c", code]
        info = PeerInfo("broken", "broken", "broken", "", command=lambda: command)
        monkeypatch.setitem(catalog.PEERS, "broken", info)
        return Side("broken")

    return build


FAILS = """
import sys, types
peer = types.ModuleType("bench.peers.broken")
def connect(*_):
    raise ExceptionGroup("unhandled errors in a TaskGroup", [OSError("no\\nroute")])
peer.connect = connect
sys.modules[peer.__name__] = peer
import bench.worker.__main__
"""


def test_what_is_inside_a_group_is_told_in_one_line() -> None:
    """The group's text counts errors; the reason is in them."""
    inner = ExceptionGroup("inner", [OSError("no\nroute"), ValueError("later")])
    assert in_one_line(ExceptionGroup("outer", [inner])) == "OSError: no route"
    assert in_one_line(TimeoutError()) == "TimeoutError"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (FAILS, "OSError: no route"),
        (
            "input(); raise ExceptionGroup('outer', [OSError('no route')])",
            "code 1: OSError: no route",
        ),
    ],
)
def test_why_a_worker_failed_reaches_the_parent(program: Program, code: str, told: str) -> None:
    """Whether the worker tells it, or ends without a word."""
    with (
        pytest.raises(WorkerFailed, match=f"{told}$"),
        Worker(program(code), Spec("cycles", "", "")) as worker,
    ):
        worker.hear()
