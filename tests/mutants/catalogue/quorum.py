"""In what independent nodes decide together."""

from functools import partial

from tests.mutants.mutant import mutant

_on_quorum = partial(mutant, deployment="quorum of 3")

MUTANTS = (
    _on_quorum(
        "one node of three decides",
        "11",
        "deployments/quorum/votes.py",
        "    return nodes // 2 + 1\n",
        "    return nodes // 2\n",
        tests="unit/test_quorum.py::test_two_majorities_share_a_node",
    ),
    _on_quorum(
        "fence not written back to a majority",
        "11",
        "deployments/quorum/rounds/fenced.py",
        "        if not behind:\n",
        "        if behind or not behind:\n",
        tests="deployments/test_quorum_data.py::"
        "test_the_highest_token_stands_at_a_majority_before_the_lease_begins",
    ),
    _on_quorum(
        "the lowest fence of a majority is given",
        "11",
        "deployments/quorum/votes.py",
        "    fence = max(issued.values())\n",
        "    fence = min(issued.values())\n",
        tests="unit/test_quorum.py::test_the_highest_token_is_agreed_on",
    ),
    _on_quorum(
        "deadline counted from the end of a round",
        "8.1",
        "deployments/quorum/rounds/acquire.py",
        "Granted(fence, fence, self.sent_at, self.token)",
        "Granted(fence, fence, self.quorum.clock(), self.token)",
        theme="late answers to renewals",
        tests="deployments/test_quorum_edges.py::"
        "test_a_deadline_counts_from_the_beginning_of_the_round",
    ),
    _on_quorum(
        "renewed by one node only",
        "11",
        "deployments/quorum/rounds/renew.py",
        "            if self.votes_for == self.quorum.majority:\n",
        "            if self.votes_for == 1:\n",
        tests="deployments/test_quorum_data.py::test_one_node_that_renews_first_decides_nothing",
    ),
    _on_quorum(
        "quarantine ignored",
        "11",
        "protocol/lua/vote.lua",
        "  if remaining > 0 then",
        "  if false then",
        theme="amnesia",
        tests="redis/test_quorum_scripts.py::test_a_node_without_data_is_not_trusted",
    ),
    _on_quorum(
        "usual vote without a look at who has it",
        "11",
        "protocol/lua/vote.lua",
        "redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3])\n",
        "redis.call('EXISTS', KEYS[2], KEYS[3])\n",
        tests="redis/test_quorum_scripts.py::test_a_wrong_type_is_an_error_that_changes_nothing",
    ),
    _on_quorum(
        "vote given to a second one who would wait",
        "11",
        "protocol/lua/vote.lua",
        "if holder then\n",
        "if holder and inbox == '' then\n",
        tests="redis/test_quorum_scripts.py::test_who_waits_is_kept_once",
    ),
    _on_quorum(
        "vote taken back without a look at the owner",
        "11",
        "protocol/lua/unvote.lua",
        "waiter_of(holder) ~= token then return {OTHER, tag, 0} end\n",
        "holder == '' then return {OTHER, tag, 0} end\n",
        tests="redis/test_quorum_scripts.py::test_what_undoes_one_round_leaves_another_alone",
    ),
    _on_quorum(
        "vote renewed without a look at the owner",
        "11",
        "protocol/lua/renew_vote.lua",
        "if not fence_of(holder, token) then return {OTHER, tag} end\n",
        "",
        tests="redis/test_quorum_scripts.py::test_a_vote_for_another_is_not_renewed",
    ),
    _on_quorum(
        "votes of a lost round are kept",
        "11",
        "deployments/quorum/rounds/acquire.py",
        "        undo(self.quorum, self.keys, self.token, nodes,",
        "        undo(self.quorum, self.keys, self.token, (),",
        tests="deployments/test_quorum_faults.py::test_a_lost_round_takes_back_what_it_got",
    ),
    _on_quorum(
        "no gap between proposals that are close",
        "7, fencing",
        "protocol/lua/prelude.lua",
        "      fence, since = last + 1 + GAP, now\n",
        "      fence, since = last + 1, now\n",
        tests="redis/test_quorum_scripts.py::test_a_proposal_behind_the_counter_is_raised_above_it",
    ),
)
