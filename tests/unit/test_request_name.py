"""Names built from requests, and what a client is told when it does not get the lock."""

import json

import pytest

from aiodistlock import AcquireTimeout, LeaseLost, LockError, StoreUnavailable
from aiodistlock.integrations.problems import LockProblem, problem_of, retry_after
from aiodistlock.integrations.request_name import RequestName, UnusableName

HEADERS = {"x-tenant": "acme"}
QUERY = {"page": "2"}


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("all", "all"),
        ("wallet:{wallet}", "wallet:42"),
        ("{header[x-tenant]}:{wallet:04d}", "acme:0042"),
        ("{query[page]}/{query[page]}", "2/2"),
        ("{{{wallet}}}:cart", "{42}:cart"),
        ("{query}:{header}", "q:h"),
        ("{wallet.real}", "42"),
    ],
)
def test_a_template_is_filled(template: str, name: str) -> None:
    """Fields take parameters, headers and the query; a parameter may be called as these."""
    parameters = {"wallet": 42, "query": "q", "header": "h", "other": None}
    assert RequestName(template).fill(parameters, HEADERS, QUERY) == name


@pytest.mark.parametrize(
    "template",
    [
        *("", "{", "}", "{}", "{0}", "{a!x}", "{a-b}", "{a:{}}"),
        *("{header}:{header[x]}", "{query[x]}:{query.a}"),
    ],
)
def test_a_wrong_template_is_refused(template: str) -> None:
    """Malformed, empty, or with a field that can be nothing: a ``ValueError`` early."""
    with pytest.raises(ValueError, match="template"):
        RequestName(template)


@pytest.mark.parametrize("template", ["{header[x-other]}", "{query[other]}"])
def test_what_a_request_has_not_is_told(template: str) -> None:
    """A missing header or query parameter is named."""
    with pytest.raises(UnusableName, match=r"other.* is missing"):
        RequestName(template).fill({}, HEADERS, QUERY)


@pytest.mark.parametrize(
    ("holder_ttl", "seconds"),
    [(None, 1), (0.0, 1), (0.2, 1), (1.0, 1), (1.001, 2), (6.5, 7), (30.0, 30)],
)
def test_retry_after_is_rounded_up(holder_ttl: float | None, seconds: int) -> None:
    """Whole seconds, at least one; a holder without an end is asked for again soon."""
    assert retry_after(holder_ttl) == seconds


@pytest.mark.parametrize(
    ("error", "status", "title", "headers"),
    [
        (AcquireTimeout("n", 1.0, "host:1", 2.5), 423, "Locked", {"Retry-After": "3"}),
        (AcquireTimeout("n", 1.0, "host:1", None), 423, "Locked", {"Retry-After": "1"}),
        (AcquireTimeout("n", 0.0), 423, "Locked", {"Retry-After": "1"}),
        (AcquireTimeout("n", 1.0), 503, "Service Unavailable", {"Retry-After": "1"}),
        (StoreUnavailable("n", [OSError("x")]), 503, "Service Unavailable", {"Retry-After": "1"}),
        (LeaseLost("n", "expired", 7), 503, "Service Unavailable", {"Retry-After": "1"}),
        (UnusableName("The header is missing."), 422, None, {}),
    ],
)
def test_each_error_has_its_answer(
    error: LockProblem, status: int, title: str | None, headers: dict[str, str]
) -> None:
    """Status, headers and a problem document that tells neither name nor holder."""
    problem = problem_of(error)
    document = json.loads(problem.body)
    assert (problem.status, problem.headers) == (status, headers)
    assert document["status"] == status
    assert document["type"] == "about:blank"
    assert title in (None, document["title"])  # Python renamed that of 422
    if isinstance(error, LockError):
        assert "host" not in problem.body.decode()
        assert repr(error.name) not in problem.body.decode()
