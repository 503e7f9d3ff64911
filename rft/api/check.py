"""`rft.check`: a training run, checked without starting it."""

from __future__ import annotations

from rft.api.calls import make_console
from rft.config.commands import load_training
from rft.config.overrides import Overrides, to_words
from rft.run.check import plan_training
from rft.run.plan import Plan


def check(*overrides: Overrides, quiet: bool = False) -> Plan:
    """Check everything that a training run needs, without starting it.

    Args:
        overrides: As for `rft.train`.
        quiet: Print nothing; otherwise the progress of long checks is shown.

    Returns:
        What the run would be.

    Raises:
        ConfigError: With every problem of the configuration.
        UsageError: With everything that is wrong with the model, the tasks, the graders and the run folder.

    Example:
        plan = rft.check("experiment=quickstart")
        print(plan)
    """
    return plan_training(load_training([*to_words(overrides), "dry_run=true"]), make_console(quiet=quiet))
