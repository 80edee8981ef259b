"""The pages of docs/ build as a site without a warning, and have every public name."""

import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import aiodistlock
from aiodistlock import compat, integrations, testing

pytest.importorskip("sphinx", reason="the dependency group docs is not installed")
from sphinx.util.inventory import InventoryFile

ROOT = Path(__file__).parents[2]
NODE = shutil.which("node")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as strictly as Sphinx can: no link within it leads nowhere."""
    built = tmp_path_factory.mktemp("site")
    options = ["-q", "-W", "--keep-going", "-n", "-d", str(built / "trees")]
    command = [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(built)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return built


def public_names() -> set[str]:
    """Return all names that users import, by the modules that they import them from."""
    modules = [aiodistlock, testing, compat]
    for each in pkgutil.iter_modules(integrations.__path__):
        module = importlib.import_module(f"{integrations.__name__}.{each.name}")
        if hasattr(module, "__all__"):
            modules.append(module)
    assert len(modules) == 7
    return {f"{module.__name__}.{name}" for module in modules for name in module.__all__}


@pytest.mark.bounded(240)
def test_the_reference_has_every_public_name(site: Path) -> None:
    """The inventory, which other projects link by, has each of them."""
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    explained = {name for kind, names in inventory.data.items() for name in names if "py:" in kind}
    assert "aiodistlock.AsyncLock.acquire" in explained
    assert public_names() - explained == set()


@pytest.mark.bounded(240)
def test_a_page_shows_what_users_write(site: Path) -> None:
    """Names stand as they are imported, and diagrams are there as text to be drawn."""
    locks = (site / "reference" / "locks.html").read_text()
    assert 'id="aiodistlock.AsyncLock"' in locks
    assert "_UNSET" not in locks
    drawn = (site / "explanation" / "life-of-a-lease.html").read_text()
    assert drawn.count('class="mermaid"') == 5


@pytest.mark.bounded(240)
@pytest.mark.skipif(NODE is None, reason="there is no Node.js to run the site's search")
@pytest.mark.parametrize(
    ("asked", "first"),
    [
        (
            "lease on 'wallet:2' lost: another token is at its key (fencing token 1796100629873)",
            "how-to/runbook",
        ),
        (
            "the lease on 'o:1' was over before it could be used, as the event loop was busy",
            "how-to/runbook",
        ),
        ("elasticache serverless", "how-to/redis-for-locks"),
    ],
)
def test_the_search_finds_a_line_of_a_log(site: Path, asked: str, first: str) -> None:
    """Whole, as it was copied: with names and numbers that stand on no page."""
    command = [str(NODE), str(ROOT / "tests" / "docs" / "search.js"), str(site), asked]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.split("\n")[0] == first, done.stdout + done.stderr


def test_links_of_files_beside_the_site_lead_somewhere() -> None:
    """Those that no build of the site follows: to files, and to headings of pages."""
    links = {
        (page, link)
        for page in (ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("[be]*/README.md"))
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
        if not re.match(r"\w+:", link)
    }
    assert len(links) > 50
    for page, link in links:
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), (page.name, link)
        if heading:
            text = target.read_text()
            slugs = {slugify(title) for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
            assert heading in slugs, (page.name, link)


def slugify(title: str) -> str:
    """Make of a heading what links to it say."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def test_fragments_make_a_changelog() -> None:
    """Each is of a kind that towncrier knows, and all together make a section."""
    pytest.importorskip("towncrier")
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "9.9.9"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, "## 9.9.9 (" in done.stdout) == (0, True), done.stderr
    told = " ".join(done.stdout.split())
    for each in (ROOT / "docs" / "changes").glob("+*"):
        assert " ".join(each.read_text().split()) in told, each.name


def test_words_are_spelled_as_they_should() -> None:
    """No common slip in what people read."""
    pytest.importorskip("codespell_lib")
    pages = [ROOT / name for name in ("README.md", "CHANGELOG.md", "docs", "examples")]
    command = [sys.executable, "-m", "codespell_lib", *map(str, pages)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
