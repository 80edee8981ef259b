"""Spans and metrics, as an exporter gets them."""

# ruff: noqa: PT012 - how a whole block ends is what is tested

import asyncio
import logging
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
from anyio import fail_after
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from redis.asyncio import Redis

from aiodistlock import (
    AcquireTimeout,
    AsyncLock,
    LeaseLost,
    LockClient,
    LockEvent,
    Run,
    Semaphore,
    StoreUnavailable,
)
from aiodistlock.integrations.opentelemetry import Telemetry, instrument, uninstrument
from aiodistlock.testing import ManualClock
from aiodistlock.testing.discovery import free_port
from tests.faults.world import lose
from tests.redis.clients import closing


class Backend:
    """What was exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.traces = TracerProvider()
        self.traces.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.options: dict[str, Any] = {
            "tracer_provider": self.traces,
            "meter_provider": MeterProvider([self.reader]),
        }

    @property
    def spans(self) -> list[ReadableSpan]:
        """All finished spans, in the order of their ends."""
        return list(self.exporter.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        """The one span of a name."""
        (span,) = [each for each in self.spans if each.name == name]
        return span

    def points(self) -> dict[str, dict[tuple[str, ...], Any]]:
        """What was measured: by metric, and by its attributes, but that it is of a lock."""
        data = self.reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: {
                tuple(
                    str(value)
                    for attribute, value in sorted((point.attributes or {}).items())
                    if (attribute, value) != ("aiodistlock.kind", "lock")
                ): point
                for point in metric.data.data_points
            }
            for each in data.resource_metrics
            for scope in each.scope_metrics
            for metric in scope.metrics
        }

    def counts(self, metric: str) -> dict[tuple[str, ...], float]:
        """The figures of a counter, or how often a histogram was used."""
        points = self.points().get(metric, {})
        return {
            key: point.count if hasattr(point, "count") else point.value
            for key, point in points.items()
        }

    async def until(self, metric: str, key: tuple[str, ...], count: int) -> None:
        """Let the event loop run on until a counter says so."""
        with fail_after(10):
            while self.counts(metric).get(key) != count:
                await asyncio.sleep(0)


@pytest.fixture
def backend() -> Iterator[Backend]:
    """An exporter of the test's own."""
    made = Backend()
    yield made
    made.traces.shutdown()


async def test_spans_belong_to_the_caller(backend: Backend) -> None:
    """Of each of several tasks: the events come from elsewhere, the spans stand below theirs."""
    async with LockClient.in_memory() as client:
        instrument(client, **backend.options)
        tracer = backend.traces.get_tracer("test")

        async def visit(task: str) -> None:
            with tracer.start_as_current_span(task):
                async with client.lock("wallet:42"):
                    await asyncio.sleep(0)

        await asyncio.gather(*(visit(f"task {n}") for n in range(3)))
    callers = {span.context.span_id: span for span in backend.spans if span.name[:4] == "task"}
    assert len(callers) == 3
    for what in ("acquire", "hold"):
        spans = [span for span in backend.spans if span.name == f"lock {what} wallet:*"]
        assert {span.parent.span_id for span in spans if span.parent} == callers.keys()
        for span in spans:
            assert span.parent is not None
            caller = callers[span.parent.span_id]
            assert span.context.trace_id == caller.context.trace_id
            assert (caller.start_time or 0) <= (span.start_time or 0)


async def test_the_spans_of_an_acquisition(backend: Backend) -> None:
    """One until it is acquired, one until it is released; no attribute has the token."""
    async with LockClient.in_memory() as client:
        instrument(client, **backend.options)
        async with client.lock("wallet:42", timeout=3.0) as lease:
            token = lease.token
            assert [span.name for span in backend.spans] == ["lock acquire wallet:*"]
    acquire, hold = backend.spans
    assert dict(acquire.attributes or {}) == {
        "aiodistlock.lock.name": "wallet:42",
        "aiodistlock.lock.template": "wallet:*",
        "aiodistlock.kind": "lock",
        "aiodistlock.timeout": 3.0,
        "aiodistlock.source": "redis",
        "aiodistlock.outcome": "acquired",
    }
    assert dict(hold.attributes or {}) == {
        "aiodistlock.lock.name": "wallet:42",
        "aiodistlock.lock.template": "wallet:*",
        "aiodistlock.kind": "lock",
        "aiodistlock.fencing_token": lease.fencing_token,
        "aiodistlock.outcome": "released",
    }
    assert acquire.status.status_code is hold.status.status_code is StatusCode.UNSET
    assert 0 < (acquire.end_time or 0) <= (hold.start_time or 0)
    assert token not in "".join(span.to_json() for span in backend.spans)


