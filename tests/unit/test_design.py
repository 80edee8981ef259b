"""What docs/design.md says of names and scripts is so."""

import inspect
import re
from pathlib import Path

import aiodistlock

ROOT = Path(__file__).parents[2]
DESIGN = (ROOT / "docs" / "design.md").read_text()
PACKAGE = ROOT / "aiodistlock"


def rows(header: str) -> list[list[str]]:
    """Return the cells of the table that begins with a header."""
    table = DESIGN.split(header, 1)[1].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table[2:]]


def public_words() -> set[str]:
    """Return all words of which public names, attributes and parameters are made."""
    names: set[str] = set()
    for name in aiodistlock.__all__:
        thing = getattr(aiodistlock, name)
        names.add(name)
        members = [thing]
        if inspect.isclass(thing):
            found = {key: value for key, value in vars(thing).items() if not key.startswith("_")}
            names |= found.keys()
            members += found.values()
        for each in members:
            if callable(each):
                names |= set(inspect.signature(each).parameters)
    words = re.findall(r"[A-Z]?[a-z]+", " ".join(names))
    return {word.lower() for word in words}


def test_public_names_use_no_word_that_the_vocabulary_replaces() -> None:
    """No public name, attribute or parameter is made of a word from the column "not"."""
    refused = {
        word for row in rows("| word | means | not |") for word in re.findall(r"\w+", row[2])
    }
    assert len(refused) > 10
    assert public_words() & refused == set()


def test_the_scripts_are_those_of_the_design() -> None:
    """Each script file has its row in the table of the design, and each row its file."""
    told = {
        name for row in rows("| script | does | run twice |") for name in re.findall(r"\w+", row[0])
    }
    lua = {path.stem for path in (PACKAGE / "protocol" / "lua").glob("*.lua")}
    assert told == lua - {"prelude", "permits"}


def test_files_that_the_design_names_exist() -> None:
    """Each file that the design names is there."""
    named = set(re.findall(r"`((?:\w+/)*\w+\.(?:py|lua))`", DESIGN))
    refused = {"utils.py", "helpers.py", "common.py"}
    there = {name for name in named for base in (PACKAGE, ROOT) if (base / name).exists()}
    here = {name for name in named if list(PACKAGE.rglob(name))}
    assert named - refused - there - here == set()
