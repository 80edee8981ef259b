"""What the command line reads out of keys, tokens, votes and counters."""

import re

import pytest
from rich.console import Console, RenderableType

from aiodistlock.cli.survey.names import matches, name_of, scan_pattern
from aiodistlock.cli.survey.report import table_of, to_json
from aiodistlock.cli.survey.state import Holder, LockState, Waiter, added_up
from aiodistlock.cli.top.meter import Meter, frame
from aiodistlock.cli.top.view import render
from aiodistlock.console.errors import CommandError
from aiodistlock.console.piped import PipedConsole
from aiodistlock.core.durations import in_words
from aiodistlock.core.escaping import shown
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.value import read_value


@pytest.mark.parametrize("namespace", ["lock:", "", "a*[b]?", "{app}:"])
@pytest.mark.parametrize("name", ["wallet:42", "{user:7}:cart", "a b", "ö", "*"])
def test_each_key_of_a_lock_tells_its_name(name: str, namespace: str) -> None:
    """The key and the queue, with a hash tag in the name or without."""
    keys = LockKeys(name, namespace)
    for key in (keys.key, keys.queue):
        assert name_of(key, namespace) == name


def test_what_a_leader_proclaims_is_no_lock() -> None:
    """It stays behind a dead one for a while, and nobody holds or waits for anything by it."""
    assert name_of(LockKeys("scheduler", "lock:").proclamation, "lock:") is None


def test_a_name_may_look_like_a_companion() -> None:
    """Only what begins with the reserved prefix is one."""
    assert name_of(b"lock:{x}:fence", "lock:") == "{x}:fence"
    assert name_of(b"{aiodistlock:fence:x}", "") == "{aiodistlock:fence:x}"
    assert name_of(b"lock:aiodistlock:fence:{x}", "lock:") == "aiodistlock:fence:{x}"
    assert name_of(b"lock:aiodistlock:fence:{x}", "") == "lock:aiodistlock:fence:{x}"


@pytest.mark.parametrize(
    "key",
    [
        *(b"other:1", b"aiodistlock:fence:{other:1}", b"aiodistlock:fence::other:{1}"),
        *(
            b"aiodistlock:fence::lock:x",
            b"aiodistlock:fence:{lock:{x}}",
            b"aiodistlock:fence:lock:x",
        ),
        *(b"aiodistlock:marker", b"aiodistlock:other:{lock:x}", b"aiodistlock:", b"{lock:x}:fence"),
        *(b"lock:", b"lock:}x{", b"lock:\xff", b"{lock:", b""),
    ],
)
def test_what_is_no_locks_key_tells_no_name(key: bytes) -> None:
    """Other namespaces, no name, stray braces, no text."""
    assert name_of(key, "lock:") is None


def test_redis_is_asked_for_no_more_than_the_pattern_may_name() -> None:
    """The literal beginning narrows the scan; signs in it are escaped."""
    assert scan_pattern("lock:", "*") == "*lock:*"
    assert scan_pattern("lock:", "wallet:*:x") == "*lock:wallet:*"
    assert scan_pattern("l*k[", "a?b") == r"*l\*k\[a*"
    assert scan_pattern("lock:", "plain") == "*lock:plain*"


def test_a_pattern_is_matched_as_in_a_shell() -> None:
    """Whole, with stars, question marks and sets; upper case is not lower case."""
    assert matches("wallet:42", "wallet:*")
    assert matches("wallet:42", "wallet:4[0-9]")
    assert not matches("wallet:42", "wallet:4")
    assert not matches("Wallet", "wallet")