async def test_what_a_lease_is_for_is_told(backend: Backend) -> None:
    """By an attribute of each span and metric: who waits to lead is no lock that is slow."""
    terms: list[int] = []

    async def job(run: Run) -> None:
        terms.append(run.fencing_token)

    async with LockClient.in_memory() as client:
        instrument(client, **backend.options)
        async with client.election("leader").lead() as term:
            terms.append(term.fencing_token)
        await client.once("job").run(job, window=1)
        async with client.together("one", "two"), client.semaphore("gpu", 2):
            pass
        doc, page = client.rwlock("doc"), client.rwlock("page")
        async with doc.read(), page.write():
            pass
    kinds = {
        "leader": "election",
        "job": "once",
        "one": "lock",
        "two": "lock",
        "gpu": "semaphore",
        "doc": "read",
        "page": "write",
    }
    for what in ("acquire", "hold"):
        spans = [each for each in backend.spans if each.name.startswith(f"lock {what}")]
        told = {
            (each.name.split()[-1], dict(each.attributes or {})["aiodistlock.kind"])
            for each in spans
        }
        assert told == set(kinds.items())
    held = {
        span.name: dict(span.attributes or {}).get("aiodistlock.fencing_token")
        for span in backend.spans
    }
    assert [held["lock hold leader"], held["lock hold job"]] == terms
    waits = backend.points()["aiodistlock.wait.duration"]
    own = {(kind, name, "acquired") for name, kind in kinds.items() if kind != "lock"}
    assert waits.keys() == own | {("one", "acquired"), ("two", "acquired")}


async def test_whole_names_may_be_kept_out_of_spans(backend: Backend) -> None:
    """Where names are personal data."""
    async with LockClient.in_memory() as client:
        instrument(client, whole_names=False, fold=["user:{email}"], **backend.options)
        async with client.lock("user:alice@example.org"):
            pass
    assert [span.name for span in backend.spans] == [
        "lock acquire user:{email}",
        "lock hold user:{email}",
    ]
    assert "alice" not in "".join(span.to_json() for span in backend.spans)
    assert "alice" not in repr(backend.points())


async def test_a_loss_is_an_error(backend: Backend) -> None:
    """Its span has the event with the reason, and the status; the hold counts as lost."""
    async with LockClient.in_memory() as client:
        instrument(client, **backend.options)
        with pytest.raises(LeaseLost):
            async with client.lock("n") as lease:
                lose(lease, "said the test")
                await asyncio.sleep(20)
    hold = backend.span("lock hold n")
    assert hold.status.status_code is StatusCode.ERROR
    (event,) = hold.events
    assert (event.name, dict(event.attributes or {})) == (
        "lost",
        {"aiodistlock.reason": "said the test"},
    )
    assert (hold.attributes or {})["error.type"] == "LeaseLost"
    assert backend.counts("aiodistlock.hold.duration") == {("n", "lost"): 1}
    assert backend.counts("aiodistlock.leases") == {("n",): 0}


async def test_an_unavailable_redis_is_an_error(backend: Backend) -> None:
    """The acquisition's span says so, without what was sent or the password."""
    url = f"redis://:hunter2@127.0.0.1:{free_port()}"
    async with LockClient.from_url(url, unavailable_after=0.3) as client:
        instrument(client, **backend.options)
        with pytest.raises(StoreUnavailable):
            await client.lock("n").acquire()
    acquire = backend.span("lock acquire n")
    assert acquire.status.status_code is StatusCode.ERROR
    assert (acquire.attributes or {})["error.type"] == "ConnectionError"
    assert "hunter2" not in acquire.to_json()
    assert backend.counts("aiodistlock.acquisitions") == {("n", "unavailable"): 1}


