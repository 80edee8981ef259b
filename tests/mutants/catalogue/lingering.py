"""In leases that stay with their process."""

from tests.mutants.mutant import Edit, mutant

_NOT_ENDED = Edit(
    "waiting/engine.py",
    "        self.lingering.end()\n        self.watchdog.recheck()\n",
    "        self.watchdog.recheck()\n",
)
"""It is released with its connection, too: where one of two guards is gone nothing shows."""

MUTANTS = (
    mutant(
        "used again after a recall",
        "9, lingering",
        "waiting/contender.py",
        "            if self.lingering.recalled(token):\n                self._give_up(lease)\n",
        "            pass\n",
        theme="lingering",
        tests="unit/test_lingering.py::test_a_waiter_behind_it_has_the_lock_at_once",
    ),
    mutant(
        "used again past half of the ttl",
        "9, lingering",
        "waiting/linger_rules.py",
        "        and deadline - now >= ttl / 2\n",
        "        and deadline - now >= 0\n",
        theme="lingering",
        tests="unit/test_linger_rules.py::test_all_rules_must_be_fulfilled",
    ),
    mutant(
        "used again under the same fence",
        "7, fencing",
        "waiting/grant.py",
        "        lease.handoffs += 1\n",
        "",
        theme="lingering",
        tests="unit/test_lingering.py::test_it_is_used_again_without_asking",
    ),
    mutant(
        "used again while the clock is behind",
        "7, fencing",
        "waiting/lingering.py",
        "            or not covered(lease.fence, lease.server_us)\n",
        "",
        theme="clock set back a little",
        tests="unit/test_lingering.py::"
        "test_where_the_clock_does_not_cover_hand_offs_nothing_lingers",
    ),
    mutant(
        "used again over another connection",
        "9, lingering",
        "waiting/lingering.py",
        "            and line is self._line\n            and may_be_used(now, lease.deadline, ttl",
        "            and may_be_used(now, lease.deadline, ttl",
        _NOT_ENDED,
        Edit(
            "waiting/engine.py",
            "        self.lingering.end()\n        for attempt",
            "        for attempt",
        ),
        Edit(
            "waiting/lingering.py",
            "            or line is not self._line\n",
            "",
        ),
        theme="lingering",
        tests="faults/test_lingering.py::"
        "test_a_lease_that_lingers_is_not_used_over_another_connection",
    ),
    mutant(
        "used again for ever",
        "9, lingering",
        "waiting/linger_rules.py",
        "        now < until\n",
        "        until\n",
        Edit(
            "waiting/lingering_leases.py",
            "            if until <= now:\n",
            "            if until <= now - 60:\n",
        ),
        Edit(
            "leases/watchdog.py",
            "            lease.possessor.end_lingering(lease)\n            return\n",
            "            self._send(lease, now)\n            return\n",
        ),
        theme="lingering",
        tests="unit/test_linger_rules.py::test_all_rules_must_be_fulfilled",
    ),
    mutant(
        "lingers though others wait",
        "9, lingering",
        "waiting/lingering.py",
        "            recallable\n            and not others_wait\n",
        "            recallable\n",
        theme="lingering",
        tests="unit/test_lingering.py::test_a_recall_that_overtakes_the_grant_is_remembered",
    ),
    mutant(
        "lingers under a token that nobody recalls",
        "9, lingering",
        "waiting/lingering.py",
        "            recallable\n            and not others_wait\n",
        "            not others_wait\n",
        theme="lingering",
        tests="unit/test_lingering.py::test_a_lease_that_a_plain_lock_got_does_not_linger",
    ),
    mutant(
        "no recall is published",
        "9, lingering",
        "protocol/lua/acquire.lua",
        "recall(holder, slot_in(inbox))\n",
        "",
        theme="lingering",
        tests="redis/test_recalls.py::test_each_time_that_somebody_asks_the_holder_is_told",
    ),
    mutant(
        "a recall for an older token obeyed",
        "9, lingering",
        "waiting/contender.py",
        " and lease.token == token:\n            if self.lingering.recalled(token):",
        ":\n            if self.lingering.recalled(lease.token):",
        theme="lingering",
        tests="unit/test_lingering.py::test_a_recall_of_an_older_token_is_ignored",
    ),
    mutant(
        "no checkpoint",
        "9, lingering",
        "waiting/checkpoint.py",
        "        self.due_at = self._clock() + self._share\n",
        "        self.due_at = self._clock() + 3600.0\n",
        theme="in a row",
        tests="unit/test_lingering.py::test_a_loop_that_only_locks_and_unlocks_lets_the_others_run",
    ),
    mutant(
        "what lingers is kept by a client that is closed",
        "8.9",
        "waiting/contender.py",
        "            self.end_lingering(lease)\n        self.leave()\n",
        "            pass\n        self.leave()\n",
        theme="closed while it lingers",
        tests="unit/test_lingering.py::test_closing_the_client_leaves_nothing",
    ),
    mutant(
        "armed by the first lease",
        "9, lingering",
        "waiting/linger_rules.py",
        "IN_A_ROW = 3\n",
        "IN_A_ROW = 1\n",
        theme="armed",
        tests="unit/test_lingering.py::"
        "test_auto_lingers_after_three_leases_that_would_have_been_used_again",
    ),
    mutant(
        "a recall does not disarm",
        "9, lingering",
        "waiting/linger_rules.py",
        "            self.armed, self._in_a_row = False, 0\n",
        "            pass\n",
        theme="armed",
        tests="unit/test_linger_rules.py::"
        "test_a_recall_disarms_a_name_for_a_while_unless_it_was_worth_it",
    ),
    mutant(
        "an unarmed lease asks for recalls",
        "9, lingering",
        "waiting/attempt.py",
        "            not options.linger_auto or client.lingering.arming(keys.key).armed\n",
        "            True\n",
        theme="armed",
        tests="unit/test_lingering.py::"
        "test_auto_lingers_after_three_leases_that_would_have_been_used_again",
    ),
    mutant(
        "armed though others wait",
        "9, lingering",
        "waiting/linger_rules.py",
        "        again = now <= self._lingers_until and not others_wait\n",
        "        again = now <= self._lingers_until\n",
        theme="armed",
        tests="unit/test_linger_rules.py::"
        "test_a_name_is_armed_by_leases_in_a_row_that_nobody_else_wanted",
    ),
)