def test_a_token_tells_host_and_pid() -> None:
    """Also where the label has colons; what another library wrote is shown as it is."""
    assert Holder.of("web-1:77:0a1b2c3d:5") == ("web-1:77:0a1b2c3d:5", "web-1", 77)
    assert Holder.of("a:b:77:0a1b2c3d:5")[1:] == ("a:b", 77)
    assert Holder.of("web-1:77:0a1b2c3d:5.12")[1:] == ("web-1", 77)  # a vote of round 12
    assert Holder.of("kept:web-1:77:0a1b2c3d:5")[1:] == ("web-1", 77)  # see docs/wire.md
    assert Holder.of("c0ffee")[1:] == (None, None)
    assert str(Holder.of("c0ffee")) == "c0ffee"


@pytest.mark.parametrize(
    ("value", "may_linger"),
    [
        (b"web-1:77:0a1b2c3d:05 9", True),
        (b"web-1:77:0a1b2c3d:5 9", False),
        (b"web-1:77:0a1b2c3d:50 9", False),
        (b"web-1:77:0a1b2c3d:05", False),  # chosen by its user, who hears no recalls
        (b"web-1:77:0a1b2c3d:5.02 9", False),  # a vote
        (b"0", False),
    ],
)
def test_a_value_tells_whether_its_lease_may_linger(value: bytes, may_linger: bool) -> None:
    """By the count of its token, where it is one of ours."""
    assert read_value(value).may_linger is may_linger


def state(holder: str | None, *waiters: str, fence: int = 1, ttl: float | None = 5.0) -> LockState:
    """What a node says."""
    waiting = tuple(Waiter(each, 1.0 + n) for n, each in enumerate(waiters))
    return LockState("n", holder, ttl if holder else None, fence, waiting, int(holder is not None))


def test_a_quorum_amounts_to_what_a_majority_says() -> None:
    """The holder that two of three name, the highest fence, everybody who waits."""
    seen = added_up(3, [state("a", "x", fence=5), state("a", "y", fence=7), state("b", "x")])
    assert (seen.holder, seen.votes, seen.fence, seen.ttl) == ("a", 2, 7, 5.0)
    assert sorted(each.token for each in seen.waiters) == ["x", "y"]


@pytest.mark.parametrize(
    "states",
    [
        [state("a"), state("b"), state("c")],
        [state("a"), state(None), state(None)],
        [state(None)] * 2,
    ],
)
def test_a_split_vote_is_nobodys_lock(states: list[LockState]) -> None:
    """Where no majority can name a holder, nobody holds it."""
    assert (added_up(3, states).holder, added_up(3, states).votes) == (None, 0)


def test_who_may_have_a_majority_is_the_holder() -> None:
    """A node that does not answer may name it, too; the votes are those that were seen."""
    seen = added_up(3, [state("a"), state(None)])
    assert (seen.holder, seen.votes) == ("a", 1)


def test_a_rise_of_the_fence_is_a_handoff() -> None:
    """Counted by name since the last reading; what comes up, too, unless at the first look."""
    meter = Meter()
    meter.note([("a", 5), ("b", 5)])
    assert meter.read(10.0) == {}
    meter.note([("a", 7), ("b", 5)])
    meter.note([("a", 9), ("b", 0), ("c", 1)])
    meter.note([("b", 6)])
    assert meter.read(12.0) == {"a": 1.0, "b": 0.5, "c": 0.5}
    assert meter.read(13.0) == {}


def test_names_that_are_gone_are_forgotten() -> None:
    """They were free: what comes back later is another lease."""
    meter = Meter()
    meter.note([("a", 5)])
    meter.read(0.0)
    meter.keep([])
    meter.note([("a", 9)])
    assert meter.read(1.0) == {"a": 1.0}


def test_the_most_wanted_come_first() -> None:
    """Most waiters, then the longest wait, then the most hand-offs; idle ones are left out."""
    states = [
        LockState("idle"),
        LockState("held", "h"),
        LockState("busy"),
        LockState("two", "h", waiters=(Waiter("x", 0.5), Waiter("y", 0.1))),
        LockState("long", "h", waiters=(Waiter("x", 9.0),)),
        LockState("short", "h", waiters=(Waiter("x", 1.0),)),
    ]
    seen = frame(states, {"busy": 3.0}, 1)
    names = [row.state.name for row in seen.rows]
    assert names == ["two", "long", "short", "busy", "held"]
    assert (seen.held, seen.waiters, seen.rate, seen.longest_wait) == (4, 4, 3.0, 9.0)


