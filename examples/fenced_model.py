"""A SQLAlchemy model that refuses writers whose lease is over.

``python examples/fenced_model.py [URL]`` has one service read a wallet and then stand still
for longer than its lease lasts, while another one does the same work. No lock can keep the
first from going on: the database can. Its row remembers the highest fencing token that it
was shown, and it is shown one by each transaction, when it reads as well: so the stale
write is refused although the second service has only *read* until then. It prints::

    first: reads 100 under fencing token ...
    first: stands still, and its lease of 0.3 s is over
    second: reads 100 under fencing token ...
    first: its write of 70 is refused: wallet 42 has seen a newer fencing token than ...
    first: its next read is refused, too
    second: writes 120
    in the end wallet 42 has 120
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from _server import redis_url
from aiodistlock import AsyncLock, LockClient

Sessions = async_sessionmaker[AsyncSession]


class Base(DeclarativeBase):
    """All models."""


class Wallet(Base):
    """What the lock protects; ``fence`` is the highest fencing token it was shown."""

    __tablename__ = "wallets"

    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]
    fence: Mapped[int] = mapped_column(default=0)


class StaleToken(Exception):
    """The writer's lease is over, and somebody has had a newer one since."""

    def __init__(self, wallet: int, token: int) -> None:
        super().__init__(f"wallet {wallet} has seen a newer fencing token than {token}")


@asynccontextmanager
async def fenced(sessions: Sessions, wallet: int, token: int) -> AsyncIterator[Wallet]:
    """
    Give a wallet in a transaction of its own, to read it or to change it.

    :raises StaleToken: if a newer fencing token has been shown to it
    """
    async with sessions.begin() as session:
        # An UPDATE first: it takes the row's lock, so nobody gets in between until the
        # commit. "Not older", as one lease may come more than once.
        shown = await session.execute(
            update(Wallet)
            .where(Wallet.id == wallet, Wallet.fence <= token)
            .values(fence=token)
            .returning(Wallet.id)
        )
        if shown.first() is None:
            raise StaleToken(wallet, token)
        yield await session.get_one(Wallet, wallet)


async def first_service(
    lock: AsyncLock, sessions: Sessions, has_read: asyncio.Event, second_has_read: asyncio.Event
) -> None:
    """Read, stand still, and go on as if nothing had happened."""
    lease = await lock.acquire()
    token = lease.fencing_token
    async with fenced(sessions, 42, token) as wallet:
        balance = wallet.balance
    print(f"first: reads {balance} under fencing token {token}")
    has_read.set()

    # As a process does that is suspended: it neither renews its lease nor notices.
    await second_has_read.wait()

    try:
        async with fenced(sessions, 42, token) as wallet:
            wallet.balance = balance - 30
    except StaleToken as refused:
        print(f"first: its write of {balance - 30} is refused: {refused}")
    try:
        async with fenced(sessions, 42, token) as wallet:
            print(f"first: reads {wallet.balance}")
    except StaleToken:
        print("first: its next read is refused, too")


async def second_service(
    lock: AsyncLock, sessions: Sessions, has_read: asyncio.Event, first: asyncio.Task[None]
) -> None:
    """Read and write, with the first service's late write in between."""
    async with lock as lease:  # has waited for the end of the first one's lease
        print("first: stands still, and its lease of 0.3 s is over")
        async with fenced(sessions, 42, lease.fencing_token) as wallet:
            balance = wallet.balance
        print(f"second: reads {balance} under fencing token {lease.fencing_token}")
        has_read.set()
        await first
        async with fenced(sessions, 42, lease.fencing_token) as wallet:
            wallet.balance = balance + 20
        print(f"second: writes {balance + 20}")


async def show(url: str, sessions: Sessions) -> None:
    """Let both services work on wallet 42."""
    name = f"wallet:42:{uuid4().hex[:6]}"
    first_has_read, second_has_read = asyncio.Event(), asyncio.Event()
    async with LockClient.from_url(url) as here, LockClient.from_url(url) as there:
        # Not renewed: it ends as that of a process that stands still.
        short = here.lock(name, ttl=0.3, auto_renew=False)
        first = asyncio.create_task(first_service(short, sessions, first_has_read, second_has_read))
        await first_has_read.wait()
        await second_service(there.lock(name), sessions, second_has_read, first)


async def main(url: str) -> None:
    """Set up a database, show what it refuses, and what it has in the end."""
    with tempfile.TemporaryDirectory() as folder:
        engine = create_async_engine(f"sqlite+aiosqlite:///{Path(folder) / 'wallets.db'}")
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        sessions = async_sessionmaker(engine, expire_on_commit=False)
        async with sessions.begin() as session:
            session.add(Wallet(id=42, balance=100))
        await show(url, sessions)
        async with sessions() as session:
            wallet = await session.get_one(Wallet, 42)
            print(f"in the end wallet 42 has {wallet.balance}")
        await engine.dispose()


if __name__ == "__main__":
    with redis_url() as url:
        asyncio.run(main(url))
