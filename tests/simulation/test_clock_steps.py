"""Fencing tokens rise however a server's clock is set: the real scripts beside a model.

Leases end by a release that reports their local hand-offs, or by the death of their holder;
data is lost where the design says that the clock covers it.
"""

from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from aiodistlock.core.fencing import MAX_LOCAL_HANDOFFS, covered, local_fence, report
from aiodistlock.core.keys import LockKeys, fence_key
from aiodistlock.core.options import MIN_TTL
from aiodistlock.core.value import value_of
from aiodistlock.protocol import scripts
from tests.simulation.server import Server

NAMES = ("a", "b")
START_US = 1_800_000_000_000_000
DAY_US = 86_400_000_000
GRANTED, DONE = 1, 4

RUNS_FOR = 3
"""How long a script takes, µs."""

a_name = st.sampled_from(NAMES)
steps = st.one_of(
    *(st.integers(-most, most) for most in (5, 2_000, 60_000, 2 * 10**6, 3 * DAY_US)),
)


@dataclass
class Counter:
    """The rule in Python: server time, or above the last one; the gap once where it is set back."""

    last: int = 0
    marked: bool = False

    def issue(self, now: int) -> int:
        """Issue a fencing token."""
        behind = self.last - now > MAX_LOCAL_HANDOFFS
        gap = MAX_LOCAL_HANDOFFS if behind and not self.marked else 0
        self.last = now if now > self.last else self.last + 1 + gap
        self.marked = behind
        return self.last


@dataclass
class Holder:
    """Who has a lease, or had it when it died."""

    token: bytes
    fence: int
    server_us: int
    handoffs: int = 0
    evenly: bool = True
    """Whether the clock has gone on evenly since."""


