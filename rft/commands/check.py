"""`rft check`: what a training run would be, without starting it."""

from __future__ import annotations

from rft.commands.train import train


def check(words: list[str]) -> int:
    """Do as `rft train` with the same words and `dry_run=true`."""
    return train([*words, "dry_run=true"])
