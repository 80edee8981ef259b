"""Which requests of a client are declared void, until when, and by which others."""

from collections import deque
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest

from aiodistlock.connection.backlog import Backlog
from aiodistlock.connection.greeting import Greeting
from aiodistlock.connection.numbering import ClusterNumbering, Numbering
from aiodistlock.core.keys import LockKeys, void_key
from aiodistlock.core.slots import slot_of
from aiodistlock.deployments.quorum.rounds.round import Vote
from aiodistlock.protocol import scripts
from aiodistlock.protocol.operations import read_renew
from aiodistlock.protocol.redis_call import RedisCall
from aiodistlock.protocol.scripts import Script, bulks
from tests.resp import flat_blobs

Call = RedisCall[object]


def call(name: str = "n", script: Script = scripts.RENEW) -> Call:
    """Build a request about a name."""
    made: Call = RedisCall(script, LockKeys(name, "lock:"), bulks(b"t", 1, 1), read_renew)
    return made


def said(numbering: Numbering, request: Call, *, source: bool = False) -> tuple[bytes, list[bytes]]:
    """Number a request; return the key at which what is void is noted, and the tag's words."""
    numbering.number(request)
    words = flat_blobs(numbering.packed(request, source=source))
    (void,) = (word for word in words if word.startswith(b"aiodistlock:void:"))
    return void, words[-1].split(b" ")


def lost(numbering: Numbering, *sent: Call | Greeting) -> None:
    """Lose a connection with these unanswered."""
    backlog = Backlog()
    backlog.sent = deque(sent)
    numbering.lost(backlog)


@pytest.mark.parametrize("kind", [Numbering, ClusterNumbering])
def test_every_request_declares_what_is_void_until_one_was_answered(kind: type[Numbering]) -> None:
    """The first may be refused, and what is behind it may run all the same."""
    numbering = kind()
    first = call()
    _, words = said(numbering, first)
    assert words == [b"%d" % first.tag]
    lost(numbering, first)
    again, behind = call(), call()
    for source, each in ((False, again), (True, behind)):
        _, words = said(numbering, each, source=source)
        assert words == [b"%d" % each.tag, b"%d" % first.tag]
    numbering.heard(first)  # by another way: that said nothing
    assert numbering.void
    numbering.heard(again)
    _, words = said(numbering, later := call())
    assert words == [b"%d" % later.tag]


def test_numbers_rise_through_all_connections() -> None:
    """They are never given twice, and the void ones are below all that follow."""
    numbering, tags = Numbering(), []
    for _ in range(3):
        for _ in range(2):
            numbering.number(request := call())
            tags.append(request.tag)
        lost(numbering, request)
        assert set(numbering.void.values()) == {tags[-1]}
    assert tags == sorted(set(tags))
    assert all(len(str(tag)) == 13 for tag in tags)


def test_where_no_request_was_under_way_nothing_is_void() -> None:
    """A greeting has no effect; a call that was taken away leaves its place, and counts."""
    numbering = Numbering()
    lost(numbering)
    lost(numbering, Greeting((b"SUBSCRIBE", b"inbox"), lambda _: None))
    assert not numbering.void
    backlog = Backlog()
    backlog.sent.append(call())
    backlog.take(lambda _: True)
    numbering.lost(backlog)
    assert numbering.void


def test_on_a_cluster_each_slot_has_its_own() -> None:
    """What is void in one is no matter in another; each is noted where its slot goes."""
    numbering = ClusterNumbering()
    numbering.number(here := call("here"))
    lost(numbering, here)
    for name in ("here", "there"):
        void, words = said(numbering, call(name))
        assert slot_of(void) == slot_of(f"lock:{name}".encode())
        assert len(words) == (2 if name == "here" else 1)


@pytest.mark.parametrize("kind", [Numbering, ClusterNumbering])
@pytest.mark.parametrize("script", [scripts.RENEW_ALONE, scripts.INSPECT])
def test_what_must_not_write_it_declares_nothing(kind: type[Numbering], script: Script) -> None:
    """For the key alone: it may be noted at another node.  A question: it writes nothing."""
    numbering = kind()
    numbering.number(first := call())
    lost(numbering, first)
    asking = SimpleNamespace(request=call(script=script), kept_until=0.0)
    vote = Vote(cast("Any", asking), 0)
    for request in (call(script=script), *((vote,) if kind is Numbering else ())):
        _, words = said(numbering, request, source=True)
        assert len(words) == 1
        numbering.heard(request)
    _, words = said(numbering, call())
    assert len(words) == 2


def test_the_keys_of_all_slots_are_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot's letters have to be looked for: that is not done for every request."""
    built = Mock(side_effect=void_key)
    monkeypatch.setattr("aiodistlock.connection.numbering.void_key", built)
    numbering = ClusterNumbering()
    built.reset_mock()
    requests = [call(f"n{n}") for n in range(3_000)]
    for request in requests * 2:
        said(numbering, request)
    assert built.call_count == len({request.keys.slot for request in requests})
