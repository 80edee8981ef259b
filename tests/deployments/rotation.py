"""A user whose credentials are rotated or revoked while clients are connected by them."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import redis as redis_sync
from anyio import fail_after
from redis.credentials import CredentialProvider

from aiodistlock import LockClient
from tests.deployments.quorum import all_ready, owes_answers

RIGHTS = ("allkeys", "allchannels", "allcommands")


class Provider(CredentialProvider):
    """Names the credentials of the moment."""

    def __init__(self, *now: str) -> None:
        self.now = now
        self.asked = 0

    def get_credentials(self) -> tuple[str, str]:
        """Return user and password."""
        self.asked += 1
        return self.now[0], self.now[1]

    async def get_credentials_async(self) -> tuple[str, str]:
        """Return user and password."""
        return self.get_credentials()


class Guarded:
    """
    Servers that know the user ``locker``, as their administrator gets at them.

    :param urls: what clients connect to: of one server, a cluster, or several of a quorum
    :param servers: all of them
    """

    def __init__(self, urls: str | Sequence[str], servers: Sequence[str]) -> None:
        self._urls = urls
        self._servers = servers

    def client(self, **options: Any) -> LockClient:
        """Build a client with connections of its own."""
        return LockClient.from_url(self._urls, **options)

    async def heard_from_all(self, locks: LockClient) -> None:
        """Wait until every node of a quorum is in and has answered: a majority suffices others."""
        if isinstance(self._urls, str):
            return
        with fail_after(10):
            while not all_ready(locks) or owes_answers(locks):
                await asyncio.sleep(0.01)

    def acl(self, *rules: str, user: str = "locker") -> None:
        """Change a user's rights and passwords."""
        self.everywhere("ACL", "SETUSER", user, *rules)

    def expel(self, user: str = "locker") -> None:
        """End all connections of a user."""
        self.everywhere("CLIENT", "KILL", "USER", user)

    def everywhere(self, *command: str) -> None:
        """Send a command to all servers."""
        for url in self._servers:
            with redis_sync.Redis.from_url(url, socket_timeout=5) as admin:
                admin.execute_command(*command)


@contextlib.contextmanager
def guarded(urls: str | Sequence[str], servers: Sequence[str]) -> Iterator[Guarded]:
    """Make the user, and remove it afterwards."""
    place = Guarded(urls, servers)
    place.acl("reset", "on", ">old", *RIGHTS)
    try:
        yield place
    finally:
        place.everywhere("ACL", "DELUSER", "locker", "other")
