"""`rft check`, and `dry_run=true`: what a run would be, without starting it."""

from __future__ import annotations

from rich.console import Console

from rft.config import EvaluateConfig, RunConfig
from rft.run.check import plan_evaluation, plan_training
from rft.run.plan import print_plan


def check_training(run: RunConfig, *, console: Console) -> int:
    """Print what a training run would be.

    Returns:
        0.

    Raises:
        UsageError: With everything that is wrong.
    """
    print_plan(console, plan_training(run, console))
    return 0


def check_evaluation(config: EvaluateConfig, *, console: Console) -> int:
    """Print what a measurement would be.

    Returns:
        0.

    Raises:
        UsageError: With everything that is wrong.
    """
    print_plan(console, plan_evaluation(config, console))
    return 0
