"""The commands of `rft`, one file each.

The file of a command has a function of the same name. It takes the arguments, prints the results of functions of
`rft.api`, and returns the exit code.
"""

from __future__ import annotations

import importlib
import keyword
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command of `rft`. Its file is imported only to run it.

    Example:
        Command(name="serve-grader", summary="serve rewards over HTTP")  # rft/commands/serve_grader.py
    """

    name: str
    """Name of the command."""
    summary: str
    """Summary in one line of `rft --help`."""
    has_options: bool = False
    """Whether the command has options instead of a configuration; its file then has a function `parser`."""

    def run(self, words: list[str]) -> int:
        """Run the command with its arguments; return the exit code."""
        return int(getattr(self._module(), self.python_name)(words))

    @property
    def parser(self) -> Callable[[], ArgumentParser] | None:
        """Return the parser of the options; None if the command has a configuration."""
        return (lambda: self._module().parser()) if self.has_options else None

    def _module(self) -> ModuleType:
        return importlib.import_module(f"{__name__}.{self.python_name}")

    @property
    def python_name(self) -> str:
        """The name of its file and function; `continue` is a word of Python."""
        name = self.name.replace("-", "_")
        return f"{name}_run" if keyword.iskeyword(name) else name


COMMANDS = (
    Command(name="train", summary="train an adapter on tasks that a grader scores"),
    Command(name="check", summary="check everything that a training run needs, without starting it"),
    Command(name="sweep", summary="search for good settings with many runs"),
    Command(name="evaluate", summary="measure a base model or an adapter on a task file"),
    Command(
        name="compare",
        summary="compare what runs measured on the same tasks, paired, with intervals and tests",
        has_options=True,
    ),
    Command(
        name="benchmark",
        summary="measure a base model and its adapter on tasks of lm-evaluation-harness",
        has_options=True,
    ),
    Command(
        name="view",
        summary="write one HTML file that shows runs: curves, results, and their completions",
        has_options=True,
    ),
    Command(name="certify", summary="sign what a run made: its files, sources, code and results"),
    Command(name="verify", summary="check a certificate: its signature, and everything that it lists"),
    Command(name="pipeline", summary="train in stages, each from the result of the one before"),
    Command(name="continue", summary="train the result of a run on new tasks, with replay of its own"),
    Command(
        name="sample",
        summary="try a base model or an adapter on a prompt",
        has_options=True,
    ),
    Command(name="play", summary="play one episode of an environment, shown turn by turn"),
    Command(name="checkpoints", summary="list and verify the checkpoints of a run", has_options=True),
    Command(name="merge", summary="merge an adapter into its base model as a plain model folder"),
    Command(name="export", summary="write a result as adapter, merged model or GGUF, and push it to the hub"),
    Command(name="grade", summary="grade recorded completions, such as those of a run, with other graders"),
    Command(
        name="data", summary="look at task files before training: leakage, duplicates, personal data; clean, split"
    ),
    Command(name="index", summary="make an index of passages, and measure what it finds"),
    Command(name="pairs", summary="write training rows from the completions of a run: preferences, or demonstrations"),
    Command(
        name="audit",
        summary="probe graders before training, to discover how a model could exploit them",
    ),
    Command(name="feasibility", summary="sample training tasks, and say whether a run is worth starting"),
    Command(name="serve-grader", summary="serve rewards over HTTP"),
    Command(name="status", summary="show what a run does right now", has_options=True),
    Command(name="config", summary="explain a key of the configuration"),
    Command(name="completion", summary="print a script for tab completion in bash, zsh or fish"),
    Command(
        name="doctor",
        summary="check whether this machine can run rft",
        has_options=True,
    ),
)
"""Every command, in the order of `rft --help`."""