async def test_the_metrics(backend: Backend) -> None:
    """Waits and holds in seconds, outcomes, hand-offs, and what is under way at this moment."""
    clock = ManualClock()  # the hand-offs must come within their span
    async with (
        LockClient.in_memory(clock=clock) as here,
        LockClient.in_memory(share=here) as there,
    ):
        telemetry = Telemetry(**backend.options)
        for client in (here, there):
            client.add_listener(telemetry)
        async with here.lock("wallet:1") as lease:
            local = asyncio.create_task(_visit(here, "wallet:1"))
            remote = asyncio.create_task(_visit(there, "wallet:1"))
            late = asyncio.create_task(here.lock("wallet:1").acquire(timeout=0.01))
            assert await here.lock("wallet:1").try_acquire() is None
            await clock.advance(0.02)
            with pytest.raises(AcquireTimeout):
                await late
            await lease.extend(20.0)
            assert backend.counts("aiodistlock.waiters") == {("wallet:*",): 2}
            assert backend.counts("aiodistlock.leases") == {("wallet:*",): 1}
        await asyncio.gather(local, remote)
        async with here.lock("wallet:2"):
            pass
    assert backend.counts("aiodistlock.acquisitions") == {
        ("wallet:*", "acquired"): 4,
        ("wallet:*", "timeout"): 1,
        ("wallet:*", "refused"): 1,
    }
    # Sorted by attribute: the hand-off before the name.
    assert backend.counts("aiodistlock.handoffs") == {
        ("local", "wallet:*"): 1,
        ("remote", "wallet:*"): 1,
    }
    assert backend.counts("aiodistlock.wait.duration")["wallet:*", "acquired"] == 4
    waited = backend.points()["aiodistlock.wait.duration"]["wallet:*", "timeout"].sum
    assert 0.01 <= waited < 5
    assert backend.counts("aiodistlock.hold.duration") == {("wallet:*", "released"): 4}
    # The user's, and the claim of what was granted by message.
    assert backend.counts("aiodistlock.renewal.lag") in ({("wallet:*",): 1}, {("wallet:*",): 2})
    assert set(backend.counts("aiodistlock.waiters").values()) == {0}
    assert set(backend.counts("aiodistlock.leases").values()) == {0}
    assert telemetry._running == {}


async def test_permits_are_measured_each_for_itself(backend: Backend) -> None:
    """Those held and waited for at this moment, hand-offs, how long each took and was held."""
    async with LockClient.in_memory(clock=ManualClock()) as client:
        instrument(client, **backend.options)
        gpus = client.semaphore("gpu:1", 2)
        async with gpus, gpus:
            third = asyncio.create_task(_enter(gpus))
            await backend.until("aiodistlock.waiters", ("semaphore", "gpu:*"), 1)
            assert await gpus.try_acquire() is None
            assert backend.counts("aiodistlock.leases") == {("semaphore", "gpu:*"): 2}
        await third
    assert backend.counts("aiodistlock.acquisitions") == {
        ("semaphore", "gpu:*", "acquired"): 3,
        ("semaphore", "gpu:*", "refused"): 1,
    }
    assert backend.counts("aiodistlock.handoffs") == {("local", "semaphore", "gpu:*"): 1}
    assert backend.counts("aiodistlock.wait.duration")["semaphore", "gpu:*", "acquired"] == 3
    assert backend.counts("aiodistlock.hold.duration") == {("semaphore", "gpu:*", "released"): 3}
    assert backend.counts("aiodistlock.leases") == {("semaphore", "gpu:*"): 0}
    assert backend.counts("aiodistlock.waiters") == {("semaphore", "gpu:*"): 0}


async def test_who_reads_and_who_writes_are_measured_apart(backend: Backend) -> None:
    """Also where one becomes the other."""
    async with LockClient.in_memory() as client:
        instrument(client, **backend.options)
        doc = client.rwlock("doc")
        async with doc.read(), doc.read():
            assert backend.counts("aiodistlock.leases") == {("read", "doc"): 2}
            with pytest.raises(AcquireTimeout):
                await asyncio.create_task(doc.write().acquire(timeout=0.01))
        async with doc.upgradeable() as lease:
            await lease.upgrade()
            assert backend.counts("aiodistlock.leases") == {("read", "doc"): 0, ("write", "doc"): 1}
            await lease.downgrade()
            assert backend.counts("aiodistlock.leases") == {("read", "doc"): 1, ("write", "doc"): 0}
    assert backend.counts("aiodistlock.acquisitions") == {
        ("read", "doc", "acquired"): 4,
        ("write", "doc", "acquired"): 1,
        ("write", "doc", "timeout"): 1,
    }
    assert backend.counts("aiodistlock.hold.duration") == {
        ("read", "doc", "released"): 4,
        ("write", "doc", "released"): 1,
    }
    told = {(span.name, dict(span.attributes or {})["aiodistlock.kind"]) for span in backend.spans}
    assert told == {
        (f"lock {what} doc", kind) for what in ("acquire", "hold") for kind in ("read", "write")
    }


