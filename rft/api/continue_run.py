"""`rft.continue_run`: trains the result of a run on new tasks."""

from __future__ import annotations

from rft.api.calls import configuration, make_console, pass_on_interrupt
from rft.api.run import Run
from rft.api.train import train_run
from rft.config.continued_run import load_continuation
from rft.config.overrides import Overrides, to_words


def continue_run(*overrides: Overrides, quiet: bool = False) -> Run:
    """Train the result of a run on new tasks, with replay of the run's own tasks, as `rft continue` does.

    Args:
        overrides: As on the command line: `"run=runs/..."`, `"data.train=week2.jsonl"` and further keys of
            `rft.train`; or mappings.
        quiet: Print nothing; otherwise progress and the final report are shown.

    Returns:
        The new run.

    Raises:
        ConfigError: With every problem of the configuration.
        OutputError: `run` names no run.
        RftError: As `rft.train`.
        KeyboardInterrupt: As `rft.train`.

    Example:
        second = rft.continue_run({"run": first.folder, "data.train": "week2.jsonl", "data.replay": 0.2})
        second.summary["retention"]
    """
    run, exit_code = train_run(
        configuration(load_continuation, overrides),
        command=["rft.continue_run", *to_words(overrides)],
        console=make_console(quiet=quiet),
    )
    pass_on_interrupt(exit_code)
    return run
