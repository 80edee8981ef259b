"""Hash slots and who owns them: keys, redirections, views of a cluster."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from aiodistlock.core.keys import LockKeys
from aiodistlock.core.slots import (
    SLOTS,
    Address,
    Redirect,
    SlotMap,
    SlotRange,
    read_ranges,
    read_redirect,
    slot_of,
    tag_of,
)

A, B, C = Address("a", 1), Address("b", 2), Address("c", 3)


@given(st.one_of(st.binary(), st.text("{}ab", max_size=12).map(str.encode)))
def test_the_slot_of_a_key_is_redis_own(key: bytes) -> None:
    """Whatever the braces in it, as redis-py computes it."""
    assert slot_of(key) == key_slot(key)


def test_every_slot_has_a_tag() -> None:
    """All 16,384: four letters or digits, so that a channel's name has no space."""
    for slot in range(SLOTS):
        tag = tag_of(slot)
        assert slot_of(b"inbox:{%b}" % tag) == slot
        assert len(tag) == 4
        assert tag.isalnum()


@pytest.mark.parametrize("slot", [-1, SLOTS])
def test_there_are_no_other_slots(slot: int) -> None:
    """A number that is no slot is refused."""
    with pytest.raises(ValueError, match="slot"):
        tag_of(slot)


@pytest.mark.parametrize("behind", [b"lock:", b"lock:a b:7", b"\xc3\xa9"])
def test_a_key_may_be_taken_to_any_slot_by_its_end(behind: bytes) -> None:
    """What comes before the four letters is taken into account."""
    assert all(slot_of(behind + tag_of(slot, behind)) == slot for slot in range(SLOTS))


@pytest.mark.parametrize("name", ["wallet", "{user:7}:cart", "a b", "ü"])
def test_all_keys_of_a_name_share_its_slot(name: str) -> None:
    """Scripts may touch both only together."""
    keys = LockKeys(name, "lock:")
    assert {slot_of(key) for key in (keys.key, keys.queue)} == {keys.slot}
    assert keys == LockKeys(name, "lock:")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("MOVED 3999 127.0.0.1:6381", Redirect(3999, Address("127.0.0.1", 6381), once=False)),
        ("ASK 3999 host.example:6381", Redirect(3999, Address("host.example", 6381), once=True)),
        ("MOVED 3999 :6381", Redirect(3999, Address("a", 6381), once=False)),
        ("MOVED 3999 ?:6381", Redirect(3999, Address("a", 6381), once=False)),
        ("MOVED 1 fe80::1:6381", Redirect(1, Address("fe80::1", 6381), once=False)),
        ("TRYAGAIN Multiple keys request during rehashing of slot", None),
        ("CLUSTERDOWN The cluster is down", None),
        ("MOVED", None),
        ("MOVED x y:z", None),
        ("MOVED 16384 a:1", None),
        ("MOVED -1 a:1", None),
        ("", None),
    ],
)
def test_a_redirection_is_read(error: str, expected: Redirect | None) -> None:
    """Without a host it is another port of the node that answered."""
    assert read_redirect(error, A) == expected


def test_redirections_and_views_are_mapped_to_how_nodes_are_reached() -> None:
    """An address remap, as behind NAT, holds for both."""

    def remap(address: tuple[str, int]) -> tuple[str, int]:
        return f"{address[0]}.outside", address[1] + 1

    moved = read_redirect("MOVED 1 b:2", A, remap)
    assert moved == Redirect(1, Address("b.outside", 3), once=False)
    (found,) = read_ranges([[0, 5, [b"b", 2, b"id"], [b"c", 3, b"id"]]], A, remap)
    assert found == SlotRange(0, 5, Address("b.outside", 3), (Address("c.outside", 4),))


@pytest.mark.parametrize("host", [None, b"", b"?"])
def test_a_node_without_an_address_is_where_we_asked(host: bytes | None) -> None:
    """A node that was never introduced to another does not know its own address."""
    (found,) = read_ranges([[0, 5, [host, 7, b"id", []]]], A, None)
    assert found.primary == Address("a", 7)


@pytest.mark.parametrize(
    "reply",
    [None, [1], [[0, 5]], [[0, 5, 3]], [[0, 5, [b"h"]]], [[0, 16384, [b"h", 1]]], [[b"", 5]]],
)
def test_what_is_no_view_is_refused(reply: object) -> None:
    """Anything else than the answer of CLUSTER SLOTS."""
    with pytest.raises(ValueError, match="CLUSTER SLOTS"):
        read_ranges(reply, A, None)  # type: ignore[arg-type]  # what a server might say


def test_a_view_replaces_what_was_known() -> None:
    """What changed hands is told by its former owner; what is new has none."""
    slots = SlotMap()
    assert slots.owner(0) is None
    assert slots.replace([SlotRange(0, 9, A, (C,)), SlotRange(10, 19, B, ())]) == {}
    assert slots.owner(9) == A
    assert slots.owner(10) == B
    assert slots.primaries() == {A, B}
    assert slots.nodes == {A, B, C}
    assert slots.replace([SlotRange(0, 7, A, ()), SlotRange(8, 19, C, ())]) == {
        A: {8, 9},
        B: set(range(10, 20)),
    }
    assert slots.primaries() == {A, C}


def test_a_slot_that_a_view_does_not_have_keeps_its_owner() -> None:
    """A node with a hole in its view does not make us forget."""
    slots = SlotMap()
    slots.replace([SlotRange(0, 9, A, ())])
    assert slots.replace([SlotRange(5, 9, B, ())]) == {A: {5, 6, 7, 8, 9}}
    assert slots.owner(0) == A
    assert slots.replace([]) == {}
    assert slots.nodes == {B}


def test_one_slot_moves() -> None:
    """As MOVED says."""
    slots = SlotMap()
    slots.replace([SlotRange(0, 9, A, ())])
    slots.move(3, B)
    assert [slots.owner(n) for n in (2, 3, 4)] == [A, B, A]
