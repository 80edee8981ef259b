"""The bench's ledger: its store, where events go, and that it finds what is wrong."""

from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="needs the dependency group plots")

from itertools import islice

from aiodistlock.demo.events import SAMPLE_SIZE
from bench.peers.catalog import LINGERING, OURS, REFERENCE, Side
from bench.server import BenchServer
from bench.worker.ledger import homes, routes, sample, stream
from bench.worker.wallets import MOST_EVENTS, PROCESSES, Wallets
from bench.workloads import ledger


@pytest.fixture
def store(tmp_path: Path) -> Wallets:
    """An empty store of the sample's wallets."""
    count = len(sample()[1])
    path = tmp_path / "store"
    path.write_bytes(bytes(Wallets.size(count)))
    return Wallets(str(path), count)


@pytest.mark.parametrize("share", ledger.SHARES)
def test_each_event_goes_to_one_process_and_the_share_to_its_wallets_home(share: float) -> None:
    """And no process gets much more than another."""
    found = routes(share)
    assert sorted(event for route in found for event in route) == list(range(SAMPLE_SIZE))
    home, (events, _) = homes(), sample()
    back = sum(home[events[event][0]] == number for number, r in enumerate(found) for event in r)
    assert back / SAMPLE_SIZE == pytest.approx(share, abs=0.02)
    assert max(map(len, found)) < 1.1 * SAMPLE_SIZE / PROCESSES


def test_a_stream_goes_through_the_sample_again_and_ends() -> None:
    """Events of the second time are others; there is a byte for each that there may be."""
    assert list(islice(stream([3, 7], 1), 3)) == [7, SAMPLE_SIZE + 3, SAMPLE_SIZE + 7]
    assert max(stream([SAMPLE_SIZE - 1])) < MOST_EVENTS


def test_a_write_counts_whole_and_only_under_a_fencing_token_that_is_not_old(
    store: Wallets,
) -> None:
    """The balance, and that the event was applied."""
    assert store.write(5, 7, 100, 3)
    assert not store.write(5, 6, 900, 4)
    assert (store.balance(5), store.applied(3), store.applied(4)) == (100, True, False)
    assert store.write(5, 7, 250, 0)
    assert (store.balance(5), store.balance(4)) == (250, 0)
    assert (store.count(), list(store.all_applied())) == (2, [0, 3])


def test_a_balance_that_was_written_tells_its_event_though_its_writer_was_killed(
    store: Wallets,
) -> None:
    """Between the two it writes nothing, so the next one who reads does."""
    store.write(5, 1, 100, 3)
    store._applied[3 + 1] = 0
    assert store.balance(5) == 100
    assert store.applied(3)


def test_what_is_wrong_or_missing_is_found(store: Wallets) -> None:
    """A cent, and an event that a dead process had begun."""
    (first, second, *_) = routes(1.0)[0]
    for event in (first, second):
        wallet, cents = sample()[0][event]
        store.write(wallet, 1, store.balance(wallet) + cents, event)
    store.take(0, 2)
    assert ledger.audit(store, 1.0) == {"wrong_cents": 0, "missing": 0}
    store.write(wallet, 1, store.balance(wallet) - 3, second)
    store.take(0, 4)
    assert ledger.audit(store, 1.0) == {"wrong_cents": 3, "missing": 2}


@pytest.mark.bounded(120)
@pytest.mark.parametrize("peer", [OURS, LINGERING, REFERENCE])
def test_balances_are_exact_though_a_process_is_killed(peer: str) -> None:
    """Both before and after it events are applied, and none is lost with it."""
    with BenchServer() as server:
        found = ledger.measure(server, Side(peer), 0.9, 3.0)
    assert (found["wrong_cents"], found["missing"]) == (0, 0)
    assert found["rate"] > 0
