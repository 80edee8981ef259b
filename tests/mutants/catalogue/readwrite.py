"""In readers, their groups, and who becomes the writer."""

from tests.mutants.mutant import mutant

_SCRIPTS = "redis/test_readers_scripts.py::"

MUTANTS = (
    mutant(
        "a reader joins though a writer waits",
        "9, read/write",
        "protocol/lua/read.lua",
        "  if ours or (waiters() == 0 and not second) then\n",
        "  if ours or not second then\n",
        tests=_SCRIPTS + "test_who_comes_while_somebody_waits_joins_the_queue",
    ),
    mutant(
        "a dead reader stays in the group",
        "9, read/write",
        "protocol/lua/prelude.lua",
        "      if not first[1] or tonumber(first[2]) > now then break end\n",
        "      if true then break end\n",
        tests=_SCRIPTS + "test_a_dead_reader_ends_alone",
    ),
    mutant(
        "a group ends while a reader lives",
        "9, read/write",
        "protocol/lua/prelude.lua",
        "    if it.size() == 0 then return give_up(now, 0) end\n",
        "    if it.size() <= 1 then return give_up(now, 0) end\n",
        tests=_SCRIPTS + "test_the_last_to_leave_hands_the_lock_on",
    ),
    mutant(
        "the key ends before its readers",
        "9, read/write",
        "protocol/lua/prelude.lua",
        "    redis.call('PEXPIRE', KEYS[1], ttl)\n  end\n\n  -- Has those hold",
        "  end\n\n  -- Has those hold",
        tests=_SCRIPTS + "test_readers_hold_together",
    ),
    mutant(
        "an upgrade beside readers",
        "9, read/write",
        "protocol/lua/upgrade.lua",
        "if readers.size() == 1 then\n",
        "if readers.size() >= 1 then\n",
        tests=_SCRIPTS + "test_an_upgrade_waits_for_the_other_readers_in_front_of_the_queue",
    ),
    mutant(
        "an upgrade granted beside readers",
        "9, read/write",
        "protocol/lua/prelude.lua",
        "        if it.size() == 1 then upgrade(",
        "        if it.size() >= 1 then upgrade(",
        tests=_SCRIPTS + "test_an_upgrade_waits_for_the_other_readers_in_front_of_the_queue",
    ),
    mutant(
        "two upgradeable readers",
        "9, read/write",
        "protocol/lua/read.lua",
        "  local second = letter_of(token) == 'u' and readers.upgradeable()\n",
        "  local second = false\n",
        tests=_SCRIPTS + "test_only_one_reader_of_a_group_is_upgradeable",
    ),
    mutant(
        "only the first of the readers comes in",
        "9, read/write",
        "protocol/lua/prelude.lua",
        "          first = first or token\n",
        "          return token\n",
        tests=_SCRIPTS + "test_who_comes_while_somebody_waits_joins_the_queue",
    ),
    mutant(
        "who leaves the queue keeps readers out",
        "9, read/write",
        "protocol/lua/abandon.lua",
        "  readers.settle(now, holder) -- whoever waited behind us may come in\n",
        "",
        tests=_SCRIPTS + "test_who_leaves_the_queue_lets_those_behind_in",
    ),
    mutant(
        "the version stays while one writes",
        "9, read/write",
        "protocol/lua/acquire.lua",
        "    begins(token)\n",
        "",
        tests=_SCRIPTS + "test_the_version_is_unknown_while_a_writer_of_a_read_write_lock_holds",
    ),
    mutant(
        "the version is that with which the writer began",
        "9, read/write",
        "protocol/lua/prelude.lua",
        "    group().remember(math.max(used, fence_of(value, token) or 0))\n",
        "    group().remember(fence_of(value, token) or used)\n",
        tests="contract/test_readwrite.py::test_the_version_is_the_last_of_several_local_writers",
    ),
    mutant(
        "a reader of before in the next group",
        "9, read/write",
        "protocol/lua/prelude.lua",
        "    local version = version_of(now, 0)\n    redis.call('DEL', members)\n",
        "    local version = version_of(now, 0)\n",
        tests=_SCRIPTS + "test_a_group_of_before_is_no_part_of_a_new_one",
    ),
    mutant(
        "a lease is open for ever",
        "9, read/write",
        "waiting/reading.py",
        "        return lease.alive and enough and now < lease.span_ends_at\n",
        "        return lease.alive and enough\n",
        tests="faults/test_readwrite.py::test_a_stream_of_fifty_readers_lets_a_writer_in",
    ),
    mutant(
        "open again though others wait",
        "9, read/write",
        "waiting/reading.py",
        "        if type(reply) is Renewed and reply.waiters == 0:\n",
        "        if type(reply) is Renewed:\n",
        tests="faults/test_readwrite.py::test_a_stream_of_fifty_readers_lets_a_writer_in",
    ),
    mutant(
        "the first reader to leave ends the lease of all",
        "9, read/write",
        "waiting/reading.py",
        "        if not shared.shares:\n            if not shared.alive:\n",
        "        if True:\n            if not shared.alive:\n",
        tests="contract/test_readwrite.py::test_everybody_gets_on_and_nobody_writes_beside_anybody",
    ),
    mutant(
        "a lost lease keeps its readers going",
        "6",
        "waiting/reading.py",
        "            share.event(LeaseEvent.EXPIRED)\n            share.lose(reason)\n",
        "            share.event(LeaseEvent.EXPIRED)\n",
        tests="faults/test_readwrite.py::test_a_flush_ends_what_is_read_and_the_version_rises",
    ),
    mutant(
        "an upgrade that is given up goes on",
        "9, read/write",
        "waiting/upgrading.py",
        "        return store.stay_reader(\n"
        "            self.keys, attempt.token, reader.token, options.ttl_ms, grant_ttl_ms\n"
        "        )\n",
        "        return store.stay_reader(\n"
        "            self.keys, attempt.token, reader.token, options.ttl_ms, None\n"
        "        )\n",
        tests="contract/test_readwrite.py::test_an_upgrade_that_is_out_of_time_reads_on",
    ),
)
