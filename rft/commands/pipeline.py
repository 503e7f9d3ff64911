"""`rft pipeline`: train in stages, each an ordinary run that starts from the result of the one before."""

from __future__ import annotations

from rich.console import Console

from rft.commands.configured import print_help
from rft.config.command_line import asks_for_help, read_line


def pipeline(words: list[str]) -> int:
    """Run the stages that are not done, and print a table of their results.

    Returns:
        The exit code: 0, or that of the stage that was interrupted.
    """
    if asks_for_help(words):
        return print_help("pipeline", words)
    line = read_line(words, "rft pipeline")
    from rft.api.pipeline import train_pipeline

    return train_pipeline(line.words, console=Console())[1]
