"""Options, validated together, once, before any I/O."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, cast

from aiodistlock.core.ack import parse_ack
from aiodistlock.core.backoff import Backoff
from aiodistlock.core.durations import Duration, seconds
from aiodistlock.core.fencing import MAX_LOCAL_HANDOFFS
from aiodistlock.core.validation import refuse
from aiodistlock.core.validity import RENEW_SHARE, relied_on

MIN_TTL = 0.05
"""Shortest lease, seconds: below it a pause of the event loop loses every lease."""

AUTO_LINGER = 0.05
"""For how long leases linger with ``linger="auto"``, seconds."""

MAX_SECONDS = 31_536_000.0
"""Longest duration that any option takes, seconds (a year)."""


def to_ms(duration: float) -> int:
    """Convert seconds to the wire's integer milliseconds, upwards."""
    return math.ceil(duration * 1000)


def duration_problem(
    what: str, value: object, low: float, high: float, optional: bool
) -> str | None:
    """Return what is wrong with a duration, ``None`` if nothing is."""
    if value is None and optional:
        return None
    number = seconds(value)
    if isinstance(number, bool) or not isinstance(number, (int, float)) or math.isnan(number):
        none = " or None" if optional else ""
        return f"{what} must be a number of seconds or a timedelta{none}, not {value!r}"
    if not low <= number <= high:
        return f"{what} must be {low:g} to {high:g} seconds, not {value!r}"
    return None


def _to_seconds(options: object, *durations: str) -> None:
    """Replace the durations of frozen options by seconds."""
    for each in durations:
        object.__setattr__(options, each, seconds(getattr(options, each)))


def timeout_problem(timeout: object, what: str = "timeout") -> str | None:
    """Return what is wrong with how long a caller is willing to wait, ``None`` if nothing is."""
    return duration_problem(what, timeout, 0.0, MAX_SECONDS, optional=True)


def checked_timeout(timeout: Duration | None) -> float | None:
    """
    Return how long a caller is willing to wait, in seconds.

    :raises ValueError: if it is neither ``None`` nor a duration from 0
    """
    if type(timeout) is float and 0.0 <= timeout <= MAX_SECONDS:
        return timeout  # runs for each acquisition with a timeout
    problem = timeout_problem(timeout)
    if problem:
        raise ValueError(problem)
    return seconds(timeout)


def checked_grace(grace: Duration) -> float:
    """
    Return how long something may go on behind its end, in seconds.

    :raises ValueError: if it is no duration from 0
    """
    refuse([duration_problem("grace", grace, 0.0, MAX_SECONDS, optional=False)])
    return seconds(grace)


def ttl_problem(ttl: object) -> str | None:
    """Return what is wrong with the length of a lease, ``None`` if nothing is."""
    return duration_problem("ttl", ttl, MIN_TTL, MAX_SECONDS, optional=False)


Kind = Literal["lock", "once", "election", "semaphore", "read", "write"]
"""What a lease is for, as listeners are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockOptions:
    """
    What a lock does; :class:`~aiodistlock.AsyncLock` documents each option.

    :raises ValueError: naming every option that is wrong, and what it must be
    """

    ttl: float = 10.0
    auto_renew: bool = True
    timeout: float | None = None
    max_hold: float | None = None
    on_lost: Literal["cancel", "signal"] = "cancel"
    local_handoffs: int = 128
    backoff: Backoff = field(default_factory=Backoff)
    namespace: str = "lock:"
    reentrant: bool = False
    ack: str = "local"
    linger: float = 0.0
    foreign_backoff: Backoff | None = None
    """Pauses while the holder is one who wakes nobody; default ``backoff``."""
    claim_window: float = 1.0
    """The client's."""
    kind: Kind = "lock"
    """What its leases are for."""
    ttl_ms: int = field(init=False)
    """The one conversion of ``ttl`` to what the wire carries."""
    grant_ttl_ms: int = field(init=False)
    """
    The ttl to ask a grant for: short, so that a frozen waiter costs others no more than
    the claim window; but whole if nobody will renew it.
    """
    linger_auto: bool = field(init=False, default=False)
    """Whether a name lingers only where that has been seen to pay."""
    relied_on: float = field(init=False)
    """For how long after its request a lease may be relied on, seconds."""
    renewed_before: float = field(init=False)
    """How long before its deadline a lease is renewed, seconds; 0.0: it is not."""

    def __post_init__(self) -> None:
        if cast(object, self.linger) == "auto":
            object.__setattr__(self, "linger", AUTO_LINGER)
            object.__setattr__(self, "linger_auto", True)
        problems = [
            ttl_problem(self.ttl),
            timeout_problem(self.timeout),
            duration_problem("max_hold", self.max_hold, MIN_TTL, MAX_SECONDS, optional=True),
            duration_problem("linger", self.linger, 0.0, MAX_SECONDS, optional=False),
        ]
        problems += [
            f"{what} must be True or False, not {getattr(self, what)!r}"
            for what in ("auto_renew", "reentrant")
            if not isinstance(getattr(self, what), bool)
        ]
        if self.on_lost not in ("cancel", "signal"):
            problems.append(f"on_lost must be 'cancel' or 'signal', not {self.on_lost!r}")
        if type(self.local_handoffs) is not int or not (
            0 <= self.local_handoffs <= MAX_LOCAL_HANDOFFS
        ):
            problems.append(
                f"local_handoffs must be an integer from 0 (off) to {MAX_LOCAL_HANDOFFS}, "
                f"not {self.local_handoffs!r}"
            )
        if not isinstance(cast(object, self.backoff), Backoff):
            problems.append(f"backoff must be a Backoff(...), not {self.backoff!r}")
        try:
            parse_ack(self.ack)
        except ValueError as error:
            problems.append(str(error))
        refuse(problems)
        _to_seconds(self, "ttl", "timeout", "max_hold", "linger")
        if self.linger:
            refuse(self._against_lingering())
        object.__setattr__(self, "ttl_ms", to_ms(self.ttl))
        window_ms = to_ms(self.claim_window) if self.auto_renew else self.ttl_ms
        object.__setattr__(self, "grant_ttl_ms", min(self.ttl_ms, window_ms))
        object.__setattr__(self, "relied_on", relied_on(self.ttl))
        renewed_before = self.ttl * (1 - RENEW_SHARE) if self.auto_renew else 0.0
        object.__setattr__(self, "renewed_before", renewed_before)

    def _against_lingering(self) -> list[str]:
        """Return what is set so that a released lease cannot stay with the process."""
        said = {
            "auto_renew=True": self.auto_renew,
            "local_handoffs above 0": self.local_handoffs > 0,
            "ack='local'": self.ack == "local",
        }
        return [f"linger={self.linger:g} needs {what}" for what, is_so in said.items() if not is_so]

    @property
    def shares_lease(self) -> bool:
        """
        Whether local waiters may take over this process's lease in memory.

        A lease that is not renewed must be granted with its whole ttl, and only the
        server can do that.
        """
        return self.local_handoffs > 0 and self.auto_renew


