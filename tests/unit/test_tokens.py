import pytest

from aiodistlock.waiting.tokens import hands_over


@pytest.mark.parametrize(
    "token", ["web-1:4711:0a1b2c3d:1", "h:1:ffffffff:123456", "a:b:1:00000000:2"]
)
def test_a_token_of_this_package_is_known(token: str) -> None:
    """Label, pid, random and count, whatever colons the label has."""
    assert hands_over(token)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "52b1d0c2ea6211f185fc02fc00000001",
        "web-1:4711:0a1b2c3d",
        "web-1:4711:0A1B2C3D:1",
        ":1:0a1b2c3d:1\n",
    ],
)
def test_any_other_token_is_foreign(token: str) -> None:
    """redis-py's, a user's, and what only resembles ours."""
    assert not hands_over(token)