def test_what_others_wrote_cannot_steer_a_terminal() -> None:
    """Names and tokens are shown without escape sequences; JSON escapes them itself."""
    assert shown("a\x1b[2Jb\n") == "a\\x1b[2Jb\\x0a"
    assert to_json(LockState("\x1b"), 1)["name"] == "\x1b"
    assert shown(b"\xff".decode(errors="surrogateescape")) == r"\xff"
    assert str(CommandError("held by \x1b[2J\nyou", 1)) == r"held by \x1b[2J you"


LONG = LockState("wallet:" + "x" * 60, f"{'host' * 20}:77:0a1b2c3d:5", 12.3, 1795758661704934)


def printed(what: RenderableType, width: int) -> str:
    """What a terminal so wide shows."""
    console = Console(width=width)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


@pytest.mark.parametrize("width", [80, 100, 120])
def test_long_names_do_not_push_the_figures_out_of_top(width: int) -> None:
    """They are cut, and each figure is shown whole."""
    seen = frame([LONG], {LONG.name: 3.0}, 1)
    head, row = printed(render(seen, width, 10), width).splitlines()[-2:]
    assert head.split() == ["name", "holder", "ttl", "waiting", "longest", "wait", "hand-offs/s"]
    assert row.split()[-4:] == ["12.3", "s", "-", "-", "3.0"][-4:]
    assert row.startswith("wallet")


def test_a_narrow_terminal_shows_all_of_a_lock() -> None:
    """It may wrap lines, but no column is left out, as rich would do."""
    console = PipedConsole(width=30, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print_table(table_of([LONG], 1))
    head, *rows = capture.get().splitlines()
    assert head.split() == ["name", "holder", "fencing", "token", "ttl", "waiting"]
    assert LONG.name in "".join(row.split(" ")[0] for row in rows)
    assert str(LONG.fence) in rows[0]


@pytest.mark.parametrize("width", [30, 40, 60, 79])
@pytest.mark.parametrize("height", [None, 12])
def test_top_is_readable_in_few_columns(width: int, height: int | None) -> None:
    """Each lock takes lines of its own there; all figures are shown, and no line is too long."""
    waiter = Waiter("web-1:77:0a1b2c3d:6", 273_600.0)
    state = LockState("nightly-report", "web-1:77:0a1b2c3d:5", 12.3, 9, (waiter,), 1)
    rows = [LockState(f"n{n}", "h:1:0a1b2c3d:5", 7200.0) for n in range(8)]
    shown = printed(render(frame([state, LONG, *rows], {state.name: 3.0}, 1), width, height), width)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= width
    assert height is None or len(lines) < height
    for words in ("held 10", "waiting 1", "hand-offs/s ≥ 3.0", "longest wait 3 days 4 h"):
        assert words in shown
    assert re.search(r"nightly-report +12\.3 s\n +web-1 pid 77 +3\.0/s\n +1 waiting, 3 d", shown)
    assert ("n7" in shown) is (height is None)
    assert ("more" in shown) is (height is not None)
    assert height is not None or re.search(r"n0 +2 h *\n +h pid 1", shown)


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (0.0, "0.0 s"),
        (9.34, "9.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (200, "3 min 20 s"),
        (3599.9, "1 h"),
        (3661, "1 h 1 min"),
        (7205, "2 h"),
        (86_400, "1 day"),
        (273_600, "3 days 4 h"),
        (86_400 * 364 + 60, "364 days"),
    ],
)
def test_durations_are_said_in_words(duration: float, words: str) -> None:
    """The largest unit and the next, so that three days are no 259200 s."""
    assert in_words(duration) == words