async def test_what_comes_of_leases_that_linger(backend: Backend) -> None:
    """Used again, recalled, used no more, by name; and where each acquisition came from."""
    async with LockClient.in_memory() as here, LockClient.in_memory(share=here) as there:
        telemetry = instrument(here, **backend.options)
        lock = here.lock("n", linger=60.0)
        for _ in range(3):
            await _enter(lock)
        await _visit(there, "n")
        async with lock:
            waiting = asyncio.create_task(_visit(there, "n"))
            await backend.until("aiodistlock.lingering", ("n", "recall"), 2)
        await waiting
        await _enter(lock)
        await here.aclose()
    assert backend.counts("aiodistlock.lingering") == {
        ("n", "hit"): 2,
        ("n", "recall"): 2,
        ("n", "miss"): 1,
    }
    sources = [
        (each.attributes or {})["aiodistlock.source"]
        for each in backend.spans
        if each.name == "lock acquire n"
    ]
    assert sources == ["redis", "lingering", "lingering", "redis", "redis"]
    assert backend.counts("aiodistlock.leases") == {("n",): 0}
    assert telemetry._running == {}


async def test_all_locks_of_the_process_are_instrumented(
    backend: Backend, redis_url: str, namespace: str
) -> None:
    """Also those built on a Redis; and no longer once that is taken back."""
    telemetry = instrument(**backend.options)
    try:
        async with closing(Redis.from_url(redis_url)) as redis:
            async with AsyncLock(redis, "wallet:1", namespace=namespace):
                pass
            uninstrument(telemetry)
            async with AsyncLock(redis, "wallet:1", namespace=namespace):
                pass
    finally:
        uninstrument(telemetry)
    assert backend.counts("aiodistlock.acquisitions") == {("wallet:*", "acquired"): 1}


async def test_one_client_may_be_instrumented(backend: Backend) -> None:
    """And what is under way when that is taken back is told to its end."""
    async with LockClient.in_memory() as client, LockClient.in_memory() as other:
        telemetry = instrument(client, **backend.options)
        await _visit(other, "n")
        async with client.lock("n"):
            uninstrument(telemetry, client)
        await _visit(client, "n")
    assert backend.counts("aiodistlock.hold.duration") == {("n", "released"): 1}
    assert backend.counts("aiodistlock.leases") == {("n",): 0}


async def test_twice_instrumented_is_told_once(backend: Backend) -> None:
    """The process twice, and a client as well: one span each; taken back once, all are."""
    async with LockClient.in_memory() as client, LockClient.in_memory() as other:
        for _ in range(2):
            everywhere = instrument(**backend.options)
            here = instrument(client, fold=str, **backend.options)
        await _visit(client, "n1")
        await _visit(other, "n1")
        assert backend.counts("aiodistlock.acquisitions") == {
            ("n1", "acquired"): 1,
            ("n*", "acquired"): 1,
        }
        assert len(backend.spans) == 4
        uninstrument(everywhere)
        await _visit(other, "n1")
        await _visit(client, "n1")
        assert len(backend.spans) == 6
        uninstrument(here, client)
        await _visit(client, "n1")
    assert len(backend.spans) == 6


@pytest.mark.parametrize("shared", ["tracer_provider", "meter_provider"])
async def test_a_shared_provider_is_told_once(backend: Backend, shared: str) -> None:
    """Of two telemetries with one provider in common, whichever is taken back first."""
    another = Backend()
    async with LockClient.in_memory() as client:
        first = instrument(**backend.options)
        both = {**another.options, shared: backend.options[shared]}
        second = instrument(client, **both)
        for telemetry, whose in ((first, None), (second, client)):
            await _visit(client, "n")
            uninstrument(telemetry, whose)
        await _visit(client, "n")
    spans, counts = len(backend.spans), backend.counts("aiodistlock.acquisitions")
    assert (spans, counts) == (
        (4, {("n", "acquired"): 1}) if shared == "tracer_provider" else (2, {("n", "acquired"): 2})
    )
    another.traces.shutdown()


async def test_other_providers_are_told_as_well(backend: Backend) -> None:
    """Two backends hear of each acquisition once."""
    another = Backend()
    async with LockClient.in_memory() as client:
        instrument(client, **backend.options)
        instrument(client, **another.options)
        await _visit(client, "n")
    assert len(backend.spans) == len(another.spans) == 2
    another.traces.shutdown()


