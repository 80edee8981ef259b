"""examples/telemetry: what it says to Prometheus, on a real one that reads a real program."""

import asyncio
import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from opentelemetry.sdk.metrics import MeterProvider
from redis.asyncio import Redis

from aiodistlock import AcquireTimeout, LeaseLost, LockClient, StoreUnavailable
from aiodistlock.integrations.opentelemetry import instrument
from aiodistlock.testing.child import end, spawn
from aiodistlock.testing.discovery import free_port
from tests.faults.world import eventually
from tests.integrations.test_telemetry_files import DASHBOARD, FOLDER, read

exporter = pytest.importorskip("opentelemetry.exporter.prometheus")
clients = pytest.importorskip("prometheus_client")

HERE = Path(__file__).parent

PANELS: dict[str, str] = {
    f"{panel['title']}: {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}
COUNTED = {"Leases lost, last hour": 1, "Redis unavailable, last hour": 1, "Leases held": 1}
"""What the test's program ends up with, by panel."""


def tool(name: str) -> str:
    """Find one of Prometheus's programs; skip where there is none."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} on PATH: Debian's package 'prometheus' has it")
    return found


@pytest.mark.parametrize(
    "words",
    [
        ["check", "config", str(FOLDER / "prometheus.yaml")],
        ["check", "rules", str(FOLDER / "alerts.yaml")],
        ["test", "rules", str(HERE / "alerts_test.yaml")],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_promtool_finds_nothing_wrong(words: list[str]) -> None:
    """The configuration, the rules, and which of them fire on which series."""
    done = subprocess.run(
        [tool("promtool"), *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def offered() -> Iterator[tuple[MeterProvider, int]]:
    """A provider whose metrics Prometheus can read, and the port where."""
    registry = clients.CollectorRegistry()
    provider = MeterProvider([exporter.PrometheusMetricReader(registry=registry)])
    port = free_port()
    server, thread = clients.start_http_server(port, "127.0.0.1", registry)
    yield provider, port
    server.shutdown()
    server.server_close()
    thread.join()
    provider.shutdown()


class Prometheus:
    """One that runs, and answers queries."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def ask(self, path: str, **parameters: str) -> Any:
        """Return what it answers; ``None`` while it does not yet."""
        try:
            answer = await self._http.get(f"/api/v1/{path}", params=parameters)
        except httpx.TransportError:
            return None
        told = answer.json() if answer.status_code in {200, 400, 422} else {"status": "starting"}
        assert told["status"] != "error", told
        return told.get("data")

    async def query(self, expression: str) -> list[float]:
        """Return the values that an expression has now, as a panel of the dashboard asks."""
        expression = expression.replace("$template", ".*").replace("$__rate_interval", "1m")
        told = await self.ask("query", query=expression)
        return [float(each["value"][1]) for each in told["result"]] if told else []


@pytest.fixture
async def prometheus(
    offered: tuple[MeterProvider, int], tmp_path: Path
) -> AsyncIterator[Prometheus]:
    """A Prometheus set up as the example's, that reads the test's own program, and often."""
    binary = tool("prometheus")
    config = read("prometheus.yaml")
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{offered[1]}"]}]
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    shutil.copy(FOLDER / "alerts.yaml", tmp_path)
    address = f"127.0.0.1:{free_port()}"
    command = [
        os.path.realpath(binary),
        f"--config.file={tmp_path / 'prometheus.yaml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (tmp_path / "log").open("wb") as log:
        process = spawn(command, log)
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=10) as http:
            yield Prometheus(http)
    finally:
        end(process)


@asynccontextmanager
async def working(
    url: str, namespace: str, provider: MeterProvider
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """
    Do all that is counted: wait, hold, hand over, come late, linger, lose, find no Redis.

    Yields what waits, holds, hands over and lingers once more; meanwhile a lease is held.
    """
    async with (
        LockClient.from_url(url) as here,
        LockClient.from_url(url) as there,
        LockClient.from_url("redis://127.0.0.1:1", unavailable_after=0.2) as nowhere,
        Redis.from_url(url) as redis,
    ):
        for client in (here, there, nowhere):
            instrument(client, meter_provider=provider)
        mine, theirs = (partial(each.lock, namespace=namespace) for each in (here, there))

        async def visit(client: LockClient) -> None:
            async with client.lock("wallet:1", namespace=namespace) as lease:
                await lease.extend(20.0)

        async def visits() -> None:
            await asyncio.gather(*(visit(each) for each in (here, here, there)))
            for _ in range(2):
                async with mine("wallet:5", linger=5.0):
                    pass

        async def lose() -> None:
            async with mine("wallet:4") as lease:
                await redis.delete(f"{namespace}wallet:4")
                await lease.extend(20.0)

        async with mine("wallet:2"):
            with pytest.raises(AcquireTimeout):
                await theirs("wallet:2").acquire(timeout=0.05)
        with pytest.raises(StoreUnavailable):
            await nowhere.lock("wallet:3").acquire()
        with pytest.raises(LeaseLost):
            await lose()
        async with mine("leader"):
            yield visits


@pytest.mark.bounded(150)
async def test_each_panel_shows_what_happens(
    prometheus: Prometheus, offered: tuple[MeterProvider, int], redis_url: str, namespace: str
) -> None:
    """Each query of the dashboard is answered by figures, and those that count are right."""
    asked, give_up_at = dict(PANELS), time.monotonic() + 90
    assert len(asked) > 15
    async with working(redis_url, namespace, offered[0]) as visits:
        while asked:
            await visits()
            for shown, expression in list(asked.items()):
                # (A quantile of nothing is not a number.)
                if not all(map(math.isnan, await prometheus.query(expression))):
                    del asked[shown]
            assert time.monotonic() < give_up_at, f"no figures: {list(asked)}"
            # A rate takes two readings, a second apart.
            await asyncio.sleep(0.2)
        for title, wanted in COUNTED.items():
            (expression,) = (expr for each, expr in PANELS.items() if each.startswith(title))
            await eventually(partial(prometheus.query, expression), [wanted], within=60)
        (variable,) = DASHBOARD["templating"]["list"]
        found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
        assert found is not None
        values = await prometheus.ask(f"label/{found[2]}/values", **{"match[]": found[1]})
        assert values == ["leader", "wallet:*"]


@pytest.mark.bounded(150)
async def test_alerts_fire_on_what_happens(
    prometheus: Prometheus, offered: tuple[MeterProvider, int], redis_url: str, namespace: str
) -> None:
    """All rules can be evaluated; a lost lease and a Redis that is away are told at once."""
    async with working(redis_url, namespace, offered[0]):
        states: dict[str, str] = {}
        while {states.get(each) for each in ("LockLeaseLost", "LockRedisUnavailable")} != {
            "firing"
        }:
            told = await prometheus.ask("rules") or {"groups": []}
            rules = [rule for group in told["groups"] for rule in group["rules"]]
            assert all(rule["health"] in {"ok", "unknown"} for rule in rules), rules
            states = {rule["name"]: rule["state"] for rule in rules}
            await asyncio.sleep(0.2)
        assert len(states) == 5
