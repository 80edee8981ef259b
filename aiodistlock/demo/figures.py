"""What the acts found, and whether it is what the demo promises."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class NoLock:
    """Act 1."""

    events: int
    deliveries: int
    seconds: float
    events_per_second: float
    lost_updates: int
    applied_twice: int
    wrong_wallets: int
    wrong_cents: int

    @property
    def as_told(self) -> bool:
        """Whether it went wrong as the story says."""
        return self.lost_updates > 0


@dataclass(frozen=True, kw_only=True)
class NaiveSetnx:
    """Act 2. ``ttl`` is what Redis says of the dead holder's key: None, no ttl."""

    events: int
    applied: int
    killed_workers: int
    workers_waiting: int
    seconds_without_progress: float
    wallet: str
    holder: str | None
    ttl: float | None
    dead_lock: bool

    @property
    def as_told(self) -> bool:
        """Whether it went wrong as the story says."""
        return self.dead_lock


@dataclass(frozen=True, kw_only=True)
class AsyncLock:
    """Act 3. Times in the names' units; the lists follow the strikes' order."""

    events: int
    deliveries: int
    redelivered: int
    seconds: float
    events_per_second: float
    finished: bool
    missing_events: int
    lost_updates: int
    applied_twice: int
    wrong_wallets: int
    wrong_cents: int
    killed_workers: int
    frozen_workers: int
    ttl: float
    acquire_p50_ms: float
    acquire_p99_ms: float
    kill_to_next_grant_s: list[float]
    freeze_to_next_grant_s: list[float]
    refused_stale_writes: int
    exact: bool

    @property
    def as_told(self) -> bool:
        """Whether all went well, though everything was done against it."""
        return self.exact and self.refused_stale_writes > 0


@dataclass(frozen=True, kw_only=True)
class ComingBack:
    """Behind the acts: one process, to which every wallet comes back; ``linger`` in seconds."""

    seconds: float
    linger: float
    events_per_second: float
    lingering_events_per_second: float
    exact: bool


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The whole demo."""

    redis: str
    workers: int
    seconds: float
    no_lock: NoLock
    naive_setnx: NaiveSetnx
    async_lock: AsyncLock
    coming_back: ComingBack

    @property
    def as_told(self) -> bool:
        """Whether every act ended as the story says, and no balance was wrong behind them."""
        acts = self.no_lock, self.naive_setnx, self.async_lock
        return all(act.as_told for act in acts) and self.coming_back.exact

    def to_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {**asdict(self), "as_told": self.as_told}
