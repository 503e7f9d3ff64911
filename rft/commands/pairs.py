"""`rft pairs`: write training rows from the rollouts of a run."""

from __future__ import annotations

from rich.console import Console

from rft.commands.configured import configured
from rft.config.commands import load_pairs
from rft.config.pairs import PairsConfig


def pairs(words: list[str]) -> int:
    """Write the rows, and print their counts and what was left out."""
    return configured("pairs", words, lambda overrides, _: load_pairs(overrides), run_pairs)


def run_pairs(config: PairsConfig) -> int:
    """Write the rows of a checked configuration; return the exit code, 0."""
    from rft.api.pairs import write_pairs

    write_pairs(config, Console())
    return 0
