"""What is held of semaphores: by the word of who holds it, and by what servers keep.

A permit is judged by the limit of whoever asks for it, when it is given: what was held then may be
above a limit that somebody else goes by.  Names are their own: no lock is held beside permits.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from aiodistlock import SemaphoreLease
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.permits import read_lease
from tests.simulation.known import Grant, Held, members_of
from tests.simulation.liveness import DEAD_FOR, Wait
from tests.simulation.process import Process
from tests.simulation.redis.server import RedisServer
from tests.simulation.redis.session import Session
from tests.simulation.unclaimed import TAKES, Heard

if TYPE_CHECKING:
    from tests.simulation.judge import Judge
    from tests.simulation.uses.semaphore import Asked

NAMESPACE = "permit:"
"""Of names that nobody takes otherwise: what stands at their keys is a set."""


class Want(NamedTuple):
    """What a record in the queue wants."""

    ttl_ms: int
    inbox: bytes
    token: bytes
    permits: int
    limit: int


def want_of(record: bytes) -> Want:
    """Read a record."""
    ttl, inbox, _secret, token, permits, limit = record.split(b" ")
    return Want(int(ttl), inbox, token, int(permits), int(limit))


@dataclass(eq=False, kw_only=True)
class Given(Grant):
    """
    A lease that a server gave.

    :ivar held: how many permits were held then, with its own
    :ivar confirmed_at: true time at which a server spoke of it last
    """

    slots: tuple[int, ...]
    held: int
    confirmed_at: float


@dataclass(eq=False)
class Semaphore:
    """What is known of one."""

    key: bytes
    queue_key: bytes
    given: dict[bytes, Given] = field(default_factory=dict)
    """By what stands for them."""
    by_slot: defaultdict[int, list[Given]] = field(default_factory=lambda: defaultdict(list))
    used: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    """The highest fencing token that was used with each slot."""
    given_up: set[bytes] = field(default_factory=set)
    """Tokens whose own process has ended a lease that somebody there had."""
    hints: dict[bytes, Heard] = field(default_factory=dict)
    """What was given to who waited, and heard of it, by what stands for it."""
    queue: dict[bytes, None] = field(default_factory=dict)
    """Records of those who wait, in the order in which they came."""
    open: list[Held] = field(default_factory=list)
    wait: Wait = field(default_factory=Wait)
    """Of who waits while nobody holds anything."""
    waited_since: float = 0.0
    """True time since when somebody has waited, if anybody does."""
    head: tuple[bytes, float] | None = None
    """Who waits first, and lives, and until when it has to be served."""


class Permits:
    """
    Notes slots that two have, and one too many (``overlap``), and all that is said of locks.

    What no server has confirmed since one lost data, or had its clock stepped, is not judged: its
    holder may rely on what nobody else knows of.
    """

    def __init__(self, judge: Judge, names: list[str]) -> None:
        self._judge = judge
        keys = {name: LockKeys(name, namespace=NAMESPACE) for name in names}
        self.names = {name: Semaphore(each.key, each.queue) for name, each in keys.items()}
        self._before: list[tuple[dict[bytes, float], list[bytes]]] = []

    # What servers keep.

    def _at(self, server: RedisServer) -> Iterator[Semaphore]:
        return (each for each in self.names.values() if self._judge.serves(server, each.key))

    def before(self, server: RedisServer) -> None:
        """Take down what stands at the keys."""
        values = server.keys.values
        self._before = []
        for each in self._at(server):
            self._take_in_queue(each, members_of(values.get(each.queue_key)))
            self._before.append((dict(members_of(values.get(each.key))), list(each.queue)))

    def after(self, server: RedisServer, session: Session) -> None:
        """See what a request has left there."""
        keys = server.keys
        for each, (was, queue) in zip(self._at(server), self._before, strict=True):
            change = _Change(self._judge, each, server, session, was=was, waited=queue)
            change.look()
            self._take_in_queue(each, change.queue)
            if change.members != was or [*change.queue] != queue:
                self._plan_head(each, server)
            if each.queue_key in keys.values and each.queue_key not in keys.ends:
                self._judge.note("long", f"{each.queue_key!r} has no end")

    def _take_in_queue(self, semaphore: Semaphore, waiting: dict[bytes, float]) -> None:
        if not self._judge.is_settled(semaphore.key):
            waiting = {}  # they may be here, and the permits there
        came = [record for record in waiting if record not in semaphore.queue]
        stay = [record for record in semaphore.queue if record in waiting]
        if not stay:
            semaphore.waited_since = self._judge.now
        semaphore.queue = dict.fromkeys([*stay, *sorted(came, key=waiting.__getitem__)])

    def _plan_head(self, semaphore: Semaphore, server: RedisServer) -> None:
        """Take down until when whoever waits first must be served, if it lives."""
        semaphore.head = None
        record = next(iter(semaphore.queue), None)
        if record is None:
            return
        want, now_us = want_of(record), server.keys.now_us
        missing, at_us = want.permits - want.limit, float(now_us)
        members = members_of(server.keys.values.get(semaphore.key))
        missing += sum(len(_slots(each)) for each, ends in members.items() if ends > now_us)
        for ends_us, permits in sorted((ends, len(_slots(each))) for each, ends in members.items()):
            if missing > 0 and ends_us > now_us:
                at_us, missing = ends_us, missing - permits
        semaphore.head = record, self._judge.now + (at_us - now_us) / 1e6 + DEAD_FOR

    def forget(self) -> None:
        """Take in that data may be lost."""
        for each in self.names.values():
            each.queue.clear()
            each.head = None

    def promoted(self, primary: RedisServer) -> None:
        """Take in who is the primary."""
        for each in self.names.values():
            ends = members_of(primary.keys.values.get(each.key)).values()
            left = max(ends, default=0.0) - primary.clock_us()
            each.wait.failed_over(self._judge.now + max(0.0, left) / 1e6)
            each.head = None

    # What holders say.

    def begins(self, process: Process, asked: Asked, lease: SemaphoreLease) -> Held:
        """Take in a holder's word that it has permits, for which it asked before."""
        judge, semaphore, fence = self._judge, self.names[asked.name], lease.fencing_token
        value = lease._process_lease.value
        given = semaphore.given.get(value)
        if given is None:
            judge.note("order", f"{lease!r} was given by nobody")
            given = _given(value, 0, judge.now)
        held = Held(process, lease, asked.name, given, judge.now, asked.at, kind="semaphore")
        held.hardly = judge.is_nearly_over(process, lease)
        judge.holds += 1
        judge.holds_of["semaphore"] += 1
        judge.look_at_beginning(held)
        slots = lease.slots
        if len(slots) != asked.permits or slots != given.slots or max(slots) >= asked.limit:
            judge.note("order", f"{held} has {slots} for {asked}")
        if given.held > asked.limit:
            judge.note("overlap", f"{held} makes {given.held} held, for {asked}")
        if given.used:
            judge.handed_on(held, semaphore)
        self._look_at_fence(semaphore, held, given)
        given.used = max(given.used, fence)
        for slot in given.slots:
            semaphore.used[slot] = max(semaphore.used[slot], fence)
        semaphore.open.append(held)
        judge.begins(held)
        self._look_at(semaphore)
        return held

    def _look_at_fence(self, semaphore: Semaphore, held: Held, given: Given) -> None:
        judge, fence = self._judge, held.lease.fencing_token
        if not judge.fences_are_promised:
            return
        if fence <= given.used:
            judge.note("fence", f"{held} is not above the local holder before it")
        for slot in given.slots:
            all_of_it = semaphore.by_slot[slot]
            place = all_of_it.index(given) if given in all_of_it else len(all_of_it)
            following = next(iter(all_of_it[place + 1 :]), None)
            if following is not None and fence >= following.fence:
                judge.note("fence", f"{held} is not below {following.value!r}, given after it")

    def ends(self, held: Held) -> None:
        """Take in its word that it has them no more."""
        held.ended_at = self._judge.now
        self.names[held.name].open.remove(held)
        self._judge.ends(held)

    def look(self) -> None:
        """See whether what holders rely on agrees, with each other and with the servers."""
        for each in self.names.values():
            if each.open:
                self._look_at(each)
            if each.hints:
                self._look_at_hints(each)
            if each.head is not None and self._judge.now > each.head[1]:
                self._look_at_head(each)

    def _look_at(self, semaphore: Semaphore) -> None:
        judge = self._judge
        # A permit ends by the clock of whoever gave it, not of the node that its slot went to.
        if judge.clock_stepped:
            return
        server = judge.server(semaphore.key)
        members, now_us = members_of(server.keys.values.get(semaphore.key)), server.clock_us()
        taken: dict[int, Held] = {}
        for held in semaphore.open:
            given = held.grant
            assert isinstance(given, Given)
            if given.confirmed_at <= judge.broken_at or not held.relies():
                continue
            for slot in given.slots:
                other = taken.setdefault(slot, held)
                if other is not held:
                    judge.note("overlap", f"{held} has slot {slot} besides {other}")
            if members.get(given.value, -math.inf) < now_us - 1000:
                judge.note("key", f"{held} is relied on, but there are {members}")

    def _look_at_hints(self, semaphore: Semaphore) -> None:
        """See that whoever heard of what it was given takes it, or gives it back."""
        judge = self._judge
        for member, hint in list(semaphore.hints.items()):
            if not hint.is_judged(judge.struck()):
                del semaphore.hints[member]
            elif judge.now - hint.at > TAKES:
                del semaphore.hints[member]
                judge.note("idle", f"{member!r} was heard of, and neither taken nor given back")

    def _look_at_head(self, semaphore: Semaphore) -> None:
        """See that it does not wait longer, if it is there, and somebody to ask."""
        assert semaphore.head is not None
        judge, record = self._judge, semaphore.head[0]
        late = judge.now - semaphore.head[1]
        semaphore.head = None
        want = want_of(record)
        living = [each for each in judge.processes if not each.dead]
        is_there = any(want.token.startswith(f"{each.label}:".encode()) for each in living)
        heard = judge.server(semaphore.key).subscribers.get(want.inbox)
        # It may have left, where that is lost; but whoever else waits asks at the same time.
        asks = any(
            each.process in living and since < judge.now - DEAD_FOR
            for each, since in semaphore.wait.wanted.items()
        )
        if is_there and heard and asks and judge.waits_are_judged:
            judge.note("dead", f"{record!r} waits {late:.3f} s longer than for what is dead")


