"""Why some planted bugs hardly ever show in a schedule, as far as that is understood."""

_CLOCK = "takes a clock that is set back by little between a local hand-off and its report"
_TURN = "in the world no time passes within a turn of a loop, so the looks before this one see it"

HIDDEN = {
    "local hand-offs while the clock is behind": _CLOCK,
    "used fences are not reported": _CLOCK,
    "no gap left where the clock was set back": _CLOCK,
    "usual acquire under a fence that was used": _CLOCK,
    "pass_on does not report": _CLOCK,
    "a grant that began in the future": "takes a clock that is set forward while a grant is late",
    "what is void is declared once, heard or not": "takes two lost connections, and a late request",
    "reply of another tag taken": "most such replies have another shape, which ends the connection",
    "what is refused for a passing reason is refused for good": "who is refused asks again anyway",
    "claim forgotten": "the watchdog finds the lease due, and renews it within a turn or two",
    "the watchdog sleeps on after a suspend": "takes a long ttl, and a suspended machine",
    "any answer prolongs, not the latest only": "takes an answer that comes behind a later request",
    "a lost lease is renewed once more": "it then blocks others for a ttl, which nobody judges",
    "renewal counted from the reply": "takes a slow answer to the last renewal before a silence",
    "refused renewal is no loss": "nobody is refused while that holds for which P1 is promised",
    "no connection is suspected": "what is silent is noticed later then, which nobody judges",
    "passed on, and looked after by the watchdog": "takes a pass_on that is as slow as a ttl",
    "grant believed for as long as the lock's ttl": "its claim mostly comes in time",
    "server's clock counted from when it was read": "takes a late answer, and no claim",
    "a turn that comes with a cancellation is kept": "takes both in one turn of a loop",
    "close forgets who waits": "who waits at the close of a client gives up its place by itself",
    "an attempt goes on when all have given up": "it is granted the lock, and gives it back",
    "given up without a word to Redis": "its ttl ends it",
    "quarantine ignored": "takes a lease by two votes of three, one on a node that loses its data",
    "what was granted to one who left is kept": "its abandon is under way as well",
    "deadline ignored when the body begins": _TURN,
}
"""By their names; presumed, for what does not show is not traced."""