@lru_cache(maxsize=256, typed=True)
def _shared(**options: Any) -> LockOptions:
    return LockOptions(**options)


def lock_options(options: dict[str, Any]) -> LockOptions:
    """
    Return the options of a lock, one object for all locks that have the same.

    :raises ValueError: as :class:`LockOptions`
    """
    try:
        return _shared(**options)
    except TypeError:
        return LockOptions(**options)  # not hashable: most likely wrong, and this says so


_LABEL = re.compile(r"[!-z|~]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """
    What all locks on one Redis share; :class:`~aiodistlock.LockClient` documents each.

    :raises ValueError: naming every option that is wrong, and what it must be
    """

    label: str | None = None
    unavailable_after: float = 30.0
    claim_window: float = 1.0
    handoff_span: float = 0.05
    quarantine: float = 60.0

    def __post_init__(self) -> None:
        problems = [
            duration_problem("unavailable_after", self.unavailable_after, 0.05, MAX_SECONDS, False),
            duration_problem("claim_window", self.claim_window, MIN_TTL, MAX_SECONDS, False),
            duration_problem("handoff_span", self.handoff_span, 0.0, MAX_SECONDS, False),
            duration_problem("quarantine", self.quarantine, MIN_TTL, MAX_SECONDS, False),
        ]
        # The label opens every token, which travels as one word of a message, and the name of
        # the inbox, whose slot on a Cluster braces decide.
        label = cast(object, self.label)
        if label is not None and not (isinstance(label, str) and _LABEL.fullmatch(label)):
            problems.append(
                "label must be 1 to 128 printable ASCII characters without spaces "
                f"and braces, not {self.label!r}"
            )
        refuse(problems)
        _to_seconds(self, "unavailable_after", "claim_window", "handoff_span", "quarantine")

    def too_long(self, ttl: object, *, quorum: bool = False) -> list[str]:
        """
        Return why a lease may not be so long on this client, if anything speaks against it.

        A node of a quorum could count again before a lease that it has forgotten is over.

        :param ttl: seconds; what is none is another's to complain of
        :param quorum: whether the locks are kept on several nodes
        """
        length = seconds(ttl)
        if not quorum or ttl_problem(ttl) or not isinstance(length, (int, float)):
            return []
        problem = (
            f"ttl {length:g} s must not exceed the quarantine of {self.quarantine:g} s of the "
            "LockClient: a node that lost its data counts again after that"
        )
        return [problem] if length > self.quarantine else []

    def checked_ttl(self, ttl: Duration, *, quorum: bool = False) -> float:
        """
        Return the length of a lease on this client, in seconds.

        :param quorum: whether the locks are kept on several nodes
        :raises ValueError: if it is no duration from ``MIN_TTL``, or too long for the client
        """
        refuse([ttl_problem(ttl), *self.too_long(ttl, quorum=quorum)])
        return seconds(ttl)
