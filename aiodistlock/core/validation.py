"""Bad input is refused with all that is wrong told at once, so that nobody tries five times."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def refuse(problems: Iterable[str | None]) -> None:
    """
    Refuse what has problems.

    :raises ValueError: naming all of them, if there are any
    """
    found = [problem for problem in problems if problem]
    if found:
        raise ValueError("; ".join(found)) from None


def check_all(*checks: Callable[[], object]) -> None:
    """
    Make all checks, also behind one that fails.

    :raises TypeError: of the only one that complains, if it is one
    :raises ValueError: naming what any of them complains of
    """
    errors: list[Exception] = []
    for check in checks:
        try:
            check()
        except (ValueError, TypeError) as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0] from None
    refuse(map(str, errors))
