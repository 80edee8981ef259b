"""What a web client is told when its request does not get, or loses, the lock.

The body is a problem document (RFC 9457).  Neither the lock's name nor its holder is in
it: names may be internal, and a token tells host and process.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from aiodistlock import AcquireTimeout, LeaseLost, StoreUnavailable
from aiodistlock.integrations.request_name import UnusableName

MEDIA_TYPE = "application/problem+json"

CLIENT_GONE = 499
"""Status for the logs when there is no client to read it; nginx's "client closed request"."""


class NoPermit(Exception):
    """
    No permit of a semaphore was free in time.

    :ivar timeout: what told so
    """

    def __init__(self, timeout: AcquireTimeout) -> None:
        super().__init__(str(timeout))
        self.timeout = timeout


LockProblem = AcquireTimeout | LeaseLost | NoPermit | StoreUnavailable | UnusableName
"""What is answered with a problem document."""

_SOON = 1
"""After how many seconds to try again where nobody knows when it will help."""

LOCK_PROBLEMS = (AcquireTimeout, LeaseLost, NoPermit, StoreUnavailable, UnusableName)


@dataclass(frozen=True, slots=True)
class Problem:
    """
    A response that says why the request was not served.

    :ivar retry_after: whole seconds after which to try again, ``None`` if unknown
    """

    status: int
    detail: str
    retry_after: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers, besides those of the body."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}

    @property
    def body(self) -> bytes:
        """The problem document."""
        status = HTTPStatus(self.status)
        document = {
            "type": "about:blank",
            "title": status.phrase,
            "status": status,
            "detail": self.detail,
        }
        return json.dumps(document).encode()


def problem_of(error: LockProblem) -> Problem:
    """Tell how to answer a request that ended with ``error``."""
    if isinstance(error, UnusableName):
        return Problem(422, str(error))
    if isinstance(error, LeaseLost):
        return Problem(503, "The lock was lost while the request was served.", _SOON)
    timeout = error.timeout if isinstance(error, NoPermit) else error
    if isinstance(timeout, StoreUnavailable) or _unanswered(timeout):
        return Problem(503, "The lock service is unavailable.", _SOON)
    if isinstance(error, NoPermit):
        # What is left of a lease says nothing here: it is renewed, and others end before.
        return Problem(429, "As many as may are served; try again in 1 s.", _SOON)
    seconds = retry_after(timeout.holder_ttl)
    return Problem(423, f"Another request holds the lock; try again in {seconds} s.", seconds)


def _unanswered(error: AcquireTimeout) -> bool:
    """
    Tell whether the time ran out because Redis did not answer, or nobody was seen to hold it.

    A request that does not wait at all is only refused if somebody is before it: perhaps
    another one of this process, of which Redis has not said yet whether it holds the lock.
    """
    return error.timeout > 0 and (error.holder is None or bool(error.causes))


def retry_after(holder_ttl: float | None) -> int:
    """
    Return after how many whole seconds to try again, at least 1.

    :param holder_ttl: seconds left of the holder's lease, ``None`` if it has no end
    """
    return 1 if holder_ttl is None else max(1, math.ceil(holder_ttl))


def documented(*, permits: bool = False) -> dict[str, Any]:
    """
    Return the responses by status, as OpenAPI describes them.

    :param permits: of a semaphore
    """
    retry = {"description": "Seconds to wait before another try", "schema": {"type": "integer"}}
    return {
        "422": {
            "description": "The request names nothing that can be locked",
            "content": {MEDIA_TYPE: {"schema": _SCHEMA}},
        },
        "429" if permits else "423": {
            "description": "As many as may are served"
            if permits
            else "Another request holds the lock",
            "headers": {"Retry-After": retry},
            "content": {MEDIA_TYPE: {"schema": _SCHEMA}},
        },
        "503": {
            "description": "The lock was lost, or the lock service is unavailable",
            "headers": {"Retry-After": retry},
            "content": {MEDIA_TYPE: {"schema": _SCHEMA}},
        },
    }


_SCHEMA = {
    "type": "object",
    "title": "Problem",
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}
