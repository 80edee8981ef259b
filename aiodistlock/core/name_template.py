"""Names built from the arguments of a call."""

from __future__ import annotations

import inspect
import string
from collections.abc import Callable, Iterator
from typing import Any


class NameTemplate:
    """
    A name with fields, such as ``"wallet:{wallet_id}"``, for one function.

    :param template: in :meth:`str.format` syntax; a field starts with the name of a
        parameter of the function, and may go on with attributes and items
    :param function: the function whose calls fill the fields
    :raises ValueError: if the template is malformed, has no text, or has a field that
        is no parameter of the function
    """

    def __init__(self, template: str, function: Callable[..., Any]) -> None:
        fields = fields_of(template)
        self._template = template
        self._signature = inspect.signature(function)
        # Variadic parameters have no name of their own at the call.
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        known = [
            name
            for name, parameter in self._signature.parameters.items()
            if parameter.kind not in variadic
        ]
        for field in fields:
            parameter = field.partition(".")[0].partition("[")[0]
            if parameter not in known:
                raise ValueError(
                    f"name template {template!r} has the field {field!r}, but "
                    f"{function.__qualname__}() takes {', '.join(known) or 'no parameters'}"
                )

    def fill(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """
        Return the name for a call with these arguments.

        :raises TypeError: if an argument that the name needs is missing
        """
        # Partial: what else is missing is for the function to complain about.
        bound = self._signature.bind_partial(*args, **kwargs)
        bound.apply_defaults()
        try:
            return self._template.format_map(bound.arguments)
        except KeyError as missing:
            raise TypeError(f"the lock's name needs the argument {missing}") from None

    def passes(self, parameter: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Tell whether a call with these arguments passes one for ``parameter``."""
        return parameter in self._signature.bind_partial(*args, **kwargs).arguments


def fields_of(template: object) -> list[str]:
    """
    Return the fields of a template, those within format specifications included.

    :raises ValueError: if it is malformed, or has no text
    """
    if not isinstance(template, str):
        raise ValueError(f"name template must be a str, not {template!r}")  # noqa: TRY004
    if not template:
        raise ValueError("name template must not be empty")
    try:
        return list(_fields(template))
    except (ValueError, TypeError) as error:
        raise ValueError(f"name template {template!r} is malformed: {error}") from None


def _fields(template: str) -> Iterator[str]:
    for _, field, spec, conversion in string.Formatter().parse(template):
        if field is not None:
            yield field
        if conversion and conversion not in "rsa":
            raise ValueError(f"unknown conversion {conversion!r}")
        if spec:
            yield from _fields(spec)
