"""`rft merge`: merge an adapter into its base model, as a plain model folder."""

from __future__ import annotations

from rich.console import Console

from rft.api.merge import run_merge
from rft.commands.configured import configured
from rft.config.commands import load_merge


def merge(words: list[str]) -> int:
    """Merge and print the proof."""
    return configured(
        "merge", words, lambda overrides, _: load_merge(overrides), lambda config: run_merge(config, console=Console())
    )
