"""Runs commands that have a configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from rft.commands.guard import guarded
from rft.config.catalog import command_of
from rft.config.command_line import asks_for_help, read_line
from rft.config.commands import with_hydra

Config = TypeVar("Config")


def configured(
    config_name: str,
    words: list[str],
    load: Callable[[list[str], str | None], Config],
    run: Callable[[Config], int],
) -> int:
    """Run a command with its configuration; Hydra handles its own options.

    Args:
        config_name: The primary file in `conf/`, without `.yaml`.
        words: The arguments of the command.
        load: Composes and checks the configuration, given overrides and an optional run folder from Hydra.
        run: Runs the command and returns its exit code.
    """
    if asks_for_help(words):
        return print_help(config_name, words)
    line = read_line(words, command_of(config_name))
    if not line.options:
        return run(load(line.words, None))
    return with_hydra(
        config_name,
        words,
        lambda overrides, folder: guarded(lambda job: run(load(job, folder)), overrides),
    )


def print_help(config_name: str, words: list[str]) -> int:
    """Print the help of a command with a configuration; return the exit code, 0."""
    from rft.config.help import help_text

    print(help_text(config_name, words), end="")
    return 0
