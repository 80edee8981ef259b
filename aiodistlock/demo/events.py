"""Ledger events: what a line must look like, and the sample stream."""

from __future__ import annotations

import codecs
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Final

from aiodistlock.console.errors import CommandError
from aiodistlock.core.keys import LockKeys

SAMPLE_SIZE: Final = 20_000
SAMPLE_SEED: Final = 42
_SAMPLE_WALLETS: Final = 1_000

# SQLite integers have 64 bits: a million events of this size still fit.
_LARGEST_AMOUNT: Final = 10**12


@dataclass(frozen=True, slots=True)
class Event:
    """One movement of money: ``amount`` cents into (or, negative, out of) a wallet."""

    event_id: str
    wallet: str
    amount: int

    def to_line(self) -> str:
        """Write the event as one line of JSON, without the line's end."""
        fields = {"event_id": self.event_id, "wallet": self.wallet}
        return json.dumps({**fields, "amount": self.amount}, separators=(",", ":"))


def load_events(path: Path) -> list[Event]:
    """Read and check a whole file, so that a bad line stops all before it starts.

    Blank lines are skipped, further fields of a line ignored.

    :raises CommandError: if the file cannot be read, has no event, has a malformed
        line, or uses an event id twice; names the file and the line
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read events: {path}: {error.strerror}") from None
    events: list[Event] = []
    first_lines: dict[str, int] = {}
    lines = content.removeprefix(codecs.BOM_UTF8).split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            event = parse_event(line)
        except ValueError as error:
            raise CommandError(f"malformed event: {path}:{number}: {error}") from None
        first = first_lines.setdefault(event.event_id, number)
        if first != number:
            told = f"event_id {event.event_id!r} stands on line {first} already"
            raise CommandError(f"malformed event: {path}:{number}: {told}")
        events.append(event)
    if not events:
        raise CommandError(f"no events in {path}")
    return events


def parse_event(line: bytes) -> Event:
    """Parse one line of JSON.

    :raises ValueError: saying what is wrong with it, without the line's number
    """
    try:
        fields = json.loads(line.decode())
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError):
        # A number of thousands of digits, or brackets nested as deep.
        raise ValueError("not JSON that can be read") from None
    if not isinstance(fields, dict):
        told = "not a JSON object with event_id, wallet and amount"
        raise ValueError(told)  # noqa: TRY004 - one kind of error for a bad line
    event_id = _text(fields, "event_id")
    wallet = _text(fields, "wallet")
    LockKeys(wallet, "")  # the wallet names a lock: a ValueError says why it cannot
    return Event(event_id, wallet, _amount(fields))


def _text(fields: dict[str, object], field: str) -> str:
    value = _field(fields, field)
    # Printable, because it is shown in a terminal; and so it has a UTF-8 form.
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError(f"{field} must be printable text, got {_shown(value)}")
    return value


def _amount(fields: dict[str, object]) -> int:
    value = _field(fields, "amount")
    if isinstance(value, bool) or not isinstance(value, int):
        told = f"amount must be whole cents, got {_shown(value)}"
        raise ValueError(told)  # noqa: TRY004 - one kind of error for a bad line
    if abs(value) > _LARGEST_AMOUNT:
        raise ValueError(f"amount must be at most {_LARGEST_AMOUNT} cents either way")
    return value


def _field(fields: dict[str, object], field: str) -> object:
    if field not in fields:
        raise ValueError(f"{field} is missing")
    return fields[field]


def _shown(value: object) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."


def true_balances(events: Iterable[Event]) -> dict[str, tuple[int, int]]:
    """Add up what each wallet must hold: its balance, and how many updates made it."""
    totals: dict[str, tuple[int, int]] = {}
    for event in events:
        balance, updates = totals.get(event.wallet, (0, 0))
        totals[event.wallet] = balance + event.amount, updates + 1
    return totals


def sample_events(size: int = SAMPLE_SIZE, seed: int = SAMPLE_SEED) -> Iterator[Event]:
    """Generate the sample stream: skewed to hot wallets, the same on every machine.

    Zipf's law over 1,000 wallets: the hottest gets 13 % of the events, half of
    the wallets 6 or fewer each. Only ``Random.random`` is used, whose sequence
    Python promises to keep, and integer weights, which round nowhere.
    """
    rng = Random(seed)
    weights = [1_000_000 // rank for rank in range(1, _SAMPLE_WALLETS + 1)]
    bounds = list(accumulate(weights))
    for number in range(1, size + 1):
        wallet = bisect_right(bounds, int(rng.random() * bounds[-1])) + 1
        cents = 1 + int(rng.random() * 50_000)
        # More comes in than goes out, so that hot balances grow.
        sign = -1 if rng.random() < 0.4 else 1
        yield Event(f"evt-{number:06d}", f"wallet-{wallet:04d}", sign * cents)
