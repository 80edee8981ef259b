"""In the words that all use."""

from tests.mutants.mutant import mutant

MUTANTS = (
    mutant(
        "no drift given up",
        "8.1",
        "core/validity.py",
        "    return ttl - drift(ttl)\n",
        "    return ttl\n",
        theme="all is well",
        tests="unit/test_lease_state.py::test_a_deadline_counts_from_the_request",
    ),
    mutant(
        "local hand-offs while the clock is behind",
        "7, fencing",
        "core/fencing.py",
        "    return granted - server_us <= MAX_LOCAL_HANDOFFS + 1\n",
        "    return True\n",
        theme="clock set",
        tests="unit/test_fencing.py::test_hand_offs_are_covered_unless_the_clock_is_behind",
    ),
    mutant(
        "local hand-off under the same fence",
        "7, fencing",
        "core/fencing.py",
        "    return granted + handoffs\n",
        "    return granted + min(handoffs, 0)\n",
        tests="unit/test_fencing.py::test_each_hand_off_has_a_higher_token",
    ),
    mutant(
        "renewed when its ttl is used up",
        "6",
        "core/validity.py",
        "RENEW_SHARE = 1 / 3\n",
        "RENEW_SHARE = 1.0\n",
        tests="unit/test_lease_state.py::test_a_renewal_is_due_at_a_third_of_the_ttl",
    ),
    mutant(
        "used fences are not reported",
        "7, fencing",
        "core/fencing.py",
        "    return granted + handoffs if handoffs else 0\n",
        "    return 0\n",
        theme="clock set back a little",
        tests="unit/test_fencing.py::test_the_report_covers_all_that_was_used",
    ),
    mutant(
        "a grant that began in the future",
        "8.1",
        "core/clock.py",
        " or earliest > now + slack else",
        " else",
        theme="late grants under a clock set",
        tests="unit/test_contender.py::test_a_grant_is_relied_on_for_no_longer_than_was_asked_for",
    ),
    mutant(
        "local hand-offs without a bound",
        "9",
        "waiting/cohort.py",
        "    if handoffs >= local_handoffs or now >= span_ends_at:\n",
        "    if handoffs >= local_handoffs + 10**6:\n",
        theme="all is well",
        tests="unit/test_cohort.py::test_the_step_after_a_release",
    ),
)
