"""The Lua scripts: one file per operation, behind one shared prelude."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from hashlib import sha1
from importlib.resources import files

MOST_TOGETHER = 32
"""Most operations in one call, which so keeps the server for 0.2 ms at most.

64 tasks are served by halves: one works while the server does the other.  With calls of 24 they
ran 0.97 times as fast, with 48 0.92 times, with one of 64 0.72 times.
"""


def bulks(*args: bytes | int) -> bytes:
    """Pack arguments as RESP bulk strings."""
    texts = [arg if isinstance(arg, bytes) else b"%d" % arg for arg in args]
    return b"".join([b"$%d\r\n%b\r\n" % (len(text), text) for text in texts])


def words(packed: bytes) -> list[bytes]:
    """Return the arguments that :func:`bulks` packed."""
    found = []
    while packed:
        head, _, packed = packed.partition(b"\r\n")
        size = int(head[1:])
        found.append(packed[:size])
        packed = packed[size + 2 :]
    return found


@dataclass(frozen=True, slots=True)
class Script:
    """One operation, to be run by EVALSHA, or by EVAL where the server forgot it."""

    source: bytes
    args: int
    """How many arguments it takes, besides the keys and the tag."""
    keys: int = 4
    declares: bool = True
    """Whether its requests say what is void, for it to note."""
    letter: bytes = b""
    """Its letter in a batch, packed; ``b""``: it travels alone."""
    taken: int = field(init=False)
    """How many arguments its item takes in a batch, the fence counter's key among them."""
    sha: bytes = field(init=False)
    head: bytes = field(init=False)
    """What every EVALSHA of it begins with, up to the keys."""
    source_head: bytes = field(init=False)
    """The same for EVAL."""

    def __post_init__(self) -> None:
        # SHA-1 is how EVALSHA names a script; nothing here relies on it for secrecy.
        digest = sha1(self.source, usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest.encode())
        object.__setattr__(self, "taken", self.keys - 3 + self.args)
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
        return Script(source, self.args, self.keys, self.declares)


_LUA = files(__package__) / "lua"


def _parts(operation: str, marker: str) -> tuple[str, str]:
    """Return what stands before and behind a line of a file, ``""`` and all if it is not there."""
    text = (_LUA / f"{operation}.lua").read_text()
    before, found, behind = text.partition(f"\n-- {marker}\n")
    return (before + "\n", behind) if found else ("", text)


_VOID, _FUNCTIONS = _parts("prelude", "functions")


def _load(  # what a script is, told by name
    operation: str,
    args: int,
    keys: int = 4,
    *,
    declares: bool = True,
    letter: bytes = b"",
    shared: str = "",
    whole: bool = False,
) -> Script:
    usual, rest = _parts(operation, "prelude")
    if whole:  # without the usual way in front
        usual = ""
    source = f"{usual}{_VOID}{_FUNCTIONS}{shared}{rest}".encode()
    return Script(source, args, keys, declares, letter)


# Each letter stands for one operation of a batch.
_LETTERS = {"acquire": "a", "release": "r", "renew": "n", "pass_on": "p", "abandon": "b"}


def _load_batched(operation: str, args: int, keys: int = 4) -> Script:
    return _load(operation, args, keys, letter=bulks(_LETTERS[operation].encode()))


ACQUIRE = _load_batched("acquire", 5)
RELEASE = _load_batched("release", 2)
RENEW = _load_batched("renew", 2, keys=3)
PASS_ON = _load_batched("pass_on", 7)
ABANDON = _load_batched("abandon", 3)
# It writes nothing: a replica may be asked, and who has no right but to read may ask.
INSPECT = _load("inspect", 1, keys=2, declares=False)
FORCE_RELEASE = _load("force_release", 2)

# For what is done once: the fourth key of `look`, and the fifth of `mark`, is the mark.
LOOK = _load("look", 0)
MARK = _load("mark", 5, keys=5)

# Of elections: the fourth key is the proclamation.
LEADER = _load("leader", 0, declares=False)
PROCLAIM = _load("proclaim", 3)

