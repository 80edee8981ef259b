"""The way of each call through a cluster, decided without one."""

import asyncio
from typing import Any, cast
from unittest.mock import Mock

import pytest
from redis.asyncio import RedisCluster
from redis.exceptions import ResponseError

from aiodistlock.connection.backlog import Backlog
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.slots import SLOTS, Address, SlotMap, SlotRange
from aiodistlock.deployments.cluster.connection import ClusterConnection
from aiodistlock.deployments.cluster.inboxes import MAX_SLOTS, ShardInboxes
from aiodistlock.deployments.cluster.members import Members
from aiodistlock.deployments.cluster.primary_pipe import PrimaryPipe
from aiodistlock.deployments.cluster.routes import MAX_REDIRECTS
from aiodistlock.deployments.cluster.topology import Topology, View
from aiodistlock.deployments.single.store import SingleStore
from aiodistlock.protocol.answers import Failed
from aiodistlock.protocol.operations import Operations, read_renew
from aiodistlock.protocol.redis_call import RedisCall
from aiodistlock.protocol.scripts import ON_CLUSTER, RELEASE_ALONE, RENEW_ALONE, Script, bulks
from aiodistlock.testing.discovery import LOOPBACK
from tests.owner import IdleOwner

A, B = Address(LOOPBACK, 1), Address(LOOPBACK, 2)
KEYS = LockKeys("wallet", "lock:")


class Wiretap:
    """A cluster connection whose pipes have no connection: what is submitted stays with them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.owner = IdleOwner(clock=lambda: self.now)
        nodes = Members(RedisCluster(host=LOOPBACK, port=1))
        self.connection = ClusterConnection(nodes, b"inbox", b"secret", self.owner)
        self.connection._topology.refresh = lambda: None  # type: ignore[method-assign]  # asks nobody
        self.view(A)

    @property
    def moved(self) -> list[bool]:
        """Return whether the wallet's slot was among those told of as moved, each time."""
        return [moved(KEYS) for moved in self.owner.moved]

    def view(self, owner: Address) -> None:
        """Have one node own all slots."""
        self.connection._take_in(View([SlotRange(0, SLOTS - 1, owner, ())], sharded=True))

    def pipe(self, address: Address) -> PrimaryPipe:
        """Return the pipe to a node."""
        return self.connection._pipes.to(address)

    def at(self, address: Address) -> list[RedisCall[Any]]:
        """Return the calls that a node has to answer, in order."""
        return self.pipe(address).calls()

    def submit(self, script: Script = ON_CLUSTER.renew, keys: LockKeys = KEYS) -> Any:
        """Submit a call, and return it."""
        call = RedisCall(script, keys, bulks(b"token", 1, 1), read_renew)
        self.connection.submit(call)
        return call

    def answer(self, address: Address, error: str) -> RedisCall[Any]:
        """Have a node refuse the call that it was sent first."""
        pipe = self.pipe(address)
        backlog = pipe._backlog
        if not backlog.sent:
            backlog.sent.extend(backlog.unsent)
            backlog.unsent = []
        call = cast("RedisCall[Any]", backlog.sent.popleft())
        pipe._refused(call, ResponseError(error))
        return call


@pytest.fixture
async def tap() -> Any:
    """A connection that knows A as the owner of everything."""
    tap = Wiretap()
    yield tap
    tap.connection.stop()
    await tap.connection.aclose()


async def test_what_follows_a_moved_call_moves_along(tap: Wiretap) -> None:
    """Nothing new can get ahead of it at the new owner; other slots stay."""
    elsewhere = LockKeys("another", "lock:")
    first, other, second = tap.submit(), tap.submit(keys=elsewhere), tap.submit()
    tap.answer(A, f"MOVED {KEYS.slot} {LOOPBACK}:2")
    third = tap.submit()
    assert tap.at(B) == [first, second, third]
    assert tap.at(A) == [other]
    # The second is answered by A, too: that is nobody's answer any more.
    assert [isinstance(each, RedisCall) for each in tap.pipe(A)._backlog.sent] == [True, False]


async def test_a_moved_slot_is_told_once(tap: Wiretap) -> None:
    """So that leases and waiters of other names in it need not find out by themselves."""
    for _ in range(3):
        tap.submit()
    tap.answer(A, f"MOVED {KEYS.slot} {LOOPBACK}:2")
    assert tap.moved == []
    await asyncio.sleep(0)
    assert tap.moved == [True]
    tap.view(A)
    await asyncio.sleep(0)
    assert tap.moved == [True, True]


