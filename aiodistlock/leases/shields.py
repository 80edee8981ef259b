"""The one way to learn of anyio's shields: the state that it keeps of each task.

It is anyio's own affair.  Where a later anyio keeps it otherwise, shields in a body are not
respected when its lease is lost; all else works on.
"""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary


def _states_of_tasks() -> WeakKeyDictionary[Any, Any]:
    try:
        from anyio._backends import _asyncio as anyio_internals

        states: object = anyio_internals._task_states
        scope = anyio_internals.CancelScope()
        known = scope._parent_scope is None and not scope.shield
        known = known and hasattr(anyio_internals.TaskState, "cancel_scope")
    except (ImportError, AttributeError):
        known = False
    return states if known and isinstance(states, WeakKeyDictionary) else WeakKeyDictionary()


_task_states = _states_of_tasks()
any_scopes: dict[Any, Any] = _task_states.data  # type: ignore[attr-defined]  # typeshed's gap
"""Empty as long as no task has a scope: to learn that takes a tenth of the time."""


def scope_of(task: asyncio.Task[Any]) -> Any:
    """Return the innermost scope that a task is in; ``None``: in none."""
    state = _task_states.get(task)
    return None if state is None else state.cancel_scope


def is_shielded(task: asyncio.Task[Any], outer: Any) -> bool:
    """
    Tell whether a task is in a scope that shields.

    :param outer: the scope from which on outwards shields do not count
    """
    scope = scope_of(task)
    while scope is not None and scope is not outer:
        if scope.shield:
            return True
        scope = scope._parent_scope
    return False
