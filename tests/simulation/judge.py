"""Who holds what, by holders' words and by what servers keep; and what must never be.

Rules, by the promise of docs/design.md that each belongs to
------------------------------------------------------------
``overlap``   P1: leases on a name do not overlap, each by its holder's conservative deadline
``key``       P1: what a holder relies on stands at its key
``fence``     P2: fencing tokens rise with every lease on a name
``store``     P2: a store that refuses lower tokens than it has seen accepts no stale write
``owner``     effects: who does not own a lease neither ends it nor prolongs it
``long``      effects: no lease is set to last longer than its holder asked, no queue for ever
``again``     rule 8 of section 8: what was given up is not granted again by a late request
``late``      rule 1 of section 8: no body begins after its deadline
``body``      section 6: no body goes on long after its lease is lost
``lost``      section 6: while nothing goes wrong no lease is lost that is renewed
``fifo``      section 7: nobody is granted a lock before those who queued for it earlier
``dead``      P3: a dead holder blocks others for its ttl and a second, a failover for two
``idle``      P3: no lock is given up to nobody while somebody waits for it, nor to the deaf, nor
              kept by whoever does not want it any more
``unfair``    section 9: local tasks go first for a bounded time
``short``     section 9: whoever is handed a lease locally has half of its ttl left
``linear``    P1, P2: all that holders saw can have come about one after the other
``slow``      P3: a lock that is released reaches who waits in about a round trip
``refused``   rule 7 of section 8: who waits for an unavailable Redis waits as long as was said
``waited``    rule 6 of section 8: nobody waits longer than its timeout
``swallowed`` rule 5 of section 8: a task that is cancelled hears of it
``gone``      section 6: whoever is refused a renewal does not go on
``inside``    see ``inside.py``
``once``      P1: no window is begun, or done, that was done before
``leader``    section 9: who is told to lead does, observers hear of terms in their order, and soon
``order``     an answer of the library contradicts itself

P1 is judged while its premises hold: not of leases that began before a server lost data, or
had its clock stepped.

Here it is said of locks; of read/write locks in ``pages.py``, of semaphores in ``permits.py``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from aiodistlock import Lease
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.value import value_of
from tests.simulation.beside import LOCAL_FOR, Beside
from tests.simulation.kinds import KINDS
from tests.simulation.known import Change, Grant, Held, Name, PlainHeld, Violation, token_of
from tests.simulation.leaders import Leaders
from tests.simulation.linearizability import stuck_at
from tests.simulation.liveness import is_judged
from tests.simulation.pages import Pages, Visit
from tests.simulation.permits import Permits, Semaphore
from tests.simulation.process import Process
from tests.simulation.redis.server import RedisServer
from tests.simulation.redis.session import Session
from tests.simulation.story import Story
from tests.simulation.timeline import Timeline
from tests.simulation.unclaimed import Unclaimed
from tests.simulation.windows import Windows

if TYPE_CHECKING:
    from tests.simulation.plan import Plan
    from tests.simulation.uses.election import Observer

NAMESPACE = "lock:"

LEEWAY = 0.002
"""Seconds that a body may go on after its deadline, besides the turns that take it there."""

REACHES_WITHIN = 0.03
"""Seconds in which a released lock reaches who waits while all is well: some round trips."""

KNOWN_WITHIN = 0.05
"""Seconds after it is due within which a renewal is answered while the network is well."""

ENDS_WITHIN = 0.02
"""Seconds behind its timeout within which a task waits no more, if its process runs."""

RESUMES_WITHIN = 0.26
"""Seconds that a loss may take to be seen after a suspended machine goes on: the watchdog's nap."""


