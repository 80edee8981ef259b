"""In several names that are held in one block."""

from functools import partial

from tests.mutants.mutant import mutant

_of_several = partial(mutant, rule="9, together")

MUTANTS = (
    _of_several(
        "names in the order in which they are written",
        file="together.py",
        old="        self._ordered = sorted(locks, key=lambda lock: lock._keys.key)\n",
        new="        self._ordered = list(locks)\n",
        theme="together",
        tests="faults/test_together.py::"
        "test_the_order_is_what_keeps_two_from_waiting_for_each_other",
    ),
    _of_several(
        "what is behind the refused one is held",
        file="together.py",
        old="        _give_back([lease for lease in taken[refused:] if lease is not None])\n",
        new="",
        theme="together",
        tests="contract/test_together.py::test_it_waits_in_order_and_holds_no_later_one_meanwhile",
    ),
    _of_several(
        "only the first one's loss cancels the body",
        file="together.py",
        old="                    lease._body = self\n",
        new="                    lease._body = self\n                break\n",
        theme="evicted",
        tests="contract/test_together.py::test_the_loss_of_any_cancels_the_body",
    ),
    _of_several(
        "one that is lost before the last one is there is kept",
        file="together.py",
        old="for place, lease in enumerate(leases) if not _is_held(lease, now))\n",
        new="for place, lease in enumerate(leases) if lease is None)\n",
        theme="together",
        tests="contract/test_together.py::test_one_that_is_lost_meanwhile_is_acquired_again",
    ),
    _of_several(
        "some are kept when the time is over",
        file="together.py",
        old="        except AcquireTimeout as error:\n            _give_back(self._leases)\n",
        new="        except AcquireTimeout as error:\n",
        theme="together",
        tests="contract/test_together.py::test_whoever_runs_out_of_time_leaves_none",
    ),
    _of_several(
        "some are kept by a cancellation",
        file="together.py",
        old="            cleanups = _give_back(self._leases)\n",
        new="            cleanups: list[Call[Any] | None] = []\n",
        theme="together",
        tests="contract/test_together.py::test_cancelled_while_it_waits_it_leaves_none",
    ),
    _of_several(
        "a time for each, not one for all",
        file="together.py",
        old="        left = self._until - self._client.clock()\n",
        new="        left = self._timeout\n",
        theme="together",
        tests="contract/test_together.py::test_the_timeout_is_one_for_all",
    ),
    _of_several(
        "a cancelled try keeps what it had at hand",
        file="waiting/try_together.py",
        old="        cleanups += [each._give_back() for each in at_hand]\n",
        new="        del at_hand\n",
        theme="together",
        tests="faults/test_together.py::test_cancelled_it_gives_back_what_it_had_at_hand",
    ),
)
