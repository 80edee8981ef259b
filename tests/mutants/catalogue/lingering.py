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
    ),
    mutant(
        "used again past half of the ttl",
        "9, lingering",
        "waiting/linger_rules.py",
        "        and deadline - now >= ttl / 2\n",
        "        and deadline - now >= 0\n",
    ),
    mutant(
        "used again under the same fence",
        "7, fencing",
        "waiting/grant.py",
        "        lease.handoffs += 1\n",
        "",
    ),
    mutant(
        "used again while the clock is behind",
        "7, fencing",
        "waiting/lingering.py",
        "            or not covered(lease.fence, lease.server_us)\n",
        "",
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
    ),
    mutant(
        "lingers though others wait",
        "9, lingering",
        "waiting/lingering.py",
        "            recallable\n            and not others_wait\n",
        "            recallable\n",
    ),
    mutant(
        "lingers under a token that nobody recalls",
        "9, lingering",
        "waiting/lingering.py",
        "            recallable\n            and not others_wait\n",
        "            not others_wait\n",
    ),
    mutant(
        "no recall is published",
        "9, lingering",
        "protocol/lua/acquire.lua",
        "recall(holder, slot_in(inbox))\n",
        "",
    ),
    mutant(
        "a recall for an older token obeyed",
        "9, lingering",
        "waiting/contender.py",
        " and lease.token == token:\n            if self.lingering.recalled(token):",
        ":\n            if self.lingering.recalled(lease.token):",
    ),
    mutant(
        "no checkpoint",
        "9, lingering",
        "waiting/checkpoint.py",
        "        self.due_at = self._clock() + self._share\n",
        "        self.due_at = self._clock() + 3600.0\n",
    ),
    mutant(
        "what lingers is kept by a client that is closed",
        "8.9",
        "waiting/contender.py",
        "            self.end_lingering(lease)\n        self.leave()\n",
        "            pass\n        self.leave()\n",
    ),
)
