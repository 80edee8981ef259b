"""The console of the commands, which fits into a pipeline."""

from __future__ import annotations

import os
from typing import NoReturn

from rich.console import Console
from rich.table import Table

_LEAST_WIDTH = 70
"""In fewer columns rich would leave a table's first ones out; a terminal wraps lines itself."""

_ANY_WIDTH = 100_000


class PipedConsole(Console):
    """A console that fits into a pipeline: ``| head`` and ``| grep`` work as expected."""

    def on_broken_pipe(self) -> NoReturn:
        """Let the error through: typer ends the command without a word, with status 1."""
        raise  # noqa: PLE0704  # rich calls this where it caught the error

    def print_table(self, table: Table) -> None:
        """Print a table; for programs such as grep, each row is one line."""
        piped = not self.is_terminal and "COLUMNS" not in os.environ
        self.width = _ANY_WIDTH if piped else max(self.width, _LEAST_WIDTH)
        self.print(table)
