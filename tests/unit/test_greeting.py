"""What is said first on a new connection."""

from aiodistlock.engine.greeting import Greeter

INFO = b"id=4 addr=10.0.0.1:40000 laddr=10.0.0.2:6379 fd=8 name= age=0"


def test_only_the_former_server_can_be_told_to_kill_the_former_connection() -> None:
    """Id and address may be somebody else's on another server; the server's own is not."""
    greeter = Greeter(b"inbox", lambda _: None)
    first = greeter.greetings(resp3=False)
    assert [each.command[:2] for each in first] == [(b"CLIENT", b"INFO")]
    first[0].on_reply(INFO)
    kill = greeter.greetings(resp3=False)[0].command
    assert kill[:4] == (b"CLIENT", b"KILL", b"ID", b"4")
    assert kill[4:] == (b"ADDR", b"10.0.0.1:40000", b"LADDR", b"10.0.0.2:6379")
