"""``read``, ``upgrade`` and ``downgrade``, and what the other scripts do where readers hold."""

from collections.abc import Callable

import pytest
import redis
from redis.exceptions import ResponseError

from tests.redis.driver import GAP, GRANT_TTL, OOM, QUEUE_TTL, TTL, Inbox, Scripts

DEAD = "inbox:dead"

GRANTED, BEFORE_OTHERS = "GRANTED", "GRANTED_BEFORE_OTHERS"


def named(count: int, letter: str = "", process: int = 1) -> str:
    """Return a token as a process makes it."""
    return f"host:{process}:00000000:{count}{letter}"


A, B, C = (named(1, "r", process) for process in (1, 2, 3))
U, X, U2 = named(2, "u", 4), named(3, "x", 4), named(2, "u", 5)
W, PLAIN = named(4, "w", 6), named(5, "", 7)


def granted(reply: tuple[object, ...]) -> int:
    """Return the version, or the fencing token, that was granted."""
    assert reply[0] in (GRANTED, BEFORE_OTHERS)
    assert isinstance(reply[1], int)
    return reply[1]


def of(lock: Scripts, token: str) -> str:
    """Return what a reader knows of its lease: its token, and the version."""
    return f"{token} {str(lock.command('GET', lock.key)).rpartition(' ')[2]}"


def leave(lock: Scripts, token: str) -> tuple[object, ...]:
    """Release a reader's lease."""
    return lock.release(of(lock, token))


def test_readers_hold_together(lock: Scripts) -> None:
    """The key has the group's token and the version, for as long as the last of them."""
    before = lock.server_us
    code, version, now = lock.read(A, ttl=5_000)
    assert code == GRANTED
    assert before <= version <= now <= lock.server_us
    assert lock.holder == f"readers:{A}"
    assert 4_000 < lock.remaining() <= 5_000
    assert granted(lock.read(B)) == version
    assert lock.command("GET", lock.key) == f"readers:{A} {version}"
    assert 5_000 < lock.remaining() <= TTL
    assert lock.remaining(lock.readers) <= TTL
    assert lock.group == [A, B]
    assert lock.counter == version


def test_who_reads_twice_has_the_same_lease_with_its_ttl_anew(lock: Scripts) -> None:
    """The same version, and no second place."""
    version = granted(lock.read(A, ttl=5_000))
    assert granted(lock.read(A)) == version
    assert lock.remaining() > 5_000
    assert lock.group == [A]


@pytest.mark.parametrize("letter", ["w", ""])
def test_a_writer_that_holds_keeps_readers_out(lock: Scripts, inbox: Inbox, letter: str) -> None:
    """HELD and QUEUED as of any lock; asked again the same place."""
    token = named(9, letter)
    (lock.write if letter else lock.acquire)(token)
    code, remaining, holder = lock.read(A)
    assert (code, holder) == ("HELD", token)
    assert 0 < remaining <= TTL
    for _ in range(2):
        code, _, holder, now, position = lock.read(A, inbox.channel)
        assert (code, holder, position) == ("QUEUED", token, 0)
        assert now <= lock.server_us
    assert lock.waiters == [A]
    assert lock.command("EXISTS", lock.readers) == 0


def test_a_group_keeps_every_kind_of_writer_out(lock: Scripts, inbox: Inbox) -> None:
    """A plain lock of this package, one of a read/write lock, and ``SET NX``."""
    lock.read(A)
    assert lock.acquire(PLAIN)[0] == lock.write(W)[0] == "HELD"
    assert lock.acquire(PLAIN)[2] == f"readers:{A}"
    assert lock.command("SET", lock.key, "redis-py", "NX", "PX", TTL) is None
    assert lock.acquire(PLAIN, inbox.channel)[0] == "QUEUED"


def test_the_last_to_leave_hands_the_lock_on(lock: Scripts, inbox: Inbox) -> None:
    """Not before; run twice, OTHER.  The writer's fencing token is above the version."""
    version = granted(lock.read(A))
    lock.read(B)
    lock.acquire(PLAIN, inbox.channel)
    ours = of(lock, A)
    assert lock.release(ours) == ("DONE", 0)
    assert lock.release(ours) == ("OTHER",)
    assert lock.holder == f"readers:{A}"
    assert inbox.grants() == []
    assert leave(lock, B) == ("DONE", 1)
    assert inbox.grants() == [PLAIN]
    assert lock.holder == PLAIN
    assert lock.counter > version
    assert lock.command("EXISTS", lock.readers) == 0


