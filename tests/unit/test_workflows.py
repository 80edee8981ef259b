"""What a forge would run is pinned, and trusts nobody with more than it needs."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_there_are_workflows() -> None:
    """The tests below look at some."""
    assert [path.name for path in WORKFLOWS] == ["release.yml"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_rights_are_few(path: Path) -> None:
    """Each action is a commit; each job names its rights; nobody but the upload has an identity."""
    workflow: dict[str, Any] = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}
    used = []
    for name, job in workflow["jobs"].items():
        assert set(job["permissions"].values()) <= {"read"} or name == "publish"
        assert job["timeout-minutes"] > 0
        used += [step["uses"] for step in job["steps"] if "uses" in step]
    assert used
    assert [each for each in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", each)] == []


def test_the_version_is_found_where_the_release_looks() -> None:
    """The workflow's ``sed`` and the package agree on how the version stands in the file."""
    source = (ROOT / "aiodistlock" / "__init__.py").read_text()
    assert len(re.findall(r'^__version__ = "(.*)"$', source, re.MULTILINE)) == 1