async def test_a_new_view_takes_the_calls_of_a_former_primary_along(tap: Wiretap) -> None:
    """In order, whether or not they were sent; its pipe is closed."""
    calls = [tap.submit() for _ in range(3)]
    pipe = tap.pipe(A)
    pipe._backlog.sent.extend(pipe._backlog.unsent[:2])
    del pipe._backlog.unsent[:2]
    tap.view(B)
    calls.append(tap.submit())
    assert tap.at(B) == calls
    assert [call.resent for call in calls] == [True, True, False, False]
    assert pipe.stopped


async def test_a_view_takes_only_the_calls_of_slots_that_left(tap: Wiretap) -> None:
    """Their former owner goes on serving the others."""
    elsewhere = LockKeys("another", "lock:")
    gone, stays = tap.submit(), tap.submit(keys=elsewhere)
    slot = KEYS.slot
    ranges = [(0, slot - 1, A), (slot, slot, B), (slot + 1, SLOTS - 1, A)]
    tap.connection._take_in(View([SlotRange(*each, ()) for each in ranges], sharded=True))
    assert tap.at(A) == [stays]
    assert tap.at(B) == [gone]


async def test_after_a_view_calls_go_where_it_says(tap: Wiretap) -> None:
    """Also where none was under way: the pipe that they went to may be closed."""
    tap.submit()
    tap.pipe(A).take()
    tap.view(B)
    call = tap.submit()
    assert not call.done
    assert tap.at(B) == [call]


async def test_nobody_wants_an_obsolete_call_at_the_new_owner(tap: Wiretap) -> None:
    """An acquire that was given up is not sent behind its abandon."""
    first, second = tap.submit(ON_CLUSTER.acquire), tap.submit(ON_CLUSTER.abandon)
    first.obsolete = True
    tap.answer(A, f"MOVED {KEYS.slot} {LOOPBACK}:2")
    tap.answer(A, f"MOVED {KEYS.slot} {LOOPBACK}:2")
    assert tap.at(B) == [second]


async def test_redirections_are_bounded(tap: Wiretap) -> None:
    """Nodes that disagree: the call fails for a passing reason, and is asked again."""
    call = tap.submit()
    at, to = A, B
    for _ in range(MAX_REDIRECTS + 1):
        assert not call.done
        tap.answer(at, f"MOVED {KEYS.slot} {LOOPBACK}:{to.port}")
        at, to = to, at
    assert isinstance(call.reply, Failed)
    assert call.reply.transient


@pytest.mark.parametrize(
    "error",
    [
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "CLUSTERDOWN Hash slot not served",
        "ERR Script attempted to access a non local key in a cluster node script: f, on @x:1.",
    ],
)
@pytest.mark.parametrize("script", [ON_CLUSTER.release, ON_CLUSTER.abandon, ON_CLUSTER.renew])
async def test_a_passing_refusal_is_repeated_for_what_undoes(
    tap: Wiretap, error: str, script: Script
) -> None:
    """Nobody might ask again for it; for others their caller does."""
    call, later = tap.submit(script), None
    tap.answer(A, error)
    if error.startswith("TRYAGAIN") and script is not ON_CLUSTER.abandon:
        assert call.script in (RELEASE_ALONE.sharded, RENEW_ALONE)
        assert tap.at(A) == [call]
        tap.answer(A, error)
    if script is ON_CLUSTER.renew:
        assert isinstance(call.reply, Failed)
        assert call.reply.transient
        return
    assert not call.done
    later = tap.submit()
    assert tap.at(A) == []
    tap.connection._tick()
    assert tap.at(A) == [call, later]


async def test_what_waits_for_one_key_delays_no_other(tap: Wiretap) -> None:
    """An abandon is repeated until its slot has arrived; leases in the slot are renewed."""
    mine, other = LockKeys("{w}:mine", "lock:"), LockKeys("{w}:other", "lock:")
    abandon = tap.submit(ON_CLUSTER.abandon, other)
    tap.answer(A, "TRYAGAIN Multiple keys request during rehashing of slot")
    renewals = [tap.submit(keys=mine) for _ in range(2)]
    behind = tap.submit(ON_CLUSTER.acquire, other)
    assert tap.at(A) == renewals
    tap.connection._tick()
    assert tap.at(A) == [*renewals, abandon, behind]


async def test_of_two_renewals_the_later_one_counts(tap: Wiretap) -> None:
    """What is sent again for the key alone does not end up behind what came after it."""
    first, second = tap.submit(), tap.submit()
    tap.answer(A, "TRYAGAIN Multiple keys request during rehashing of slot")
    third = tap.submit()
    assert [each for each in tap.at(A) if each is not second] == [first, third]
    assert tap.at(A).index(first) < tap.at(A).index(second)


