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
    keys: int = 3
    sha: bytes = field(init=False)
    head: bytes = field(init=False)
    """What every EVALSHA of it begins with, up to the keys."""
    source_head: bytes = field(init=False)
    """The same for EVAL."""

    def __post_init__(self) -> None:
        # SHA-1 is how EVALSHA names a script; nothing here relies on it for secrecy.
        digest = sha1(self.source, usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest.encode())
        # Command, script, number of keys, keys, arguments, tag.
        head = b"*%d\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$1\r\n%d\r\n"
        parts, keys, sha = 3 + self.keys + self.args + 1, self.keys, digest.encode()
        object.__setattr__(self, "head", head % (parts, 7, b"EVALSHA", 40, sha, keys))
        source = self.source
        source_head = head % (parts, 4, b"EVAL", len(source), source, keys)
        object.__setattr__(self, "source_head", source_head)

    @property
    def sharded(self) -> Script:
        """The same for a cluster, where a grant is published to a hash slot."""
        source = self.source.replace(b"'PUBLISH'", b"'SPUBLISH'")
        return Script(source, self.args, self.keys)


def _load(operation: str, args: int, keys: int = 3) -> Script:
    folder = files(__package__) / "lua"
    prelude = (folder / "prelude.lua").read_bytes()
    first, marker, rest = (folder / f"{operation}.lua").read_bytes().partition(b"\n-- prelude\n")
    # Without the marker the prelude goes before the whole script.
    return Script(first + prelude + rest if marker else prelude + first, args, keys)


ACQUIRE = _load("acquire", 6)
RELEASE = _load("release", 3)
RENEW = _load("renew", 3)
PASS_ON = _load("pass_on", 8)
ABANDON = _load("abandon", 4)
INSPECT = _load("inspect", 0)
FORCE_RELEASE = _load("force_release", 2)

# For those who possess a lock by a token alone.
CLAIM = _load("claim", 4)
MOVE_END = _load("move_end", 4)


@dataclass(frozen=True, slots=True)
class Operations:
    """The scripts of a store on one Redis, or on one cluster."""

    acquire: Script
    release: Script
    renew: Script
    pass_on: Script
    abandon: Script
    inspect: Script


ON_ONE = Operations(ACQUIRE, RELEASE, RENEW, PASS_ON, ABANDON, INSPECT)
ON_CLUSTER = Operations(
    *(each.sharded for each in (ACQUIRE, RELEASE, RENEW, PASS_ON, ABANDON, INSPECT))
)

# Of a slot on its way: the key alone, and the names of its companions as arguments.
RELEASE_ALONE = _load("release_alone", 2 + RELEASE.args, keys=1)
RENEW_ALONE = _load("renew_alone", 2 + RENEW.args, keys=1)

# On each node of a quorum; the fourth key is the node's marker.
VOTE = _load("vote", 7, keys=4)
UNVOTE = _load("unvote", 4)
RAISE = _load("raise", 2)
KEEP = _load("keep", 5)
TRUST = _load("trust", 1, keys=4)
