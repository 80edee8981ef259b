"""Traces and metrics of locks by OpenTelemetry; ``pip install 'aiodistlock[otel]'``.

::

    from aiodistlock.integrations.opentelemetry import instrument

    instrument()  # all locks of this process, with the global providers

Each acquisition has a span ``lock acquire`` and, if it succeeds, a span ``lock hold``, both
children of the span in which the caller asked for the lock.  ``hold`` is not the current
span in the caller's block: what is done there stands beside it, not below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode

from aiodistlock import (
    Abandoned,
    Acquired,
    HandedOver,
    Lingered,
    LockClient,
    LockEvent,
    Lost,
    Released,
    Renewed,
    Unavailable,
    Waiting,
    __version__,
    add_listener,
    remove_listener,
)
from aiodistlock.core.escaping import MOST_OF_ERROR, shown
from aiodistlock.integrations.folding import Folder

__all__ = ["Telemetry", "instrument", "uninstrument"]

_SCOPE = "aiodistlock"

NAME = "aiodistlock.lock.name"
"""Attribute: the whole name of the lock; on spans only."""
TEMPLATE = "aiodistlock.lock.template"
"""Attribute: the folded name."""
KIND = "aiodistlock.kind"
"""Attribute: what the lease is for: ``lock``, ``once``, ``election``, ``semaphore``, and so on."""
FENCING_TOKEN = "aiodistlock.fencing_token"  # noqa: S105  # what guards the resource; no secret
"""Attribute: the fencing token of the lease; on spans only."""
OUTCOME = "aiodistlock.outcome"
"""Attribute: how a wait or a lease ended."""
HANDOFF = "aiodistlock.handoff"
"""Attribute: ``local`` or ``remote``."""
SOURCE = "aiodistlock.source"
"""Attribute: where a lease was got, ``redis``, ``local`` or ``lingering``; on spans only."""
ERROR_TYPE = "error.type"

# Seconds; from a hand-off in memory to a lease that a batch job holds.
_WAITS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
_HOLDS = (*_WAITS, 60.0, 300.0, 1800.0)


class _Instruments:
    """The metrics; ``docs/how-to`` and the dashboard in ``examples/telemetry`` name them."""

    def __init__(self, provider: metrics.MeterProvider | None) -> None:
        meter = metrics.get_meter(_SCOPE, __version__, provider)
        self.wait = meter.create_histogram(
            "aiodistlock.wait.duration",
            "s",
            "Time from wanting a lock to having it, or to giving up",
            explicit_bucket_boundaries_advisory=_WAITS,
        )
        self.hold = meter.create_histogram(
            "aiodistlock.hold.duration",
            "s",
            "Time for which a lease was held",
            explicit_bucket_boundaries_advisory=_HOLDS,
        )
        self.acquisitions = meter.create_counter(
            "aiodistlock.acquisitions", "{acquisition}", "Attempts to get a lock, by outcome"
        )
        self.handoffs = meter.create_counter(
            "aiodistlock.handoffs", "{handoff}", "Locks that came straight from another holder"
        )
        self.lingered = meter.create_counter(
            "aiodistlock.lingering", "{lease}", "Leases that lingered or were to, by outcome"
        )
        self.lag = meter.create_histogram(
            "aiodistlock.renewal.lag",
            "s",
            "Time from the instant at which a renewal was due to its answer",
            explicit_bucket_boundaries_advisory=_WAITS,
        )
        self.waiters = meter.create_up_down_counter(
            "aiodistlock.waiters", "{task}", "Tasks of this process that want a lock"
        )
        self.held = meter.create_up_down_counter(
            "aiodistlock.leases", "{lease}", "Leases that tasks of this process hold"
        )


@dataclass(slots=True)
class _Acquisition:
    """What is kept of an acquisition until it is over."""

    attributes: Mapping[str, Any]
    """Of its metrics."""
    parent: Context
    """The caller's context."""
    tracer: trace.Tracer
    to: _Instruments
    claims: set[tuple[int, int]]
    """What was put into ``_claimed``."""
    span: Span
    lingers: bool = False
    """Whether it was released, and is kept for what comes of its lease."""


_claimed: set[tuple[int, int]] = set()
"""Provider and acquisition: of several telemetries, the first tells the provider of it."""

_NO_TRACER = trace.NoOpTracer()
_NO_INSTRUMENTS = _Instruments(metrics.NoOpMeterProvider())