class Judge:
    """Sees everything, and notes what must not be."""

    def __init__(self, timeline: Timeline, plan: Plan, names: list[str], story: Story) -> None:
        self._story = story
        self._timeline = timeline
        self.longest_ms = int(max(plan.ttls) * 1000) + 1
        quick = plan.is_quick
        self.all_is_well = quick and not plan.strikes
        bodies_tell = not any(KINDS[each].may_have_no_body for each in plan.kinds)
        self._hand_overs_are_judged = self.all_is_well and not plan.busy and bodies_tell
        self.waits_are_judged = is_judged(plan)
        self.claims_are_judged = self.waits_are_judged and bodies_tell
        self.all_goes_on = self.all_is_well and not plan.busy
        """And no body keeps its loop from hearing who waits."""
        self._undoes = plan.ack != "local"
        self._forgets_only = quick and plan.faults == ("flush",)
        stands_still = plan.slips or plan.busy or {"stop", "stall", "suspend"} & {*plan.faults}
        self._timeouts_are_judged = not stands_still
        # On a quorum it may be one of a bare majority, and is missed after a second only.
        only_silent = plan.faults == ("silent",) and not plan.is_quorum and not plan.extends
        self._falls_silent = quick and only_silent
        self.struck: Callable[[], int] = lambda: 0
        """How many strikes there have been."""
        self.processes: list[Process] = []
        self._unclaimed = Unclaimed(self)
        self.violations: list[Violation] = []
        self.names = {name: Name(LockKeys(name, namespace=NAMESPACE).queue) for name in names}
        self.keys = {f"{NAMESPACE}{name}".encode(): self.names[name] for name in names}
        self.broken_at = -1.0
        """When a premise of P1 was broken last."""
        self.data_lost = self.clock_set_back = False
        self.set_back_by = 0.0
        """Seconds, in all: by so much what was left behind lasts longer."""
        self.holds = 0
        self.holds_of: Counter[str] = Counter()
        """By kinds of locks."""
        self.handed_over = 0
        self.servers: list[RedisServer] = []
        self.windows = Windows(self)
        self.leaders = Leaders(self)
        self.pages = Pages(self)
        self.permits = Permits(self, names if "semaphore" in plan.kinds else [])
        self.beside = Beside(self, plan)
        self.clock_stepped = False
        self._lost_at: dict[str, float] = {}
        self._before: list[tuple[bytes | None, int | None]] = []

    def note(self, rule: str, what: str) -> None:
        """Note a violation."""
        self.violations.append(Violation(rule, self._timeline.now, what))

    # What servers keep.

    def _keys_at(self, server: RedisServer) -> Iterable[tuple[bytes, Name]]:
        """Return the keys that a server serves, and whose they are."""
        return [each for each in self.keys.items() if self.serves(server, each[0])]

    def serves(self, _server: RedisServer, _key: bytes) -> bool:
        """Tell whether a server serves a key."""
        return True

    def is_settled(self, _key: bytes) -> bool:
        """Tell whether one server has a key and all that belongs to it."""
        return True

    def before(self, server: RedisServer) -> None:
        """Take down what stands at the keys."""
        self.permits.before(server)
        self.beside.before(server)
        values, ends = server.keys.values, server.keys.ends
        at = self._keys_at(server)
        self._before = [(values.get(key), ends.get(key)) for key, _ in at]  # type: ignore[misc]  # no set is put there
        for _, name in at:
            if name.queue:  # who waited for too long has left
                self._take_in_queue(name, values.get(name.queue_key))

    def after(self, server: RedisServer, session: Session) -> None:
        """See what a request has left there."""
        self.permits.after(server, session)
        self.beside.after(server, session)
        values, ends = server.keys.values, server.keys.ends
        at = self._keys_at(server)
        for (key, name), (was, ended) in zip(at, self._before, strict=True):
            value, end = values.get(key), ends.get(key)
            if value == was and end == ended:
                continue
            assert not isinstance(value, dict)
            # Locks without fencing tokens neither queue nor hand over.
            if value != was and name.queue and b" " in (value or was or b" "):
                self._handed_over(name, value, server, session)
            change = Change(was, ended, value, end, server.keys.now_us // 1000)
            self._changed(session, name, change)
        for _, name in at:
            if name.queue_key in values and name.queue_key not in ends:
                self.note("long", f"{name.queue_key!r} has no end")
            if name.queue or name.queue_key in values:
                self._take_in_queue(name, values.get(name.queue_key))

    def _handed_over(
        self, name: Name, value: bytes | None, server: RedisServer, session: Session
    ) -> None:
        """See that a lock goes to whoever came first of those who can be told."""
        queue = server.keys.values.get(name.queue_key)
        left = queue if isinstance(queue, dict) else {}
        if value is None:
            if left and server.saying is None:
                self.note("idle", f"nobody has the lock, while these wait: {list(left)}")
            return
        token = token_of(value)
        for record in name.queue:
            if record.endswith(b" " + token):
                late = self._timeline.now - max(name.free_since, name.waited_since)
                if late > REACHES_WITHIN and self._hand_overs_are_judged:
                    self.note("slow", f"{value!r} was granted {late:.3f} s after a release")
                assert isinstance(session.owner, Process)
                asked = token.startswith(f"{session.owner.label}:".encode())
                inbox = record.split()[1]
                if not asked and not server.subscribers.get(inbox):
                    self.note("idle", f"{value!r} was granted, and nobody hears it")
                elif not asked and self.claims_are_judged:
                    self._unclaimed.granted(name, value, inbox, server)
                return
            if record in left:
                self.note("fifo", f"{value!r} was granted before {record!r}, which came first")
                return

    def _take_in_queue(self, name: Name, queue: object) -> None:
        """Keep who waits in the order of coming, whatever place the server gives them."""
        waiting = queue if isinstance(queue, dict) else {}
        came = [record for record in waiting if record not in name.queue]
        stay = [record for record in name.queue if record in waiting]
        if not stay:
            name.waited_since = self._timeline.now
        name.queue = dict.fromkeys([*stay, *sorted(came, key=waiting.__getitem__)])

    def _changed(self, session: Session, name: Name, change: Change) -> None:
        was, ended, value, end, now_ms = change
        self._unclaimed.changed(name, value, was)
        owner = session.owner
        assert isinstance(owner, Process)
        mine = f"{owner.label}:".encode()
        if was is not None and not was.startswith(mine):
            self.note("owner", f"{owner.label} changed {was!r} to {value!r}, end {ended} to {end}")
        if was is not None and token_of(was) != token_of(value or b""):
            name.given_up.add(token_of(was))
        if value is None:
            # Whoever queues is told nothing by a lock that knows no queue.
            told = b" " in (was or b" ")
            left = 0 if told else (ended or now_ms) - now_ms
            name.wait.held(self.now + left / 1000, told=told)
            self.handed_over += 1
            return
        late = name.wait.late(self.now) if token_of(was or b"") != token_of(value) else 0.0
        if late > 0 and self.waits_are_judged:
            self.note("dead", f"{value!r} was granted {late:.3f} s too late")
        until = math.inf if end is None else self.now + (end - now_ms) / 1000
        name.wait.held(until, told=b" " in value)
        if end is None or end - now_ms > self.longest_ms:
            self.note("long", f"{owner.label} set {value!r} to end in {end and end - now_ms} ms")
        if value != was:
            self._granted(name, value)

    def _granted(self, name: Name, value: bytes) -> None:
        self.handed_over += 1
        if b" " not in value:
            name.plain[value] = Grant(value, value, 0, self.now)
            return
        token, _, shown = value.rpartition(b" ")
        fence = int(shown)
        # Where data was lost it is not known any more what is void; and what was undone for lack
        # of an acknowledgement is asked for again, under the same token.
        if token in name.given_up and not self.data_lost and not self._undoes:
            self.note("again", f"{value!r} was granted, which had been given up")
        last = name.grants[-1].fence if name.grants else 0
        if fence <= max(last, name.used) and self.fences_are_promised:
            self.note(
                "fence",
                f"{value!r} was granted after {last}, {name.used} was used",
            )
        name.grants.append(Grant(value, token, fence, self._timeline.now))

    @property
    def fences_are_promised(self) -> bool:
        """Whether the clock covers what is lost."""
        return not (self.data_lost and self.clock_set_back)

    def node_lost_data(self, _server: RedisServer) -> None:
        """Take in that a server lost its data."""
        self.data_was_lost()

    def data_was_lost(self) -> None:
        """Take in that a server lost data."""
        self.broken_at = self._timeline.now
        self.data_lost = True
        self.windows.forget()
        self.permits.forget()
        for name in self.names.values():
            name.queue.clear()

    def clock_was_set(self, seconds: float) -> None:
        """Take in that a server's clock was stepped."""
        self.broken_at = self._timeline.now
        if seconds < 0:
            self.clock_set_back = True
            self.set_back_by -= seconds

    # What holders say.

    @property
    def now(self) -> float:
        """The true time."""
        return self._timeline.now

    def began(  # noqa: PLR0917  # as its holder says it
        self,
        process: Process,
        name_text: str,
        lease: Lease,
        asked_at: float,
        kind: str = "lock",
        looked_at: float | None = None,
    ) -> Held:
        """
        Take in a holder's word that it has a lease, for which it asked before.

        :param looked_at: what the library's clock showed when it looked last; default: that is
            the last look of all
        """
        name = self.names[name_text]
        self._count(kind, lease)
        token, fence = lease.token.encode(), lease.fencing_token
        place, grant = next(
            (
                (place, each)
                for place, each in reversed(list(enumerate(name.grants)))
                if each.token == token and each.fence <= fence
            ),
            (-1, None),
        )
        if grant is None:
            self.note("order", f"{lease!r} was granted by nobody")
            grant = Grant(value_of(token, fence), token, fence, self._timeline.now)
        held = Held(process, lease, name_text, grant, self.now, asked_at, kind=kind)
        held.hardly = self.is_nearly_over(process, lease)
        self.look_at_beginning(held, looked_at)
        if self.fences_are_promised:
            following = name.grants[place + 1 : place + 2]
            if following and fence >= following[0].fence:
                self.note("fence", f"{held} is not below {following[0].value!r}, granted after it")
            if fence <= grant.used:
                self.note("fence", f"{held} is not above the local holder before it")
        # Of what is taken together the first may be held while the last is waited for.
        if grant.used and kind != "together":
            self.handed_on(held, name)
        grant.used = max(grant.used, fence)
        name.used = max(name.used, fence)
        self._begin(name, held)
        return held

    @staticmethod
    def is_nearly_over(process: Process, lease: Lease) -> bool:
        """Tell whether too little is left of a lease to have it renewed in time."""
        return lease._process_lease.validity_at(process.last_reading) < KNOWN_WITHIN

    def _count(self, kind: str, lease: Lease) -> None:
        self.holds += 1
        self.holds_of[kind] += 1
        options = lease._process_lease.options
        self.holds_of["lingering"] += bool(options.linger)
        self.holds_of["acknowledged"] += options.ack != "local"

    def look_at_beginning(self, held: Held, looked_at: float | None = None) -> None:
        """See that a lease was not over when the library looked last."""
        if looked_at is None:
            looked_at = held.process.last_look
        lease = held.lease
        over = lease._released or lease._lost_reason is not None
        if over or lease._process_lease.validity_at(looked_at) <= 0.0:
            self.note("late", f"{held} was over when its body began")

    def handed_on(self, held: Held, name: Name | Semaphore) -> None:
        """See that a local hand-off comes soon after the grant, and not at the end of a lease."""
        if not self.all_is_well:
            return
        passed = self._timeline.now - max(held.grant.at, name.waited_since)
        if name.queue and passed > LOCAL_FOR:
            self.note("unfair", f"{held} begins while others have waited for {passed:.3f} s")
        options, validity = held.lease._process_lease.options, held.lease.validity
        if options.max_hold is None and validity < options.ttl / 2 - LEEWAY - 5 * held.process.turn:
            self.note("short", f"{held} begins with {validity:.3f} s left")

    def _begin(self, name: Name, held: Held) -> None:
        name.open.append(held)
        name.held.append(held)
        name.free_since = math.inf
        self.begins(held)
        self.look(name)

    def begins(self, held: Held) -> None:
        """Take in that a lease of any kind begins."""
        held.struck = self.struck()
        if self._story.told:
            self._story.tell(held.process.label, f"holds {held.name}: {held}")

    def ended(self, held: Held) -> None:
        """Take in its word that it has it no more."""
        self.relies_on(held, self.now)
        held.ended_at = self.now
        self.ends(held)
        opened = self.names[held.name].open
        if held in opened:
            opened.remove(held)
        if not opened:
            self.names[held.name].free_since = self._timeline.now

    def ends(self, held: Held) -> None:
        """Take in that a lease of any kind ends, lost or not."""
        lease, options = held.lease, held.lease._process_lease.options
        ends = options.max_hold is not None or not options.auto_renew
        if lease._lost_reason is not None and not ends:
            # A silent connection is replaced in time.
            once = self._falls_silent and self.struck() - held.struck <= 1
            if (self.all_is_well and not held.hardly) or once:
                self.note("lost", f"{held} was lost: {lease._lost_reason}")
        if self._story.told:
            self._story.tell(held.process.label, f"leaves {held.name}: {held}")

    def plain_began(
        self, name_text: str, process: Process, token: bytes, deadline: float
    ) -> PlainHeld:
        """Take in the word of whoever holds a lock without a fencing token."""
        name = self.names[name_text]
        grant = name.plain.get(token)
        if grant is None:
            self.note("order", f"{token!r} was granted by nobody")
            grant = Grant(token, token, 0, self.now)
        held = PlainHeld(process, token, deadline, grant)
        self.holds += 1
        self.holds_of["redis-py"] += 1
        name.open.append(held)
        name.free_since = math.inf
        self.look(name)
        return held

    def plain_ended(self, name_text: str, held: PlainHeld) -> None:
        """Take in its word that it has it no more."""
        held.over = True
        name = self.names[name_text]
        name.open.remove(held)
        if not name.open:
            name.free_since = self.now

    def wrote(self, held: Held) -> None:
        """Have a body write to a store that refuses lower tokens than it has seen."""
        self.relies_on(held, self.now)
        name = self.names[held.name]
        fence = held.lease.fencing_token
        place = name.grants.index(held.grant) if held.grant in name.grants else -1
        if fence < name.stored:
            return
        if place < name.stored_grant and self.fences_are_promised:
            self.note("store", f"a write of {held} was accepted after one of a later lease")
        name.stored, name.stored_grant = fence, max(place, name.stored_grant)

    def waited(self, process: Process, since: float, timeout: float | None) -> None:
        """
        Take in that a task does not wait any longer.

        :param since: its process's clock when it began
        """
        # 0 is one attempt, and takes as long as an answer.
        if not timeout or not self._timeouts_are_judged:
            return
        late = process.turned_at - since - timeout
        if late > ENDS_WITHIN + 5 * process.turn:
            self.note("waited", f"{process.label} waited {late:.3f} s beyond its {timeout} s")

    def relies_on(self, held: Held, asked_at: float) -> None:
        """Take in that it was asked whether a lease is held, by its clock or of a server."""
        if held.relies():
            held.relied_on.append((asked_at, self.now))

    def look_at_history(self) -> None:
        """See whether all that holders saw can have come about one after the other."""
        for name in self.names.values() if self.fences_are_promised else ():
            operations = [
                operation
                for each in name.held
                if each.grant.at > self.broken_at
                for operation in each.operations()
            ]
            stuck = stuck_at(operations)
            if stuck is not None:
                self.note("linear", f"by no order can this be so: {stuck}")

    def goes_on(self, held: Held | Visit) -> None:
        """Take in that a body which is cancelled on a loss runs on."""
        lease, process = held.lease, held.process
        if lease.is_held or lease._released:
            return
        process_lease = lease._process_lease
        over = process_lease.deadline
        if process_lease.ends_at is not None:
            over = min(over, process_lease.ends_at)
        late = min(process.turned_at - over, self._timeline.now - process.resumed_at)
        if process.was_suspended:
            late -= RESUMES_WITHIN
        if late > LEEWAY + 5 * process.turn:
            self.note("body", f"{held} went on {late:.3f} s after its end")

    def look_at_end(self, observer: Observer) -> None:
        """See whether an observer knows that nobody leads."""
        key = f"{NAMESPACE}{observer.name}".encode()
        if key not in self.server(key).keys.values:
            self.leaders.look_at_end(key, observer)

    def held_now(self) -> Iterator[Held | PlainHeld]:
        """Yield what is held, by its holders' word."""
        for name in self.names.values():
            yield from name.open
        for semaphore in self.permits.names.values():
            yield from semaphore.open

    def look(self, name: Name) -> None:
        """See whether what holders rely on agrees."""
        relied_on = [each for each in name.open if each.relies()]
        for at, one in enumerate(relied_on):
            for other in relied_on[at + 1 :]:
                if min(one.grant.at, other.grant.at) > self.broken_at:
                    self.note("overlap", f"{one} besides {other}")

    def look_at_all(self) -> None:
        """See whether what holders rely on agrees, with each other and with the servers."""
        self._unclaimed.look()
        self.pages.look()
        self.permits.look()
        self.leaders.look()
        for text, name in self.names.items():
            if name.open:
                if len(name.open) > 1:
                    self.look(name)
                self.look_at_keys(text, name)

    def _look_at_forgotten(self, held: Held, value: object) -> None:
        """See that a lease which its server has forgotten does not outlast its next renewal."""
        options = held.lease._process_lease.options
        if not self._forgets_only or not options.auto_renew or held.grant.at > self.broken_at:
            return
        if isinstance(value, bytes) and token_of(value) == held.grant.token:
            return  # a replica was flushed
        late = self._timeline.now - self.broken_at - options.ttl / 3
        if late > KNOWN_WITHIN and held.relies():
            self.note("gone", f"{held} is relied on {late:.3f} s after it must be known to be gone")

    def server(self, _key: bytes) -> RedisServer:
        """Return where a lock is."""
        (server,) = self.servers
        return server

    def look_at_keys(self, name_text: str, name: Name) -> None:
        """See whether what holders rely on stands at its key."""
        key = f"{NAMESPACE}{name_text}".encode()
        server = self.server(key)
        now_ms = server.clock_us() // 1000
        for each in name.open:
            if each.grant.at <= self.broken_at or not each.relies():
                if isinstance(each, Held):
                    self._look_at_forgotten(each, server.keys.values.get(key))
                continue
            value, end = server.keys.values.get(key), server.keys.ends.get(key)
            over = end is not None and now_ms > end
            assert not isinstance(value, dict)
            if over or token_of(value or b"") != each.grant.token:
                self.note("key", f"{each} is relied on, but {value!r} stands at its key")