# Of semaphores.
_PERMITS = _parts("permits", "")[1]
ACQUIRE_PERMITS = _load("acquire_permits", 7, shared=_PERMITS)
RELEASE_PERMITS = _load("release_permits", 2, shared=_PERMITS)
RENEW_PERMITS = _load("renew_permits", 2, keys=3)
ABANDON_PERMITS = _load("abandon_permits", 5, shared=_PERMITS)
INSPECT_PERMITS = _load("inspect_permits", 1, keys=2, declares=False)

# Of read/write locks.  A writer acquires by its whole script: somebody reads what it wrote.
READ = _load("read", 5)
WRITE = _load("acquire", 5, whole=True)
UPGRADE = _load("upgrade", 6)
DOWNGRADE = _load("downgrade", 6)

# For those who possess a lock by a token alone.
CLAIM = _load("claim", 3, keys=3)
MOVE_END = _load("move_end", 3, keys=3)


def _load_batch(*own: tuple[str, Script]) -> Script:
    def placed(lua: str) -> str:
        """Have a part of a script find its keys and arguments where its item has them."""
        lua = re.sub(r"\bKEYS\[([12])\]", r"KEYS[k + \1]", lua).replace("KEYS[4]", "KEYS[#KEYS]")
        return re.sub(r"\bARGV\[(\d+)\]", r"ARGV[a + \1]", lua)

    # Where a script has a fourth key, its item has it before the arguments.
    takes = ", ".join(f"{_LETTERS[name]} = {script.taken}" for name, script in own)
    skips = ", ".join(f"{_LETTERS[name]} = {script.keys - 3}" for name, script in own)
    functions = [_FUNCTIONS] + [
        f"whole.{_LETTERS[name]} = function()\n{_parts(name, 'prelude')[1]}end\n" for name, _ in own
    ]
    source = (_LUA / "batch.lua").read_text()
    source = source.replace("-- void\n", _VOID.replace("KEYS[3]", "KEYS[#KEYS - 1]"))
    source = source.replace("-- takes\n", f"local TAKES, SKIPS = {{{takes}}}, {{{skips}}}\n")
    source = source.replace("ROOM", f"{{{', '.join(['nil'] * MOST_TOGETHER)}}}")
    source = source.replace("-- operations\n", placed("".join(functions)))
    return Script(source.encode(), args=0)


BATCH = _load_batch(
    ("acquire", ACQUIRE),
    ("release", RELEASE),
    ("renew", RENEW),
    ("pass_on", PASS_ON),
    ("abandon", ABANDON),
)


@dataclass(frozen=True, slots=True)
class Scripts:
    """The scripts of a store on one Redis, or on one cluster."""

    acquire: Script
    release: Script
    renew: Script
    pass_on: Script
    abandon: Script
    inspect: Script
    force_release: Script
    mark: Script
    proclaim: Script
    acquire_permits: Script
    release_permits: Script
    abandon_permits: Script
    read: Script
    write: Script
    upgrade: Script
    downgrade: Script


_ON_ONE = (
    *(ACQUIRE, RELEASE, RENEW, PASS_ON, ABANDON, INSPECT, FORCE_RELEASE, MARK, PROCLAIM),
    *(ACQUIRE_PERMITS, RELEASE_PERMITS, ABANDON_PERMITS),
    *(READ, WRITE, UPGRADE, DOWNGRADE),
)
ON_ONE = Scripts(*_ON_ONE)
ON_CLUSTER = Scripts(*(each.sharded for each in _ON_ONE))

# Of a slot on its way: the key alone, and the names of its companions as arguments.
RELEASE_ALONE = _load("release_alone", 3 + RELEASE.args, keys=1, declares=False)
RELEASE_PERMITS_ALONE = _load(
    "release_permits_alone",
    3 + RELEASE_PERMITS.args,
    keys=1,
    declares=False,
    shared=_PERMITS,
)
RENEW_PERMITS_ALONE = _load("renew_permits_alone", 2 + RENEW_PERMITS.args, keys=1, declares=False)
RENEW_ALONE = _load("renew_alone", 2 + RENEW.args, keys=1, declares=False)

# On each node of a quorum; the last key of `vote` and of `trust` is the node's marker.
VOTE = _load("vote", 6, keys=5)
UNVOTE = _load("unvote", 3)
RENEW_VOTE = _load("renew_vote", 2, keys=3)
RAISE = _load("raise", 1)
KEEP = _load("keep", 4)
TRUST = _load("trust", 1, keys=4)
