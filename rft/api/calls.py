"""Shared parts of the functions of `rft`: overrides, console and Ctrl-C."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from rich.console import Console

from rft.config.overrides import Overrides, to_words
from rft.errors import ConfigError
from rft.terminal.interrupt import EXIT_CODES


class _Runnable(Protocol):
    """A configuration of something that runs."""

    dry_run: bool


Config = TypeVar("Config", bound=_Runnable)


def configuration(load: Callable[[Sequence[str]], Config], overrides: Sequence[Overrides]) -> Config:
    """Compose and check a configuration.

    Args:
        load: Takes the words of a command line.
        overrides: Texts and mappings.

    Raises:
        ConfigError: Contains all problems.
    """
    config = load(to_words(overrides))
    refuse_dry_run(is_dry_run=config.dry_run)
    return config


def refuse_dry_run(*, is_dry_run: bool) -> None:
    """Refuse `dry_run=true`, which returns a plan instead of the result of a function.

    Raises:
        ConfigError: It is a dry run.
    """
    if is_dry_run:
        problem = "dry_run=true: in Python, rft.check plans a training run; the other functions have no dry run"
        raise ConfigError("configuration", [problem])


def make_console(*, quiet: bool) -> Console:
    """Standard output: a live display on a terminal, plain lines in a notebook, nothing if `quiet`."""
    # Jupyter sets FORCE_COLOR, by which rich would take a cell for a terminal.
    is_terminal = None if sys.stdout.isatty() else False
    return Console(quiet=quiet, force_jupyter=False, force_terminal=is_terminal)


def pass_on_interrupt(exit_code: int | None) -> None:
    """Let the signal that ended a call take its usual effect, now that everything is closed.

    Args:
        exit_code: Exit code of the `Interrupt`; None if no signal arrived.

    Raises:
        KeyboardInterrupt: It was Ctrl-C.
    """
    for number, code in EXIT_CODES.items():
        if code == exit_code:
            signal.raise_signal(number)
