"""Cancelling the body of a lost lease without a scope around it."""

import asyncio

import anyio
import pytest
from anyio._backends import _asyncio as anyio_internals

from aiodistlock.leases import shields
from aiodistlock.leases.body import Body


async def _host(body_: Body, steps: list[str]) -> bool:
    task = asyncio.current_task()
    assert task is not None
    body_._enter_body(task)
    try:
        with anyio.CancelScope(shield=True):
            body_._cancel_body()
            for _ in range(5):
                await asyncio.sleep(0)
            steps.append("shielded")
        await asyncio.sleep(10)
        steps.append("survived")
    except asyncio.CancelledError as error:
        return body_._leave_body(error)
    return body_._leave_body(None)


async def test_a_shield_in_the_body_holds_the_cancellation_off() -> None:
    """What the body shields is finished; then the cancellation strikes, and it is ours."""
    steps: list[str] = []
    with anyio.fail_after(5):
        assert await _host(Body(), steps)
    assert steps == ["shielded"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_shield_around_the_body_does_not_protect_it() -> None:
    """The body's own shields count, not those that it was entered under."""
    body_ = Body()
    task = asyncio.current_task()
    assert task is not None
    with anyio.fail_after(5), anyio.CancelScope(shield=True):
        body_._enter_body(task)
        body_._cancel_body()
        with pytest.raises(asyncio.CancelledError) as caught:
            await asyncio.sleep(10)
        assert body_._leave_body(caught.value)


async def test_what_is_swallowed_is_delivered_again() -> None:
    """A body that catches its cancellation is cancelled in the next turn, too."""
    body_ = Body()
    task = asyncio.current_task()
    assert task is not None
    body_._enter_body(task)
    body_._cancel_body()
    for _ in range(3):
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(10)
    body_._leave_body(None)
    await asyncio.sleep(0)
    assert task.cancelling() == 0


def test_anyios_scopes_are_where_we_look_for_them() -> None:
    """The fallback for an anyio without them is not what runs here."""
    assert vars(shields)["_task_states"] is anyio_internals._task_states


@pytest.mark.parametrize("change", ["no states", "a plain dict", "no scopes", "other scopes"])
async def test_a_later_anyio_costs_only_the_respect_for_shields(
    monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Its internals may change: importing, holding and cancelling go on working."""
    if change == "no states":
        monkeypatch.delattr(anyio_internals, "_task_states")
    elif change == "a plain dict":
        monkeypatch.setattr(anyio_internals, "_task_states", {})
    elif change == "no scopes":
        monkeypatch.delattr(anyio_internals, "CancelScope")
    else:
        monkeypatch.setattr(anyio_internals, "CancelScope", object)
    states = shields._states_of_tasks()
    assert list(states.items()) == []
    monkeypatch.undo()
    monkeypatch.setattr(shields, "_task_states", states)
    monkeypatch.setattr(shields, "any_scopes", vars(states)["data"])
    steps: list[str] = []
    with anyio.fail_after(5):
        assert await _host(Body(), steps)
    assert steps == []
