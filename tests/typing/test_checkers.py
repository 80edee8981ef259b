"""What type checkers say of the public names, and of the code in README and docs/."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.test_docs import blocks, files_of

ROOT = Path(__file__).parents[2]


@pytest.mark.bounded(240)
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_public_names_and_pages_have_the_types_that_are_promised(
    checker: str, tmp_path: Path
) -> None:
    """Strict, each accepts what is right, and refuses each line that is marked as wrong."""
    pytest.importorskip(checker)
    # All in one folder, as pyright takes files or a configuration, but not both.
    for name in ("public_api.py", "web.py"):
        shutil.copy(ROOT / "tests/typing" / name, tmp_path)
    for block in blocks():
        if block.typed:
            page = block.page.stem.replace("-", "_")
            name = Path(block.file).stem if block.file else str(block.line)
            # Other pages have files of the same names.
            own = "|".join(Path(each).stem for each in files_of(block.page)) or "none"
            code = re.sub(
                rf"^(from|import) ({own})\b", rf"\1 {page}_\2", block.code, flags=re.MULTILINE
            )
            # In the lines where the page has it, so that the checker tells the right ones.
            (tmp_path / f"{page}_{name}.py").write_text("\n" * (block.line - 1) + code)
    command = [sys.executable, "-m", checker]
    if checker == "mypy":
        command += map(str, tmp_path.glob("*.py"))
    else:
        config = tmp_path / "pyrightconfig.json"
        config.write_text(json.dumps({"extends": str(ROOT / "pyproject.toml"), "include": ["."]}))
        command += [f"--project={config}", f"--pythonpath={sys.executable}"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