def test_the_last_to_leave_deletes_the_key_if_nobody_waits(lock: Scripts) -> None:
    """And the group; the version stays for a day."""
    version = granted(lock.read(A))
    ours = of(lock, A)
    assert lock.release(ours) == ("DONE", 0)
    assert lock.release(ours) == ("GONE",)
    assert lock.exists() == [lock.fence]
    assert lock.command("EXISTS", lock.readers) == 0
    assert lock.command("GET", lock.version) == str(version)
    assert 86_000_000 < lock.remaining(lock.version) <= 86_400_000
    assert granted(lock.read(B)) == version


def test_who_comes_while_somebody_waits_joins_the_queue(
    lock: Scripts, open_inbox: Callable[[], Inbox]
) -> None:
    """Also a reader; and a writer that leaves hands on to all readers up to the next writer."""
    first, *later = (open_inbox() for _ in range(5))
    lock.read(A)
    lock.write(W, first.channel)
    order = [B, C, named(7, "w", 8), named(8, "r", 9)]
    assert lock.read(B)[0] == "HELD"
    for place, (token, inbox) in enumerate(zip(order, later, strict=True), 1):
        ask = lock.write if token.endswith("w") else lock.read
        reply = ask(token, inbox.channel)
        assert (reply[0], reply[-1]) == ("QUEUED", place)
    leave(lock, A)
    assert first.grants() == [W]
    fence = int(of(lock, W).rpartition(" ")[2])
    assert lock.release(W, fence) == ("DONE", 1)
    assert [inbox.grants() for inbox in later] == [[B], [C], [], []]
    assert lock.group == [B, C]
    assert lock.command("GET", lock.key) == f"readers:{B} {fence}"
    assert 0 < lock.remaining() <= GRANT_TTL
    assert lock.waiters == order[2:]


def test_readers_that_nobody_hears_are_passed_over(lock: Scripts, inbox: Inbox) -> None:
    """They are dead; if all are, whoever is next behind them gets the lock."""
    for behind in (B, PLAIN):
        lock.write(W)
        lock.read(A, DEAD)
        (lock.read if behind == B else lock.acquire)(behind, inbox.channel)
        lock.release(W, lock.counter)
        assert inbox.grants() == [behind]
        assert lock.group == ([B] if behind == B else [])
        lock.expire()


def test_a_dead_reader_ends_alone(lock: Scripts) -> None:
    """By the server's clock: the key lasts as long as those that renew."""
    lock.read(A, ttl=60)
    lock.read(B)
    ours = of(lock, A)
    lock.command("ZADD", lock.readers, lock.server_us - 1, A)
    assert lock.renew(ours) == ("OTHER",)
    assert lock.release(ours) == ("OTHER",)
    assert lock.renew(of(lock, B), 20_000) == ("DONE", 0)
    assert lock.group == [B]
    assert leave(lock, B) == ("DONE", 0)
    assert lock.holder is None


def test_the_end_of_the_longest_shortens_the_key(lock: Scripts) -> None:
    """So that a dead one holds others up for its own ttl."""
    lock.read(A, ttl=5_000)
    lock.read(B)
    assert leave(lock, B) == ("DONE", 0)
    assert lock.remaining() <= 5_000
    assert lock.remaining(lock.readers) <= 5_000


def test_a_renewal_moves_the_end_of_one_reader(lock: Scripts, inbox: Inbox) -> None:
    """DONE with the number of waiters, OTHER for who does not read, GONE without a key."""
    assert lock.renew(f"{A} 1") == ("GONE",)
    lock.read(A, ttl=5_000)
    assert lock.renew(of(lock, A)) == ("DONE", 0)
    assert lock.remaining() > 5_000
    lock.acquire(PLAIN, inbox.channel)
    assert lock.renew(of(lock, A), 4_000) == ("DONE", 1)
    assert lock.remaining() <= 4_000
    assert lock.renew(of(lock, B)) == ("OTHER",)
    assert lock.renew(of(lock, PLAIN)) == ("OTHER",)


def test_a_reader_that_leaves_before_its_turn(lock: Scripts, inbox: Inbox) -> None:
    """``abandon`` takes it out of the queue, or out of the group; twice nothing."""
    lock.write(W)
    lock.read(A, inbox.channel)
    assert lock.abandon(A, inbox.channel) == ("DONE", 0)
    assert lock.waiters == []
    lock.read(A, inbox.channel)
    lock.release(W, lock.counter)
    assert lock.group == [A]
    for ours in (1, 0):
        assert lock.abandon(A, inbox.channel) == ("DONE", ours)
    assert lock.exists() == [lock.fence]


