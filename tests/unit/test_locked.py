"""Names built from a call's arguments, and the decorator that holds them."""

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from aiodistlock import Lease, LockClient, LockError, locked
from aiodistlock.core.name_template import NameTemplate


@dataclass
class Entry:
    wallet: int
    tags: dict[str, str]


def reconcile(entry: Entry, amount: int = 7, /, note: str = "none", *, dry: bool = False) -> None:
    """Stand for a user's function."""


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("all", "all"),
        ("wallet:{entry.wallet}", "wallet:42"),
        ("{entry.tags[kind]}:{amount}", "hot:7"),
        ("{note}/{dry}", "none/False"),
        ("{note!r:>8}", "  'none'"),
        ("{amount:05d}", "00007"),
        ("{{{entry.wallet}}}:cart", "{42}:cart"),
        ("{note:{amount}}", "none   "),
    ],
)
def test_a_template_is_filled(template: str, filled: str) -> None:
    """Fields take arguments, defaults, attributes and items, with formats."""
    entry = Entry(42, {"kind": "hot"})
    assert NameTemplate(template, reconcile).fill((entry,), {}) == filled


def test_arguments_fill_however_they_are_passed() -> None:
    """By position or by keyword the name is the same."""

    def function(wallet_id: int, other: int = 0) -> None: ...

    template = NameTemplate("wallet:{wallet_id}:{other}", function)
    assert template.fill((1, 2), {}) == "wallet:1:2"
    assert template.fill((1,), {"other": 2}) == "wallet:1:2"
    assert template.fill((), {"other": 2, "wallet_id": 1}) == "wallet:1:2"
    with pytest.raises(TypeError):
        template.fill((), {})


@pytest.mark.parametrize(
    "template",
    [
        *("{wallet_id}", "{entry.wallet}:{wallet_id}", "{}", "{0}", "{args}", "{kwargs}"),
        *("{entry", "}", "{", "", "{note!x}", "{note:{unknown}}"),
    ],
)
def test_a_wrong_template_is_refused_when_decorating(template: str) -> None:
    """A field that is no parameter, or a malformed template, is a ``ValueError`` early."""

    async def function(entry: Entry, *args: int, note: str = "", **kwargs: int) -> None: ...

    with pytest.raises(ValueError, match="template"):
        locked(template, LockClient.in_memory())(function)


async def test_calls_exclude_each_other_by_name() -> None:
    """Calls with the same name run one after the other, others side by side."""
    inside: list[int] = []
    most = 0
    async with LockClient.in_memory() as client:

        @locked("wallet:{wallet_id}", client, ttl=5.0)
        async def work(wallet_id: int) -> int:
            """Work on a wallet."""
            nonlocal most
            assert wallet_id not in inside
            inside.append(wallet_id)
            most = max(most, len(inside))
            for _ in range(3):
                await asyncio.sleep(0)
            inside.remove(wallet_id)
            return wallet_id * 10

        found = await asyncio.gather(*(work(n % 3) for n in range(9)))
    assert found == [n % 3 * 10 for n in range(9)]
    assert most == 3
    assert work.__name__ == "work"
    assert work.__doc__ == "Work on a wallet."
    assert inspect.iscoroutinefunction(work)


async def test_a_lease_parameter_receives_the_lease() -> None:
    """A parameter called ``lease`` is filled, unless the caller fills it."""
    async with LockClient.in_memory() as client:

        @locked("wallet:{wallet_id}", client)
        async def keyword(wallet_id: int, *, lease: Lease | None = None) -> Lease | None:
            return lease

        @locked("wallet:{wallet_id}", client)
        async def positional(wallet_id: int, lease: Lease | None = None) -> Lease | None:
            return lease

        given = await client.lock("other").acquire()
        for function in (keyword, positional):
            got = await function(1)
            assert isinstance(got, Lease)
            assert got.name == "wallet:1"
            assert await function(1, lease=given) is given
            assert await function(1, lease=None) is None
        assert await positional(1, given) is given


async def test_the_source_may_be_a_function() -> None:
    """A callable is asked at each call, so that modules need no client on import."""
    clients = [LockClient.in_memory(), LockClient.in_memory()]
    asked: list[LockClient] = []

    def source() -> LockClient:
        asked.append(clients[len(asked)])
        return asked[-1]

    @locked("wallet", source)
    async def work() -> None:
        assert await asked[-1].lock("wallet").locked()

    assert asked == []
    await work()
    await work()
    assert asked == clients
    for client in clients:
        await client.aclose()


async def test_methods_may_be_locked() -> None:
    """``self`` is an argument like any other."""
    async with LockClient.in_memory() as client:

        class Service:
            region = "eu"

            @locked("{self.region}:{wallet_id}", client)
            async def work(self, wallet_id: int, *, lease: Lease | None = None) -> str:
                assert lease is not None
                return lease.name

        assert await Service().work(7) == "eu:7"


async def test_what_the_function_raises_passes() -> None:
    """The function's exception leaves the lock free."""
    async with LockClient.in_memory() as client:

        @locked("wallet", client)
        async def work() -> None:
            raise KeyError("mine")

        with pytest.raises(KeyError):
            await work()
        assert not await client.lock("wallet").locked()


async def test_recursion_needs_reentrance() -> None:
    """A function that calls itself under one name says so by ``reentrant=True``."""
    async with LockClient.in_memory() as client:

        def decorated(**options: Any) -> Callable[[int], Any]:
            @locked("wallet", client, **options)
            async def work(depth: int) -> int:
                return depth if depth == 0 else await decorated_work[0](depth - 1)

            decorated_work = [work]
            return work

        assert await decorated(reentrant=True)(3) == 0
        with pytest.raises(LockError, match="reentrant"):
            await decorated()(3)


@pytest.mark.parametrize("function", [reconcile, print, 7, Entry])
def test_only_coroutine_functions_are_decorated(function: Any) -> None:
    """Anything else is a ``TypeError`` on decorating: its body would run unlocked."""
    with pytest.raises(TypeError, match="coroutine"):
        locked("wallet", LockClient.in_memory())(function)


def test_an_async_generator_is_no_coroutine_function() -> None:
    """An asynchronous generator would run outside of the lock, so it is refused."""

    async def generate() -> Any:
        yield 1

    with pytest.raises(TypeError, match="coroutine"):
        locked("wallet", LockClient.in_memory())(generate)


@pytest.mark.parametrize("options", [{"ttl": 0}, {"no_such": 1}, {"timeout": -1}])
def test_wrong_options_are_refused_when_decorating(options: dict[str, Any]) -> None:
    """Options are checked before the first call, also with a late source."""
    (name,) = options
    for source in (LockClient.in_memory(), LockClient.in_memory):
        with pytest.raises(ValueError, match=name):
            locked("wallet", source, **options)


def test_a_wrong_source_is_refused_when_decorating() -> None:
    """What is neither a client nor a function is a ``TypeError``."""
    with pytest.raises(TypeError, match=r"redis\.asyncio\.Redis"):
        locked("wallet", "redis://localhost")  # type: ignore[arg-type]  # wrong: that is the test
