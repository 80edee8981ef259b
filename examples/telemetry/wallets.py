"""Spans and metrics of locks: workers that contend for a few wallets.

By itself it prints what it measured.  With a collector it fills the dashboard:

    docker compose --profile single --profile telemetry up -d
    pip install 'aiodistlock[otel]' opentelemetry-sdk opentelemetry-exporter-otlp-proto-http
    OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 python examples/telemetry/wallets.py 600
    open http://localhost:3000
"""

import asyncio
import os
import random
import sys
from itertools import chain

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    InMemoryMetricReader,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from aiodistlock import LockClient, LockError
from aiodistlock.integrations.opentelemetry import instrument

tracer = trace.get_tracer("wallets")


def set_up() -> MetricReader:
    """Set the global providers, as a program does once when it starts."""
    resource = Resource.create({"service.name": "wallets"})
    traces = TracerProvider(resource=resource)
    reader: MetricReader
    if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(), 5_000)
    else:
        reader = InMemoryMetricReader()
    trace.set_tracer_provider(traces)
    metrics.set_meter_provider(MeterProvider([reader], resource))
    return reader


async def work(locks: LockClient, until: float) -> None:
    """Change one wallet after the other, each under its lock."""
    loop = asyncio.get_running_loop()
    while loop.time() < until:
        with tracer.start_as_current_span("reconcile"):
            try:
                async with locks.lock(f"wallet:{random.randrange(4)}", ttl=5.0, timeout=0.05):
                    # As long as a transaction takes.  What the other client hands over is
                    # renewed at once: the claim, whose lag is that of Redis.
                    await asyncio.sleep(random.choice((0.001, 0.005, 0.02, 0.15)))
            except LockError as error:
                trace.get_current_span().record_exception(error)


async def main(seconds: float) -> None:
    """Run two processes' worth of workers."""
    reader = set_up()
    instrument()  # every lock of this process: wallet:1, wallet:2, ... as "wallet:*"
    url = os.environ.get("REDIS_URL", "redis://localhost:6379")
    until = asyncio.get_running_loop().time() + seconds
    async with LockClient.from_url(url) as here, LockClient.from_url(url) as there:
        await asyncio.gather(*(work(locks, until) for locks in (here, there) for _ in range(6)))
    if isinstance(reader, InMemoryMetricReader):
        show(reader)
    trace.get_tracer_provider().shutdown()  # type: ignore[attr-defined]  # the SDK's has it
    metrics.get_meter_provider().shutdown()  # type: ignore[attr-defined]  # the SDK's has it


def show(reader: InMemoryMetricReader) -> None:
    """Print what was measured, a line for each series."""
    data = reader.get_metrics_data()
    assert data is not None, "something was measured"
    metrics_of = (scope.metrics for each in data.resource_metrics for scope in each.scope_metrics)
    for metric in chain.from_iterable(metrics_of):
        for point in metric.data.data_points:
            kinds = ", ".join(str(value) for value in (point.attributes or {}).values())
            if isinstance(point, HistogramDataPoint):
                figure = f"{point.count} times, {point.sum / point.count:.4f} s on average"
            else:
                figure = f"{getattr(point, 'value', '')}"
            print(f"{metric.name:28} {kinds:24} {figure}")


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0))
