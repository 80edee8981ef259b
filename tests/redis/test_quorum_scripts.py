"""What each node of a quorum runs: every documented return, twice, and on wrong types."""

from collections.abc import Callable

import pytest
from redis.exceptions import ResponseError

from aiodistlock.protocol import scripts
from aiodistlock.protocol.refusals import is_transient
from tests.redis.driver import GAP, QUEUE_TTL, TTL, Inbox, Reply, Scripts, address

QUARANTINE_US = 60_000_000
PROPOSED = 1_800_000_000_000_000


def vote(
    lock: Scripts, token: str, inbox: str = "", *, proposed: int = PROPOSED, ttl: int = TTL
) -> Reply:
    """Vote; without an inbox only try."""
    args = (token, ttl, proposed, address(inbox), QUEUE_TTL, QUARANTINE_US)
    return lock.run(scripts.VOTE, *args)


def unvote(lock: Scripts, token: str, inbox: str = "", *, highest: int = 0) -> Reply:
    """Take the vote back; with an inbox leave the queue, and hint."""
    return lock.run(scripts.UNVOTE, token, highest, address(inbox))


def keep(lock: Scripts, token: str, *, proposed: int = PROPOSED, highest: int = 0) -> Reply:
    """Keep the vote."""
    return lock.run(scripts.KEEP, token, TTL, proposed, highest)


def renew(lock: Scripts, token: str, ttl: int = TTL) -> Reply:
    """Set the remaining time of the vote."""
    return lock.run(scripts.RENEW_VOTE, token, ttl)


@pytest.fixture
def trusted(lock: Scripts) -> Scripts:
    """The scripts on a node that is trusted."""
    lock.command("SET", lock.marker, "0")
    return lock


def test_a_free_node_votes_for_whoever_asks(trusted: Scripts) -> None:
    """The vote is the key with its ttl; the proposal is the token."""
    assert vote(trusted, "a") == ("GRANTED", PROPOSED)
    assert trusted.holder == "a"
    assert trusted.counter == PROPOSED
    assert 0 < trusted.remaining() <= TTL


def test_a_vote_asked_for_twice_is_the_same_vote(trusted: Scripts) -> None:
    """The same fence, the ttl anew, though the proposal is another."""
    vote(trusted, "a", ttl=5_000)
    assert vote(trusted, "a", proposed=PROPOSED + 7) == ("GRANTED", PROPOSED)
    assert trusted.remaining() > 5_000


def test_a_vote_that_is_given_is_given(trusted: Scripts) -> None:
    """Who comes later hears who has it, and for how long; and does not wait unasked."""
    vote(trusted, "a")
    code, remaining, holder, place = vote(trusted, "b")
    assert (code, holder, place) == ("HELD", "a", 0)
    assert 0 < remaining <= TTL
    assert trusted.waiters == []
    trusted.command("PERSIST", trusted.key)
    assert vote(trusted, "b") == ("HELD", -1, "a", 0)


def test_who_waits_is_kept_once(trusted: Scripts) -> None:
    """With an inbox the refused wait for a hint; asking again keeps the place, and tells it."""
    vote(trusted, "a")
    for _ in range(2):
        for place, waiter in enumerate(("b", "c")):
            answer = vote(trusted, waiter, f"inbox:{waiter}")
            assert (answer[0], answer[2:]) == ("HELD", ("a", place))
    assert trusted.waiters == ["b", "c"]
    assert 0 < trusted.remaining(trusted.queue) <= QUEUE_TTL


def test_whoever_waits_does_not_bar_the_way(trusted: Scripts) -> None:
    """There is no order on a quorum: a free vote goes to whoever asks, and leaves the queue."""
    vote(trusted, "a")
    vote(trusted, "b", "inbox:b")
    vote(trusted, "c", "inbox:c")
    trusted.command("DEL", trusted.key)
    assert vote(trusted, "c", "inbox:c", proposed=2 * PROPOSED) == ("GRANTED", 2 * PROPOSED)
    assert trusted.waiters == ["b"]


def test_a_proposal_behind_the_counter_is_raised_above_it(trusted: Scripts) -> None:
    """Above the last token, whoever had it, with a gap; and above what was reported."""
    vote(trusted, "a")
    unvote(trusted, "a")
    assert vote(trusted, "b", proposed=5) == ("GRANTED", PROPOSED + 1 + GAP)
    unvote(trusted, "b", highest=PROPOSED + 3 * GAP)
    fence = vote(trusted, "c", proposed=5)[1]
    assert fence > PROPOSED + 3 * GAP


