"""Errors pickle, carry the name, and say what to do."""

import copy
import pickle

import pytest

from aiodistlock import AcquireTimeout, LeaseLost, LockError, NotHeld, StoreUnavailable

ERRORS = [
    LockError("wallet", "this task holds it already; pass reentrant=True"),
    AcquireTimeout("wallet", 2.0),
    AcquireTimeout("wallet", 2.0, causes=(OSError("refused"), TimeoutError("no answer"))),
    AcquireTimeout("wallet", 2.0, "host:1:ab:1", 3.25),
    AcquireTimeout("wallet", 0.0, "somebody", None),
    AcquireTimeout("wallet", 2.0, "host:1:ab:1", 3.25, (), "dead-lock: task 'a' waits"),
    LeaseLost("wallet", "another token is at its key", 17),
    NotHeld("wallet"),
    StoreUnavailable("wallet", [OSError("no route"), TimeoutError("no answer")]),
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_an_error_survives_pickling(error: LockError) -> None:
    """An error that crosses processes has the same message and the same facts."""
    # Up to protocol 2 pickle writes Python 2's names: TimeoutError turns into OSError.
    for protocol in range(3, pickle.HIGHEST_PROTOCOL + 1):
        other = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own bytes
        assert type(other) is type(error)
        assert str(other) == str(error)
        ours, theirs = vars(error).copy(), vars(other).copy()
        for facts in (ours, theirs):
            facts["causes"] = [repr(cause) for cause in facts.get("causes", ())]
        assert theirs == ours
    assert str(copy.copy(error)) == str(error)


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_an_error_carries_the_name(error: LockError) -> None:
    """Every error is a ``LockError`` and tells which lock it is about."""
    assert isinstance(error, LockError)
    assert error.name == "wallet"
    assert "'wallet'" in str(error)


def test_a_timeout_says_who_holds_the_lock_and_for_how_long() -> None:
    """The message of a timeout is enough to see what is going on."""
    known = AcquireTimeout("wallet", 2.0, "host:1:ab:1", 3.25)
    assert isinstance(known, TimeoutError)
    for part in ("2 s", "host:1:ab:1", "3.25 s"):
        assert part in str(known)
    assert (known.timeout, known.holder, known.holder_ttl) == (2.0, "host:1:ab:1", 3.25)
    assert "no ttl" in str(AcquireTimeout("wallet", 2.0, "somebody"))
    assert "nobody is known" in str(AcquireTimeout("wallet", 2.0))


def test_a_loss_says_why_and_what_it_means() -> None:
    """A lost lease tells its reason and its fencing token."""
    error = LeaseLost("wallet", "it was not renewed", 17)
    assert (error.reason, error.fencing_token) == ("it was not renewed", 17)
    for part in ("it was not renewed", "17", "somebody else may hold"):
        assert part in str(error)


def test_not_held_says_what_to_do() -> None:
    """The caller's bug is named as such, with the way out."""
    assert "acquire a new one" in str(NotHeld("wallet"))


def test_unavailability_tells_its_causes() -> None:
    """There is one cause per node, each in the message."""
    error = StoreUnavailable("wallet", [OSError("no route")])
    assert [type(cause) for cause in error.causes] == [OSError]
    assert "OSError: no route" in str(error)


def test_errors_differ_by_what_the_caller_does_next() -> None:
    """No error is a kind of another, besides being a ``LockError``."""
    kinds = (AcquireTimeout, LeaseLost, NotHeld, StoreUnavailable)
    for one in kinds:
        assert [other for other in kinds if issubclass(one, other)] == [one]


@pytest.mark.parametrize(
    ("ttl", "said"), [(0.25, "for 0.25 s more"), (9.14, "9.14 s"), (273_600.0, "3 days 4 h")]
)
def test_a_long_ttl_of_a_holder_is_said_in_words(ttl: float, said: str) -> None:
    """Three days are no 2.74e+05 s."""
    assert said in str(AcquireTimeout("w", 0.1, "somebody", ttl))
