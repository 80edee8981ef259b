"""Why no schedule is asked for some of the planted bugs, but a test only."""

_COSTS_A_RECALL = "costs a recall, or a use; no promise is broken that schedules are judged by"
_OVER_ANOTHER_WAY = (
    "where announcements arrive on the connection of the questions (RESP3) nothing is missed; over "
    "two of them it takes a change of leaders within a millisecond"
)
_NOT_KEPT = "in no schedule a name is kept for at least so long"

HIDDEN = {
    "a recall for an older token obeyed": "costs a use, and breaks nothing that is promised",
    "used again over another connection": (
        "whoever waits asks again soon, and that recall is heard over the new connection"
    ),
    "lingers under a token that nobody recalls": (
        "takes two locks on one name in a process, a hand-off between them, and others who wait"
    ),
    "used again while the clock is behind": (
        "takes a holder that dies, or a report that finds no memory, as well"
    ),
    "armed by the first lease": _COSTS_A_RECALL,
    "a recall does not disarm": _COSTS_A_RECALL,
    "an unarmed lease asks for recalls": _COSTS_A_RECALL,
    "armed though others wait": _COSTS_A_RECALL,
    "marked although the lease is lost": (
        "the script looks at the owner, too; it takes a lease that is over for its holder only, at "
        "the instant at which its run ends"
    ),
    "a mark goes down": (
        "who holds the lease has looked at the mark, and nobody else writes one meanwhile"
    ),
    "a name is not kept at least so long": _NOT_KEPT,
    "a name is kept under the token of its lease": _NOT_KEPT,
    "healthy though its body outlasts its lease": "no schedule has anybody who asks for that",
    "a resignation swallows another cancellation": (
        "takes a cancellation in the turns of the loop in which a resignation ends the body"
    ),
    "nobody is asked once announcements are heard": _OVER_ANOTHER_WAY,
    "what is announced while a question is under way is forgotten": _OVER_ANOTHER_WAY,
    "an upgrade that is given up goes on": (
        "its grant is given back as soon as it comes; readers wait for it in vain until then"
    ),
    "a reader of before in the next group": (
        "the readers end with their key; it takes a server that has lost the one of the two"
    ),
}
"""By their names; presumed, for what does not show is not traced."""
