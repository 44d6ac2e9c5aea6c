"""Tables on the screen, in one look."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table


def show(
    console: Console, title: str, header: Iterable[str], rows: Iterable[Iterable[str]]
) -> None:
    """Writes a table: the first column is text, the others are figures."""
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def megabytes(count: float) -> str:
    """`count` bytes in units of 10^6 bytes."""
    return f"{count / 1e6:.1f} MB"
