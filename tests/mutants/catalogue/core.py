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
        tests="unit/test_lease_state.py",
    ),
    mutant(
        "local hand-offs while the clock is behind",
        "7, fencing",
        "core/fencing.py",
        "    return granted - server_us <= MAX_LOCAL_HANDOFFS + 1\n",
        "    return True\n",
        theme="clock set back a little",
        tests="unit/test_fencing.py redis/test_clock.py",
    ),
    mutant(
        "local hand-off under the same fence",
        "7, fencing",
        "core/fencing.py",
        "    return granted + handoffs\n",
        "    return granted + min(handoffs, 0)\n",
        tests="unit/test_fencing.py",
    ),
    mutant(
        "renewed when its ttl is used up",
        "6",
        "core/validity.py",
        "RENEW_SHARE = 1 / 3\n",
        "RENEW_SHARE = 1.0\n",
        tests="unit/test_lease_state.py unit/test_watchdog.py",
    ),
    mutant(
        "used fences are not reported",
        "7, fencing",
        "core/fencing.py",
        "    return granted + handoffs if handoffs else 0\n",
        "    return 0\n",
        theme="clock set back a little",
        tests="unit/test_fencing.py",
    ),
    mutant(
        "a grant that began in the future",
        "8.1",
        "core/clock.py",
        " or earliest > now + slack else",
        " else",
        theme="late grants under a clock set",
        tests="unit/test_clock.py unit/test_contender.py faults/test_forged_grants.py",
    ),
    mutant(
        "local hand-offs without a bound",
        "9",
        "waiting/cohort.py",
        "    if handoffs >= local_handoffs or now >= span_ends_at:\n",
        "    if handoffs >= local_handoffs + 10**6:\n",
        theme="all is well",
        tests="unit/test_cohort.py",
    ),
)
