"""The Lua scripts: one file per operation, behind one shared prelude."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha1
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """One operation, to be run by EVALSHA, or by EVAL where the server forgot it."""

    source: bytes
    args: int
    """How many arguments it takes, besides the keys and the tag."""
    sha: bytes = field(init=False)
    head: bytes = field(init=False)
    """What every EVALSHA of it begins with, up to the keys."""
    source_head: bytes = field(init=False)
    """The same for EVAL."""

    def __post_init__(self) -> None:
        # SHA-1 is how EVALSHA names a script; nothing here relies on it for secrecy.
        digest = sha1(self.source, usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest.encode())
        # Command, script, number of keys, three keys, arguments, tag.
        head = b"*%d\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$1\r\n3\r\n"
        parts = 3 + 3 + self.args + 1
        object.__setattr__(self, "head", head % (parts, 7, b"EVALSHA", 40, digest.encode()))
        source = self.source
        object.__setattr__(self, "source_head", head % (parts, 4, b"EVAL", len(source), source))


def _load(operation: str, args: int) -> Script:
    folder = files(__package__) / "lua"
    prelude = (folder / "prelude.lua").read_bytes()
    first, marker, rest = (folder / f"{operation}.lua").read_bytes().partition(b"\n-- prelude\n")
    # Without the marker the prelude goes before the whole script.
    return Script(first + prelude + rest if marker else prelude + first, args)


ACQUIRE = _load("acquire", 6)
RELEASE = _load("release", 3)
RENEW = _load("renew", 3)
PASS_ON = _load("pass_on", 8)
ABANDON = _load("abandon", 4)
INSPECT = _load("inspect", 0)
