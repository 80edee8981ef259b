"""Ledger events: what is accepted, what is refused and how, and the sample."""

import json
from collections import Counter
from pathlib import Path

import pytest

from aiodistlock.console.errors import CommandError
from aiodistlock.demo.events import (
    Event,
    load_events,
    parse_event,
    sample_events,
    true_balances,
)

SAMPLE = Path(__file__).parents[2] / "examples" / "ledger.jsonl"


def line(**changed: object) -> str:
    """Write a good event's line with some fields changed, or left out (``...``)."""
    fields: dict[str, object] = {"event_id": "e1", "wallet": "w1", "amount": 5} | changed
    return json.dumps({key: value for key, value in fields.items() if value is not ...})


def event(number: int, wallet: str = "w1", amount: int = 1) -> Event:
    """Make an event."""
    return Event(f"e{number}", wallet, amount)


def test_a_good_line_is_an_event() -> None:
    """Event id, wallet and amount are taken; further fields are ignored."""
    assert parse_event(line(amount=-7, note="x").encode()) == Event("e1", "w1", -7)


def test_an_event_survives_its_line() -> None:
    """What is written is read back the same."""
    written = Event("é", "{w}:1", -(10**12))
    assert parse_event(written.to_line().encode()) == written


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("1" * 5000, "not JSON"),
        ("[]", "not a JSON object"),
        ('"e1"', "not a JSON object"),
        (line(event_id=...), "event_id is missing"),
        (line(wallet=...), "wallet is missing"),
        (line(amount=...), "amount is missing"),
        (line(event_id=7), "event_id must be printable text, got 7"),
        (line(event_id=""), "event_id must be printable text"),
        (line(wallet=None), "wallet must be printable text, got null"),
        (line(wallet="a\nb"), "wallet must be printable text"),
        (line(wallet="\x1b[31m"), "wallet must be printable text"),
        ('{"event_id":"e","amount":1,"wallet":"\\ud800"}', "wallet must be printable"),
        (line(wallet="w{}"), "braces"),
        (line(amount="5"), 'amount must be whole cents, got "5"'),
        (line(amount=1.5), "amount must be whole cents, got 1.5"),
        (line(amount=True), "amount must be whole cents, got true"),
        (line(amount=float("nan")), "amount must be whole cents, got NaN"),
        (line(amount=[0] * 99), "..."),
        (line(amount=10**12 + 1), "at most 1000000000000 cents"),
    ],
)
def test_a_bad_line_says_what_is_wrong(bad: str, told: str) -> None:
    """Each kind of malformed line is a ValueError that names the fault, shortly."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is what is tested
        parse_event(bad.encode())
    assert told in str(caught.value)
    assert len(str(caught.value)) < 250


def load(folder: Path, content: bytes) -> list[Event]:
    """Write a file and load it."""
    path = folder / "in.jsonl"
    path.write_bytes(content)
    return load_events(path)


def test_blank_lines_a_mark_and_windows_ends_are_fine(tmp_path: Path) -> None:
    """A byte order mark, blank lines, CR LF and a missing last end do not matter."""
    content = f"\ufeff{line()}\r\n\n  \n{line(event_id='e2')}".encode()
    assert [e.event_id for e in load(tmp_path, content)] == ["e1", "e2"]


def test_a_malformed_line_is_named(tmp_path: Path) -> None:
    """The error names the file and the line, blank ones counted."""
    content = f"{line()}\n\n{line(event_id='e2', amount=0.5)}\n".encode()
    with pytest.raises(CommandError, match=r"in\.jsonl:3: amount must be whole cents"):
        load(tmp_path, content)


def test_a_repeated_event_id_is_named_with_its_first_line(tmp_path: Path) -> None:
    """An event id may be used once."""
    content = f"{line()}\n{line(amount=6)}\n".encode()
    with pytest.raises(CommandError, match=r"in\.jsonl:2: event_id 'e1' stands on line 1"):
        load(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "no events"), (b"\n \n", "no events"), (b"\xff\n", r"in\.jsonl:1: not UTF-8")],
)
def test_what_is_no_stream_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    """An empty file and one that is no text are errors."""
    with pytest.raises(CommandError, match=told):
        load(tmp_path, content)


def test_an_unknown_path_is_named(tmp_path: Path) -> None:
    """A path that cannot be read is one line with the reason."""
    with pytest.raises(CommandError, match=r"cannot read events: .*nope: No such file"):
        load_events(tmp_path / "nope")
    with pytest.raises(CommandError, match="Is a directory"):
        load_events(tmp_path)


def test_the_file_is_what_the_generator_makes() -> None:
    """The sample in examples/ and the one made without a file are the same bytes."""
    made = "".join(made.to_line() + "\n" for made in sample_events())
    assert SAMPLE.read_bytes() == made.encode()


def test_it_is_skewed_to_hot_wallets() -> None:
    """20,000 good events; the ten hottest of 1,000 wallets get over a third."""
    events = load_events(SAMPLE)
    heat = Counter(e.wallet for e in events).most_common()
    assert len(events) == 20_000
    assert sum(count for _, count in heat[:10]) > 20_000 / 3
    assert 900 < len(heat) <= 1000
    assert {e.amount > 0 for e in events} == {True, False}


def test_the_seed_decides() -> None:
    """The same seed gives the same stream, another seed another."""
    assert list(sample_events(50, 1)) == list(sample_events(50, 1))
    assert list(sample_events(50, 1)) != list(sample_events(50, 2))


def test_true_balances_add_up() -> None:
    """A wallet's truth is the sum of its amounts and their number."""
    events = [event(1, "a", 5), event(2, "b", 1), event(3, "a", -7)]
    assert true_balances(events) == {"a": (-2, 2), "b": (1, 1)}
