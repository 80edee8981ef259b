"""Whom to follow when the sentinels do not say the same."""

import asyncio
from typing import Any, cast

import pytest
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import AuthenticationError

from aiodistlock.deployments.sentinel import sentinels as module
from aiodistlock.deployments.sentinel.sentinel_connection import SentinelAnswer
from aiodistlock.deployments.sentinel.sentinels import Sentinels

A, B = ("10.0.0.1", 6379), ("10.0.0.2", 6379)


class Connection:
    """A sentinel that says what the test wants, or nothing for ever."""

    prompt = True
    address, excuse = "10.0.0.9:26379", "asleep"

    def __init__(self, says: SentinelAnswer | str | None) -> None:
        self.says = says
        self.refused = says == "refuses"

    def ask(self) -> asyncio.Task[SentinelAnswer | None]:
        """Answer, or leave it at that."""

        async def answer() -> SentinelAnswer | None:
            if self.says == "silent":
                await asyncio.sleep(60)
            return self.says if isinstance(self.says, SentinelAnswer) else None

        self.asking = asyncio.create_task(answer())
        return self.asking


class Deployment:
    """Sentinels as they are asked, and where the connection was opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        manager = Sentinel([("host.invalid", 1)])  # type: ignore[no-untyped-call]  # redis-py's
        self.opened: list[tuple[str, int]] = []
        self.sentinels = Sentinels(manager.master_for("mymaster").connection_pool)
        monkeypatch.setattr(module, "open_connection", self._open)
        monkeypatch.setattr(module, "_check_role", self._is_master)
        monkeypatch.setattr(module, "ALL_WITHIN", 0.01)

    async def _open(self, _pool: object, connect: Any, **_options: float) -> None:
        await connect(self)

    async def connect_to(self, address: tuple[str, int]) -> None:
        """Note where to."""
        self.opened.append(address)

    async def _is_master(self, *_: object) -> None: ...

    def say(self, *says: SentinelAnswer | str | None) -> None:
        """Have each sentinel say something."""
        self.sentinels._connections = cast(Any, [Connection(each) for each in says])

    def end(self) -> None:
        """Let go of the silent."""
        for connection in cast("list[Connection]", self.sentinels._connections):
            connection.asking.cancel()


@pytest.fixture
def deployment(monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """Sentinels that have said nothing yet."""
    return Deployment(monkeypatch)


def at(address: tuple[str, int], epoch: int = 5, *, up: bool = True) -> SentinelAnswer:
    """Say where the master is."""
    return SentinelAnswer(epoch, up, address)


@pytest.mark.parametrize(
    ("says", "follows"),
    [
        ((at(A), at(A), at(A)), A),
        ((at(A, 5), at(B, 6), at(A, 5)), B),  # two are cut off, or slow to learn
        ((at(A, 5), "silent", at(B, 6)), B),
        ((at(A), None, None), A),
        ((at(A, up=False), at(A), at(A)), A),  # down for one only
        ((at(A, 5), at(B, 6, up=False)), None),  # the new master is down; the old is none
        ((at(A, up=False), None), None),
        ((None, "refuses"), None),
    ],
)
async def test_the_newest_word_of_all_counts(
    deployment: Deployment, says: tuple[Any, ...], follows: tuple[str, int] | None
) -> None:
    """The highest epoch names the master, if that is up; a silent sentinel holds up nobody."""
    deployment.say(*says)
    if follows is None:
        with pytest.raises(ConnectionError, match="asleep"):
            await deployment.sentinels.open()
    else:
        await deployment.sentinels.open()
        assert deployment.opened == [follows]
    deployment.end()


async def test_only_if_all_refuse_it_is_for_good(deployment: Deployment) -> None:
    """One that is just unreachable may answer yet."""
    deployment.say("refuses", "refuses")
    with pytest.raises(AuthenticationError):
        await deployment.sentinels.open()


@pytest.mark.parametrize(
    ("says", "leaves"),
    [
        ((at(A), at(A), at(A)), False),
        ((at(A), at(A), at(B, 6)), True),  # a failover, of which two have not heard
        ((at(A), at(A), at(B, 6, up=False)), False),
        ((at(B, 4), None, None), False),  # stale, and all that answers
        ((at(B, 4), at(B, 4), "silent"), False),
        ((at(B, 4), at(B, 4), at(B, 4)), True),  # set up anew: all say so
        ((at(B, 0), at(B, 0), at(B, 0)), True),
        ((at(B, 5), at(A, 5), at(A, 5)), False),  # no failover: names of one server, say
        ((at(A, 5, up=False),) * 3, False),  # nowhere to go yet
        ((None, None, None), False),
    ],
)
async def test_a_master_is_left_for_a_newer_one_only(
    deployment: Deployment, says: tuple[Any, ...], leaves: bool
) -> None:
    """A sentinel that is cut off, or names the same server otherwise, moves nobody."""
    deployment.say(at(A), at(A), at(A))
    await deployment.sentinels.open()
    deployment.say(*says)
    assert bool(await deployment.sentinels.leads_elsewhere()) is leaves
    deployment.end()
