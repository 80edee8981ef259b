"""Finds the routes of a FastAPI application that have locks, and reads their parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from fastapi import routing
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import HTTPConnection

from aiodistlock.integrations.request_name import RequestName

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LockedRoute:
    """
    A route with a lock.

    :ivar mounted_at: the path of its application, empty if that is the outermost
    :ivar path: in its application, with the prefixes of all routers
    :ivar fields: FastAPI's fields of all parameters in path and query, by name
    """

    mounted_at: str
    path: str
    methods: tuple[str, ...]
    endpoint: Callable[..., Any]
    fields: dict[str, Any]

    @property
    def path_parameters(self) -> list[str]:
        """Names of the parameters in the path, whether declared or not."""
        return re.findall(r"{(\w+)}", self.mounted_at + self.path)

    def __str__(self) -> str:
        return " ".join([*self.methods, self.mounted_at + self.path])


def locked_routes(
    routes: Sequence[Any], kind: type[T], mounted_at: str = ""
) -> Iterator[tuple[LockedRoute, T]]:
    """Yield each dependency of ``kind`` with the route that has it."""
    for route in _with_prefixes(routes):
        dependant = getattr(route, "dependant", None)
        if dependant is None:
            continue
        every = list(_every(dependant))
        # An endpoint's own declaration is the one that counts, so it is written last.
        fields = {
            field.name: field
            for each in reversed(every)
            for field in (*each.path_params, *each.query_params)
        }
        methods = tuple(sorted(getattr(route, "methods", None) or ()))
        path = getattr(route, "path_format", route.path)
        for each in every:
            if isinstance(each.call, kind):
                yield LockedRoute(mounted_at, path, methods, route.endpoint, fields), each.call


def _with_prefixes(routes: Sequence[Any]) -> Iterator[Any]:
    """Yield routes as included: since FastAPI 0.13x routers are not copied into the app."""
    effective = getattr(routing, "iter_route_contexts", None)
    yield from routes if effective is None else effective(routes)


def _every(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for each in dependant.dependencies:
        yield from _every(each)


class Parameters:
    """
    The parameters that a name template needs, as the routes declare them.

    They are converted, because equal things may be written differently: ``/wallets/042`` and
    ``/wallets/42`` are one wallet where ``wallet_id`` is an ``int``.
    """

    def __init__(self, template: RequestName) -> None:
        self.template = template
        self._readers: dict[Any, dict[str, _Reader]] = {}
        """By :meth:`_place`, by name; a parameter in the path that nobody declares has none."""

    def bind(self, route: LockedRoute) -> None:
        """
        Learn what a route declares.

        :raises ValueError: if it has not all parameters, or one that is more than one value
        """
        known = list(dict.fromkeys([*route.path_parameters, *route.fields]))
        self.template.check(known, str(route))
        for name in self.template.parameters:
            if name in route.fields and _has_parts(route.fields[name].field_info.annotation):
                raise ValueError(
                    f"the lock's name template {self.template.text!r} has the field {name!r}, "
                    f"which is a list or a model in {route}: pass a function that returns the name"
                )
        self._readers[self._place(route.endpoint, route.path_parameters)] = {
            name: _Reader(route.fields[name])
            for name in self.template.parameters
            if name in route.fields
        }

    def know(self, connection: HTTPConnection) -> bool:
        """Tell whether what the route of a request declares was learned."""
        return self._place(connection.scope["endpoint"], connection.path_params) in self._readers

    def fill(self, connection: HTTPConnection) -> str:
        """
        Return the name for a request.

        :raises RequestValidationError: as FastAPI would for the endpoint
        """
        place = self._place(connection.scope["endpoint"], connection.path_params)
        readers = self._readers.get(place)
        if readers is None:
            raise RuntimeError(
                "the route is unknown: call setup_locks(app, ...) right after the app was made"
            )
        values = {
            name: readers[name].read(connection)
            if name in readers
            else connection.path_params[name]
            for name in self.template.parameters
        }
        return self.template.fill(values, connection.headers, connection.query_params)

    def _place(self, endpoint: object, in_path: Container[str]) -> tuple[object, ...]:
        """Tell routes apart: of one endpoint, ``/wallets/{wallet_id}`` and ``/wallets``."""
        return endpoint, *(name in in_path for name in self.template.parameters)


def _has_parts(annotation: Any) -> bool:
    """Tell whether a parameter of this type is made from more than one value of a request."""
    origin = get_origin(annotation)
    if origin in (Annotated, Union, UnionType):
        return any(map(_has_parts, get_args(annotation)))
    kind = origin or annotation
    parts = (BaseModel, Collection)
    return isinstance(kind, type) and issubclass(kind, parts) and not issubclass(kind, (str, bytes))


class _Reader:
    """Reads one parameter of a request as FastAPI does."""

    def __init__(self, field: Any) -> None:
        # As FastAPI looks it up.
        self._alias: str = getattr(field, "validation_alias", None) or field.alias
        self._info = field.field_info
        # As FastAPI's own field does.
        declared: Any = Annotated[self._info.annotation, self._info]
        self._adapter: TypeAdapter[Any] = TypeAdapter(declared)

    def read(self, connection: HTTPConnection) -> Any:
        for where, source in (
            ("path", connection.path_params),
            ("query", connection.query_params),
        ):
            if self._alias in source:
                return self._convert(source[self._alias], (where, self._alias))
        if not self._info.is_required():
            return self._info.get_default(call_default_factory=True)
        missing = {"type": "missing", "loc": ("query", self._alias), "msg": "Field required"}
        raise RequestValidationError([{**missing, "input": None}])

    def _convert(self, raw: Any, loc: tuple[str, str]) -> Any:
        try:
            return self._adapter.validate_python(raw)
        except ValidationError as error:
            problems = error.errors(include_url=False)
            raise RequestValidationError(
                [{**each, "loc": (*loc, *each["loc"])} for each in problems]
            ) from None
