"""What went wrong first, where several things did."""

from __future__ import annotations


def root_cause(error: BaseException) -> BaseException:
    """Return the first error of a group, and of groups in it; whatever else came of it is noise."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
