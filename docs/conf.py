"""How Sphinx builds the pages: ``sphinx-build -W -n docs build/docs``."""

import re
from pathlib import Path

from docutils.nodes import Element, TextElement
from sphinx.addnodes import desc_signature, pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import aiodistlock
from aiodistlock import compat, testing
from aiodistlock.protocol.await_answer import ASKED_WITHIN

project = "aiodistlock"
author = "aiodistlock contributors"
release = aiodistlock.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinxcontrib.mermaid"]
exclude_patterns = ["changes"]  # fragments of CHANGELOG.md
html_theme = "furo"
html_title = f"aiodistlock {release}"
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_search_scorer = str(Path(__file__).with_name("scorer.js"))
pygments_dark_style = "monokai"
mermaid_height = "auto"
mermaid_fullscreen = False

myst_enable_extensions = ["colon_fence"]
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 3

# Users know names by where they import them, whatever module defines them.
for room in (aiodistlock, testing, compat):
    for name in room.__all__:
        thing = getattr(room, name)
        if isinstance(thing, type):
            thing.__module__ = room.__name__

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 72

# Not ours; this build asks no other host where they are explained.
nitpick_ignore_regex = [("py:.*", r"(redis\.|anyio\.|str\.|timedelta|ResourceWarning).*")]


def _resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: TextElement
) -> Element | None:
    """Find what docstrings name as users import it: ``LockClient``."""
    if node.get("refdomain") != "py":
        return None
    if _is_in_signature(node):
        return text  # a type without a page stays text; what prose refers to must be there
    domain, where = env.get_domain("py"), node.get("refdoc", env.docname)
    for module in ("aiodistlock", "aiodistlock.testing.discovery"):
        target = f"{module}.{node['reftarget']}"
        found = domain.resolve_xref(env, where, app.builder, node["reftype"], target, node, text)
        if found is not None:
            return found
    return None


def _is_in_signature(node: Element) -> bool:
    parent = node.parent
    while parent is not None:
        if isinstance(parent, desc_signature):
            return True
        parent = parent.parent
    return False


def _signature(
    app: Sphinx,
    what: str,
    name: str,
    obj: object,
    options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    """Leave out how leases and blocks are built, which users never do, and a protocol is."""
    if name in {f"aiodistlock.{each}" for each in ("Lease", "Hold", "Listener")}:
        return "", None
    if signature is not None:
        # Defaults that are names of ours, as their values; the lock's own timeout is no value.
        signature = re.sub(r" \| [\w.~]*_Unset = _UNSET", " = ...", signature)
        signature = signature.replace("ASKED_WITHIN", f"{ASKED_WITHIN:g}")
    return signature, returns


def setup(app: Sphinx) -> None:
    """Have Sphinx ask the two above."""
    app.connect("missing-reference", _resolve)
    app.connect("autodoc-process-signature", _signature)
