"""The fixtures that users get: in pytest runs of their own, set up as users have them."""

import os
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.test_docs import files_of

ROOT = Path(__file__).parents[2]

pytest_plugins = ["pytester"]

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run in a process of its own, where the package is installed as its metadata says."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = pyproject["project"]
    # Whatever is installed here: the run sees the entry point as this source has it.
    metadata = pytester.mkdir("site") / "aiodistlock-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: aiodistlock\nVersion: 0\n")
    ((name, module),) = project["entry-points"]["pytest11"].items()
    (metadata / "entry_points.txt").write_text(f"[pytest11]\n{name} = {module}\n")
    for source, module in pyproject["tool"]["hatch"]["build"]["targets"]["wheel"][
        "force-include"
    ].items():
        shutil.copy(ROOT / source, metadata.parent / module)
    path = [str(ROOT), str(metadata.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))

    def run(*args: str) -> pytest.RunResult:
        # Warnings are errors: a socket or task that is left behind is one. But not that
        # pytest-asyncio wants to be told a default.
        strict = ["-W", "error", "-W", "ignore::pytest.PytestDeprecationWarning"]
        strict += ["-p", "no:randomly", "-p", "no:cacheprovider"]
        return pytester.runpytest_subprocess(*strict, *args, timeout=60)

    return run


# What the tests of all runners do; each calls it its own way.
BODIES = """
    import asyncio
    import pytest
    from aiodistlock import LeaseLost, LockClient
    from aiodistlock.testing import ManualClock, lose_lease

    used = []

    async def hold_and_share(distlock):
        assert not await distlock.lock("left behind").locked()
        used.append(await distlock.lock("left behind").acquire())
        async with LockClient.in_memory(share=distlock) as theirs:
            assert await theirs.lock("left behind").try_acquire() is None

    async def expire(distlock, distlock_clock):
        lease = await distlock.lock("wallet", ttl=10.0, auto_renew=False).acquire()
        await distlock_clock.advance(11)
        assert not lease.is_held
        await (await distlock.lock("wallet").acquire(timeout=0)).release()

    async def lose(distlock_redis):
        # What the former test has left is flushed, also the counter.
        assert (await distlock_redis.lock("wallet").inspect()).fencing_token is None
        with pytest.raises(LeaseLost):
            async with distlock_redis.lock("wallet") as lease:
                lose_lease(lease)
                await asyncio.sleep(60)
"""

ASYNC_TESTS = """
    @pytest.mark.{mark}
    @pytest.mark.parametrize("again", [1, 2])
    async def test_memory(distlock, again):
        await hold_and_share(distlock)

    @pytest.mark.{mark}
    async def test_clock(distlock, distlock_clock):
        await expire(distlock, distlock_clock)

    @pytest.mark.{mark}
    @pytest.mark.parametrize("again", [1, 2])
    async def test_redis(distlock_redis, again):
        await lose(distlock_redis)
"""

# Where the loop outlives the test, the client must not.
ONE_LOOP_TESTS = (
    ASYNC_TESTS.format(mark="asyncio(loop_scope='module')")
    + """
    @pytest.mark.asyncio(loop_scope="module")
    async def test_former_clients_are_closed():
        assert len(used) == 2
        assert not any(lease.is_held for lease in used)
        assert asyncio.all_tasks() == {asyncio.current_task()}
"""
)

PLAIN_TESTS = """
    @pytest.mark.parametrize("again", [1, 2])
    def test_memory(distlock, again):
        asyncio.run(hold_and_share(distlock))

    def test_clock(distlock, distlock_clock):
        asyncio.run(expire(distlock, distlock_clock))

    @pytest.mark.parametrize("again", [1, 2])
    def test_redis(distlock_redis, distlock_redis_url, again):
        assert distlock_redis_url.startswith("redis://127.0.0.1:")
        asyncio.run(lose(distlock_redis))

    def test_real_time(distlock):
        async def hold():
            async with distlock.lock("wallet", ttl=1.0):
                await asyncio.sleep(1.1)
        asyncio.run(hold())
"""

ANYIO_BACKEND = """
    @pytest.fixture
    def anyio_backend():
        return "asyncio"
"""


@pytest.fixture
def with_server(redis_binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of this run for the runs in it, too."""
    monkeypatch.setenv("AIODISTLOCK_REDIS_SERVER", str(redis_binary))


@pytest.mark.usefixtures("with_server")
@pytest.mark.parametrize(
    ("tests", "args", "passed"),
    [
        pytest.param(PLAIN_TESTS, ["-p", "no:asyncio", "-p", "no:anyio"], 6, id="neither"),
        pytest.param(
            ASYNC_TESTS.format(mark="asyncio"), ["-p", "no:anyio"], 5, id="pytest-asyncio"
        ),
        pytest.param(ONE_LOOP_TESTS, ["-p", "no:anyio"], 6, id="pytest-asyncio, one loop"),
        pytest.param(
            ANYIO_BACKEND + ASYNC_TESTS.format(mark="anyio"), ["-p", "no:asyncio"], 5, id="anyio"
        ),
    ],
)
def test_the_fixtures_work(
    pytester: pytest.Pytester, run: Run, tests: str, args: list[str], passed: int
) -> None:
    """Under pytest-asyncio, anyio's plugin, or neither; each test has locks of its own."""
    pytester.makepyfile(BODIES + tests)
    run(*args).assert_outcomes(passed=passed)


def test_the_plugin_is_harmless_where_nobody_asks_for_it(
    pytester: pytest.Pytester, run: Run
) -> None:
    """It needs no other plugin, starts no server, and does not even load the package."""
    pytester.makepyfile(
        """
        import sys

        def test_nothing_is_loaded(request):
            assert request.config.pluginmanager.has_plugin("aiodistlock")
            heavy = ("aiodistlock", "redis", "anyio")
            assert [name for name in heavy if name in sys.modules] == []
        """
    )
    plugins = ("-p", "no:asyncio", "-p", "no:anyio", "-p", "no:hypothesispytest")
    done = run(*plugins, "--strict-config", "--strict-markers")
    done.assert_outcomes(passed=1)


def files_to_copy() -> dict[str, str]:
    """Return what users copy: the test files of the page on testing, and examples."""
    page = files_of(ROOT / "docs" / "how-to" / "testing.md")
    blocks = {name: each.code for name, each in page.items() if name.startswith("test_")}
    assert blocks, "no test file in the page"
    examples = {path.name: path.read_text() for path in (ROOT / "examples").glob("test_*.py")}
    assert examples, "no test file in examples"
    return {f"{name[:-3]}_of_page.py": code for name, code in blocks.items()} | examples


def test_what_users_copy_passes(pytester: pytest.Pytester, run: Run) -> None:
    """The tests in the page and in the examples pass as they stand."""
    tests = files_to_copy()
    for name, code in tests.items():
        (pytester.path / name).write_text(code)
    run().assert_outcomes(passed=sum(code.count("def test_") for code in tests.values()))
