"""Grids: expands `rft train -m key=1,2 other=3,4` into trials, and checks all trials before the first one starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TypeVar

from hydra import compose as hydra_compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from rft.config.command_line import quoted, read_line
from rft.config.commands import load_training
from rft.config.comparable_scores import comparison_problems
from rft.config.compose import initialized, usable_overrides
from rft.config.presets import COMPOSING, explained
from rft.config.schema import RunConfig
from rft.errors import ConfigError, UsageError
from rft.redaction import hide_in_words, searched_secrets

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The trials of a grid.

    Example:
        Grid(folder=Path("runs/a/sweep_1"), trials=(["seed=0"], ["seed=1"]), searched=("seed",))
    """

    folder: Path
    """The sweep folder: `hydra.sweep.dir`, resolved."""
    trials: tuple[list[str], ...]
    """The overrides of each trial, in Hydra's order."""
    searched: tuple[str, ...]
    """The keys that differ between trials."""


def read_grid(words: Sequence[str]) -> Grid:
    """Expand the command line of a multirun.

    Raises:
        ConfigError: An argument is invalid.
    """
    typed = read_line(words, "rft train").words
    usable, problems = usable_overrides(typed, allow_sweeps=True)
    if problems:
        raise ConfigError("configuration", problems)
    with initialized():
        # `glob(*)` needs the loader to list presets.
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        parsed = parser.parse_overrides(usable)
        fixed = [text for text, override in zip(usable, parsed, strict=True) if not override.is_sweep_override()]
        try:
            composed = hydra_compose("train", fixed, return_hydra_config=True)
            folder = Path(str(OmegaConf.select(composed, "hydra.sweep.dir"))).absolute()
        except COMPOSING as error:
            raise ConfigError("configuration", hide_in_words([explained(error)], {})) from error
    choices = {
        override.get_key_element().lstrip("+"): _choices(override, word.lstrip("+"))
        for override, word in zip(parsed, typed, strict=True)
    }
    varied = [word for key_words in choices.values() if len(key_words) > 1 for word in key_words]
    if problems := searched_secrets(varied):
        raise ConfigError("configuration", problems)
    return Grid(
        folder=folder,
        trials=tuple(
            [word for word in combination if not word.startswith(("hydra.sweep", "hydra/", "hydra.launcher"))]
            for combination in product(*choices.values())
        ),
        searched=tuple(key for key, key_words in choices.items() if len(key_words) > 1),
    )


def check_trials(trials: Sequence[Sequence[str]], folder: Path) -> list[RunConfig]:
    """Load and check the configuration of every trial.

    Args:
        trials: The overrides of each trial.
        folder: The parent of the run folders.

    Raises:
        ConfigError: Trials have problems (each problem is listed once, with the numbers of its trials), or their
            held-out scores cannot be compared.
    """
    runs = for_each_trial(
        trials, lambda number: load_training(trials[number], quoted(folder / str(number))), ConfigError
    )
    if incomparable := comparison_problems(runs):
        raise ConfigError("sweep not started", incomparable)
    return runs


def for_each_trial(trials: Sequence[object], make: Callable[[int], T], error_class: type[UsageError]) -> list[T]:
    """Call `make` with the number of each trial and return its results.

    Args:
        trials: The trials.
        make: Checks a trial; raises `UsageError`.
        error_class: The class of the error that contains all problems.

    Raises:
        UsageError: Contains all problems of all trials, each once, with the numbers of its trials.
    """
    problems: dict[str, list[int]] = {}
    results = []
    for number in range(len(trials)):
        try:
            results.append(make(number))
        except UsageError as error:
            for problem in error.problems:
                problems.setdefault(problem, []).append(number)
    if problems:
        raise error_class("sweep not started", _with_trial_numbers(problems, len(trials)))
    return results


def _with_trial_numbers(problems: Mapping[str, list[int]], total: int) -> list[str]:
    """Append the numbers of the affected trials to each problem, unless it affects all of them."""
    return [
        problem if len(numbers) == total else f"{problem} (in trial {', '.join(map(str, numbers))} of 0 to {total - 1})"
        for problem, numbers in problems.items()
    ]


def _choices(override: Override, word: str) -> list[str]:
    """Return the overrides that an argument expands to."""
    key = override.get_key_element().lstrip("+")
    if not override.is_sweep_override():
        return [word]
    if not override.is_discrete_sweep():
        raise ConfigError(
            "configuration",
            [f"{override.input_line}: a grid needs single values; rft sweep searches intervals (sweep.space)"],
        )
    return [f"{key}={value}" for value in override.sweep_string_iterator()]