class Machine(RuleBasedStateMachine):
    """Runs each step on the scripts and on the model, and checks each fencing token."""

    def __init__(self) -> None:
        super().__init__()
        self.now_us = START_US
        self.server = Server(lambda: self.now_us, lambda _channel, _message: 0)
        self.counter = Counter()
        self.keys = {name: LockKeys(name, "lock:") for name in NAMES}
        self.used = dict.fromkeys(NAMES, 0)
        self.holders: dict[str, Holder] = {}
        self.number = 0
        self.lost = 0
        """What was used when data was lost: below that only the clock covers."""

    @initialize(behind=st.integers(-DAY_US, DAY_US))
    def begin(self, behind: int) -> None:
        """Find a counter of any age, or from a clock that was ahead."""
        if behind % 2:
            self.counter = Counter(START_US + behind)
            self.server.values[fence_key(None)] = b"%d" % (START_US + behind)

    def run(self, script: scripts.Script, name: str, *args: bytes | int) -> list[Any]:
        """Run a script, which takes its time."""
        self.number += 1
        self.now_us += RUNS_FOR
        keys = [self.keys[name].key, self.keys[name].queue, b"void", fence_key(None)]
        words = [each if isinstance(each, bytes) else b"%d" % each for each in args]
        return self.server.run(script.source, keys[: script.keys], [*words, b"%d" % self.number])

    def granted(self, name: str, token: bytes, reply: list[Any]) -> None:
        """Check a lease."""
        _, _, fence, server_us = reply
        assert fence == self.counter.issue(self.now_us), "as the model says"
        assert fence > self.used[name], "above all that any lease of the name has used"
        self.used[name] = fence
        self.holders[name] = Holder(token, fence, server_us)
        counter = self.server.values[fence_key(None)].decode()
        assert counter == f"{fence}{' behind' if self.counter.marked else ''}"
        assert covered(fence, server_us) == (not self.counter.marked)

    @rule(name=a_name, ttl=st.sampled_from([int(MIN_TTL * 1000), 10_000]))
    def acquire(self, name: str, ttl: int) -> None:
        """Try to acquire: it is free, or the dead holder's ttl is over."""
        token = b"host:1:00000000:%d" % self.number
        reply = self.run(scripts.ACQUIRE, name, token, ttl, b"", 0, 30_000)
        if reply[0] == GRANTED:
            self.granted(name, token, reply)

    @rule(name=a_name)
    def ask_again(self, name: str) -> None:
        """The answer was lost: the same fencing token, and perhaps no hand-offs."""
        holder = self.holders.get(name)
        if holder is None or holder.handoffs:
            return
        reply = self.run(scripts.ACQUIRE, name, holder.token, 10_000, b"", 0, 30_000)
        if reply[:1] == [GRANTED] and reply[2] == holder.fence:
            holder.server_us = reply[3]
            assert not (self.counter.marked and covered(holder.fence, holder.server_us))
        elif reply[0] == GRANTED:  # it had run out
            self.granted(name, holder.token, reply)

    @rule(name=a_name, count=st.integers(1, MAX_LOCAL_HANDOFFS))
    def hand_over_locally(self, name: str, count: int) -> None:
        """The holder's process uses further fencing tokens, if it may, while it has the key."""
        holder = self.holders.get(name)
        if holder is None or not covered(holder.fence, holder.server_us):
            return
        value = value_of(holder.token, holder.fence)
        for _ in range(min(count, MAX_LOCAL_HANDOFFS - holder.handoffs)):
            if self.held(name) != value:
                return
            self.now_us += 2
            holder.handoffs += 1
            self.used[name] = max(self.used[name], local_fence(holder.fence, holder.handoffs))

    def held(self, name: str) -> bytes | None:
        """Return what stands at a key by now."""
        key = self.keys[name].key
        if self.server.keys.ends.get(key, self.now_us) < self.now_us // 1000:
            return None
        value: bytes | None = self.server.values.get(key)
        return value

    @rule(name=a_name)
    def release(self, name: str) -> None:
        """Release, with a report of what was used."""
        holder = self.holders.pop(name, None)
        if holder is None:
            return
        highest = report(holder.fence, holder.handoffs)
        reply = self.run(scripts.RELEASE, name, value_of(holder.token, holder.fence), highest)
        if reply[0] == DONE and highest > self.counter.last:
            self.counter = Counter(highest)

    @rule(name=a_name, ttl=st.sampled_from([int(MIN_TTL * 1000), 10_000]))
    def keep(self, name: str, ttl: int) -> None:
        """Pass on where nobody waits: kept, with a fresh fencing token."""
        holder = self.holders.get(name)
        if holder is None:
            return
        highest = report(holder.fence, holder.handoffs)
        args = (holder.token, b"x", ttl, highest, b"inbox secret", 1_000, 30_000)
        reply = self.run(scripts.PASS_ON, name, *args)
        if reply[0] == DONE:
            self.counter.last = max(self.counter.last, highest)
            self.granted(name, holder.token, reply)

    @rule(name=a_name)
    def force_release(self, name: str) -> None:
        """Take it from a holder that may live, and go on handing over."""
        holder = self.holders.pop(name, None)
        if holder is None:
            return
        reply = self.run(scripts.FORCE_RELEASE, name, holder.token)
        if reply[0] == DONE:
            assert reply[2] > holder.fence + MAX_LOCAL_HANDOFFS
            self.used[name] = reply[2]
            counter = self.server.values[fence_key(None)]
            self.counter = Counter(reply[2], counter.endswith(b" behind"))

    @rule(name=a_name)
    def die(self, name: str) -> None:
        """The holder dies, with whatever it has used; its key expires by the server's clock."""
        self.holders.pop(name, None)

    @rule(name=a_name)
    def die_and_be_deleted(self, name: str) -> None:
        """Somebody deletes the dead one's key, or its report was lost for want of memory."""
        holder = self.holders.get(name)
        # Else what it used is in the one millisecond that neither clock nor gap tells of.
        behind = self.counter.last - self.now_us - RUNS_FOR > MAX_LOCAL_HANDOFFS
        if holder and (behind or (holder.evenly and holder.fence <= holder.server_us)):
            del self.holders[name]
            self.server.delete(self.keys[name].key)
            self.acquire(name, 10_000)

    @rule(name=a_name, count=st.integers(1, MAX_LOCAL_HANDOFFS), by=steps, deleted=st.booleans())
    def live_and_die(self, name: str, count: int, by: int, deleted: bool) -> None:
        """All of that in a row, which alone would seldom come together."""
        self.acquire(name, 10_000)
        self.hand_over_locally(name, count)
        self.set_the_clock(by)
        if deleted:
            self.die_and_be_deleted(name)
        else:
            self.die(name)

    @rule(name=a_name, count=st.integers(1, MAX_LOCAL_HANDOFFS), by=steps)
    def be_told_late(self, name: str, count: int, by: int) -> None:
        """An answer is lost while the clock is behind, and comes when it is hardly so."""
        self.acquire(name, 10_000)
        if name in self.holders:
            self.now_us = max(self.now_us, self.counter.last - abs(by) % 1_500)
            self.ask_again(name)
            self.hand_over_locally(name, count)

    @rule(by=steps)
    def set_the_clock(self, by: int) -> None:
        """The server's clock is stepped."""
        self.now_us += by
        if self.counter.last < self.lost:
            self.now_us = max(self.now_us, 1 + max(self.used.values()))
        for holder in self.holders.values():
            holder.evenly = False

    @rule(by=st.sampled_from([10, 900, 49_000, 52_000, 11_000_000]))
    def let_time_pass(self, by: int) -> None:
        """The clock goes on."""
        self.now_us += by

    @precondition(lambda self: self.now_us > max(self.used.values()))
    @rule(data=st.sampled_from(["all", "counter", "counter behind"]))
    def lose_data(self, data: str) -> None:
        """FLUSHALL, or a failover to a replica that is behind, whose clock agrees."""
        self.lost = max(self.used.values())
        if data == "all":
            self.server.lose_data()
            self.holders.clear()
        if data == "counter behind":
            self.counter = Counter(self.counter.last - 500, self.counter.marked)
            mark = b" behind" if self.counter.marked else b""
            self.server.values[fence_key(None)] = b"%d%b" % (self.counter.last, mark)
        else:
            self.counter = Counter()
            self.server.values.pop(fence_key(None), None)


TestFencesRise = Machine.TestCase
TestFencesRise.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
