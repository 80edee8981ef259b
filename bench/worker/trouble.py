"""Says in one line what went wrong."""

from __future__ import annotations


def in_one_line(error: BaseException) -> str:
    """
    Return the kind and the text of an error; of a group, of the first inside.

    A group's own text only counts what it holds, and its peers mostly failed of the same.
    """
    # By attribute: on the old Python of a peer, groups come from a backport.
    inside = getattr(error, "exceptions", None)
    while inside:
        error = inside[0]
        inside = getattr(error, "exceptions", None)
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
