"""A short soak of each deployment; and the judge of soaks sees what it must."""

from pathlib import Path

import pytest

from tests.soak.grounds import DEPLOYMENTS
from tests.soak.history import History, Hold
from tests.soak.judge import violations
from tests.soak.soak import soak


@pytest.mark.bounded(220)
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
async def test_all_that_is_promised_holds_on_real_servers(
    deployment: str, redis_binary: Path
) -> None:
    """Processes and servers are killed and stopped, connections cut: no rule is broken."""
    outcome = await soak(deployment, redis_binary, 20.0)
    assert not outcome.violations, "\n".join(outcome.story())
    assert not outcome.vacuous, str(outcome)


def _history(*holds: Hold) -> History:
    history = History()
    history.holds += holds
    return history


def _rules(history: History) -> list[str]:
    return [each.rule for each in violations(history)]


def _hold(holder: str, fence: int, began_at: float, until: float, asked_at: float = 0.0) -> Hold:
    return Hold("a", holder, fence, asked_at, began_at, until)


def test_leases_one_behind_the_other_are_fine() -> None:
    """Also of one process, and with an end that is the next one's begin."""
    assert _rules(_history(_hold("x", 1, 1.0, 2.0), _hold("x", 2, 2.0, 3.0))) == []


def test_leases_that_overlap_are_seen() -> None:
    """Also with one that began long before, behind which others have come and gone."""
    long, short, other = _hold("x", 1, 1.0, 9.0), _hold("y", 2, 2.0, 3.0), _hold("z", 3, 5.0, 6.0)
    assert _rules(_history(long, other, short)).count("overlap") == 2


def test_leases_are_excused_only_where_a_server_may_have_lost_one_of_them() -> None:
    """Between the grant of the first and its end a primary was lost."""
    history = _history(_hold("x", 1, 5.0, 9.0), _hold("y", 2, 6.0, 7.0))
    history.broken = [(1.0, 2.0), (9.5, 10.0)]
    assert "overlap" in _rules(history)
    history.broken.append((5.5, 5.9))
    assert _rules(history) == []


def test_fencing_tokens_that_do_not_rise_are_seen() -> None:
    """Whoever asks when a lease has begun gets a higher one; nobody the same."""
    first = _hold("x", 5, 1.0, 2.0)
    assert "fence" in _rules(_history(first, _hold("y", 4, 3.0, 4.0, asked_at=1.5)))
    assert "same" in _rules(_history(first, _hold("y", 5, 3.0, 4.0)))


def test_what_no_order_explains_is_seen() -> None:
    """Who asked before the lease began, and was granted the lock behind it, has a lower token."""
    assert _rules(_history(_hold("x", 5, 1.0, 2.0), _hold("y", 4, 3.0, 4.0))) == ["linear"]


def test_a_stale_write_is_refused_and_one_that_is_not_is_seen() -> None:
    """The store compares fencing tokens; so a token too high lets a stale write in."""
    history = History()
    history.take("x", "began 1 a 5 0.0 1.0 2.0")
    history.take("y", "began 1 a 6 2.5 3.0 4.0")
    history.take("x", "relies 1 1.5 2.0")
    history.killed("x", 2.0)
    assert (history.refused, _rules(history)) == (1, [])
    history = History()
    history.take("y", "began 1 a 6 2.5 3.0 4.0")
    history.take("x", "began 1 a 7 0.0 1.0 2.0")
    assert "store" in _rules(history)


def test_a_name_that_nobody_gets_for_long_is_seen() -> None:
    """Half a minute without a lease on it."""
    assert _rules(_history(_hold("x", 1, 1.0, 2.0), _hold("x", 2, 40.0, 41.0))) == ["starved"]


def test_who_was_killed_relies_on_a_lease_until_then_or_its_deadline() -> None:
    """A process may have been stopped when it was killed: its lease is over, then."""
    history = History()
    history.take("x", "began 1 a 5 0.0 1.0 2.0")
    history.take("x", "began 2 b 5 0.0 1.0 9.0")
    history.killed("x", 4.0)
    assert [each.until for each in history.holds] == [2.0, 4.0]
