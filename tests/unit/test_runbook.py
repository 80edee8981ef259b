"""The runbook has each line of the log, metric, error, loss and exit status of the source."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiodistlock import LockError, errors
from aiodistlock.console import errors as console

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "aiodistlock"
RUNBOOK = (ROOT / "docs" / "how-to" / "runbook.md").read_text()
QUOTED = set(re.findall(r"`([^`]+)`", RUNBOOK.replace("\n", " ")))

LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Parse what runs in a user's process: all but the commands."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        if not re.match(r"aiodistlock\.(cli|console|demo|doctor|testing)\b", name):
            yield name, ast.parse(path.read_text())


def template(node: ast.expr, scope: ast.AST, module: str) -> str:
    """Return a text with ``…`` where values go, of a literal or of what a name stands for."""
    if isinstance(node, ast.Constant):
        return re.sub(r"%[-.\d]*[a-z]", "…", str(node.value))
    if isinstance(node, ast.JoinedStr):
        return "".join(
            template(part, scope, module) if isinstance(part, ast.Constant) else "…"
            for part in node.values
        )
    assert isinstance(node, ast.Name), ast.dump(node)
    for each in ast.walk(scope):
        if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == node.id:
            return template(each.value, scope, module)
    return template(ast.Constant(getattr(importlib.import_module(module), node.id)), scope, module)


def log_lines() -> set[str]:
    """Return the templates of all lines that the library logs."""
    found = set()
    for name, tree in modules():
        for scope in ast.walk(tree):
            if not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for call in ast.walk(scope):
                if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
                    continue
                if ast.unparse(call.func.value) == "logger" and call.func.attr in LEVELS:
                    text = call.args[1 if call.func.attr == "log" else 0]
                    found.add(template(text, scope, name))
    return found


def reasons_of_losses() -> set[str]:
    """Return the words that say why a lease is lost."""
    tell = {"NotOurs", "_lose", "refused", "_loss_at_release", "_end"}
    found = set()
    for name, tree in modules():
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and ast.unparse(call.func).rsplit(".", 1)[-1] in tell:
                texts = [it for it in call.args if isinstance(it, ast.Constant | ast.JoinedStr)]
                found |= {template(each, tree, name) for each in texts}
    return {each for each in found if " " in each}


def test_lines_of_the_log_are_found() -> None:
    """Also those whose text stands elsewhere."""
    lines = log_lines()
    assert len(lines) > 25
    assert "lease on … lost: … (fencing token …)" in lines
    assert "no inbox, waiters poll: … connections in a row were closed behind SUBSCRIBE" in lines


def test_each_line_of_the_log_is_explained() -> None:
    """Nobody looks for one in vain."""
    assert log_lines() - QUOTED == set()


def test_each_reason_of_a_loss_is_explained() -> None:
    """The words of the log line lead to what to do; whatever the server has at the key."""
    reasons = reasons_of_losses()
    assert {"max_hold is over", "another token is at its key"} <= reasons
    said = [re.compile(re.escape(each).replace("…", ".+")) for each in reasons]
    assert [each.pattern for each in said if not any(map(each.fullmatch, QUOTED))] == []


def test_each_error_is_explained() -> None:
    """All that the library raises as its own."""
    own = {
        name
        for name, thing in inspect.getmembers(errors, inspect.isclass)
        if issubclass(thing, LockError)
    }
    assert len(own) == 5
    assert own - QUOTED == set()


def test_each_metric_is_explained() -> None:
    """All that telemetry makes."""
    pytest.importorskip("opentelemetry")
    source = (PACKAGE / "integrations" / "opentelemetry.py").read_text()
    made = set(re.findall(r'create_\w+\(\s*"([\w.]+)"', source))
    assert len(made) == 8
    assert made - QUOTED == set()


def test_each_exit_status_is_explained() -> None:
    """All that the commands end with of their own accord."""
    statuses = {value for name, value in vars(console).items() if name.startswith("EXIT_")}
    section = RUNBOOK.split("## Exit statuses")[1]
    told = {int(number) for row in section.splitlines() for number in re.findall(r"\b\d+\b", row)}
    assert len(statuses) == 4
    assert statuses - told == set()