async def test_of_two_renewals_the_later_one_counts_also_behind_an_ask(tap: Wiretap) -> None:
    """The one was referred to the target; the other still waits at the owner."""
    first, second = tap.submit(), tap.submit()
    tap.answer(A, f"ASK {KEYS.slot} {LOOPBACK}:2")
    tap.answer(B, "TRYAGAIN Multiple keys request during rehashing of slot")
    assert tap.at(A) == [first, second]
    assert tap.at(B) == []


async def test_a_node_that_is_cut_off_is_no_witness(tap: Wiretap) -> None:
    """It answers, but others are asked who serves its slots, for a while."""
    tap.now = 5.0
    pipe = tap.pipe(A)
    assert not pipe.quiet(tap.now)
    tap.submit()
    tap.answer(A, "CLUSTERDOWN The cluster is down")
    assert pipe.quiet(tap.now)
    tap.now = 7.0
    assert not pipe.quiet(tap.now)


async def test_a_lasting_refusal_is_the_answer(tap: Wiretap) -> None:
    """A wrong type does not get better elsewhere."""
    call = tap.submit(ON_CLUSTER.release)
    tap.answer(A, "WRONGTYPE Operation against a key")
    assert isinstance(call.reply, Failed)
    assert not call.reply.transient


async def test_a_stranded_call_is_given_up_in_the_end(tap: Wiretap) -> None:
    """After ``unavailable_after``, as any other."""
    call = tap.submit(ON_CLUSTER.release)
    tap.answer(A, "CLUSTERDOWN The cluster is down")
    tap.now = 31.0
    tap.connection._tick()
    assert isinstance(call.reply, Failed)


async def test_what_no_node_ever_took_has_an_excuse_when_it_is_given_up(tap: Wiretap) -> None:
    """Whoever asked may give up in the same turn of the loop, and ask why."""
    tap.connection._routes._map = SlotMap()  # no node has told yet
    error = ConnectionError("no node tells about the cluster")
    tap.connection._no_view(error, transient=True)
    call = tap.submit()
    assert tap.connection.excuses(call) == (error,)
    tap.now = 31.0
    tap.connection._tick()
    assert isinstance(call.reply, Failed)
    assert tap.connection.excuses(call) == (error,)


def test_grants_are_published_to_the_slot() -> None:
    """Every script that hands over does so by SPUBLISH."""
    handing_over = [ON_CLUSTER.acquire, ON_CLUSTER.release, ON_CLUSTER.pass_on, ON_CLUSTER.abandon]
    for script in handing_over:
        assert b"'SPUBLISH'" in script.source
        assert b"'PUBLISH'" not in script.source


async def test_closing_does_not_wait_for_what_no_node_takes(tap: Wiretap) -> None:
    """Longer than it may: what is unroutable is told that nothing comes of it."""
    call = tap.submit(ON_CLUSTER.release)
    tap.answer(A, "TRYAGAIN Multiple keys request during rehashing of slot")
    await tap.connection.aclose(within=0.01)
    assert isinstance(call.reply, Failed)
    later = tap.submit()
    assert isinstance(later.reply, Failed)
    assert tap.connection._timer is None


async def test_a_node_that_gives_no_sign_of_life_is_connected_to_anew(tap: Wiretap) -> None:
    """A waiter sends nothing, so no call of its own would notice that it hears nothing."""
    pipe = tap.pipe(A)
    wire = DeadWire()
    pipe._wire = cast("Any", wire)
    for now in (0.9, 1.1, 1.9, 5.9):
        pipe.beat(now)
    assert wire.written == 1
    assert wire.aborted == []
    pipe.beat(6.2)
    assert len(wire.aborted) == 1
    pipe._wire = None


class DeadWire:
    """A connection whose other end has silently gone."""

    def __init__(self) -> None:
        self.heard_at = 0.0
        self.written = 0
        self.aborted: list[Exception] = []

    def write(self, _data: bytes) -> None:
        """Take note."""
        self.written += 1

    def abort(self, error: Exception) -> None:
        """Take note."""
        self.aborted.append(error)


def test_waiters_in_many_slots_are_not_gone_through_for_each_of_them() -> None:
    """What is listened to is looked through each time that it has doubled."""
    looks, waiting = 0, [LockKeys(f"n{number}", "") for number in range(4000)]

    def waited_for() -> set[int]:
        nonlocal looks
        looks += 1
        return {keys.slot for keys in waiting}

    dropped: list[int] = []
    inboxes = ShardInboxes(
        b"inbox",
        b"secret",
        waited_for=waited_for,
        on_added=lambda _slot: None,
        on_widened=lambda _slot: None,
        on_dropped=dropped.append,
    )
    inboxes.sharded = True
    for _ in range(2):
        for keys in waiting:
            assert inboxes.listen(keys)
    assert looks <= 4
    assert dropped == []
    waiting = waiting[:10]
    for number in range(8000):
        inboxes.listen(LockKeys(f"m{number}", ""))
    assert len(inboxes._slots) <= MAX_SLOTS


