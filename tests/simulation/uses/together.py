"""Takes several names in one block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiodistlock import AcquireTimeout, LockClient
from tests.simulation.judge import NAMESPACE
from tests.simulation.kinds import TIMEOUTS

if TYPE_CHECKING:
    from tests.simulation.worker import Worker


async def take_together(worker: Worker, client: LockClient, name: str) -> None:
    """Take a name and others, in an order that is nobody's business, and hold them for a while."""
    rng, judge = worker.kinds_rng, worker.judge
    others = [each for each in judge.names if each != name]
    names = [name, *rng.sample(others, rng.randint(1, min(3, len(others))))]
    ttl = rng.choice(worker.plan.ttls)
    options: dict[str, Any] = {"ttl": ttl}
    draw = rng.random()
    if draw < 0.1:
        options["on_lost"] = "signal"
    elif draw < 0.2:
        options["auto_renew"] = False
    elif draw < 0.3:
        options["max_hold"] = max(0.05, ttl * rng.choice((0.5, 1.5)))
    elif draw < 0.4:
        options["reentrant"] = True
    elif draw < 0.5:
        options["local_handoffs"] = rng.choice((0, 1, 3))
    timeout = rng.choice(TIMEOUTS)
    options |= worker.lingers(options) | {
        "timeout": timeout,
        "namespace": NAMESPACE,
        "backoff": worker.backoff,
    }
    asked_at, since = judge.now, worker.process.turned_at
    worker.doing = f"{names} together, {options}"
    try:
        async with worker.bounded(), client.together(*names, **options) as leases:
            # The judge looks at a clock for each, and the process may stand still there.
            looked_at = worker.process.last_look
            judge.waited(worker.process, since, timeout)
            held = [
                judge.began(worker.process, each, lease, asked_at, "together", looked_at)
                for each, lease in zip(names, leases, strict=True)
            ]
            await worker.body(held, cancelled=options.get("on_lost") != "signal")
            if "reentrant" in options:
                async with client.together(*names[::-1], **options) as again:
                    assert again == leases[::-1]
    except AcquireTimeout:
        judge.waited(worker.process, since, timeout)
        raise
