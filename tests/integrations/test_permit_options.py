"""Options of permits where a web application says which it holds."""

from collections.abc import Callable
from typing import Any

import pytest

from aiodistlock.integrations.aiohttp import permit_handler, permit_middleware
from aiodistlock.integrations.fastapi import PermitDependency
from aiodistlock.integrations.starlette import permit_endpoint


@pytest.mark.parametrize(
    "declare", [PermitDependency, permit_endpoint, permit_handler, permit_middleware]
)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 2, "permits": 3}, "permits"),
        ({"limit": 2, "timeout": -1}, "timeout"),
        ({"limit": 2, "ttl": 0}, "ttl"),
    ],
    ids=str,
)
def test_bad_options_of_permits_are_refused_where_they_stand(
    declare: Callable[..., object], given: dict[str, Any], said: str
) -> None:
    """Before the application starts."""
    with pytest.raises(ValueError, match=said):
        declare("gpu", **given)
