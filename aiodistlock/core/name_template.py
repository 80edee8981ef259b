"""Names built from the arguments of a call."""

from __future__ import annotations

import inspect
import string
from collections.abc import Callable
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
        try:
            fields = [field for _, field, _, _ in string.Formatter().parse(template)]
        except (ValueError, TypeError) as error:
            raise ValueError(f"name template {template!r} is malformed: {error}") from None
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
            if field is None:
                continue
            parameter = field.partition(".")[0].partition("[")[0]
            if parameter not in known:
                raise ValueError(
                    f"name template {template!r} has the field {field!r}, but "
                    f"{function.__qualname__}() takes {', '.join(known) or 'no parameters'}"
                )
        if not template:
            raise ValueError("name template must not be empty")

    def fill(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """
        Return the name for a call with these arguments.

        :raises TypeError: if the function could not be called with them
        """
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return self._template.format_map(bound.arguments)
