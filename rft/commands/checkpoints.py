"""`rft checkpoints`: list the checkpoints of a run, and verify their files."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.text import Text

from rft.run_folder.find_checkpoint import Checkpoint, described, list_checkpoints
from rft.wording import plural


def checkpoints(words: list[str]) -> int:
    """Print a line for each checkpoint, the newest first.

    Returns:
        The exit code: 1 if a checkpoint is damaged or the run has none, else 0.
    """
    folder = Path(parser().parse_args(words).run)
    found = list_checkpoints(folder)
    console = Console()
    for checkpoint in found:
        console.print(Text(_line(checkpoint)), soft_wrap=True)
    whole = [checkpoint for checkpoint in found if not checkpoint.damage]
    if whole:
        text = (
            f"{plural(len(whole), 'usable checkpoint')}; rft train resume={folder} continues after step {whole[0].step}"
        )
    else:
        text = f"{folder}: the run has no usable checkpoint"
    console.print(Text(text), soft_wrap=True)
    return 0 if found and len(whole) == len(found) else 1


def parser() -> argparse.ArgumentParser:
    """Return the options of the command."""
    parser = argparse.ArgumentParser(
        prog="rft checkpoints",
        description="List the checkpoints of a run, and compare each file with its checksum.",
    )
    parser.add_argument("run", metavar="RUN", help="the run folder, such as runs/quickstart/<time>")
    return parser


def _line(checkpoint: Checkpoint) -> str:
    size = f"{checkpoint.num_bytes / 1e6:,.1f} MB"
    return f"step {checkpoint.step:<6} {checkpoint.saved_at:%Y-%m-%d %H:%M:%S} UTC  {size:>12}  {described(checkpoint)}"
