"""The three acts."""

from __future__ import annotations

import time
from typing import Final

import anyio

from aiodistlock.console.errors import CommandError
from aiodistlock.console.numbers import counted, quantile

from . import server
from .chaos import Kind, Strike
from .figures import AsyncLock, NaiveSetnx, NoLock
from .messages import Act
from .performance import Performance, Stage, perform

# The first two acts make their point with part of the stream.
_NO_LOCK_EVENTS: Final = 4_000
_NAIVE_EVENTS: Final = 2_000

# So long without any event applied, on a key without ttl, is called a dead-lock.
_DEAD_LOCK_SECONDS: Final = 2.0

# An act that is not over by then is over.
_LONGEST_ACT: Final = 120.0


async def no_lock(stage: Stage) -> NoLock:
    """Act 1: read, compute, write with nothing around it."""
    events = stage.events[:_NO_LOCK_EVENTS]
    stage.reporter.begin(
        1,
        "no lock",
        f"{counted(stage.workers, 'worker')} apply {len(events):,} events: read the "
        "balance, check for fraud, write the new balance.",
    )
    async with perform(stage, Act.NO_LOCK, events) as performance:
        await _play(performance)
        await performance.fleet.finish()
    audit = performance.audit()
    figures = NoLock(
        events=len(events),
        deliveries=performance.deliveries.made,
        seconds=round(performance.seconds, 3),
        events_per_second=_rate(performance),
        lost_updates=audit.lost_updates,
        applied_twice=audit.applied_twice,
        wrong_wallets=audit.wrong_wallets,
        wrong_cents=audit.wrong_cents,
    )
    told = "No update was lost: these events do not meet on the same wallets."
    if figures.as_told:
        told = (
            f"{counted(figures.lost_updates, 'update')} lost, "
            f"{counted(figures.applied_twice, 'event')} applied twice, "
            f"{counted(figures.wrong_wallets, 'balance')} wrong, by "
            f"{figures.wrong_cents / 100:,.2f} in all."
        )
    stage.reporter.end(not figures.as_told, told)
    return figures


async def naive_setnx(stage: Stage) -> NaiveSetnx:
    """Act 2: SET NX without a ttl, and a crash inside the critical section."""
    events = stage.events[:_NAIVE_EVENTS]
    stage.reporter.begin(
        2,
        "naive SETNX",
        "The same inside SET NX and DEL, without a ttl. Then one worker crashes "
        "inside the critical section.",
    )
    async with perform(stage, Act.NAIVE_SETNX, events, [Kind.KILL]) as performance:
        stuck = await _watch_for_dead_lock(performance)
        if not performance.chaos.strikes:
            raise CommandError(f"no worker got inside within {_LONGEST_ACT:g} s")
        strike = performance.chaos.strikes[0]
        key = performance.namespace + strike.wallet
        holder, ttl = await server.holder(stage.redis_url, key)
        waiting = [w for w in performance.fleet.running if w.alive]
    held_by_dead = holder is not None and holder.endswith(f":{strike.victim.pid}")
    dead_lock = stuck > 0 and held_by_dead and ttl is None
    if dead_lock:
        told = (
            f"Dead-lock: nothing was applied for {stuck:.1f} s. The key of "
            f"{strike.wallet} belongs to {holder}, which is dead, and has no ttl: "
            f"the fleet of {counted(len(waiting), 'worker')} waits for ever."
        )
    else:
        told = "No dead-lock: nobody needed the dead worker's lock."
    stage.reporter.end(not dead_lock, told)
    return NaiveSetnx(
        events=len(events),
        applied=performance.deliveries.done,
        killed_workers=len(performance.chaos.strikes),
        workers_waiting=len(waiting),
        seconds_without_progress=round(stuck, 3),
        wallet=strike.wallet,
        holder=holder,
        ttl=ttl,
        dead_lock=dead_lock,
    )


async def async_lock(stage: Stage) -> AsyncLock:
    """Act 3: AsyncLock, two workers killed and one frozen inside."""
    stage.reporter.begin(
        3,
        "AsyncLock",
        f"The same inside AsyncLock, ttl {stage.ttl:g} s, with all "
        f"{len(stage.events):,} events. Two workers get killed inside the critical "
        "section, one is frozen there past its ttl.",
    )
    plan = [Kind.KILL, Kind.KILL, Kind.FREEZE]
    async with perform(stage, Act.ASYNC_LOCK, stage.events, plan) as performance:
        finished = await _play(performance)
        if finished:
            await performance.fleet.finish()
    figures = _async_lock_figures(stage, performance, finished)
    if not finished:
        told = f"Not finished within {_LONGEST_ACT:g} s."
    elif figures.exact:
        told = (
            f"All {figures.events:,} events are applied exactly once, every balance "
            f"is right. Stale writes refused: {figures.refused_stale_writes}."
        )
    else:
        told = (
            f"{counted(figures.wrong_wallets, 'balance')} wrong, "
            f"{counted(figures.lost_updates, 'update')} lost, "
            f"{counted(figures.applied_twice, 'event')} applied twice, "
            f"{counted(figures.missing_events, 'event')} missing."
        )
    stage.reporter.end(figures.as_told, told)
    return figures


async def _play(performance: Performance) -> bool:
    """Play an act to its end; False if it does not come to one."""
    with anyio.move_on_after(_LONGEST_ACT):
        while not performance.finished:
            await performance.tick()
        return True
    return False


async def _watch_for_dead_lock(performance: Performance) -> float:
    """Return how long nothing has moved, 0 if all got done."""
    with anyio.move_on_after(_LONGEST_ACT):
        while not performance.finished:
            await performance.tick()
            still = time.monotonic() - performance.progressed_at
            if performance.chaos.finished and still >= _DEAD_LOCK_SECONDS:
                return still
    return 0.0


def _async_lock_figures(stage: Stage, performance: Performance, finished: bool) -> AsyncLock:
    audit = performance.audit()
    waits = performance.waits or [0]
    strikes = performance.chaos.strikes
    killed = [strike for strike in strikes if strike.kind is Kind.KILL]
    frozen = [strike for strike in strikes if strike.kind is Kind.FREEZE]
    return AsyncLock(
        events=len(stage.events),
        deliveries=performance.deliveries.made,
        redelivered=performance.deliveries.redelivered,
        seconds=round(performance.seconds, 3),
        events_per_second=_rate(performance),
        finished=finished,
        missing_events=audit.missing_events,
        lost_updates=audit.lost_updates,
        applied_twice=audit.applied_twice,
        wrong_wallets=audit.wrong_wallets,
        wrong_cents=audit.wrong_cents,
        killed_workers=len(killed),
        frozen_workers=len(frozen),
        ttl=stage.ttl,
        acquire_p50_ms=round(quantile(waits, 0.50) / 1000, 3),
        acquire_p99_ms=round(quantile(waits, 0.99) / 1000, 3),
        kill_to_next_grant_s=_next_grants(killed),
        freeze_to_next_grant_s=_next_grants(frozen),
        refused_stale_writes=performance.chaos.refused,
        exact=finished and audit.exact,
    )


def _next_grants(strikes: list[Strike]) -> list[float]:
    return [round(s.next_grant, 3) for s in strikes if s.next_grant is not None]


def _rate(performance: Performance) -> float:
    return round(performance.deliveries.done / max(performance.seconds, 0.001), 1)
