"""Names folded to what they have in common, so that there are few of them.

A metric keeps a series for each name that it ever saw: one for ``wallet:42``, one for
``wallet:43``, until the store behind it is full.  Folded, both are ``wallet:*``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

OTHER = "other"
"""What a name folds to that fits no template, or comes when there are too many."""

MOST = 500
"""So many folded names are told apart; a name that varies otherwise must not be a leak."""

_VARIABLE = re.compile(
    r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"  # a UUID
    # A hash or an ObjectId; a ULID or a random string: long words that have a digit.
    r"|(?<![^\W_])(?=[a-f]*\d)[0-9a-f]{8,}(?![^\W_])"
    r"|(?<![^\W_])(?=[^\W\d_]*\d)[^\W_]{16,}(?![^\W_])"
    r"|\d+",
    re.IGNORECASE,
)


def fold(name: str) -> str:
    """Replace what looks like an identifier (numbers, UUIDs, hashes) by ``*``."""
    return _VARIABLE.sub("*", name)


def fold_by(templates: Iterable[str]) -> Callable[[str], str]:
    """
    Build a function that folds a name to the first template that fits it.

    :param templates: such as ``"wallet:{wallet_id}"``; a field stands for one character
        or more
    :raises ValueError: if there is none, or its braces do not match
    """
    patterns = [(template, _pattern(template)) for template in templates]
    if not patterns:
        raise ValueError("no template: every name would be the same; pass at least one")

    def folded(name: str) -> str:
        return next((each for each, pattern in patterns if pattern.fullmatch(name)), OTHER)

    return folded


def _pattern(template: str) -> re.Pattern[str]:
    # The odd ones are what stood in braces.
    parts = re.split(r"(\{[^{}]*\})", template)
    if not template or any(brace in text for text in parts[::2] for brace in "{}"):
        raise ValueError(
            f"name template {template!r} must be text with fields such as 'wallet:{{wallet_id}}'"
        )
    return re.compile(
        "".join(".+" if n % 2 else re.escape(part) for n, part in enumerate(parts)), re.DOTALL
    )


class Folder:
    """
    Folds names, to a bounded number of them.

    :param rule: a function from a name to the folded one, or templates as for
        :func:`fold_by`; ``None``: :func:`fold`
    :param most: names told apart; the others are ``"other"``
    """

    def __init__(
        self, rule: Callable[[str], str] | Iterable[str] | None = None, most: int = MOST
    ) -> None:
        if isinstance(rule, str):
            raise TypeError(f"expected a list of templates, not the one {rule!r}: put it in a list")
        by: Callable[[str], str] = (
            fold if rule is None else rule if callable(rule) else fold_by(rule)
        )
        self._known: set[str] = set()
        self._most = most
        self._by = lru_cache(maxsize=4096)(by)

    def __call__(self, name: str) -> str:
        """Return the folded name."""
        folded = self._by(name)
        if folded not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(folded)
        return folded
