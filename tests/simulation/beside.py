"""What stands beside a key, by docs/design.md, and what a request may make of it.

A script is one step, so what it leaves can be judged at once, whatever befalls the world: only who
leads proclaims, and nobody takes back what another one proclaims; only who holds the lease marks a
window, and no mark goes down; readers come in in the order of their coming.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.known import members_of
from tests.simulation.pages import NAMESPACE as PAGES
from tests.simulation.process import Process

if TYPE_CHECKING:
    from tests.simulation.judge import Judge
    from tests.simulation.pages import Visit
    from tests.simulation.plan import Plan
    from tests.simulation.redis.server import RedisServer
    from tests.simulation.redis.session import Session

LOCAL_FOR = 0.05 + 0.05
"""Seconds after a grant in which local tasks go first, or join: ``handoff_span``, and a renewal."""

READERS = b"readers:"
"""What begins the value at a key while readers hold."""


class _Companion(NamedTuple):
    """A key, and what stands beside it."""

    key: bytes
    beside: bytes


class _Page(NamedTuple):
    """What there is of a read/write lock."""

    key: bytes
    queue: bytes
    readers: bytes
    version: bytes


class Beside:
    """Notes what no request may do: by rules of the judge."""

    def __init__(self, judge: Judge, plan: Plan) -> None:
        self._judge = judge
        names = [name.encode() for name in judge.names]
        keys = list(judge.keys)
        self._proclaimed = [_Companion(key, b"aiodistlock:leader:{%b}" % key) for key in keys]
        self._marked = [_Companion(key, b"aiodistlock:done:{%b}" % key) for key in keys]
        self._pages = [
            _Page(
                key,
                *(
                    b"aiodistlock:%b:{%b}" % (what, key)
                    for what in (b"queue", b"readers", b"version")
                ),
            )
            for key in (PAGES.encode() + name for name in names)
        ]
        if "election" not in plan.kinds:
            self._proclaimed = []
        if "once" not in plan.kinds:
            self._marked = []
        if "rwlock" not in plan.kinds:
            self._pages = []
        self._before: dict[bytes, object] = {}
        self._came_at: dict[bytes, float] = {}
        """True times since when each has read, by token, or waited, by the record in the queue."""
        self._first: dict[bytes, bytes] = {}
        """Who is first in the queue of each page, if anybody is."""

    def before(self, server: RedisServer) -> None:
        """Take down what stands there."""
        values = server.keys.values
        looked_at = [
            name for each in (*self._proclaimed, *self._marked, *self._pages) for name in each
        ]
        self._before = {name: _copied(values.get(name)) for name in looked_at}

    def after(self, server: RedisServer, session: Session) -> None:
        """See what a request has made of it."""
        values, ends, before = server.keys.values, server.keys.ends, self._before
        changed = {name for name, was in before.items() if values.get(name) != was}
        if not changed:
            return
        for key, beside in self._proclaimed:
            if beside in changed:
                self._proclaims(server, session, key, beside)
        for key, beside in self._marked:
            if beside in changed:
                self._marks(server, key, beside)
        for name in (*self._proclaimed, *self._marked):
            if name.beside in values and name.beside not in ends:
                self._judge.note("long", f"{name.beside!r} has no end")
        for page in self._pages:
            if changed & {*page}:
                self._turns(server, page)

    def _proclaims(self, server: RedisServer, session: Session, key: bytes, beside: bytes) -> None:
        was, now = self._before[beside], server.keys.values.get(beside)
        holder = server.keys.values.get(key)
        assert isinstance(session.owner, Process)
        mine = f"{session.owner.label}:".encode()
        if isinstance(now, bytes):
            if not isinstance(holder, bytes) or not now.startswith(holder + b" "):
                self._judge.note("owner", f"{now!r} was proclaimed, and {holder!r} leads")
        elif isinstance(was, bytes) and not was.startswith(mine):
            self._judge.note("owner", f"{session.owner.label} took {was!r} back")

    def _marks(self, server: RedisServer, key: bytes, beside: bytes) -> None:
        was, now, holder = self._before[beside], server.keys.values.get(beside), self._before[key]
        if not isinstance(now, bytes):
            return
        window, _, _, value = now.split(b" ", 3)
        if value != holder:
            self._judge.note("owner", f"{now!r} was marked, and {holder!r} has the lease")
        if isinstance(was, bytes) and int(window) < int(was.split()[0]):
            self._judge.note("once", f"{was!r} went down to {now!r}")

    def reads(self, name: str, visit: Visit) -> None:
        """See that no reader joins those of its process for long while somebody waits."""
        now = self._judge.now
        first = self._first.get(f"{PAGES}{name}".encode())
        came_at = self._came_at.get(visit.lease._process_lease.token, now)
        if first is None or not self._judge.all_goes_on:
            return
        passed = now - max(self._came_at[first], came_at)
        if passed > LOCAL_FOR:
            self._judge.note("unfair", f"{visit} begins while {first!r} has waited {passed:.3f} s")

    def _turns(self, server: RedisServer, page: _Page) -> None:
        """See who reads, and who waits."""
        judge, values = self._judge, server.keys.values
        was, holder = self._before[page.key], values.get(page.key)
        waited, waits = members_of(self._before[page.queue]), members_of(values.get(page.queue))
        read, reads = members_of(self._before[page.readers]), members_of(values.get(page.readers))
        for each in (*(waits.keys() - waited), *(reads.keys() - read)):
            self._came_at[each] = judge.now
        first = min(waits, key=lambda record: (waits[record], record), default=None)
        if first is None:
            self._first.pop(page.key, None)
        else:
            self._first[page.key] = first
        if not isinstance(holder, bytes):
            return
        if not holder.startswith(READERS):
            if holder.rpartition(b" ")[0][-1:] in (b"w", b"x") and page.version in values:
                judge.note("fence", f"{holder!r} may write, and its version is known")
            return
        now_us = server.keys.now_us
        upgradeable = [each for each, end in reads.items() if end > now_us and each[-1:] == b"u"]
        if len(upgradeable) > 1:
            judge.note("overlap", f"{upgradeable} may all become the writer of {page.key!r}")
        if first is None:
            return
        queued = {record.split()[-1] for record in waited}
        came = [token for token in reads if token not in read and token not in queued]
        if isinstance(was, bytes) and was.startswith(READERS) and came and waited:
            judge.note("fifo", f"{came} read, while these wait: {list(waits)}")
        if server.saying is None:
            # Their key may outlast them for a moment, as its end is in ms.
            over = [end for end in read.values() if end <= now_us]
            if all(end < now_us - 10_000 for end in (*over, *reads.values())):
                judge.note("idle", f"nobody reads {page.key!r}, and {first!r} waits")
            elif first.endswith(b"r"):
                judge.note("idle", f"{list(reads)} read {page.key!r}, and {first!r} waits")


def _copied(value: object) -> object:
    return dict(value) if isinstance(value, dict) else value
