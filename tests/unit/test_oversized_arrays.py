"""A head that says how long an array is, before anything of it has come."""

import asyncio
import itertools
import time
from typing import Any, cast

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiodistlock.connection.wire import Wire

DECOYS = [b"*1000000000\r\n", b"x\n*1000000000\r\n", b"\r\n~12345678\r\n*", b"\n", b"\r", b"", b"a"]


def _text(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


def _array(parts: list[bytes]) -> bytes:
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


LEAVES = st.one_of(
    st.sampled_from(DECOYS).map(_text),
    st.sampled_from([b":1\r\n", b"+OK\r\n", b"_\r\n", b"*0\r\n"]),
)
REPLIES = st.lists(st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3).map(_array)))
LONG = st.builds(
    lambda kind, digits: b"%b%b\r\n" % (kind, digits),
    st.sampled_from([b"*", b"~", b">", b"%", b"|"]),
    st.sampled_from([b"1000000", b"1000000000", b"4294967295", b"0" * 30 + b"1", b"9" * 30]),
)


class _Connection:
    protocol = 3
    connect = disconnect = read_response = send_packed_command = retry = None

    def __init__(self) -> None:
        self._writer = self
        self.transport = self

    def set_protocol(self, _protocol: object) -> None: ...
    def write(self, _data: bytes) -> None: ...
    def abort(self) -> None: ...
    def close(self) -> None: ...


def _read(stream: bytes, cuts: list[int]) -> tuple[list[Any], Exception | None]:
    """Return what a wire delivers of a stream that arrives in pieces, and why it ended."""

    async def read() -> tuple[list[Any], Exception | None]:
        replies: list[Any] = []
        ends: list[Exception] = []
        wire = Wire(
            cast(Any, _Connection()), replies.append, replies.append, ends.append, lambda: 0.0
        )
        places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
        for begin, end in itertools.pairwise(places):
            if not ends:
                wire.data_received(stream[begin:end])
        return replies, ends[0] if ends else None

    return asyncio.run(read())


def _parsed(stream: bytes) -> list[Any]:
    """Return what is in a stream."""
    reader = hiredis.Reader(notEnoughData=Ellipsis)
    reader.feed(stream)
    return list(iter(reader.gets, Ellipsis))


CUTS = st.lists(st.integers(0, 10_000), max_size=12)


@settings(max_examples=60)
@given(replies=REPLIES, cuts=CUTS)
def test_what_only_looks_like_a_long_head_is_delivered(
    replies: list[bytes], cuts: list[int]
) -> None:
    """Texts may hold what they like, however they arrive."""
    stream = b"".join(replies)
    read, error = _read(stream, cuts)
    assert [repr(each) for each in read] == [repr(each) for each in _parsed(stream)]
    assert error is None


@settings(max_examples=60)
@given(replies=REPLIES, opened=st.integers(0, 6), long=LONG, cuts=CUTS)
def test_a_long_head_ends_the_connection_before_it_is_parsed(
    replies: list[bytes], opened: int, long: bytes, cuts: list[int]
) -> None:
    """At whatever depth, behind whatever replies; those are delivered."""
    before = b"".join(replies)
    stream = before + b"*2\r\n:1\r\n" * opened + long + b":1\r\n" * 3
    read, error = _read(stream, cuts)
    assert [repr(each) for each in read] == [repr(each) for each in _parsed(before)]
    assert "is too long" in str(error)


@pytest.mark.parametrize("one_by_one", [False, True])
def test_a_long_head_alone_stalls_nobody(*, one_by_one: bool) -> None:
    """It takes no time: neither to notice it, nor to drop what was parsed so far."""
    stream = b"*1000000000\r\n"
    began = time.process_time()
    _, error = _read(stream, list(range(len(stream))) if one_by_one else [])
    assert "array of 1000000000 is too long" in str(error)
    assert time.process_time() - began < 0.5
