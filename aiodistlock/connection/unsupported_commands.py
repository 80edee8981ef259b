"""Commands that are left out, because connections end at them.

Some proxies close the connection at a command that they do not know.
"""

from __future__ import annotations

MOST_CUT_OFF = 3
"""So many connections in a row that end at the same command, and the next goes without."""


class UnsupportedCommands:
    """
    Finds such commands.

    A connection that ends otherwise has all of them said again: the server may have been away.

    :ivar commands: those that are left out of the next connection
    """

    __slots__ = ("_at", "_times", "commands")

    def __init__(self) -> None:
        self._at = ""
        self._times = 0
        self.commands: set[str] = set()

    def ended(self, at: str) -> bool:
        """
        Take note that a connection has ended.

        :param at: the first command without an answer; empty: none that could be left out
        :return: whether this one will be left out from now on
        """
        self._times = self._times + 1 if at == self._at else 1
        self._at = at
        if not at:
            self.commands.clear()
        elif self._times == MOST_CUT_OFF:
            self._times = 0
            self.commands.add(at)
            return True
        return False

    def passed(self) -> None:
        """Take note of a connection on which all was answered."""
        self._at = ""
