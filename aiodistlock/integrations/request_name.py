"""Names built from a request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aiodistlock.core.name_template import fields_of


class UnusableName(ValueError):
    """The request gives no name that a lock can have: it is the client's mistake."""


class RequestName:
    """
    A name with fields that a request fills, such as ``"wallet:{wallet_id}"``.

    :param template: in :meth:`str.format` syntax; a field is the name of a parameter,
        or ``header[x-tenant]``, or ``query[page]``
    :ivar parameters: names of the parameters that it needs
    :ivar headers: names of the headers that it needs
    :ivar queries: names of the query parameters that it needs in so many words
    :raises ValueError: if the template is malformed or empty
    """

    def __init__(self, template: str) -> None:
        fields = fields_of(template)
        self.text = template
        self.headers = _items("header", fields)
        self.queries = _items("query", fields)
        mapped = [f"{kind}[{name}]" for kind, name in self._mapped()]
        self.parameters = tuple(
            dict.fromkeys(_root(field) for field in fields if field not in mapped)
        )
        for parameter in self.parameters:
            if not parameter.isidentifier():
                raise ValueError(
                    f"name template {template!r} has the field {parameter!r}, which names no "
                    "parameter; write the name of one, or header[...] or query[...]"
                )
        # A parameter may be called so, but then cannot stand beside the mapping.
        clash = {kind for kind, _ in self._mapped()} & set(self.parameters)
        if clash:
            raise ValueError(
                f"name template {template!r} uses {clash.pop()!r} as a parameter and as a mapping"
            )

    def _mapped(self) -> Iterator[tuple[str, str]]:
        yield from (("header", name) for name in self.headers)
        yield from (("query", name) for name in self.queries)

    def fill(
        self, parameters: Mapping[str, Any], headers: Mapping[str, str], query: Mapping[str, str]
    ) -> str:
        """
        Return the name for a request.

        :param headers: found whatever the case of their names
        :raises UnusableName: if the request has not what the name needs
        """
        values: dict[str, Any] = {name: parameters[name] for name in self.parameters}
        for kind, name in self._mapped():
            source = headers if kind == "header" else query
            if name not in source:
                what = "header" if kind == "header" else "query parameter"
                raise UnusableName(f"The {what} {name!r} is missing.")
            values.setdefault(kind, {})[name] = source[name]
        return self.text.format_map(values)

    def check(self, known: list[str], route: str) -> None:
        """
        Check that a route has all the parameters.

        :raises ValueError: naming the field, the route, and what the route has
        """
        missing = [name for name in self.parameters if name not in known]
        if missing:
            raise ValueError(
                f"the lock's name template {self.text!r} has the field {missing[0]!r}, but "
                f"{route} has {', '.join(known) or 'no parameters'}"
            )


def _items(kind: str, fields: list[str]) -> tuple[str, ...]:
    """Return what a template takes from a mapping, each once."""
    start = f"{kind}["
    found = (field[len(start) : -1] for field in fields if field.startswith(start))
    return tuple(dict.fromkeys(found))


def _root(field: str) -> str:
    return field.partition(".")[0].partition("[")[0]
