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
        tests="unit/test_numbering.py::"
        "test_every_request_declares_what_is_void_until_one_was_answered",
    ),
    mutant(
        "what a lost connection left is not sent again",
        "8.8",
        "connection/backlog.py",
        "        self.unsent = self.calls()\n        self.held.clear()\n",
        "        self.held.clear()\n",
        tests="faults/test_batches.py::test_a_cut_connection_has_all_of_a_batch_sent_again",
    ),
    mutant(
        "order lost after NOSCRIPT",
        "8.5",
        "connection/resending.py",
        "self._backlog.unsent = self._backlog.take(lambda _: True)  # sent when all is read\n",
        "pass\n",
        _WANTED,
        theme="sent twice",
        tests="deployments/test_quorum_order.py::test_a_vote_sent_again_late_is_taken_back",
    ),
    mutant(
        "what is behind a refused batch goes before it",
        "8.5",
        "connection/resending.py",
        "        self._backlog.unsent = [call for call in calls if not call.obsolete] + behind\n",
        "        self._backlog.unsent = behind + [call for call in calls if not call.obsolete]\n",
        _WANTED,
        theme="sent twice",
        tests="unit/test_resending.py::"
        "test_what_was_asked_behind_a_refused_batch_goes_again_behind_it",
    ),
    mutant(
        "abandon sent before what it undoes",
        "8.5",
        "connection/backlog.py",
        "        calls = (*held, *self.on_the_wire(), *self.unsent)\n",
        "        calls = (*held, *self.unsent, *self.on_the_wire())\n",
        _WANTED,
        theme="sent twice",
        tests="unit/test_resending.py::test_what_was_on_a_lost_wire_goes_before_what_is_unsent",
    ),
    mutant(
        "what is void is declared once, heard or not",
        "7, void",
        "connection/numbering.py",
        "self.void.get(ONE_SERVER, 0) if call.declares",
        "self.void.pop(ONE_SERVER, 0) if call.declares",
        theme="sent twice",
        tests="unit/test_numbering.py::"
        "test_every_request_declares_what_is_void_until_one_was_answered",
    ),
    mutant(
        "reply of another tag taken",
        "8.8",
        "connection/pipe.py",
        "        elif type(reply) is list and len(reply) > 1 and reply[1] == call.tag:\n",
        "        elif type(reply) is list and len(reply) > 1:\n",
        theme="repeated",
        tests="faults/test_races.py::test_a_reply_too_many_or_too_few_shifts_no_other_reply",
    ),
    mutant(
        "same name twice in a batch",
        "7, batches",
        "protocol/batch.py",
        "        if alone or call.keys.packed in names:\n",
        "        if alone:\n",
        tests="unit/test_batch.py::test_a_name_that_comes_again_begins_the_next_batch",
    ),
    mutant(
        "a grant needs no secret",
        "8.10",
        "protocol/grant_message.py",
        "compare_digest(proof, prove(message, secret)) or",
        "bool(proof) or",
        theme="forged",
        tests="unit/test_grant.py::test_a_script_of_another_edition_is_told_from_a_stranger",
    ),
    mutant(
        "a silent connection is never given up",
        "8.8",
        "connection/silence.py",
        "            if replaced or waiting > ANSWER_WITHIN:\n",
        "            if replaced:\n",
        theme="silent",
        tests="unit/test_silence.py::test_a_connection_that_owes_an_answer_for_long_is_given_up",
    ),
    mutant(
        "abandon leaves the queue only while it listens",
        "8.5",
        "deployments/single/store.py",
        "self._inboxes.address_of(keys)\n        return self._run(self._operations.abandon(",
        "self._inboxes.open_address(keys)\n        return self._run(self._operations.abandon(",
        tests="unit/test_single_store.py::"
        "test_whoever_leaves_leaves_the_queue_though_it_hears_nothing_now",
    ),
    mutant(
        "what a stranger made void is refused for good",
        "8.7",
        "protocol/refusals.py",
        '    return code in ("BADFENCE", "NOSCRIPT", "STALE")\n',
        '    return code in ("BADFENCE", "NOSCRIPT")\n',
        theme="forged",
        tests="faults/test_late_requests.py::test_a_number_that_somebody_else_noted_is_gone_above",
    ),
)