@pytest.mark.parametrize("waiting", [W, PLAIN, U2])
def test_who_leaves_the_queue_lets_those_behind_in(
    lock: Scripts, open_inbox: Callable[[], Inbox], waiting: str
) -> None:
    """Readers that waited for it only come in at once."""
    ours, theirs = open_inbox(), open_inbox()
    lock.read(U)
    {W: lock.write, PLAIN: lock.acquire, U2: lock.read}[waiting](waiting, ours.channel)
    lock.read(B, theirs.channel)
    assert lock.waiters == [waiting, B]
    assert lock.abandon(waiting, ours.channel) == ("DONE", 0)
    assert theirs.grants() == [B]
    assert sorted(lock.group) == sorted([B, U])
    assert lock.waiters == []


def test_a_reader_that_asks_again_drops_a_writer_that_is_gone(lock: Scripts, inbox: Inbox) -> None:
    """Else all that come would wait for those who read, for a writer that is dead."""
    lock.read(A)
    lock.write(W, DEAD)
    assert lock.read(B, inbox.channel)[0] == "QUEUED"
    assert granted(lock.read(B, inbox.channel))
    assert lock.group == [A, B]
    assert lock.waiters == []


def test_a_writer_that_lives_is_not_dropped(
    lock: Scripts, client: redis.Redis, inbox: Inbox
) -> None:
    """It hears a recall, that is all."""
    lock.read(A)
    with client.pubsub() as heard:  # type: ignore[no-untyped-call]  # redis-py's
        heard.subscribe("inbox:w")
        assert heard.get_message(timeout=5)["type"] == "subscribe"
        lock.write(W, "inbox:w")
        for _ in range(2):
            assert lock.read(B, inbox.channel)[0] == "QUEUED"
        assert heard.get_message(timeout=5)["data"] == f"recall 2 {W} {lock.key}".encode()
    assert lock.waiters == [W, B]


def test_only_one_reader_of_a_group_is_upgradeable(
    lock: Scripts, open_inbox: Callable[[], Inbox]
) -> None:
    """The second one, and who comes behind it, wait until the first one has left."""
    ours, theirs = open_inbox(), open_inbox()
    lock.read(A)
    lock.read(U)
    assert lock.read(U2)[0] == "HELD"
    assert lock.read(U2, ours.channel)[0] == "QUEUED"
    assert lock.read(B, theirs.channel)[0] == "QUEUED"
    assert leave(lock, U) == ("DONE", 0)
    assert (ours.grants(), theirs.grants()) == ([U2], [B])
    assert sorted(lock.group) == sorted([A, U2, B])


def test_the_only_reader_becomes_the_writer_at_once(lock: Scripts, inbox: Inbox) -> None:
    """Before a writer that waits; twice the same fencing token, the ttl anew."""
    version = granted(lock.read(U))
    lock.write(W, inbox.channel)
    fence = granted(lock.upgrade(U, X, ttl=5_000))
    assert fence > version
    assert lock.command("GET", lock.key) == f"{X} {fence}"
    assert granted(lock.upgrade(U, X)) == fence
    assert lock.remaining() > 5_000
    for companion in (lock.readers, lock.version):
        assert lock.command("EXISTS", companion) == 0
    assert lock.waiters == [W]


def test_an_upgrade_waits_for_the_other_readers_in_front_of_the_queue(
    lock: Scripts, open_inbox: Callable[[], Inbox]
) -> None:
    """Nobody comes in meanwhile; the last of the others makes it the writer."""
    ours, theirs = open_inbox(), open_inbox()
    lock.read(A)
    lock.read(B)
    version = granted(lock.read(U))
    lock.write(W, theirs.channel)
    for _ in range(2):
        code, _, holder, _, position = lock.upgrade(U, X, ours.channel)
        assert (code, holder, position) == ("QUEUED", f"readers:{A}", 0)
    assert lock.upgrade(U, X)[0] == "HELD"
    assert lock.waiters == [X, W]
    assert lock.read(C)[0] == "HELD"
    leave(lock, A)
    assert ours.grants() == []
    leave(lock, B)
    (message,) = ours.messages()
    fence, _, ttl, token, key = message.split(" ")
    assert int(fence) > version
    assert (int(ttl), token, key) == (GRANT_TTL, X, lock.key)
    assert lock.command("GET", lock.key) == f"{X} {fence}"
    assert lock.waiters == [W]
    # What it has sent as a reader meanwhile does no harm.
    assert lock.renew(f"{U} {version}") == ("DONE", 1)
    assert lock.command("GET", lock.key) == f"{X} {fence}"
    assert lock.release(X, int(fence)) == ("DONE", 1)
    assert theirs.grants() == [W]


