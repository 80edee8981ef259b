"""The scripts against a model of the lock, in whatever order hypothesis finds."""

import itertools

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from aiodistlock.core.fencing import MAX_LOCAL_HANDOFFS, covered, local_fence, report
from tests.redis.driver import GRANT_TTL, TTL, Inbox, Scripts
from tests.redis.driver import Reply as ScriptReply
from tests.redis.model import Model, Reply

PROCESSES = "abc"
TOKENS = [f"{process}{number}" for process in PROCESSES for number in range(3)]

a_token = st.sampled_from(TOKENS)
# Half of the time whoever holds the lock: most tokens are wrong ones.
a_holder = st.one_of(st.none(), a_token)


class Machine(RuleBasedStateMachine):
    """Runs each step on Redis and on the model, and compares."""

    def __init__(self, lock: Scripts, inboxes: dict[str, Inbox], *, clock_behind: bool) -> None:
        super().__init__()
        self.lock = lock
        self.inboxes = inboxes
        for inbox in inboxes.values():
            if not inbox.listens:
                inbox.open()
            inbox.messages()
        self.model = Model(listening=set(inboxes))
        self.clock_behind = clock_behind
        self.highest_used = lock.put_clock_behind(by_us=10**14) if clock_behind else 0
        # The lease's fencing token, and the server's time when it was granted.
        self.fence = self.granted_at = 0
        self.handoffs = 0

    @rule(token=a_token, waits=st.booleans())
    def acquire(self, token: str, waits: bool) -> None:
        """Acquire, or ask again."""
        before = self.model.holder
        expected = self.model.acquire(token, waits=waits)
        reply = self.lock.acquire(token, self.inboxes[token[0]].channel if waits else "")
        self.compare(reply, expected)
        if reply[0] in ("GRANTED", "GRANTED_BEFORE_OTHERS"):
            self.granted(reply, same_lease=before == token)

    @rule(token=a_holder)
    def release(self, token: str | None) -> None:
        """Release, with a report of what local hand-offs used."""
        token = token or self.model.holder or TOKENS[0]
        reported = self.reported(token)
        self.compare(self.lock.release(token, reported), self.model.release(token))

    @rule(token=a_holder)
    def renew(self, token: str | None) -> None:
        """Renew."""
        token = token or self.model.holder or TOKENS[0]
        self.compare(self.lock.renew(token), self.model.renew(token))

    @rule(token=a_holder, number=st.integers(0, 2))
    def pass_on(self, token: str | None, number: int) -> None:
        """Pass on, or do it again."""
        token = token or self.model.holder or TOKENS[0]
        next_token = f"{token[0]}{number}"
        fresh = next_token != token and next_token not in self.model.queue
        if not fresh and token == self.model.holder:
            # The client makes a new token for it: before the first run it waits nowhere.
            return
        before = self.model.holder
        reported = self.reported(token)
        expected = self.model.pass_on(token, next_token)
        channel = self.inboxes[token[0]].channel
        reply = self.lock.pass_on(token, next_token, channel, reported)
        self.compare(reply, expected)
        if reply[0] in ("GRANTED", "DONE"):
            self.granted(reply, same_lease=before == next_token)

    @rule(token=a_token)
    def abandon(self, token: str) -> None:
        """Abandon what is queued, granted, or unknown; never what was used already."""
        if self.model.holder == token and self.handoffs:
            return
        expected = self.model.abandon(token)
        self.compare(self.lock.abandon(token, self.inboxes[token[0]].channel), expected)

    @precondition(lambda self: self.model.holder is not None)
    @rule(count=st.sampled_from([1, 2, 5, MAX_LOCAL_HANDOFFS]))
    def hand_over_locally(self, count: int) -> None:
        """The holder's process uses further fencing tokens."""
        if not covered(self.fence, self.granted_at):
            return
        # Hand-offs take longer than their microseconds.
        self.handoffs = min(self.handoffs + count, 10)
        self.highest_used = max(self.highest_used, local_fence(self.fence, self.handoffs))

    @precondition(lambda self: self.model.holder is not None)
    @rule(deleted=st.booleans())
    def end_lease(self, deleted: bool) -> None:
        """The holder's ttl runs out, or somebody deletes the key."""
        if deleted:
            self.lock.command("DEL", self.lock.key)
        else:
            self.lock.expire()
        self.model.holder = None

    @precondition(lambda self: not self.clock_behind)
    @rule(everything=st.booleans())
    def flush(self, everything: bool) -> None:
        """The counter is deleted, or all that belongs to the name."""
        if everything:
            self.lock.remove()
            self.model.holder = None
            self.model.queue.clear()
        else:
            self.lock.command("DEL", self.lock.fence)

    @rule(process=st.sampled_from(PROCESSES))
    def die_or_return(self, process: str) -> None:
        """A process stops listening, or listens again."""
        inbox = self.inboxes[process]
        if inbox.listens:
            inbox.close()
            self.model.listening.remove(process)
        else:
            inbox.open()
            self.model.listening.add(process)

    def compare(self, reply: ScriptReply, expected: Reply) -> None:
        """Check a reply, and that the messages went to those who were granted."""
        code, *values = reply
        if code in ("HELD", "QUEUED"):
            assert 0 < values[0] <= max(TTL, GRANT_TTL)
        parts = {"HELD": [1], "QUEUED": [1, 3]}.get(code, range(len(values)))
        if code.startswith("GRANTED") or (code == "DONE" and len(values) == 2):
            parts = []  # fence and server time
        assert (code, *(values[part] for part in parts)) == expected
        for process, inbox in self.inboxes.items():
            due = [token for token in self.model.told if token[0] == process]
            messages = inbox.messages() if inbox.listens else []
            assert [message.split(" ")[3] for message in messages] == due
            for message in messages:
                fence, granted_at, ttl, _, key = message.split(" ")
                assert (int(ttl), key) == (GRANT_TTL, self.lock.key)
                self.granted(("GRANTED", int(fence), int(granted_at)), same_lease=False)
        self.model.told.clear()

    def granted(self, reply: ScriptReply, *, same_lease: bool) -> None:
        """Check the fencing token of a grant."""
        _, fence, granted_at = reply
        if same_lease:
            assert fence == self.fence
            return
        assert fence > self.highest_used, "each lease's token is above all that were used"
        assert fence == self.lock.counter
        self.highest_used, self.fence, self.granted_at = fence, fence, granted_at
        self.handoffs = 0

    def reported(self, token: str) -> int:
        """Return what the process of a token would report."""
        if token != self.model.holder:
            return 0
        return report(self.fence, self.handoffs)

    @invariant()
    def redis_is_as_the_model_says(self) -> None:
        """One holder, the queue in order and nobody in it twice, no key too many."""
        assert self.lock.holder == self.model.holder
        waiters = self.lock.waiters
        assert waiters == self.model.queue
        assert len(set(waiters)) == len(waiters)
        assert self.model.holder not in waiters

    def teardown(self) -> None:
        """After everybody left, there is no key but the counter."""
        for token in TOKENS:
            self.release(token)
            self.abandon(token)
        assert self.lock.exists() in ([], [self.lock.fence])
        self.lock.remove()


@pytest.mark.parametrize("clock_behind", [False, True], ids=["clock ahead", "clock behind"])
def test_the_scripts_do_what_the_model_says(
    client: redis.Redis, namespace: str, clock_behind: bool
) -> None:
    """Whoever does what in whatever order, replies and effects are the model's."""
    numbers = itertools.count()
    inboxes = {process: Inbox(client) for process in PROCESSES}

    def machine() -> Machine:
        lock = Scripts(client, f"{namespace}{next(numbers)}")
        return Machine(lock, inboxes, clock_behind=clock_behind)

    try:
        run_state_machine_as_test(
            machine,  # type: ignore[arg-type] # any factory will do, says its docstring
            settings=settings(
                max_examples=80,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        for inbox in inboxes.values():
            inbox.close()
