"""In semaphores."""

from tests.mutants.mutant import mutant

_SCRIPTS = "redis/test_permit_scripts.py"

MUTANTS = (
    mutant(
        "permits that are over are not dropped",
        "9, semaphores",
        "protocol/lua/permits.lua",
        "    if ends_at <= now then\n",
        "    if false then\n",
        tests=_SCRIPTS,
    ),
    mutant(
        "a slot given twice",
        "9, semaphores",
        "protocol/lua/permits.lua",
        "    if not taken[next_slot] then slots",
        "    if true then slots",
        tests=_SCRIPTS,
    ),
    mutant(
        "permits that nobody hears of are kept for a while",
        "9, semaphores",
        "protocol/lua/permits.lua",
        "        if type(heard) ~= 'number' or heard == 0 then take_back(token) end\n",
        "",
        tests=_SCRIPTS,
    ),
    mutant(
        "a dead waiter has all wait until it fits",
        "9, semaphores",
        "protocol/lua/permits.lua",
        "      if asked ~= 0 then return",
        "      if true then return",
        tests=_SCRIPTS,
    ),
    mutant(
        "a limit judged without the waiters before",
        "9, semaphores",
        "protocol/lua/acquire_permits.lua",
        "local blocked, ours, got, refused = first ~= nil, nil, {}, false",
        "local blocked, ours, got, refused = false, nil, {}, false",
        tests=_SCRIPTS,
    ),
    mutant(
        "one limit too many",
        "9, semaphores",
        "protocol/lua/acquire_permits.lua",
        "held + want.permits <= limit then",
        "held + want.permits <= limit + 1 then",
        tests=_SCRIPTS,
    ),
    mutant(
        "a renewal of permits that are not ours any more",
        "7, renew_permits",
        "protocol/lua/renew_permits.lua",
        "if not ends_at or tonumber(ends_at) <= now then return {GONE, tag} end\n",
        "",
        tests=_SCRIPTS,
    ),
    mutant(
        "permits given up are nobody's",
        "9, semaphores",
        "protocol/lua/release_permits.lua",
        "  serve_others(now)\n",
        "",
        tests=_SCRIPTS,
    ),
    mutant(
        "who leaves the queue before others lets nobody in",
        "9, semaphores",
        "protocol/lua/abandon_permits.lua",
        "serve_others(now)\nreturn",
        "return",
        tests=_SCRIPTS,
    ),
)
