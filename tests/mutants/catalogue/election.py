"""In who leads, and who is told."""

from tests.mutants.mutant import mutant

MUTANTS = (
    mutant(
        "a proclamation believed though another leads",
        "9, elections",
        "protocol/lua/leader.lua",
        "string.sub(found, 1, #head) == head\n",
        "found ~= ''\n",
        theme="terms",
        tests="redis/test_election_scripts.py::test_a_successor_has_proclaimed_nothing_yet",
    ),
    mutant(
        "what was proclaimed is not taken back",
        "9, elections",
        "election.py",
        'cast("ElectionStore", client.store).proclaim(lease.keys, lease.value, b"", 0)\n',
        "pass\n",
        theme="terms",
        tests="contract/test_election.py::"
        "test_an_observer_sees_who_leads_from_the_first_to_the_last",
    ),
    mutant(
        "taken back from a successor",
        "9, elections",
        "protocol/lua/proclaim.lua",
        "  if is_of(value) then redis.call('DEL', KEYS[4]) end\n",
        "  redis.call('DEL', KEYS[4])\n",
        theme="terms",
        tests="redis/test_election_scripts.py::"
        "test_a_former_leader_takes_nothing_back_of_its_successor",
    ),
    mutant(
        "a former leader proclaims",
        "9, elections",
        "protocol/lua/proclaim.lua",
        "if holder ~= value then return {OTHER, tag} end\n",
        "",
        theme="terms",
        tests="redis/test_election_scripts.py::test_who_does_not_lead_proclaims_nothing",
    ),
    mutant(
        "a leader is not announced",
        "9, elections",
        "protocol/lua/proclaim.lua",
        "'PX', ttl)\n  announce()\n",
        "'PX', ttl)\n",
        theme="leading while all is well",
        tests="redis/test_election_scripts.py::test_a_leader_proclaims_and_announces_once",
    ),
    mutant(
        "an end is not announced",
        "9, elections",
        "protocol/lua/proclaim.lua",
        "not (holder and is_of(holder)) then announce() end\n",
        "not (holder and is_of(holder)) then return {DONE, tag} end\n",
        theme="leading while all is well",
        tests="redis/test_election_scripts.py::"
        "test_what_was_proclaimed_is_taken_back_behind_the_release",
    ),
    mutant(
        "proclaimed for ever",
        "7, keys",
        "protocol/lua/proclaim.lua",
        "value .. ' ' .. text, 'PX', ttl)\n",
        "value .. ' ' .. text)\n",
        theme="terms",
        tests="redis/test_election_scripts.py::test_a_leader_proclaims_and_announces_once",
    ),
    mutant(
        "healthy though its body outlasts its lease",
        "9, elections",
        "election.py",
        "client.clock() > lease.deadline + grace\n",
        "False\n",
        tests="contract/test_election.py::"
        "test_a_body_that_does_not_end_is_unhealthy_once_its_lease_is_over",
    ),
    mutant(
        "nobody is asked once announcements are heard",
        "9, elections",
        "connection/inbox.py",
        "        self._owner.on_announced(channel)  # before, one may have been missed\n",
        "",
        theme="leading while all is well",
        tests="faults/test_elections.py::"
        "test_nothing_is_missed_between_the_question_and_the_subscription",
    ),
    mutant(
        "what is announced while a question is under way is forgotten",
        "9, elections",
        "waiting/observation.py",
        "            self._again = True\n",
        "            pass\n",
        theme="leading while all is well",
        tests="unit/test_observation.py::"
        "test_what_is_announced_while_a_question_is_under_way_is_asked_behind_it",
    ),
    mutant(
        "a dead leader is not missed",
        "9, elections",
        "waiting/observation.py",
        "        pause = LOOK_EVERY if led.remaining is None else min(led.remaining, LOOK_EVERY)\n",
        "        pause = 3600.0\n",
        theme="terms",
        tests="unit/test_observation.py::test_it_looks_when_the_lease_it_knows_of_must_be_over",
    ),
    mutant(
        "candidates of a process share a term",
        "9, elections",
        "election.py",
        "local_handoffs=0, **options)",
        "**options)",
        theme="leading while all is well",
        tests="contract/test_election.py::test_tasks_of_one_process_are_candidates_each",
    ),
    mutant(
        "a resignation swallows another cancellation",
        "8.4",
        "election.py",
        "            and task.cancelling() <= block._cancelling\n",
        "",
        theme="terms",
        tests="contract/test_election.py::"
        "test_a_cancellation_from_outside_is_not_swallowed_by_a_resignation",
    ),
)
