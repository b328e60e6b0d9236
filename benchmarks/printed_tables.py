"""Markdown tables that are printed row by row, as the rows are measured."""


def begin_table(title: str, *columns: str) -> None:
    """Prints the title and the head of a table.

    Args:
        title: Stands above it, bold.
        *columns: What the columns are called; all but the first hold numbers.
    """
    print(f"\n**{title}**\n")
    print_row(*columns)
    print("|---|" + "---:|" * (len(columns) - 1), flush=True)


def print_row(*cells: str) -> None:
    """Prints a row at once: who ends the process here keeps it."""
    print(f"| {' | '.join(cells)} |", flush=True)