async def test_no_secret_is_told(
    backend: Backend, redis_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither tokens nor the password of the URL: in spans, metrics, log and events."""
    events: list[LockEvent] = []
    caplog.set_level(logging.DEBUG)
    secrets = ["s3cret-never-told"]
    bad = f"redis://:{secrets[0]}@127.0.0.1:{free_port()}"
    async with (
        Redis.from_url(redis_url) as admin,
        LockClient.from_url(redis_url, listeners=[events.append]) as here,
        LockClient.from_url(redis_url, listeners=[events.append]) as there,
        LockClient.from_url(bad, unavailable_after=0.1, listeners=[events.append]) as down,
    ):
        for client in (here, there, down):
            instrument(client, **backend.options)
        locks = [client.lock("wallet:1", namespace=namespace) for client in (here, there)]
        lease = await locks[0].acquire()
        waiting = [asyncio.create_task(lock.acquire()) for lock in locks]
        while not (await locks[0].inspect()).waiters:
            await asyncio.sleep(0)
        with pytest.raises(AcquireTimeout):
            await there.lock("wallet:1", namespace=namespace).acquire(0.02)
        with pytest.raises(StoreUnavailable):
            await down.lock("wallet:1").acquire()
        secrets.append(lease.token)
        await lease.release()
        for each in asyncio.as_completed(waiting):
            lease = await each
            secrets.append(lease.token)
            await lease.extend(20)
            await lease.release()
        lease = await locks[0].acquire()
        secrets.append(lease.token)
        await admin.delete(f"{namespace}wallet:1")
        with pytest.raises(LeaseLost):
            await lease.release()
    told = "".join(span.to_json() for span in backend.spans) + repr(backend.points())
    told += repr(events) + "".join(each.getMessage() for each in caplog.records)
    assert "lost" in told
    for secret in secrets:
        assert secret not in told


async def test_hostile_names_are_told_bounded(backend: Backend) -> None:
    """A name may come of a request; an exporter's screen is somebody's terminal, too."""
    async with LockClient.in_memory() as client:
        instrument(client, fold=str, **backend.options)
        await _visit(client, "\x1b[2J\n" + "x" * 100_000)
    for span in backend.spans:
        for told in (span.name, *map(str, (span.attributes or {}).values())):
            assert told.isprintable()
            assert len(told) <= 1000
    for name, *_ in backend.counts("aiodistlock.acquisitions"):
        assert name.isprintable()


async def test_without_an_sdk_nothing_happens() -> None:
    """The extra needs the API alone, whose providers do nothing."""
    async with LockClient.in_memory() as client:
        instrument(
            client,
            tracer_provider=trace.NoOpTracerProvider(),
        )
        await _visit(client, "n")


async def _enter(lock: AsyncLock | Semaphore) -> None:
    async with lock:
        pass


async def _visit(client: LockClient, name: str) -> None:
    async with client.lock(name):
        pass


def test_several_event_loops_are_told_once_each(backend: Backend) -> None:
    """One after the other and at once, in threads: what is instrumented is the process."""

    async def visits() -> None:
        async with LockClient.in_memory() as client:
            for _ in range(10):
                await _visit(client, "n")

    telemetry = instrument(**backend.options)
    try:
        for _ in range(2):
            asyncio.run(visits())
        threads = [Thread(target=asyncio.run, args=(visits(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        uninstrument(telemetry)
    assert backend.counts("aiodistlock.acquisitions") == {("n", "acquired"): 60}
    assert backend.counts("aiodistlock.leases") == {("n",): 0}
    assert len(backend.spans) == 120


@pytest.mark.parametrize("protocol", [2, 3])
def test_one_redis_object_in_several_loops_is_told_of_in_each(
    backend: Backend, redis_url: str, namespace: str, protocol: int
) -> None:
    """Its shared clients hear of a telemetry from before them, and from after."""
    redis = Redis.from_url(redis_url, protocol=protocol)

    async def visit() -> None:
        async with AsyncLock(redis, "n", namespace=namespace):
            pass
        await redis.aclose()

    asyncio.run(visit())
    telemetry = instrument(**backend.options)
    try:
        asyncio.run(visit())
        asyncio.run(visit())
    finally:
        uninstrument(telemetry)
    assert backend.counts("aiodistlock.acquisitions") == {("n", "acquired"): 2}