class _Change:
    """
    What one request has made of a semaphore.

    :ivar members: the permits, by now
    :ivar queue: who waits by now, unsorted
    """

    def __init__(
        self,
        judge: Judge,
        semaphore: Semaphore,
        server: RedisServer,
        session: Session,
        *,
        was: dict[bytes, float],
        waited: list[bytes],
    ) -> None:
        assert isinstance(session.owner, Process)
        self._judge, self._semaphore, self._server = judge, semaphore, server
        self._mine = f"{session.owner.label}:".encode()
        self._who = session.owner.label
        self._was, self._waited = was, waited
        self._now_us = server.keys.now_us
        self.members = members_of(server.keys.values.get(semaphore.key))
        self.queue = members_of(server.keys.values.get(semaphore.queue_key))

    def look(self) -> None:
        """See what must not be."""
        semaphore, was = self._semaphore, self._was
        new = sorted((each for each in self.members if each not in was), key=_fence)
        live = [each for each, ends in was.items() if ends > self._now_us]
        for each, ends in was.items():
            if each not in self.members:
                self._gone(each, ends)
            elif self.members[each] != ends:
                self._set_anew(each, ends)
        staying = [each for each in live if each in self.members]
        held = sum(len(_slots(each)) for each in staying)
        for each in new:
            held += len(_slots(each))
            self._is_new(each, held, is_first=not live)
        if new or self.members != was:
            self._look_at_ends()
            self._look_at_slots([*staying, *new])
            ends = max(self.members.values(), default=0.0)
            left = max(0.0, ends - self._now_us) / 1e6
            semaphore.wait.held(self._judge.now + left)
        changed = new or was.keys() != self.members.keys()
        if changed:
            self._judge.handed_over += 1
        if self._judge.is_settled(semaphore.key):
            self._look_at_those_who_left(new)
            if changed or {*self._waited} != self.queue.keys():
                self._look_at_head(held)

    def _gone(self, member: bytes, ends: float) -> None:
        given = self._semaphore.given.get(member)
        self._semaphore.hints.pop(member, None)
        if ends <= self._now_us:
            return
        # What nobody had is left by what is sent behind the request for it, each time that is sent.
        if given is not None and given.used:
            self._semaphore.given_up.add(given.token)
        if not member.startswith(self._mine):
            self._judge.note("owner", f"{self._who} took {member!r} away")

    def _set_anew(self, member: bytes, ends: float) -> None:
        judge = self._judge
        if not member.startswith(self._mine):
            judge.note("owner", f"{self._who} moved the end of {member!r}")
        if ends <= self._now_us:
            judge.note("again", f"{member!r} was over, and goes on")
        self._semaphore.hints.pop(member, None)
        given = self._semaphore.given.get(member)
        if given is not None:
            given.confirmed_at = judge.now

    def _is_new(self, member: bytes, held: int, *, is_first: bool) -> None:
        judge, semaphore = self._judge, self._semaphore
        given = _given(member, held, judge.now)
        for slot in given.slots:
            before = semaphore.by_slot[slot]
            last = max(before[-1].fence if before else 0, semaphore.used[slot])
            if given.fence <= last and judge.fences_are_promised:
                judge.note("fence", f"{member!r} was given after {last}")
            before.append(given)
        semaphore.given[member] = given
        if given.token in semaphore.given_up and not judge.data_lost:
            judge.note("again", f"{member!r} was given, which had been given up")
        record = next((each for each in self._waited if want_of(each).token == given.token), None)
        if record is not None:
            want = want_of(record)
            if len(given.slots) != want.permits or held > want.limit:
                judge.note("overlap", f"{member!r} makes {held} held, for {record!r}")
        if not given.token.startswith(self._mine):
            self._is_hinted(given, record)
        if is_first:
            late = semaphore.wait.late(judge.now)
            if late > 0 and judge.waits_are_judged:
                judge.note("dead", f"{member!r} was given {late:.3f} s too late")

    def _is_hinted(self, given: Given, record: bytes | None) -> None:
        """See that somebody else was given what it waits for, and hears of it."""
        judge, semaphore, server = self._judge, self._semaphore, self._server
        if record is None:
            if judge.is_settled(semaphore.key):
                judge.note("owner", f"{self._who} had {given.value!r} given, who did not wait")
            return
        want = want_of(record)
        if not self._hears(want):
            judge.note("idle", f"{given.value!r} was given, and nobody hears it")
        elif judge.claims_are_judged:
            for session in server.subscribers[want.inbox]:
                heard = Heard(given.value, session, want.inbox, server, judge.now, judge.struck())
                semaphore.hints[given.value] = heard

    def _hears(self, want: Want) -> bool:
        return bool(self._server.subscribers.get(want.inbox))

    def _look_at_ends(self) -> None:
        judge, key = self._judge, self._semaphore.key
        key_ends = self._server.keys.ends.get(key)
        for member, ends in self.members.items():
            if ends - self._now_us > judge.longest_ms * 1000 and ends != self._was.get(member):
                judge.note("long", f"{self._who} set {member!r} to end at {ends}")
            early = key_ends is None or key_ends * 1000 + 1000 < ends
            if early and not judge.clock_stepped:
                judge.note("key", f"{key!r} ends before {member!r}: {key_ends}, {ends}")

    def _look_at_slots(self, members: list[bytes]) -> None:
        slots = [slot for each in members for slot in _slots(each)]
        if len(slots) != len({*slots}):
            self._judge.note("overlap", f"{self._who} left a slot given twice: {members}")

    def _look_at_those_who_left(self, new: list[bytes]) -> None:
        """See that nobody is given permits before those who came before, and nobody is dropped."""
        judge, served = self._judge, {_token(each) for each in new}
        wait_on: list[bytes] = []
        for record in self._waited:
            want = want_of(record)
            if record in self.queue:
                wait_on.append(record)
            elif want.token in served:
                if wait_on:
                    judge.note("fifo", f"{record!r} was served before {wait_on[0]!r}")
                served.discard(want.token)
            elif not want.token.startswith(self._mine) and self._hears(want):
                judge.note("owner", f"{self._who} took {record!r} out of the queue")
        if served and wait_on:
            judge.note("fifo", f"{served} did not wait, and were served before {wait_on[0]!r}")

    def _look_at_head(self, held: int) -> None:
        """See that whoever waits first does not fit, and is there if somebody has come."""
        if not self.queue or self._server.saying is not None:
            return
        first = min(self.queue, key=lambda each: (self.queue[each], each))
        want = want_of(first)
        if held + want.permits <= want.limit:
            self._judge.note("idle", f"{first!r} waits, while {held} are held")
        came = self.queue.keys() - {*self._waited}
        if came and first not in came and not self._hears(want):
            self._judge.note("idle", f"{first!r} is not there, and has {came} wait")


def _token(member: bytes) -> bytes:
    return member.split(b" ")[0]


def _fence(member: bytes) -> int:
    return int(member.split(b" ")[1])


def _slots(member: bytes) -> list[bytes]:
    return member.split(b" ")[2].split(b",")


def _given(member: bytes, held: int, now: float) -> Given:
    read = read_lease(member)
    assert read is not None, member
    token, fence, slots = read
    return Given(member, token, fence, now, slots=slots, held=held, confirmed_at=now)
