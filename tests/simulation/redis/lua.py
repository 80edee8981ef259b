"""Scripts as Redis runs them: its Lua 5.1, and what it makes of errors and answers."""

import hashlib
from collections.abc import Callable
from functools import cache
from typing import Any

from lupa import lua51  # type: ignore[import-untyped]  # a Cython module

from tests.simulation.redis.keyspace import Refusal, Status

Run = Callable[[bytes, tuple[bytes, ...]], Any]
"""Runs one command for a script."""

# As Redis 7 does it: an error of a command is a table, and ``pcall`` makes a text of it.
_SETUP = rb"""
local host, sha1hex = ...
local rawpcall, select, type, error = pcall, select, type, error
local function told(ok, problem, ...)
  if not ok and type(problem) == 'table' and problem.err then return false, problem.err end
  return ok, problem, ...
end
function pcall(...) return told(rawpcall(...)) end
redis = {REPL_NONE = 0, REPL_ALL = 3, pcall = host, sha1hex = sha1hex}
function redis.call(...)
  local answer = host(...)
  if type(answer) == 'table' and answer.err then error(answer, 0) end
  return answer
end
function redis.error_reply(text) return {err = text} end
function redis.status_reply(text) return {ok = text} end
function redis.set_repl() end
return function(script, keys, args)
  KEYS, ARGV = keys, args
  return rawpcall(script)
end, function(answer) return answer.err, answer.ok, unpack(answer) end
"""


class Lua:
    """One interpreter, for all servers of a world: nothing of a script outlasts its run."""

    def __init__(self) -> None:
        self._runtime = runtime = lua51.LuaRuntime(encoding=None, unpack_returned_tuples=False)
        self._table = runtime.table_from
        self._load = runtime.eval(b"function(source) return loadstring(source) end")
        setup = self._load(_SETUP)
        self._begin, self._parts = setup(self._call, _sha1hex)
        self._scripts: dict[bytes, Any] = {}
        self._run: Run = _nothing

    def run(self, source: bytes, keys: list[bytes], args: list[bytes], run: Run) -> Any:
        """Run a script, whose commands ``run`` runs, and return its answer."""
        script = self._scripts.get(source)
        if script is None:
            script = self._load(source)
            if isinstance(script, tuple):
                return Refusal(b"ERR Error compiling script (new function): " + script[1])
            self._scripts[source] = script
        self._run = run
        try:
            ok, answer = self._begin(script, self._table(keys), self._table(args))
        finally:
            self._run = _nothing
        if not ok and not lua51.lua_type(answer):
            return Refusal(b"ERR " + answer)
        return self._answer(answer)

    def _call(self, command: bytes, *args: Any) -> Any:
        words = tuple([each if type(each) is bytes else b"%.17g" % each for each in args])
        answer = self._run(command.upper(), words)
        if answer is None:
            return False
        if type(answer) is list:
            return self._table([False if each is None else each for each in answer])
        if type(answer) is Status:
            return self._table({b"ok": answer.text})
        if type(answer) is Refusal:
            return self._table({b"err": answer.text})
        return answer

    def _answer(self, value: Any) -> Any:
        """Convert as Redis does: numbers lose their fraction, an array ends at a nil."""
        kind = type(value)
        if kind is bytes or kind is int:
            return value
        if kind is float:
            return int(value)
        if value is True:
            return 1
        if value is None or value is False:
            return None
        error, status, *items = self._parts(value)
        if error is not None:
            return Refusal(error)
        if status is not None:
            return Status(status)
        if None in items:
            items = items[: items.index(None)]
        return [self._answer(each) for each in items]


def _sha1hex(text: bytes) -> bytes:
    return hashlib.sha1(text).hexdigest().encode()


def _nothing(_command: bytes, _args: tuple[bytes, ...]) -> Any:
    raise AssertionError("no script runs")


@cache
def lua() -> Lua:
    """Return the interpreter."""
    return Lua()
