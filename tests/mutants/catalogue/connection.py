"""In what is sent, and sent again."""

from tests.mutants.mutant import Edit, mutant

_WANTED = Edit("waiting/attempt.py", "            call.obsolete = True\n", "            pass\n")
"""What nobody wants any more is not sent again: where it is not, its order shows nothing."""

MUTANTS = (
    mutant(
        "what is void is not declared",
        "7, void",
        "connection/numbering.py",
        "            self.void[slot] = self.last\n",
        "            pass\n",
        theme="sent twice",
        tests="unit/test_numbering.py",
    ),
    mutant(
        "what a lost connection left is not sent again",
        "8.8",
        "connection/backlog.py",
        "        self.unsent = self.calls()\n        self.held.clear()\n",
        "        self.held.clear()\n",
        tests="faults/test_batches.py faults/test_lost_replies.py",
    ),
    mutant(
        "order lost after NOSCRIPT",
        "8.5",
        "connection/resending.py",
        "self._backlog.unsent = self._backlog.take(lambda _: True)  # sent when all is read\n",
        "pass\n",
        _WANTED,
        theme="sent twice",
        tests=(
            "deployments/test_quorum_order.py faults/test_batches.py faults/test_server_faults.py"
        ),
    ),
    mutant(
        "what is behind a refused batch goes before it",
        "8.5",
        "connection/resending.py",
        "        self._backlog.unsent = [call for call in calls if not call.obsolete] + behind\n",
        "        self._backlog.unsent = behind + [call for call in calls if not call.obsolete]\n",
        _WANTED,
        theme="sent twice",
        tests="faults/test_batches.py",
    ),
    mutant(
        "abandon sent before what it undoes",
        "8.5",
        "connection/backlog.py",
        "        calls = (*held, *self.on_the_wire(), *self.unsent)\n",
        "        calls = (*held, *self.unsent, *self.on_the_wire())\n",
        _WANTED,
        theme="sent twice",
        tests=(
            "faults/test_orphans.py "
            "faults/test_races.py "
            "faults/test_cancellation.py "
            "faults/test_lost_replies.py"
        ),
    ),
    mutant(
        "what is void is declared once, heard or not",
        "7, void",
        "connection/numbering.py",
        "self.void.get(ONE_SERVER, 0) if call.declares",
        "self.void.pop(ONE_SERVER, 0) if call.declares",
        theme="sent twice",
        tests="unit/test_numbering.py",
    ),
    mutant(
        "reply of another tag taken",
        "8.8",
        "connection/pipe.py",
        "        elif type(reply) is list and len(reply) > 1 and reply[1] == call.tag:\n",
        "        elif type(reply) is list and len(reply) > 1:\n",
        theme="repeated",
        tests="faults/test_races.py faults/test_lost_replies.py",
    ),
    mutant(
        "same name twice in a batch",
        "7, batches",
        "protocol/batch.py",
        "        if alone or call.keys.packed in names:\n",
        "        if alone:\n",
        tests="unit/test_batch.py",
    ),
    mutant(
        "a grant needs no secret",
        "8.10",
        "protocol/grant_message.py",
        "compare_digest(proof, prove(message, secret)) or",
        "bool(proof) or",
        theme="forged",
        tests="unit/test_grant.py faults/test_forged_grants.py",
    ),
    mutant(
        "a silent connection is never given up",
        "8.8",
        "connection/silence.py",
        "            if replaced or waiting > ANSWER_WITHIN:\n",
        "            if replaced:\n",
        theme="silent",
        tests=(
            "unit/test_silence.py "
            "faults/test_unanswered_questions.py "
            "faults/test_health.py "
            "faults/test_server_faults.py"
        ),
    ),
    mutant(
        "abandon leaves the queue only while it listens",
        "8.5",
        "deployments/single/store.py",
        "self._inboxes.address_of(keys)\n        return self._run(self._operations.abandon(",
        "self._inboxes.open_address(keys)\n        return self._run(self._operations.abandon(",
        tests="unit/test_contender.py faults/test_server_faults.py faults/test_orphans.py",
    ),
    mutant(
        "what a stranger made void is refused for good",
        "8.7",
        "protocol/refusals.py",
        '    return code in ("BADFENCE", "NOSCRIPT", "STALE")\n',
        '    return code in ("BADFENCE", "NOSCRIPT")\n',
        theme="forged",
        tests="faults/test_late_requests.py",
    ),
)
