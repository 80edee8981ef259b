"""In how long a lease lasts, and in the body that it scopes."""

from tests.mutants.mutant import mutant

MUTANTS = (
    mutant(
        "renewal counted from the reply",
        "8.1",
        "leases/renewal.py",
        "            lease.confirm(reply.sent_at + self._lasts)\n",
        "            lease.confirm(renewer._clock() + self._lasts)\n",
    ),
    mutant(
        "a lost lease ends after its deadline",
        "8.3",
        "leases/watchdog.py",
        "        if now + GRAIN >= lease.deadline:\n",
        "        if now >= lease.deadline + 0.2 * lease.options.ttl:\n",
    ),
    mutant(
        "refused renewal is no loss",
        "8.3",
        "leases/renewal.py",
        "            renewer.refused(lease, reply.reason)\n",
        "            pass\n",
    ),
    mutant(
        "body not cancelled on a loss",
        "8.4",
        "lease.py",
        "            self._body._cancel_body()\n",
        "            pass\n",
    ),
    mutant(
        "max_hold forgotten",
        "2",
        "leases/watchdog.py",
        "        elif lease.ends_at is not None and now + GRAIN >= lease.ends_at:\n",
        "        elif lease.ends_at is not None and now >= lease.ends_at + 1.0:\n",
    ),
    mutant(
        "no connection is suspected",
        "8.3",
        "leases/watchdog.py",
        "                self._store.connection.suspect(lease.renewal)\n",
        "                pass\n",
    ),
    mutant(
        "a shorter extension believed when it is answered",
        "8.1",
        "leases/renewal.py",
        "            lease.expect(now + lasts)\n",
        "            pass\n",
    ),
    mutant(
        "any answer prolongs, not the latest only",
        "8.3",
        "leases/renewal.py",
        "        elif type(reply) is Renewed and latest:\n",
        "        elif type(reply) is Renewed:\n",
    ),
    mutant(
        "a lost lease is renewed once more",
        "8.3",
        "leases/watchdog.py",
        "        lease.drop_renewal()\n        lease.possessor",
        "        self.renew(lease)\n        lease.possessor",
    ),
    mutant(
        "an error to a renewal is a renewal",
        "8.3",
        "leases/renewal.py",
        "        # Failed: an error decides nothing; the next try follows, until the deadline.\n",
        "        else:\n            lease.confirm(renewer._clock() + self._lasts)\n",
    ),
    mutant(
        "the watchdog sleeps on after a suspend",
        "8.2",
        "leases/watchdog.py",
        "looks_at = min(now + NAP, due_at)\n",
        "looks_at = due_at\n",
    ),
    mutant(
        "only the first lease of a turn is renewed",
        "6",
        "leases/watchdog.py",
        "            self._look_at(lease, now)\n        self._wake",
        "            self._look_at(lease, now)\n            break\n        self._wake",
    ),
    mutant(
        "a loss only signalled",
        "8.4",
        "lease.py",
        '        signals = lease._process_lease.options.on_lost == "signal"\n',
        "        signals = True\n",
    ),
    mutant(
        "held until somebody says it is lost",
        "8.1",
        "lease.py",
        "        return now < lease.deadline and (lease.ends_at is None or now < lease.ends_at)\n",
        "        return lease.ends_at is None or now < lease.ends_at\n",
    ),
)
