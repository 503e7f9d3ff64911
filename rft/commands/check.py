"""`rft check`: check a training run without starting it."""

from __future__ import annotations

from rft.commands.train import train


def check(words: list[str]) -> int:
    """Run `rft train` with the same arguments and `dry_run=true`."""
    return train([*words, "dry_run=true"])
