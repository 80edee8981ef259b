"""examples/telemetry: the dashboard shows what the code measures, and its services fit.

Without Docker: that the files agree with the code and with each other is what is tested.
"""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader

from aiodistlock import LockClient
from aiodistlock.integrations.opentelemetry import instrument

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "telemetry"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())[
    "services"
]
OURS = {name: each for name, each in SERVICES.items() if each["profiles"] == ["telemetry"]}


def read(name: str) -> dict[str, Any]:
    """Read one of the folder's YAML files."""
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return loaded


async def measured() -> dict[str, set[str]]:
    """What Prometheus gets of all that can be measured: series, each with its labels."""
    reader = InMemoryMetricReader()
    async with LockClient.in_memory() as client:
        instrument(client, meter_provider=MeterProvider([reader]))
        lock = client.lock("wallet:1")

        async def visit() -> None:
            async with lock as lease:
                await lease.extend(20.0)

        await asyncio.gather(visit(), visit())
        async with client.lock("wallet:2", linger=60.0):
            pass
    data = reader.get_metrics_data()
    assert data is not None
    series: dict[str, set[str]] = {}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        # As the collector's Prometheus exporter names them: OpenTelemetry, "Prometheus and
        # OpenMetrics Compatibility"; a unit in braces is not part of the name.
        name = metric.name.replace(".", "_") + ("_seconds" if metric.unit == "s" else "")
        for point in metric.data.data_points:
            labels = {key.replace(".", "_") for key in point.attributes or {}}
            if isinstance(point, HistogramDataPoint):
                series |= {f"{name}_{each}": labels for each in ("count", "sum")}
                series[f"{name}_bucket"] = {*labels, "le"}
            elif getattr(metric.data, "is_monotonic", False):
                series[f"{name}_total"] = labels
            else:
                series[name] = labels
    return series


def queries() -> list[str]:
    """All queries of the dashboard."""
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [*found, *(each["query"]["query"] for each in DASHBOARD["templating"]["list"])]


def rules() -> list[dict[str, Any]]:
    """All alerts."""
    return [rule for group in read("alerts.yaml")["groups"] for rule in group["rules"]]


def series_in(query: str, series: dict[str, set[str]]) -> set[str]:
    """The series that a query asks for: they exist, and so do the labels that it wants of them."""
    labels = set().union(*series.values())
    names = set(re.findall(r"\baiodistlock_\w+", query))
    assert names <= series.keys() | labels, query
    for metric, selector in re.findall(r"\b(aiodistlock_\w+)\{([^}]*)\}", query):
        assert set(re.findall(r"(\w+)=", selector)) <= series[metric], query
    for grouping in re.findall(r"by \(([^)]*)\)", query):
        used = set().union({"job"}, *(series[name] for name in names & series.keys()))
        assert {each.strip() for each in grouping.split(",")} <= used, query
    return names - labels


async def test_alerts_are_about_what_is_measured() -> None:
    """Each series and label in a rule exists; the runbook has each alert, and nothing is unsaid."""
    series = await measured()
    runbook = (ROOT / "docs" / "how-to" / "runbook.md").read_text()
    assert len(rules()) == 5
    for rule in rules():
        assert series_in(rule["expr"], series)
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert f"`{rule['alert']}`" in runbook


async def test_the_dashboard_shows_what_is_measured() -> None:
    """Each series and label in it exists, and nothing that is measured is left out."""
    series = await measured()
    shown = set().union(*(series_in(query, series) for query in queries()))
    families = {re.sub(r"_(bucket|count|sum)$", "", each) for each in series}
    assert {re.sub(r"_(bucket|count|sum)$", "", each) for each in shown} == families


@pytest.mark.parametrize("title", ["Leases lost, last hour", "Redis unavailable, last hour"])
def test_the_first_event_of_a_kind_counts(title: str) -> None:
    """Its series begins with 1, and Prometheus's rates and increases begin with the second."""
    (panel,) = (each for each in DASHBOARD["panels"] if each["title"] == title)
    (target,) = panel["targets"]
    functions = set(re.findall(r"(\w+)\(", target["expr"]))
    assert functions == {"sum", "max_over_time", "vector"}


def test_the_dashboard_is_sound() -> None:
    """Panels do not overlap, brackets match, every panel asks the datasource that there is."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for grid in (panel["gridPos"] for panel in panels)
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) == 23
    source = read("grafana-datasource.yaml")["datasources"][0]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    for query in queries():
        assert all(query.count(a) == query.count(b) for a, b in ("()", "{}", "[]"))
        for variable in re.findall(r"\$(\w+)", query):
            known = {each["name"] for each in DASHBOARD["templating"]["list"]}
            assert variable in {*known, "__rate_interval"}


def test_the_collector_connects_what_it_has() -> None:
    """Each pipeline's parts are configured, and each configured part is in a pipeline."""
    config = read("collector.yaml")
    pipelines = config["service"]["pipelines"]
    assert set(pipelines) == {"metrics", "traces"}
    for kind in ("receivers", "processors", "exporters"):
        used = {name for pipeline in pipelines.values() for name in pipeline[kind]}
        assert used == set(config[kind])


def test_the_services_reach_each_other() -> None:
    """Program to collector, collector to Prometheus, Prometheus to Grafana: by port and name."""
    assert set(OURS) == {"otel-collector", "prometheus", "grafana"}
    collector = read("collector.yaml")
    otlp = collector["receivers"]["otlp"]["protocols"]
    assert OURS["otel-collector"]["ports"] == ["127.0.0.1:4317-4318:4317-4318"]
    assert [otlp[each]["endpoint"] for each in ("grpc", "http")] == ["0.0.0.0:4317", "0.0.0.0:4318"]
    port = collector["exporters"]["prometheus"]["endpoint"].rpartition(":")[2]
    prometheus = read("prometheus.yaml")
    assert prometheus["rule_files"] == ["alerts.yaml"]
    (job,) = prometheus["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"otel-collector:{port}"]}]
    source = read("grafana-datasource.yaml")["datasources"][0]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    ports = [port for each in OURS.values() for port in each.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", OURS)
def test_what_a_service_mounts_is_there(name: str) -> None:
    """Each file exists, read-only, where the service looks for it."""
    mounted = dict(volume.removesuffix(":ro").split(":") for volume in OURS[name]["volumes"])
    assert all(volume.endswith(":ro") for volume in OURS[name]["volumes"])
    for here in mounted:
        assert (ROOT / here).is_file()
    places = set(mounted.values())
    if name == "otel-collector":
        assert OURS[name]["command"] == [f"--config={places.pop()}"]
    if name == "grafana":
        folder = read("grafana-dashboards.yaml")["providers"][0]["options"]["path"]
        home = OURS[name]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
        assert home in places
        assert home.startswith(f"{folder}/")