def test_an_upgrade_that_nobody_hears_keeps_its_place(lock: Scripts) -> None:
    """It reads still, and is the writer when it asks again."""
    lock.read(A)
    lock.read(U)
    lock.upgrade(U, X, DEAD)
    leave(lock, A)
    assert lock.group == [U]
    assert lock.waiters == [X]
    assert lock.read(B)[0] == "HELD"
    assert granted(lock.upgrade(U, X, DEAD))
    assert lock.waiters == []


def test_a_place_of_an_upgrade_whose_reader_is_gone_is_a_writers(
    lock: Scripts, inbox: Inbox
) -> None:
    """It is granted when nobody reads any more, as it were any writer."""
    lock.read(A)
    lock.read(U)
    lock.upgrade(U, X, inbox.channel)
    leave(lock, U)
    assert inbox.grants() == []
    leave(lock, A)
    assert inbox.grants() == [X]
    assert lock.holder == X


def test_who_does_not_read_cannot_upgrade(lock: Scripts) -> None:
    """GONE without a key, OTHER beside other readers or a writer."""
    assert lock.upgrade(U, X) == ("GONE",)
    lock.read(A)
    assert lock.upgrade(U, X) == ("OTHER",)
    leave(lock, A)
    lock.write(W)
    assert lock.upgrade(U, X) == ("OTHER",)
    assert lock.holder == W


@pytest.mark.parametrize("highest", [0, GAP])
def test_a_writer_reads_on(lock: Scripts, open_inbox: Callable[[], Inbox], highest: int) -> None:
    """The version is what it used last; readers at the head come in, and no writer."""
    ours, theirs = open_inbox(), open_inbox()
    fence = granted(lock.write(W))
    lock.read(B, ours.channel)
    lock.acquire(PLAIN, theirs.channel)
    version = fence + highest
    for _ in range(2):
        assert lock.downgrade(W, A, version if highest else 0) == ("DONE", version)
    assert ours.grants() == [B]
    assert lock.command("GET", lock.key) == f"readers:{A} {version}"
    assert sorted(lock.group) == [A, B]
    assert lock.waiters == [PLAIN]
    assert lock.command("GET", lock.version) == str(version)


def test_who_does_not_write_cannot_downgrade(lock: Scripts) -> None:
    """GONE without a key, OTHER beside another holder."""
    assert lock.downgrade(W, A) == ("GONE",)
    lock.acquire(PLAIN)
    assert lock.downgrade(W, A) == ("OTHER",)
    assert lock.holder == PLAIN


def test_an_upgrade_is_taken_back(lock: Scripts, open_inbox: Callable[[], Inbox]) -> None:
    """Out of the queue, or granted already: it reads on, and who waited for it comes in."""
    ours, theirs = open_inbox(), open_inbox()
    for is_granted in (False, True):
        lock.read(A)
        lock.read(U)
        lock.upgrade(U, X, ours.channel)
        lock.read(B, theirs.channel)
        if is_granted:
            leave(lock, A)
            assert lock.holder == X
        assert lock.downgrade(X, U, 0, ours.channel)[0] == "DONE"
        assert theirs.grants() == [B]
        assert U in lock.group
        assert lock.waiters == []
        for each in lock.group:
            leave(lock, each)
        assert lock.holder is None


def test_an_upgrade_is_taken_back_behind_the_release_of_its_reader(
    lock: Scripts, open_inbox: Callable[[], Inbox]
) -> None:
    """It leaves the queue, and who stood behind it comes in."""
    ours, theirs = open_inbox(), open_inbox()
    lock.read(A)
    lock.read(U)
    lock.upgrade(U, X, ours.channel)
    lock.read(B, theirs.channel)
    leave(lock, U)
    assert lock.downgrade(X, U, 0, ours.channel)[0] == "OTHER"
    assert theirs.grants() == [B]
    assert sorted(lock.group) == [A, B]
    assert lock.waiters == []


