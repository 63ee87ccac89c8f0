"""What the real-data checks share: Markdown tables, and where the figures of a check are kept."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table, with numbers as they are given."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def arguments(description: str | None) -> argparse.Namespace:
    """The folder of the data, and the file that the table is written to."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the real data")
    parser.add_argument("--table", type=Path, help="Markdown file to write the result to, too")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of single people; keep them to yourself")
    return parser.parse_args()


def publish(text: str, table: Path | None) -> None:
    """Print, and write where a file was named."""
    print(text, flush=True)
    if table is not None:
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text(text + "\n", encoding="utf-8")
