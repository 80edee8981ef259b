"""Write the sample ledger: ``python examples/make_ledger.py [FILE]``.

20,000 events in JSON lines, the same bytes on every machine. Without FILE it
writes ``ledger.jsonl`` beside this script. ``aiodistlock demo`` generates the same
events itself when it gets no ``--events``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from aiodistlock.demo.events import sample_events


def main() -> None:
    """Write the file and say so."""
    beside = Path(__file__).with_name("ledger.jsonl")
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else beside
    lines = [event.to_line() + "\n" for event in sample_events()]
    target.write_bytes("".join(lines).encode())
    print(f"{len(lines):,} events written to {target}")


if __name__ == "__main__":
    main()
