"""The commands of `rft`, one file each.

The file of a command has a function of the same name. It takes the words after the command, prints what the functions
of `rft.api` return, and returns the exit code.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command of `rft`. Its file is imported when it runs.

    Example:
        Command(name="serve-grader", summary="answer with rewards over HTTP")  # rft/commands/serve_grader.py
    """

    name: str
    """The word after `rft`."""
    summary: str
    """What it does, in one line of `rft --help`."""
    has_options: bool = False
    """Whether it takes options instead of a configuration. Its file then has a function `parser`."""

    def run(self, words: list[str]) -> int:
        """Run the command with the words after its name; return the exit code."""
        return int(getattr(self._module(), self._python_name)(words))

    @property
    def parser(self) -> Callable[[], ArgumentParser] | None:
        """Makes the parser of the options; None if the command has a configuration."""
        return (lambda: self._module().parser()) if self.has_options else None

    def _module(self) -> ModuleType:
        return importlib.import_module(f"{__name__}.{self._python_name}")

    @property
    def _python_name(self) -> str:
        return self.name.replace("-", "_")


COMMANDS = (
    Command(name="train", summary="train an adapter on tasks that a grader scores"),
    Command(name="check", summary="look at all that a training run needs, without starting it"),
    Command(name="sweep", summary="search for good settings by many runs"),
    Command(name="evaluate", summary="measure a base model or an adapter on a task file"),
    Command(
        name="sample",
        summary="try a base model or an adapter on a prompt",
        has_options=True,
    ),
    Command(name="merge", summary="make a plain model folder of an adapter and its base model"),
    Command(name="grade", summary="grade recorded completions, such as those of a run, with other graders"),
    Command(
        name="audit",
        summary="probe graders before they train anything: what would a model find out about them?",
    ),
    Command(name="serve-grader", summary="answer with rewards over HTTP"),
    Command(name="config", summary="say what a key of the configuration means, and what it may be"),
    Command(name="completion", summary="print the script for tab completion in bash, zsh or fish"),
    Command(
        name="doctor",
        summary="find what keeps this machine from running rft",
        has_options=True,
    ),
)
"""Every command, in the order of `rft --help`."""
