"""``proclaim`` and ``leader``: every answer, run twice, wrong token, wrong type."""

from collections.abc import Iterator

import pytest
import redis

from tests.redis.driver import TTL, Inbox, Scripts


@pytest.fixture
def announcements(lock: Scripts) -> Iterator[Inbox]:
    """What is announced of the lock's leader."""
    with Inbox(lock.client, lock.proclamation) as inbox:
        yield inbox


def announced(inbox: Inbox) -> int:
    """Return how many announcements came since the last time."""
    inbox._pubsub.ping("end")
    count = 0
    while (message := inbox._pubsub.get_message(timeout=5))["type"] != "pong":
        assert message["data"] == f"leader 2 {inbox.channel.split('{')[1][:-1]}".encode()
        count += 1
    return count


def test_a_leader_proclaims_and_announces_once(lock: Scripts, announcements: Inbox) -> None:
    """DONE; the same again only puts the end off, another text is announced."""
    lock.acquire("a")
    for text, count in (("x y", 1), ("x y", 0), ("", 1), ("z", 1)):
        lock.command("PEXPIRE", lock.proclamation, 5_000)
        assert lock.proclaim("a", text) == ("DONE",)
        assert 5_000 < lock.remaining(lock.proclamation) <= TTL
        assert announced(announcements) == count
        assert lock.leader()[1:2] + lock.leader()[3:] == ("a", 1, text)


def test_who_does_not_lead_proclaims_nothing(lock: Scripts, announcements: Inbox) -> None:
    """GONE without a holder, OTHER under another one; nothing is written or announced."""
    assert lock.proclaim("a", "x") == ("GONE",)
    lock.acquire("b")
    assert lock.proclaim("a", "x") == ("OTHER",)
    assert lock.command("EXISTS", lock.proclamation) == 0
    assert announced(announcements) == 0


def test_nobody_leads_a_free_lock(lock: Scripts) -> None:
    """An empty holder, remaining -2; what a dead leader proclaimed is nobody's."""
    assert lock.leader() == ("DONE", "", -2, 0, "")
    lock.acquire("a")
    lock.proclaim("a", "x")
    lock.expire()
    assert lock.leader() == ("DONE", "", -2, 0, "")
    assert lock.exists() == [lock.fence]


def test_a_successor_has_proclaimed_nothing_yet(lock: Scripts) -> None:
    """What stands there is of the leader before, and so is that of an earlier lease of its own."""
    lock.acquire("a")
    lock.proclaim("a", "x")
    lock.expire()
    for token in "ba":
        lock.acquire(token)
        code, holder, remaining, proclaims, text = lock.leader()
        assert (code, holder, proclaims, text) == ("DONE", token, 0, "")
        assert 0 < remaining <= TTL
        lock.expire()


def test_what_was_proclaimed_is_taken_back_behind_the_release(
    lock: Scripts, announcements: Inbox
) -> None:
    """It goes, and is announced: nobody leads.  Twice: announced again, nothing else."""
    lock.acquire("a")
    value = lock.command("GET", lock.key)
    lock.proclaim("a", "x")
    announced(announcements)
    lock.release("a")
    for _ in range(2):
        assert lock.proclaim(value, "", 0) == ("DONE",)
        assert announced(announcements) == 1
        assert lock.command("EXISTS", lock.proclamation) == 0


def test_a_former_leader_takes_nothing_back_of_its_successor(
    lock: Scripts, announcements: Inbox
) -> None:
    """Nor announces it again, once it has proclaimed; before, it announces it."""
    lock.acquire("a")
    value = lock.command("GET", lock.key)
    lock.proclaim("a", "x")
    lock.expire()
    lock.acquire("b")
    announced(announcements)
    assert lock.proclaim(value, "", 0) == ("DONE",)
    assert announced(announcements) == 1
    lock.proclaim("b", "y")
    announced(announcements)
    assert lock.proclaim(value, "", 0) == ("DONE",)
    assert announced(announcements) == 0
    assert lock.leader()[3:] == (1, "y")


def test_who_still_leads_takes_back_without_a_word(lock: Scripts, announcements: Inbox) -> None:
    """Its release was not confirmed: until its lease is over it leads, and proclaims nothing."""
    lock.acquire("a")
    lock.proclaim("a", "x")
    announced(announcements)
    assert lock.proclaim("a", "", 0) == ("DONE",)
    assert announced(announcements) == 0
    assert lock.leader()[1:2] + lock.leader()[3:] == ("a", 0, "")


@pytest.mark.parametrize("kind", ["LPUSH", "ZADD"])
def test_what_is_no_proclamation_is_none(lock: Scripts, kind: str) -> None:
    """Something of another type there is nobody's word; the leader's replaces it."""
    lock.command(kind, lock.proclamation, 1, "x")
    lock.acquire("a")
    assert lock.leader()[3:] == (0, "")
    assert lock.proclaim("a", "y") == ("DONE",)
    assert lock.leader()[3:] == (1, "y")


def test_of_a_long_text_the_beginning_is_told(lock: Scripts) -> None:
    """Anybody may have written megabytes there."""
    lock.acquire("a")
    value = lock.command("GET", lock.key)
    lock.command("SET", lock.proclamation, f"{value} {'x' * 5000}")
    assert len(str(lock.leader()[4])) < 1100


def test_at_a_key_of_another_type_both_are_refused(lock: Scripts) -> None:
    """WRONGTYPE, as with all scripts."""
    lock.command("LPUSH", lock.key, "x")
    for run in (lock.leader, lambda: lock.proclaim("a", "x")):
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            run()