LONG = 100 * TTL


def test_a_writer_that_reads_on_keeps_what_it_has(lock: Scripts) -> None:
    """It was extended, say: until it has heard of the change it relies on that."""
    lock.write(W)
    lock.command("PEXPIRE", lock.key, LONG)
    assert lock.downgrade(W, A, 0)[0] == "DONE"
    assert lock.remaining() > LONG / 2
    assert lock.downgrade(W, A, 0)[0] == "DONE"
    assert lock.remaining() > LONG / 2


@pytest.mark.parametrize("by_message", [False, True])
def test_a_reader_that_writes_keeps_what_it_has(
    lock: Scripts, inbox: Inbox, by_message: bool
) -> None:
    """Granted at once or later, granted again, or renewed as the reader that it was."""
    lock.read(U)
    if by_message:
        lock.read(A)
    lock.renew(of(lock, U), LONG)
    reader = of(lock, U)
    lock.upgrade(U, X, inbox.channel)
    if by_message:
        leave(lock, A)
    assert lock.holder == X
    assert lock.remaining() > LONG / 2
    assert granted(lock.upgrade(U, X, inbox.channel))
    assert lock.remaining() > LONG / 2
    lock.renew(reader, 2 * LONG)
    assert lock.remaining() > LONG


def test_a_reader_that_takes_its_upgrade_back_keeps_what_it_has(
    lock: Scripts, inbox: Inbox
) -> None:
    """It reads on, with another one beside it."""
    lock.read(A)
    lock.read(U)
    lock.renew(of(lock, U), LONG)
    lock.upgrade(U, X, inbox.channel)
    assert lock.downgrade(X, U, 0, inbox.channel)[0] == "DONE"
    assert lock.remaining() > LONG / 2


def test_the_version_is_unknown_while_a_writer_of_a_read_write_lock_holds(
    lock: Scripts, inbox: Inbox
) -> None:
    """If it dies it has written nobody knows what: the next readers get one above that."""
    version = granted(lock.read(A))
    leave(lock, A)
    fence = granted(lock.write(W))
    assert lock.command("EXISTS", lock.version) == 0
    lock.expire()
    assert granted(lock.read(B)) > fence > version
    # By a grant as well.
    lock.write(W, inbox.channel)
    leave(lock, B)
    assert lock.holder == W
    assert lock.command("EXISTS", lock.version) == 0


def test_no_version_is_known_where_none_of_those_behind_a_writer_lives(lock: Scripts) -> None:
    """Who was granted the lock last seemed to be gone, too, and finds out by asking again."""
    lock.write(named(6, "w"))
    lock.write(W, DEAD)
    lock.read(A, DEAD)
    lock.expire()
    assert lock.read(B)[0] == "HELD"
    assert granted(lock.write(W, DEAD))
    assert lock.command("EXISTS", lock.version) == 0


def test_the_version_behind_another_locks_writer_is_a_new_one(lock: Scripts, inbox: Inbox) -> None:
    """Of redis-py's and of a plain lock that hands over it is not known what it wrote."""
    old = granted(lock.read(A))
    leave(lock, A)
    _, fence, _ = lock.acquire(PLAIN)
    lock.read(B, inbox.channel)
    lock.release(PLAIN)
    assert granted(lock.read(B, inbox.channel)) > fence > old


def test_a_writer_that_is_passed_on_leaves_its_version(lock: Scripts, inbox: Inbox) -> None:
    """To readers; and one that is kept, as nobody waits, makes it unknown again."""
    fence = granted(lock.write(W))
    again = named(9, "w", 6)
    assert lock.pass_on(W, again, "inbox:w", fence + 3)[0] == "DONE"
    assert lock.command("EXISTS", lock.version) == 0
    lock.read(B, inbox.channel)
    highest = lock.counter + 5
    assert lock.pass_on(W, again, "inbox:w", highest)[0] == "QUEUED"
    assert lock.command("GET", lock.key) == f"readers:{B} {highest}"


def test_an_operator_takes_the_lock_from_a_group(lock: Scripts, inbox: Inbox) -> None:
    """All of it goes to who is next, and none of its readers holds any more."""
    lock.read(A)
    lock.read(B)
    ours = of(lock, A)
    lock.acquire(PLAIN, inbox.channel)
    assert lock.force_release(f"readers:{A}")[0] == "DONE"
    assert inbox.grants() == [PLAIN]
    assert lock.renew(ours) == ("OTHER",)
    assert lock.command("EXISTS", lock.readers) == 0
    lock.release(PLAIN)
    assert lock.holder is None


