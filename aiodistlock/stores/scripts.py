"""The Lua scripts: one file per operation, behind one shared prelude."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha1
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """One operation, to be run by EVALSHA, or by EVAL where the server forgot it."""

    source: bytes
    sha: bytes = field(init=False)

    def __post_init__(self) -> None:
        # SHA-1 is how EVALSHA names a script; nothing here relies on it for secrecy.
        digest = sha1(self.source, usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest.encode())


def _load(operation: str) -> Script:
    folder = files(__package__) / "lua"
    return Script(
        (folder / "prelude.lua").read_bytes() + (folder / f"{operation}.lua").read_bytes()
    )


ACQUIRE = _load("acquire")
RELEASE = _load("release")
RENEW = _load("renew")
PASS_ON = _load("pass_on")
ABANDON = _load("abandon")
INSPECT = _load("inspect")
