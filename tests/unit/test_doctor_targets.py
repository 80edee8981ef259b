"""What the doctor takes its URLs to name."""

import pytest

from aiodistlock.console.errors import CommandError
from aiodistlock.doctor.facts import Kind
from aiodistlock.doctor.targets import parse

PASSWORD = "s3cret-never-shown"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://redis.internal", "redis.internal:6379"),
        ("rediss://user:pass@redis.internal:7000/2", "redis.internal:7000"),
        ("redis://[::1]:7000", "[::1]:7000"),
        ("redis://:7000", "localhost:7000"),
        ("unix:///run/redis.sock", "unix:/run/redis.sock"),
    ],
)
def test_one_url_is_one_redis(url: str, place: str) -> None:
    """It is shown by its address alone."""
    target = parse([url])
    assert (target.kind, [each.place for each in target.endpoints]) == (Kind.SINGLE, [place])


def test_several_urls_are_a_quorum() -> None:
    """Each is a node, in the order given."""
    target = parse(["redis://a", "redis://b:1", "unix:///c"])
    assert target.kind is Kind.QUORUM
    assert [each.place for each in target.endpoints] == ["a:6379", "b:1", "unix:/c"]


def test_a_cluster_has_seeds() -> None:
    """All hosts are reached with the same credentials and options."""
    target = parse([f"rediss+cluster://app:{PASSWORD}@a:7000,b,[::1]:7002?ssl_cert_reqs=none"])
    assert target.kind is Kind.CLUSTER
    assert [each.place for each in target.endpoints] == ["a:7000", "b:6379", "[::1]:7002"]
    for endpoint in target.endpoints:
        assert endpoint.options["password"] == PASSWORD
        assert endpoint.options["ssl_cert_reqs"] == "none"
        assert endpoint.options["connection_class"].__name__ == "SSLConnection"
    assert (target.endpoints[1].options["host"], target.endpoints[1].options["port"]) == ("b", 6379)


def test_sentinels_have_credentials_of_their_own() -> None:
    """User and password are for Redis; sentinel_password is for the Sentinels alone."""
    target = parse(
        [f"redis+sentinel://app:{PASSWORD}@a,b:26380/mymaster?db=3&sentinel_password=own"]
    )
    assert (target.kind, target.service) == (Kind.SENTINEL, "mymaster")
    assert [each.place for each in target.endpoints] == ["a:26379", "b:26380"]
    for endpoint in target.endpoints:
        assert endpoint.options["password"] == "own"
        assert "username" not in endpoint.options
        assert "db" not in endpoint.options
    assert target.redis is not None
    primary = target.redis.at("c", 6379)
    assert primary.place == "c:6379"
    assert primary.options["password"] == PASSWORD
    assert primary.options["username"] == "app"
    assert primary.options["db"] == 3
    assert primary.options["host"] == "c"
    assert "sentinel_password" not in primary.options


BAD = [
    f"redis://:{PASSWORD}@a:port",
    f"redis://user:{PASSWORD}",
    f"http://:{PASSWORD}@a",
    f"redis://:{PASSWORD}@a?unknown_option={PASSWORD}",
    f"redis://:{PASSWORD}@a?socket_timeout={PASSWORD}",
    f"redis://:{PASSWORD}@[::1",
    f"redis://user:1/{PASSWORD}@a",
    f"redis://user:#{PASSWORD}@a",
    f"redis+sentinel://:{PASSWORD}@a",
    f"redis+sentinel://:{PASSWORD}@a,,b/mymaster",
    f"redis+sentinel://:{PASSWORD}@a/mymaster/{PASSWORD}",
    f"redis+cluster://:{PASSWORD}@",
    f"redis+cluster://:{PASSWORD}@a/1",
    f"redis+cluster://:{PASSWORD}@a,b:port",
    f"unix+cluster:///{PASSWORD}",
    PASSWORD,
    "",
]


@pytest.mark.parametrize("url", BAD, ids=range(len(BAD)))
def test_a_bad_url_is_refused_and_not_quoted(url: str) -> None:
    """The error says which URL and what to write; a password in it is not repeated."""
    with pytest.raises(CommandError) as refusal:
        parse([url])
    assert PASSWORD not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_only_single_nodes_make_a_quorum() -> None:
    """A Cluster or Sentinels are no vote."""
    with pytest.raises(CommandError, match="quorum"):
        parse(["redis://a", "redis+cluster://b"])


def test_what_is_shown_for_debugging_has_no_password() -> None:
    """Neither a target nor an endpoint tells its options."""
    urls = [f"redis://:{PASSWORD}@a", f"redis+sentinel://:{PASSWORD}@a/m"]
    assert all(PASSWORD not in repr(parse([url])) for url in urls)