def test_who_asks_while_it_is_free_drives_the_queue(
    lock: Scripts, open_inbox: Callable[[], Inbox]
) -> None:
    """The writer died: readers, and those behind them, come in together."""
    ours, theirs = open_inbox(), open_inbox()
    lock.write(W)
    lock.read(A, ours.channel)
    lock.expire()
    assert granted(lock.read(B, theirs.channel))
    assert ours.grants() == [A]
    assert theirs.grants() == []
    assert sorted(lock.group) == [A, B]
    assert lock.remaining() > GRANT_TTL  # it got its whole ttl


def test_a_writer_that_asks_while_it_is_free_finds_the_readers_before_it(
    lock: Scripts, open_inbox: Callable[[], Inbox]
) -> None:
    """They hold by then."""
    ours, theirs = open_inbox(), open_inbox()
    lock.acquire(PLAIN)
    lock.read(A, ours.channel)
    lock.expire()
    assert lock.write(W, theirs.channel)[:3:2] == ("QUEUED", f"readers:{A}")
    assert ours.grants() == [A]


def test_a_reader_that_has_the_lock_alone(lock: Scripts, inbox: Inbox) -> None:
    """Processes that know nothing of readers make it the holder: it is one, in every way."""
    lock.command("SET", lock.key, f"{A} 17", "PX", TTL)
    lock.command("SET", lock.fence, lock.server_us)
    assert granted(lock.read(A)) == 17
    assert lock.renew(f"{A} 17") == ("DONE", 0)
    lock.read(B, inbox.channel)
    assert lock.release(f"{A} 17") == ("DONE", 1)
    assert lock.group == [B]
    lock.command("SET", lock.key, f"{U} 17", "PX", TTL)
    assert granted(lock.upgrade(U, X)) > 17


def test_who_leads_a_group_at_the_key_may_be_long_gone(lock: Scripts) -> None:
    """Its token only names the group."""
    lock.read(A)
    lock.read(B)
    leave(lock, A)
    assert lock.holder == f"readers:{A}"
    assert granted(lock.read(C))
    assert lock.group == [B, C]


def test_a_group_of_before_is_no_part_of_a_new_one(lock: Scripts) -> None:
    """Its members have ended with its key."""
    lock.read(A)
    lock.command("DEL", lock.key)
    lock.read(B)
    assert lock.group == [B]


@pytest.mark.parametrize("what", ["queue", "version", "readers"])
def test_what_is_none_of_ours(lock: Scripts, what: str) -> None:
    """Nobody waits in a queue that is none, a version that is none is replaced; so are readers."""
    lock.command("SET" if what != "version" else "LPUSH", getattr(lock, what), "x")
    if what == "version":
        with pytest.raises(ResponseError):
            lock.command("GET", lock.version)
        assert granted(lock.read(A))
        assert lock.command("TYPE", lock.version) == "string"
    elif what == "readers":
        assert granted(lock.read(A))
        assert lock.group == [A]
    else:
        assert granted(lock.read(A))
        leave(lock, A)


def test_without_memory_nobody_begins_to_read(
    private: Scripts, private_inbox: Inbox, out_of_memory: Callable[[], None]
) -> None:
    """A clear OOM error, and nothing half done, beside a group and where nobody holds."""
    private.read(A)
    private.acquire(PLAIN, private_inbox.channel)
    out_of_memory()
    for ask in (private.read, private.write):
        with pytest.raises(ResponseError, match=OOM):
            ask(B, private_inbox.channel)
    assert (private.group, private.waiters) == ([A], [PLAIN])
    assert private.read(B)[0] == "HELD"
    assert leave(private, A)[0] == "DONE"  # whoever gets it, or has to ask for it
    private.remove()
    for token in (A, U):
        with pytest.raises(ResponseError, match=OOM):
            private.read(token)
    assert private.exists() == []
    assert private.command("EXISTS", private.readers, private.version) == 0


def test_the_queue_lives_a_while_behind_its_last_visitor(lock: Scripts, inbox: Inbox) -> None:
    """Also that in which an upgrade waits."""
    lock.read(A)
    lock.read(U)
    lock.upgrade(U, X, inbox.channel)
    assert 0 < lock.remaining(lock.queue) <= QUEUE_TTL
