"""`rft.check`: checks a training run without starting it."""

from __future__ import annotations

from rft.api.calls import make_console
from rft.config.commands import load_training
from rft.config.overrides import Overrides, to_words
from rft.run.check import plan_training
from rft.run.forecast.plan import Plan


def check(*overrides: Overrides, quiet: bool = False) -> Plan:
    """Check everything that a training run needs, without starting it.

    Args:
        overrides: Like in `rft.train`.
        quiet: Print nothing; otherwise the progress of long checks is shown.

    Returns:
        The plan of the run.

    Raises:
        ConfigError: Contains all problems of the configuration.
        UsageError: Contains all problems of model, tasks, graders and run folder.

    Example:
        plan = rft.check("experiment=quickstart")
        print(plan)
    """
    return plan_training(load_training([*to_words(overrides), "dry_run=true"]), make_console(quiet=quiet))
