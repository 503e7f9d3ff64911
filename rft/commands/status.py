"""`rft status`: show what a run does right now."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from rft.health.status import read_status, status_lines


def status(words: list[str]) -> int:
    """Print the state of a run.

    Returns:
        The exit code: 0 if the run is running or finished, else 1.
    """
    arguments = parser().parse_args(words)
    state = read_status(arguments.run)
    if arguments.json:
        print(json.dumps(asdict(state), indent=2))
    else:
        console = Console()
        for label, text in status_lines(state, arguments.run):
            console.print(Text(f"{label:<9} {text}"), soft_wrap=True)
    return 0 if state.is_well else 1


def parser() -> ArgumentParser:
    """Return the options of the command."""
    parser = ArgumentParser(
        prog="rft status",
        description="Show what a run does right now. Exit code 0: it is running or finished; 1: it is neither.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, such as runs/quickstart/<time>")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser
