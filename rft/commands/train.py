"""`rft train`: train, or run a grid of training runs with `-m`."""

from __future__ import annotations

from rich.console import Console

from rft.commands.configured import configured
from rft.config import RunConfig
from rft.config.command_line import asks_for_help, read_line
from rft.config.commands import load_training
from rft.imports import require_packages


def train(words: list[str]) -> int:
    """Train, and print the progress and the final report.

    Returns:
        The exit code: 0, or 130 or 143 after an interruption. For a grid, the highest code of all runs.
    """
    if not asks_for_help(words) and read_line(words, "rft train").is_grid:
        require_packages("rft train --multirun", "ray", "optuna")
        from rft.sweep.grid import run_grid

        return run_grid(words, console=Console())
    return configured("train", words, load_training, lambda run: run_training(run, ["train", *words]))


def run_training(run: RunConfig, words: list[str]) -> int:
    """Train with a checked configuration, or print its plan; return the exit code.

    Args:
        run: The configuration.
        words: The command line after `rft`, for the manifest.
    """
    console = Console()
    if run.dry_run:
        from rft.run.check import plan_training
        from rft.run.forecast.plan import print_plan

        print_plan(console, plan_training(run, console))
        return 0
    from rft.api.train import train_run

    _, exit_code = train_run(run, command=["rft", *words], console=console)
    return exit_code
