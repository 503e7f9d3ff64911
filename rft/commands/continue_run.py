"""`rft continue`: train the result of a run on new tasks, with replay of its own."""

from __future__ import annotations

from rft.commands.train import run_training
from rft.config.command_line import asks_for_help, read_line
from rft.config.continued_run import load_continuation

HELP = """\
rft continue: train the result of a run on new tasks, with replay of the run's own tasks.

  rft continue run=runs/quickstart/<time> data.train=week2.jsonl
  rft continue run=runs/quickstart/<time> data.train=week2.jsonl data.test=week2_test.jsonl data.replay=0.3

The configuration is that of the run. All other keys are those of rft train, and change it (rft train --help).
"""


def continue_run(words: list[str]) -> int:
    """Train, and print the progress and the final report.

    Returns:
        The exit code, like that of `rft train`.
    """
    if asks_for_help(words):
        print(HELP, end="")
        return 0
    line = read_line(words, "rft continue")
    return run_training(load_continuation(line.words), ["continue", *words])
