"""Names fold to few: what varies goes, what tells them apart stays."""

import pytest

from aiodistlock.integrations.folding import Folder, fold, fold_by


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("wallet:42", "wallet:*"),
        ("report", "report"),
        ("order-2024-01-31", "order-*-*-*"),
        ("{user:7}:cart", "{user:*}:cart"),
        ("job7a", "job*a"),
        ("reconcile2024", "reconcile*"),
        ("u:3F2504E0-4F89-11D3-9A0C-0305E82C3301", "u:*"),
        ("file:507f1f77bcf86cd799439011/lock", "file:*/lock"),
        ("deploy_9fceb02d", "deploy_*"),
        ("session:01ARZ3NDEKTSV4RRFFQ69G5FAV", "session:*"),
        ("accounting_department", "accounting_department"),
        ("größe:٣", "größe:*"),
    ],
)
def test_what_looks_like_an_identifier_is_folded(name: str, folded: str) -> None:
    """Numbers, UUIDs, hashes and random strings become a star; words stay."""
    assert fold(name) == folded


def test_templates_fold_to_themselves() -> None:
    """The first that fits counts; what fits none is not told apart."""
    folded = fold_by(["wallet:{id}", "{tenant}:cart", "nightly.report"])
    assert folded("wallet:alice") == "wallet:{id}"
    assert folded("acme:cart") == "{tenant}:cart"
    assert folded("nightly.report") == "nightly.report"
    assert folded("nightly-report") == "other"
    assert folded("wallet:") == "other"


@pytest.mark.parametrize("templates", [[], [""], ["wallet:{id"], ["}"]])
def test_a_malformed_template_is_refused(templates: list[str]) -> None:
    """At once, with what it must be."""
    with pytest.raises(ValueError, match="template"):
        Folder(templates)


def test_one_template_must_be_in_a_list() -> None:
    """Or its letters would be taken for templates."""
    with pytest.raises(TypeError, match="in a list"):
        Folder("wallet:{id}")


def test_a_function_may_fold() -> None:
    """Whatever the user knows of the names."""
    assert Folder(lambda name: name.split(":")[0])("wallet:alice") == "wallet"


def test_there_is_a_bound_to_folded_names() -> None:
    """Names that vary in what cannot be told do not fill the store of metrics."""
    folder = Folder(lambda name: name, most=3)
    assert [folder(name) for name in "abcdea"] == ["a", "b", "c", "other", "other", "a"]
