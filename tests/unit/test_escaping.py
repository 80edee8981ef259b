"""Values that others wrote are shown bounded and escaped."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiodistlock.core.escaping import (
    MOST,
    MOST_OF_ERROR,
    bounded,
    described,
    one_line,
    quoted,
    shown,
)

# Text of every kind, lone surrogates and private characters included.
ANY_TEXT = st.text(st.characters(codec=None), max_size=400)
ANY = ANY_TEXT | st.binary(max_size=400)


def test_what_is_harmless_is_shown_as_it_is() -> None:
    """Names and tokens of ours, in whatever script, are not changed."""
    for text in ("wallet:42", "web-1:77:0a1b2c3d:5", "Überweisung", "財布 👛", "[red]", ""):
        assert shown(text) == shown(text.encode()) == text
        assert quoted(text) == repr(text)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\r", r"a\x0ab\x0d"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("pay \u202e001", r"pay \u202e001"),
        ("a\u2028b", r"a\u2028b"),
        ("\U000e0041", r"\U000e0041"),
        (b"\xff\xfea", r"\xff\xfea"),
        (b"\xff".decode(errors="surrogateescape"), r"\xff"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_could_steer_a_terminal_is_escaped(value: str | bytes, told: str) -> None:
    """Control codes, line ends, turns of direction, and bytes that are no text."""
    assert shown(value) == told


def test_the_beginning_of_a_long_value_is_shown_with_its_length() -> None:
    """Characters are counted in text, bytes in bytes; also where only escaping makes it long."""
    assert shown("x" * MOST) == "x" * MOST
    assert shown("x" * 201) == "x" * 182 + "… (201 characters)"
    assert shown(b"x" * 2_000_000) == "x" * 183 + "… (2000000 bytes)"
    assert shown("\x1b" * MOST) == r"\x1b" * 45 + "… (200 characters)"
    assert quoted("x" * 1000) == f"'{'x' * MOST}'… (1000 characters)"
    assert bounded(b"x" * 2000) == "x" * MOST_OF_ERROR + "… (2000 bytes)"


def test_an_error_is_one_line() -> None:
    """What it is, and what it says, whoever wrote that."""
    assert described(ValueError("a\n  b\x1b")) == r"ValueError: a b\x1b"
    assert len(described(ValueError("x" * 10_000))) < MOST_OF_ERROR + 50
    assert one_line("a\r\nb\u2028c\x1b") == r"a b c\x1b"


@given(ANY)
def test_no_value_passes_unbounded_or_unprintable(value: str | bytes) -> None:
    """Whatever it is: one line, printable, bounded, and no exception."""
    told = shown(value)
    assert len(told) <= MOST
    assert shown(told) == told
    assert len(described(ValueError(value))) <= MOST_OF_ERROR + 12
    assert all(each.isprintable() for each in (told, quoted(value), described(ValueError(value))))
    assert len(bounded(value)) <= MOST_OF_ERROR + 50
