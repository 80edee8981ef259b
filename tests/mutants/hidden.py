"""Why some planted bugs hardly ever show in a schedule, as far as that is understood."""

HIDDEN = {
    "what was granted to one who left is kept": (
        "its abandon is under way as well: only where that is lost with its server does the lock "
        "stay with nobody, and for a claim window"
    ),
    "renewal counted from the reply": (
        "takes an answer that is late by a good part of the ttl, and no other until its end"
    ),
}
"""By their names; presumed, for what does not show is not traced."""
