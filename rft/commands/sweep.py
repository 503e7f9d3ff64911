"""`rft sweep`: search for good settings with many runs."""

from __future__ import annotations

from rich.console import Console

from rft.commands.configured import print_help
from rft.config.command_line import asks_for_help, read_line
from rft.imports import require_packages


def sweep(words: list[str]) -> int:
    """Search, and print each trial at its end."""
    if asks_for_help(words):
        return print_help("sweep", words)
    line = read_line(words, "rft sweep")
    require_packages("rft sweep", "ray", "optuna")
    from rft.sweep.search import run_search

    return run_search(line.words, console=Console())