async def test_who_passes_on_listens(tap: Wiretap) -> None:
    """It queues in that very request, though it may never have had to wait before."""
    store = SingleStore(
        tap.connection, tap.connection.inboxes, Operations(ON_CLUSTER, by_slot=True)
    )
    tap.submit()
    assert not tap.connection.wants(KEYS.slot)
    store.pass_on(
        KEYS, b"t", b"u", ttl_ms=1, grant_ttl_ms=1, highest=0, on_reply=lambda _reply: None
    )
    assert tap.connection.wants(KEYS.slot)
    assert KEYS.slot not in tap.connection._direct


@pytest.mark.parametrize("whose", ["pipe", "topology"])
async def test_a_client_whose_task_was_cancelled_is_of_no_use(tap: Wiretap, whose: str) -> None:
    """As at the end of ``asyncio.run``: one node out of reach is enough; locks say so."""
    if whose == "pipe":
        tap.submit()
        task = tap.pipe(A)._keeper._task
    else:
        Topology.refresh(tap.connection._topology)
        task = tap.connection._topology._task
    await asyncio.sleep(0)
    assert task is not None
    assert not tap.connection.stopped
    task.cancel()
    await asyncio.sleep(0)
    assert tap.connection.stopped


async def test_an_idle_pipe_is_not_suspected(tap: Wiretap) -> None:
    """Nobody needs it connected; else the nodes would be asked for ever because of it."""
    pipe = tap.pipe(A)
    assert tap.connection._pipes.suspected() == set()
    tap.submit()
    assert tap.connection._pipes.suspected() == {A}
    pipe._backlog.fail_all(TimeoutError(), transient=True)


async def test_who_left_the_cluster_is_asked_last(tap: Wiretap) -> None:
    """A node of the user's settings may be a stranger by now, with a view of its own."""
    topology = tap.connection._topology
    assert set(topology._candidates()) == {A, Address(LOOPBACK, 1)}
    tap.view(B)
    for _ in range(20):
        assert topology._candidates() == [B, Address(LOOPBACK, 1)]
    tap.submit()
    assert topology._candidates() == [Address(LOOPBACK, 1), B], "B cannot be reached"


async def test_what_was_sent_to_a_former_owner_is_void_for_the_next_one(tap: Wiretap) -> None:
    """The slot may come back, and with it what the network still has."""
    pipe = tap.pipe(A)
    sent, unsent = tap.submit(), tap.submit(keys=LockKeys("another", "lock:"))
    for call in (sent, unsent):
        pipe._backlog.unsent.remove(call)
    pipe._numbering.number(sent)
    pipe._backlog.sent.append(sent)
    pipe._backlog.unsent.append(unsent)
    tap.view(B)
    assert tap.at(B) == [sent, unsent]
    assert pipe._numbering is tap.pipe(B)._numbering
    assert pipe._numbering.void == {KEYS.slot: sent.tag}


async def test_what_is_behind_a_missing_script_is_void_once_the_connection_is_lost(
    tap: Wiretap,
) -> None:
    """It goes again if somebody wants it; a first copy is on its way all the same."""
    pipe, other = tap.pipe(A), LockKeys("another", "lock:")
    tap.submit()
    unwanted = tap.submit(keys=other)
    pipe._wire = Mock()
    pipe._flush()
    unwanted.obsolete = True
    tap.answer(A, "NOSCRIPT No matching script.")
    pipe._take_back()
    assert pipe._numbering.void.keys() == {KEYS.slot, other.slot}


def test_calls_taken_from_a_backlog_leave_a_place_for_their_reply() -> None:
    """Else the next reply would be taken for another's."""
    backlog = Backlog()
    calls = [RedisCall(ON_CLUSTER.renew, KEYS, b"", read_renew) for _ in range(4)]
    backlog.sent.extend(calls[:3])
    backlog.unsent = calls[3:]
    calls[1].obsolete = True
    assert backlog.take(lambda call: call is not calls[0]) == [calls[2], calls[3]]
    assert backlog.sent[0] is calls[0]
    assert len(backlog.sent) == 3
    assert backlog.unsent == []


async def test_a_notice_that_slots_have_moved_has_the_nodes_asked() -> None:
    """Redis Enterprise tells so, however it is that it names them."""
    tap = Wiretap()
    asked: list[bool] = []
    tap.connection._topology.refresh = lambda: asked.append(True)  # type: ignore[method-assign]
    tap.pipe(A)._pushed([b"SMIGRATED", 1, [[b"a:1", b"b:2", b"1-200"]]])
    assert asked == [True]
