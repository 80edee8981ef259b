"""The protected resource: balances in a real SQLite database.

Fencing: a wallet's row carries the highest fencing token it has seen, and takes
nothing that comes with a lower one. It has to be shown the token at the *read*
already. Else a stale writer could still get in after its successor has read and
before it has written, and the successor would overwrite that: a lost update, with
both tokens in order.

``updates`` is counted up by the same read, compute, write as the balance;
``applied.times`` by SQL, which loses nothing. What the first lacks to the second is
the number of lost updates.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from .events import Event, true_balances

# Another process's transaction takes well under a millisecond; on a machine that
# swaps it may take longer, and an error would be a wrong result of the demo.
_BUSY_SECONDS: Final = 20.0

_SCHEMA: Final = """
PRAGMA journal_mode = WAL;
CREATE TABLE wallets(
    wallet TEXT PRIMARY KEY,
    balance INTEGER NOT NULL DEFAULT 0,
    updates INTEGER NOT NULL DEFAULT 0,
    fence INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE applied(
    event_id TEXT PRIMARY KEY,
    times INTEGER NOT NULL DEFAULT 1
) WITHOUT ROWID;
"""

_READ: Final = """
SELECT balance, updates, EXISTS(SELECT 1 FROM applied WHERE event_id = ?)
FROM wallets WHERE wallet = ?
"""

_WRITE: Final = "UPDATE wallets SET balance = ?, updates = ? WHERE wallet = ?"

_FENCE: Final = "UPDATE wallets SET fence = ? WHERE wallet = ? AND fence < ?"

# "<=", because the read under the same lease has raised the fence to the token.
_FENCED_WRITE: Final = """
UPDATE wallets SET balance = ?, updates = ? WHERE wallet = ? AND fence <= ?
"""

_MARK: Final = """
INSERT INTO applied(event_id) VALUES (?) ON CONFLICT DO UPDATE SET times = times + 1
"""


class Outcome(StrEnum):
    """What became of one delivery of an event."""

    APPLIED = "applied"
    SKIPPED = "skipped"  # it was applied before
    REFUSED = "refused"  # a stale write, by its fencing token


@dataclass(frozen=True, slots=True)
class Row:
    """What the read of read, compute, write saw."""

    balance: int
    updates: int
    applied: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The ledger against the true balances."""

    missing_events: int
    applied_twice: int
    lost_updates: int
    wrong_wallets: int
    wrong_cents: int

    @property
    def exact(self) -> bool:
        """Whether every event is in its balance exactly once."""
        wrong = self.missing_events or self.applied_twice or self.lost_updates
        return not (wrong or self.wrong_wallets)


class Ledger:
    """One connection to the ledger. Synchronous, and for one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(
            path,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        # The ledger lives as long as the demo: it need not survive a power cut.
        self._database.execute("PRAGMA synchronous = OFF")

    @classmethod
    def create(cls, path: Path, events: Iterable[Event]) -> Self:
        """Make a new ledger that knows the wallets, all empty."""
        ledger = cls(path)
        wallets = {event.wallet for event in events}
        ledger._database.executescript(_SCHEMA)
        ledger._database.execute("BEGIN")
        ledger._database.executemany(
            "INSERT INTO wallets(wallet) VALUES (?)", [(wallet,) for wallet in wallets]
        )
        ledger._database.execute("COMMIT")
        return ledger

    def close(self) -> None:
        """Close the connection."""
        self._database.close()

    def read(self, event: Event, fence: int | None) -> Row | None:
        """Read what the event's wallet holds, and whether the event is in it.

        :param fence: the fencing token, from now on the lowest that may write; None
            leaves writing to everybody
        :return: None if the token is out of date
        """
        if fence is not None:
            raised = self._database.execute(_FENCE, (fence, event.wallet, fence))
            if raised.rowcount == 0:
                return None
        found = self._database.execute(_READ, (event.event_id, event.wallet)).fetchone()
        balance, updates, applied = found
        return Row(balance, updates, bool(applied))

    def write(self, event: Event, row: Row, fence: int | None) -> Outcome:
        """Write the balance that was computed from ``row``.

        :param fence: the fencing token; None writes whatever happened meanwhile
        """
        balance, updates = row.balance + event.amount, row.updates + 1
        self._database.execute("BEGIN IMMEDIATE")
        if fence is None:
            self._database.execute(_WRITE, (balance, updates, event.wallet))
        else:
            values = (balance, updates, event.wallet, fence)
            if self._database.execute(_FENCED_WRITE, values).rowcount == 0:
                self._database.execute("ROLLBACK")
                return Outcome.REFUSED
        self._database.execute(_MARK, (event.event_id,))
        self._database.execute("COMMIT")
        return Outcome.APPLIED

    def audit(self, events: Sequence[Event]) -> Audit:
        """Compare the ledger with the true balances of ``events``."""
        truth = true_balances(events)
        rows = self._database.execute("SELECT wallet, balance, updates FROM wallets")
        found = {wallet: (balance, updates) for wallet, balance, updates in rows}
        times = dict(self._database.execute("SELECT event_id, times FROM applied"))
        wrong = [wallet for wallet in truth if found[wallet] != truth[wallet]]
        return Audit(
            missing_events=sum(event.event_id not in times for event in events),
            applied_twice=sum(count > 1 for count in times.values()),
            lost_updates=sum(times.values()) - sum(row[1] for row in found.values()),
            wrong_wallets=len(wrong),
            wrong_cents=sum(abs(truth[w][0] - found[w][0]) for w in wrong),
        )