class Telemetry:
    """
    A listener that makes spans and metrics; :func:`instrument` registers one.

    No attribute has a lock's token, which proves possession, a password, or the message of an
    error.  The fencing token, a number that proves nothing, is an attribute of ``hold`` spans.

    Those that tell the same providers are equal: a client, or the process, has one of them.  A
    provider that several share hears of each acquisition once.

    :param fold: how names are folded for span names and metrics: a function from a name to
        the folded one, or templates such as ``["wallet:{wallet_id}"]`` (what fits none of
        them is ``other``); default: numbers, UUIDs and hashes become ``*``.  At most 500
        folded names are told apart
    :param whole_names: whether spans have the whole name as an attribute, too
    :param tracer_provider: default the global one
    :param meter_provider: default the global one
    :raises ValueError: if a template is malformed
    """

    def __init__(
        self,
        *,
        fold: Callable[[str], str] | Iterable[str] | None = None,
        whole_names: bool = True,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._fold = Folder(fold)
        self._whole_names = whole_names
        self._tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider)
        self._to = _Instruments(meter_provider)
        self._running: dict[int, _Acquisition] = {}
        self._providers = tracer_provider, meter_provider

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Telemetry):
            return NotImplemented
        return self._told() == other._told()

    def __hash__(self) -> int:
        return hash(Telemetry)  # of the global providers there may be others tomorrow

    def _told(self) -> tuple[object, object]:
        """Return the providers, the global ones as they are now."""
        traces, meters = self._providers
        return traces or trace.get_tracer_provider(), meters or metrics.get_meter_provider()

    def __call__(self, event: LockEvent) -> None:
        """Take note of an event."""
        if isinstance(event, Waiting):
            self._waiting(event)
            return
        found = self._running.get(event.acquisition)
        if found is None:
            return  # begun elsewhere: such as before a fork
        match event:
            case HandedOver(local=local):
                kind = "local" if local else "remote"
                found.to.handoffs.add(1, {**found.attributes, HANDOFF: kind}, found.parent)
                found.span.set_attribute(HANDOFF, kind)
            case Acquired():
                self._acquired(event, found)
            case Renewed(lag=lag):
                found.to.lag.record(lag, found.attributes, found.parent)
            case Lost() | Released():
                self._held(event, found)
            case Lingered(outcome=outcome):
                found.to.lingered.add(1, {**found.attributes, OUTCOME: outcome}, found.parent)
                if found.lingers:
                    self._over(event)
            case Abandoned(reason=reason):
                self._wait_over(event, found, reason)
            case Unavailable(causes=causes):
                found.span.set_attribute(ERROR_TYPE, _kind(causes[0]))
                found.span.set_status(Status(StatusCode.ERROR, "Redis is unavailable"))
                self._wait_over(event, found, "unavailable")

    def _waiting(self, event: Waiting) -> None:
        folded = shown(self._fold(event.name))
        parent = contexts.get_current()
        traced, measured = ((id(provider), event.acquisition) for provider in self._told())
        claims = {traced, measured} - _claimed
        _claimed.update(claims)
        tracer = self._tracer if traced in claims else _NO_TRACER
        to = self._to if measured in claims else _NO_INSTRUMENTS
        attributes = {TEMPLATE: folded, KIND: event.kind}
        span = self._span(tracer, "acquire", event, attributes, parent)
        if event.timeout is not None:
            span.set_attribute("aiodistlock.timeout", event.timeout)
        self._running[event.acquisition] = _Acquisition(
            attributes, parent, tracer, to, claims, span
        )
        to.waiters.add(1, attributes, parent)

    def _span(
        self,
        tracer: trace.Tracer,
        what: str,
        event: LockEvent,
        attributes: Mapping[str, str],
        parent: Context,
    ) -> Span:
        span = tracer.start_span(f"lock {what} {attributes[TEMPLATE]}", parent)
        span.set_attributes(attributes)
        if self._whole_names:
            span.set_attribute(NAME, shown(event.name, MOST_OF_ERROR))
        return span

    def _acquired(self, event: Acquired, found: _Acquisition) -> None:
        found.span.set_attribute(SOURCE, event.source)
        self._end_wait(found, "acquired", event.waited)
        found.to.held.add(1, found.attributes, found.parent)
        found.span = self._span(found.tracer, "hold", event, found.attributes, found.parent)
        found.span.set_attribute(FENCING_TOKEN, event.fencing_token)

    def _over(self, event: LockEvent) -> None:
        _claimed.difference_update(self._running.pop(event.acquisition).claims)

    def _wait_over(self, event: Abandoned | Unavailable, found: _Acquisition, outcome: str) -> None:
        self._over(event)
        self._end_wait(found, outcome, event.waited)

    def _end_wait(self, found: _Acquisition, outcome: str, waited: float) -> None:
        found.span.set_attribute(OUTCOME, outcome)
        found.span.end()
        attributes = {**found.attributes, OUTCOME: outcome}
        found.to.waiters.add(-1, found.attributes, found.parent)
        found.to.acquisitions.add(1, attributes, found.parent)
        found.to.wait.record(waited, attributes, found.parent)

    def _held(self, event: Lost | Released, found: _Acquisition) -> None:
        found.lingers = isinstance(event, Released) and event.lingers
        if not found.lingers:
            self._over(event)
        span = found.span
        outcome = "released"
        if isinstance(event, Lost):
            outcome = "lost"
            span.add_event("lost", {"aiodistlock.reason": shown(event.reason)})
            span.set_status(Status(StatusCode.ERROR, "the lease was lost"))
            span.set_attribute(ERROR_TYPE, "LeaseLost")
        elif event.cause is not None:
            outcome = "unconfirmed"
            span.set_attribute(ERROR_TYPE, _kind(event.cause))
        span.set_attribute(OUTCOME, outcome)
        span.end()
        found.to.held.add(-1, found.attributes, found.parent)
        found.to.hold.record(event.held, {**found.attributes, OUTCOME: outcome}, found.parent)


def _kind(error: Exception) -> str:
    # The class alone: its message may quote what was sent.
    return type(error).__name__


def instrument(client: LockClient | None = None, **options: Any) -> Telemetry:
    """
    Have all locks of this process traced and measured, or those of one client.

    Once is enough: where a listener tells the same providers already, another call changes
    nothing, and one :func:`uninstrument` takes all of them back.  A client's own, with its
    ``options``, goes before that of the process.

    :param client: the only one; ``None``: all, also those built right on a ``Redis``
    :param options: options of :class:`Telemetry`
    :raises ValueError: if a template is malformed
    """
    telemetry = Telemetry(**options)
    if client is None:
        add_listener(telemetry)
    else:
        client.add_listener(telemetry)
    return telemetry


def uninstrument(telemetry: Telemetry, client: LockClient | None = None) -> None:
    """
    Trace and measure no more acquisitions; those under way are, to their end.

    :param client: the client that was passed to :func:`instrument`
    """
    if client is None:
        remove_listener(telemetry)
    else:
        client.remove_listener(telemetry)
