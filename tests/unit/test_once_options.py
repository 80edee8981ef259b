"""Options of what is done once, and the windows that callers name."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from aiodistlock import LockClient, Run
from aiodistlock.core.durations import read_duration
from aiodistlock.core.mark import Mark, read_mark
from aiodistlock.core.once_options import OnceOptions, checked_window, instant_of

DAY = 86_400.0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"every": 0}, "every must be 0.05 to"),
        ({"every": "1d"}, "every must be a number of seconds or a timedelta"),
        ({"at_least": -1.0}, "at_least must be 0.05 to"),
        ({"remember": float("nan")}, "remember must be a number"),
        ({"on_crash": "ignore"}, "on_crash must be 'retry' or 'skip', not 'ignore'"),
        ({"every": DAY, "at_least": 60.0}, "every and at_least exclude each other"),
        ({"at_least": 60.0, "on_crash": "skip"}, "on_crash='skip' needs windows"),
        ({"at_least": 60.0, "remember": 60.0}, "remember is for windows"),
        ({"every": DAY, "remember": 60.0}, "remember must be at least every=86400 s, not 60 s"),
        ({"ttl": 0.0}, "ttl must be"),
        ({"timeout": -1}, "timeout must be"),
        ({"namespace": "aiodistlock:"}, "reserved"),
        ({"on_lost": "hope"}, "on_lost must be"),
    ],
)
async def test_what_is_wrong_is_told_at_once(options: dict[str, Any], told: str) -> None:
    """Before any I/O, and what it must be."""
    with pytest.raises(ValueError, match=told):
        LockClient.in_memory().once("job", **options)


async def test_all_that_is_wrong_is_told_together() -> None:
    """Whatever it is about."""
    wrong: dict[str, Any] = {"every": -1, "ttl": 0, "on_crash": "x"}
    with pytest.raises(ValueError, match=r"(?s)name must.*ttl must.*every must.*on_crash must"):
        LockClient.in_memory().once("", **wrong)


async def test_a_quorum_has_no_windows() -> None:
    """It says why, before any I/O."""
    urls = ["redis://localhost:1", "redis://localhost:2", "redis://localhost:3"]
    client = LockClient.from_url(urls)
    with pytest.raises(ValueError, match="one server's clock"):
        client.once("job", every=DAY)


@pytest.mark.parametrize(
    ("options", "window", "told"),
    [
        ({}, None, "which window"),
        ({"every": DAY}, 5, "omit it"),
        ({"at_least": 60.0}, 5, "omit it"),
        ({}, datetime(2026, 3, 1), "time zone"),  # noqa: DTZ001 - that is what is wrong
        ({}, "2026-03-01", "must be the instant"),
        ({}, True, "must be the instant"),
        ({}, float("nan"), "must be the instant"),
        ({}, float("inf"), "1970 to 2255"),
        ({}, -1, "1970 to 2255"),
        ({}, 1e12, "1970 to 2255"),
    ],
)
async def test_a_window_is_named_where_there_is_one_to_name(
    options: dict[str, Any], window: Any, told: str
) -> None:
    """By an instant that is the same on all hosts."""

    async def job(_run: Run) -> None:
        raise AssertionError

    with pytest.raises(ValueError, match=told):
        await LockClient.in_memory().once("job", **options).run(job, window=window)


def test_instants_are_the_same_however_they_are_said() -> None:
    """To the microsecond, in any time zone."""
    at = datetime(2026, 3, 1, 6, 0, 0, 1, tzinfo=UTC)
    us = checked_window(at)
    assert instant_of(us) == at
    assert checked_window(at.astimezone(timezone(timedelta(hours=-8)))) == us
    assert checked_window(0) == 0
    assert checked_window(1_772_344_800) + 1 == us


def test_a_mark_is_remembered_beyond_its_window() -> None:
    """A week, or two windows; or as long as is said."""
    assert OnceOptions().mark_ttl_ms == OnceOptions(every=DAY).mark_ttl_ms == 7 * 86_400_000
    assert OnceOptions(every=30 * DAY).mark_ttl_ms == 60 * 86_400_000
    assert OnceOptions(every=DAY, remember=DAY).mark_ttl_ms == 86_400_000
    assert OnceOptions(at_least=60.0).mark_ttl_ms == 60_000


async def test_only_a_coroutine_function_with_a_window_is_decorated() -> None:
    """Told when decorating."""
    client = LockClient.in_memory()

    async def job(_run: Run) -> None: ...

    with pytest.raises(TypeError, match="coroutine functions"):
        client.once("job", every=DAY)(lambda _run: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="has no window"):
        client.once("job")(job)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5 s", 1.5), ("30min", 1800), ("12h", 43_200), (" 1d ", 86_400)],
)
def test_durations_are_written_with_a_unit(text: str, seconds: float) -> None:
    """Or as seconds."""
    assert read_duration(text, "it") == seconds


@pytest.mark.parametrize("text", ["", "d", "1w", "-1", "1d2h", "inf", "nan"])
def test_what_is_no_duration_is_told(text: str) -> None:
    """With what it may be."""
    with pytest.raises(ValueError, match="it must be a number of seconds"):
        read_duration(text, "it")


def test_a_mark_is_read() -> None:
    """Window, state, time and token."""
    value = b"host:1:0123abcd:5 77"
    assert read_mark(b"5 done 6 " + value) == Mark(5, True, 6, "host:1:0123abcd:5")
    assert read_mark(b"5 begun 6 " + value) == Mark(5, False, 6, "host:1:0123abcd:5")


@pytest.mark.parametrize(
    "mark", [b"", b"words", b"5 ended 6 a", b"-5 done 6 a", b"5 done 6 ", b"5" * 17 + b" done 6 a"]
)
def test_what_is_no_mark_is_none(mark: bytes) -> None:
    """Anybody may write there."""
    assert read_mark(mark) is None