def test_the_gap_is_added_once_in_less_than_the_shortest_lease(trusted: Scripts) -> None:
    """Above all that a dead holder may have used; else one by one, or the counter would run off."""
    vote(trusted, "a")
    trusted.command("DEL", trusted.key)  # it died, and its ttl is over
    # Just above what stood there: perhaps used by the dead one.
    assert vote(trusted, "b", proposed=PROPOSED + 3) == ("GRANTED", PROPOSED + 1 + GAP)
    fence, since = (int(each) for each in trusted.command("GET", trusted.fence).split())
    assert (fence, abs(trusted.server_us // 1000 - since) < 1_000) == (PROPOSED + 1 + GAP, True)

    def again(token: str, proposed: int, *, age: int) -> int:
        """Vote again, so many ms after the gap was added."""
        trusted.command("DEL", trusted.key)
        fence, _ = trusted.command("GET", trusted.fence).split()
        trusted.command("SET", trusted.fence, f"{fence} {trusted.server_us // 1000 - age}")
        return int(vote(trusted, token, proposed=proposed)[1])

    assert again("c", 5, age=-5_000) == fence + 1 + GAP  # the clock was set back
    fence += 1 + GAP
    assert again("d", fence + 7, age=-1) in {fence + 7, fence + 1 + GAP}
    fence = trusted.counter
    assert again("e", fence + 7, age=41) == fence + 1 + GAP
    fence += 1 + GAP
    assert again("f", fence + GAP + 1, age=41) == fence + GAP + 1
    assert trusted.command("GET", trusted.fence) == str(fence + GAP + 1)


def test_what_undoes_one_round_leaves_another_alone(trusted: Scripts, inbox: Inbox) -> None:
    """Each round has its token, all have one place in the queue; to leave undoes any."""
    vote(trusted, "x")
    for token in ("p:a.1", "p:a.2"):
        assert vote(trusted, token, inbox.channel)[0] == "HELD"
    assert trusted.waiters == ["p:a"]
    unvote(trusted, "x")
    assert vote(trusted, "p:a.3", inbox.channel)[0] == "GRANTED"
    assert trusted.waiters == []
    assert unvote(trusted, "p:a.2") == ("OTHER", 0)
    assert unvote(trusted, "p:b", inbox.channel) == ("OTHER", 0)
    assert trusted.holder == "p:a.3"
    assert unvote(trusted, "p:a", inbox.channel) == ("DONE", 0)
    assert trusted.holder is None


def test_a_node_without_data_is_not_trusted(lock: Scripts) -> None:
    """It gives no vote until its quarantine is over, and says how old its ignorance is."""
    code, marker, age, remaining = vote(lock, "a")
    assert (code, age, remaining) == ("UNTRUSTED", 0, QUARANTINE_US)
    assert lock.holder is None
    later = vote(lock, "b")
    assert later[:2] == ("UNTRUSTED", marker)
    assert later[2] + later[3] == QUARANTINE_US
    assert later[2] > 0
    lock.command("SET", lock.marker, lock.server_us - 1)
    assert vote(lock, "a") == ("GRANTED", PROPOSED)
    assert lock.command("GET", lock.marker) == "0"


def test_trust_is_for_the_life_in_which_it_was_earned(lock: Scripts) -> None:
    """A late order to trust does nothing to a node that came up anew since."""
    _, marker, *_ = vote(lock, "a")
    for _ in range(2):
        assert lock.run(scripts.TRUST, marker) == ("DONE", 1)
    lock.command("DEL", lock.marker)
    vote(lock, "a")
    assert lock.run(scripts.TRUST, marker) == ("DONE", 0)
    assert vote(lock, "a")[0] == "UNTRUSTED"


def test_a_vote_is_taken_back_once(trusted: Scripts) -> None:
    """Done, then gone; somebody else's is left alone."""
    vote(trusted, "a")
    assert unvote(trusted, "b") == ("OTHER", 0)
    assert unvote(trusted, "a") == ("DONE", 0)
    assert unvote(trusted, "a") == ("GONE", 0)
    assert trusted.exists() == [trusted.fence]


def test_a_vote_taken_back_hints_to_the_first_who_listens(
    trusted: Scripts, open_inbox: Callable[[], Inbox]
) -> None:
    """The dead are dropped, one is told, the next keeps its place; nobody is granted it."""
    first, second = open_inbox(), open_inbox()
    vote(trusted, "a")
    vote(trusted, "dead", "inbox:dead")
    vote(trusted, "b", first.channel)
    vote(trusted, "c", second.channel)
    assert unvote(trusted, "a", "inbox:a") == ("DONE", 1)
    assert first.messages() == [f"0 0 0 b {trusted.key}"]
    assert second.messages() == []
    assert trusted.waiters == ["c"]
    assert trusted.holder is None


def test_who_leaves_passes_an_unused_hint_on(trusted: Scripts, inbox: Inbox) -> None:
    """A waiter that was told and goes away tells the next; where it is held, nobody."""
    vote(trusted, "a")
    vote(trusted, "b", inbox.channel)
    vote(trusted, "c", "inbox:c")
    assert unvote(trusted, "c", "inbox:c") == ("OTHER", 0)
    assert inbox.messages() == []
    trusted.command("DEL", trusted.key)
    assert unvote(trusted, "c", "inbox:c") == ("GONE", 1)
    assert inbox.messages() == [f"0 0 0 b {trusted.key}"]


def test_undoing_a_lost_round_keeps_the_place_and_tells_nobody(
    trusted: Scripts, inbox: Inbox
) -> None:
    """Without an inbox the key goes, and nothing else."""
    vote(trusted, "a")
    vote(trusted, "b", inbox.channel)
    assert unvote(trusted, "a") == ("DONE", 0)
    assert trusted.waiters == ["b"]
    assert inbox.messages() == []


def test_keeping_is_a_fresh_ttl_and_token(trusted: Scripts) -> None:
    """Above whatever was proposed, used, or kept; and who waits is counted."""
    vote(trusted, "a", ttl=5_000)
    further = PROPOSED + GAP + 1
    assert keep(trusted, "a", proposed=further) == ("DONE", further, 0)
    assert trusted.remaining() > 5_000
    assert trusted.command("GET", trusted.key) == f"a {further}"
    assert keep(trusted, "a", highest=further + 20) == ("DONE", further + 21 + GAP, 0)
    vote(trusted, "b", "inbox:b")
    code, fence, waiters = keep(trusted, "a")
    assert (code, fence > further + 21 + GAP, waiters) == ("DONE", True, 1)
    assert keep(trusted, "c") == ("OTHER",)
    trusted.command("DEL", trusted.key)
    assert keep(trusted, "a") == ("GONE",)


def test_a_vote_is_renewed_whatever_fence_the_node_issued(trusted: Scripts) -> None:
    """Its remaining time is set, twice to the same; who waits is counted, the fence stays."""
    vote(trusted, "a", ttl=5_000)
    vote(trusted, "b", "inbox:b")
    for _ in range(2):
        assert renew(trusted, "a") == ("DONE", 1)
        assert 5_000 < trusted.remaining() <= TTL
    assert renew(trusted, "a", 3_000) == ("DONE", 1)
    assert 0 < trusted.remaining() <= 3_000
    assert trusted.command("GET", trusted.key) == f"a {PROPOSED}"


@pytest.mark.parametrize("token", ["b", "", "A", "a ", "aa", f"a {PROPOSED}"])
def test_a_vote_for_another_is_not_renewed(trusted: Scripts, token: str) -> None:
    """Tokens are compared whole; what is gone is not made anew."""
    vote(trusted, "a", ttl=5_000)
    for _ in range(2):
        assert renew(trusted, token) == ("OTHER",)
    assert 0 < trusted.remaining() <= 5_000
    trusted.command("DEL", trusted.key)
    assert renew(trusted, "a") == ("GONE",)
    assert trusted.command("EXISTS", trusted.key) == 0


def test_the_counter_is_raised_and_never_lowered(trusted: Scripts) -> None:
    """Raising twice, or to less, changes nothing."""
    for fence, kept in ((PROPOSED, PROPOSED), (PROPOSED, PROPOSED), (7, PROPOSED)):
        assert trusted.run(scripts.RAISE, fence) == ("DONE",)
        assert trusted.counter == kept


@pytest.mark.parametrize("operation", [vote, unvote, keep, renew])
def test_a_wrong_type_is_an_error_that_changes_nothing(
    trusted: Scripts, operation: Callable[[Scripts, str], Reply]
) -> None:
    """A list at the key: WRONGTYPE, and it is still there."""
    trusted.command("RPUSH", trusted.key, "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        operation(trusted, "a")
    assert trusted.command("LLEN", trusted.key) == 1


def test_who_cannot_leave_the_queue_is_told(private: Scripts) -> None:
    """While the node refuses to write: else the record stays, and is told of a free lock."""
    private.command("SET", private.marker, "0")
    vote(private, "a")
    vote(private, "b", "inbox:dead")
    private.command("CONFIG", "SET", "min-replicas-to-write", 1)
    with pytest.raises(ResponseError) as refused:
        unvote(private, "b", "inbox:dead")
    assert is_transient(refused.value)
    private.command("CONFIG", "SET", "min-replicas-to-write", 0)
    assert unvote(private, "b", "inbox:dead") == ("OTHER", 0)
    assert private.waiters == []
