"""`rft doctor`: check whether this machine can run rft."""

from __future__ import annotations

from argparse import ArgumentParser

from rich.console import Console

from rft.doctor import report


def doctor(words: list[str]) -> int:
    """Check this machine and print the findings with their remedies."""
    return report.run_doctor(words, console=Console())


def parser() -> ArgumentParser:
    """Return the options of the command."""
    return report.parser()
