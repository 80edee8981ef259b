"""In the words that all use."""

from tests.mutants.mutant import mutant

MUTANTS = (
    mutant(
        "no drift given up",
        "8.1",
        "core/validity.py",
        "    return ttl - drift(ttl)\n",
        "    return ttl\n",
    ),
    mutant(
        "local hand-offs while the clock is behind",
        "7, fencing",
        "core/fencing.py",
        "    return granted - server_us <= MAX_LOCAL_HANDOFFS + 1\n",
        "    return True\n",
    ),
    mutant(
        "local hand-off under the same fence",
        "7, fencing",
        "core/fencing.py",
        "    return granted + handoffs\n",
        "    return granted + min(handoffs, 0)\n",
    ),
    mutant(
        "renewed when its ttl is used up",
        "6",
        "core/validity.py",
        "RENEW_SHARE = 1 / 3\n",
        "RENEW_SHARE = 1.0\n",
    ),
    mutant(
        "used fences are not reported",
        "7, fencing",
        "core/fencing.py",
        "    return granted + handoffs if handoffs else 0\n",
        "    return 0\n",
    ),
    mutant(
        "a grant that began in the future",
        "8.1",
        "core/clock.py",
        " or earliest > now + slack else",
        " else",
    ),
    mutant(
        "local hand-offs without a bound",
        "9",
        "waiting/cohort.py",
        "    if handoffs >= local_handoffs or now >= span_ends_at:\n",
        "    if handoffs >= local_handoffs + 10**6:\n",
    ),
)
