"""The ledger: what it counts, and what its fence refuses."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aiodistlock.demo.events import Event
from aiodistlock.demo.ledger import Ledger, Outcome


def event(number: int, wallet: str = "w1", amount: int = 1) -> Event:
    """Make an event."""
    return Event(f"e{number}", wallet, amount)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A new ledger with one wallet, for two events."""
    made = Ledger.create(tmp_path / "ledger.sqlite3", [event(1), event(2)])
    yield made
    made.close()


def test_one_after_the_other_is_exact(ledger: Ledger) -> None:
    """Reads and writes in turn, with rising tokens, give the true balance."""
    for number in (1, 2):
        row = ledger.read(event(number), number)
        assert row is not None
        assert ledger.write(event(number), row, number) is Outcome.APPLIED
    assert ledger.audit([event(1), event(2)]).exact
    seen = ledger.read(event(1), 3)
    assert seen is not None
    assert seen.applied


def test_a_lost_update_is_counted(ledger: Ledger) -> None:
    """Two reads before two writes, unfenced: one lost update, one wrong balance."""
    rows = [ledger.read(event(number), None) for number in (1, 2)]
    for number, row in zip((1, 2), rows, strict=True):
        assert row is not None
        ledger.write(event(number), row, None)
    audit = ledger.audit([event(1), event(2)])
    assert (audit.lost_updates, audit.wrong_wallets, audit.wrong_cents) == (1, 1, 1)
    assert not audit.exact


def test_an_event_applied_twice_is_counted(ledger: Ledger) -> None:
    """The same event written twice is wrong, though no update is lost."""
    for _ in range(2):
        row = ledger.read(event(1), None)
        assert row is not None
        ledger.write(event(1), row, None)
    audit = ledger.audit([event(1)])
    assert (audit.lost_updates, audit.applied_twice, audit.exact) == (0, 1, False)


def test_a_missing_event_is_counted(ledger: Ledger) -> None:
    """What was never applied is missing and its balance wrong."""
    audit = ledger.audit([event(1), event(2)])
    assert (audit.missing_events, audit.exact) == (2, False)


def test_a_stale_write_is_refused_after_the_successors_write(ledger: Ledger) -> None:
    """Once the successor has written, the stale write changes nothing."""
    stale = ledger.read(event(1), 10)
    fresh = ledger.read(event(2), 20)
    assert stale is not None
    assert fresh is not None
    assert ledger.write(event(2), fresh, 20) is Outcome.APPLIED
    assert ledger.write(event(1), stale, 10) is Outcome.REFUSED
    assert ledger.audit([event(2)]).exact


def test_a_stale_write_is_refused_after_the_successors_read(ledger: Ledger) -> None:
    """Between the successor's read and its write the stale write is refused too.

    If only writes showed their token, this one would be accepted, and then
    overwritten by the successor.
    """
    stale = ledger.read(event(1), 10)
    fresh = ledger.read(event(2), 20)
    assert stale is not None
    assert fresh is not None
    assert ledger.write(event(1), stale, 10) is Outcome.REFUSED
    assert ledger.write(event(2), fresh, 20) is Outcome.APPLIED
    assert ledger.audit([event(2)]).exact


def test_a_stale_read_is_refused(ledger: Ledger) -> None:
    """A token below the highest that the wallet has seen reads nothing."""
    assert ledger.read(event(1), 20) is not None
    assert ledger.read(event(2), 10) is None
