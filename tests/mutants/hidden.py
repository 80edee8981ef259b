"""Why some planted bugs hardly ever show in a schedule, as far as that is understood."""

HIDDEN = {
    "a recall for an older token obeyed": (
        "costs a use, and breaks nothing that is promised; tests/unit/test_lingering.py sees it"
    ),
    "used again over another connection": (
        "whoever waits asks again soon, and that recall is heard over the new connection"
    ),
    "lingers under a token that nobody recalls": (
        "takes two locks on one name in a process, a hand-off between them, and others who "
        "wait; behind Sentinels schedule 1067 has that"
    ),
    "used again while the clock is behind": (
        "takes a holder that dies, or a report that finds no memory, as well"
    ),
}
"""By their names; presumed, for what does not show is not traced."""
