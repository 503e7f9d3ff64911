"""A grid: from `rft train -m key=1,2 other=3,4` to its trials, all of them checked before the first starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from hydra import compose as hydra_compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from rft.config.commands import load_training
from rft.config.compose import initialized, usable_overrides
from rft.config.line import quoted, read_line
from rft.config.presets import COMPOSING, explained
from rft.config.schema import RunConfig
from rft.config.yardstick import comparison_problems
from rft.errors import ConfigError
from rft.redaction import hide_in_words, searched_secrets


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The trials of a grid.

    Example:
        Grid(folder=Path("runs/a/sweep_1"), trials=(["seed=0"], ["seed=1"]), searched=("seed",))
    """

    folder: Path
    """The sweep folder: `hydra.sweep.dir`, resolved."""
    trials: tuple[list[str], ...]
    """The overrides of each trial, in the order in which Hydra numbers them."""
    searched: tuple[str, ...]
    """The keys that differ between trials."""


def read_grid(words: Sequence[str]) -> Grid:
    """Expand the command line of a multirun.

    Raises:
        ConfigError: A word cannot be understood.
    """
    typed = read_line(words, "rft train").words
    usable, found = usable_overrides(typed, allow_sweeps=True)
    if found:
        raise ConfigError("configuration", found)
    with initialized():
        # With the configurations at hand, for `glob(*)`.
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
    tried = [word for words_of_it in choices.values() if len(words_of_it) > 1 for word in words_of_it]
    if found := searched_secrets(tried):
        raise ConfigError("configuration", found)
    return Grid(
        folder=folder,
        trials=tuple(
            [word for word in combination if not word.startswith(("hydra.sweep", "hydra/", "hydra.launcher"))]
            for combination in product(*choices.values())
        ),
        searched=tuple(key for key, words_of_it in choices.items() if len(words_of_it) > 1),
    )


def check_trials(trials: Sequence[Sequence[str]], folder: Path) -> list[RunConfig]:
    """The configuration of every trial, checked.

    Args:
        trials: The overrides of each.
        folder: Where their run folders are going to be.

    Raises:
        ConfigError: With every problem of every trial, each once, with the numbers of the trials that have it; or
            their held-out scores could not be compared.
    """
    problems: dict[str, list[int]] = {}
    runs = []
    for number, overrides in enumerate(trials):
        try:
            runs.append(load_training(overrides, quoted(folder / str(number))))
        except ConfigError as error:
            for problem in error.problems:
                problems.setdefault(problem, []).append(number)
    if problems:
        raise ConfigError("sweep, nothing was started", tell_by_trial(problems, len(trials)))
    if found := comparison_problems(runs):
        raise ConfigError("sweep, nothing was started", found)
    return runs


def tell_by_trial(problems: dict[str, list[int]], total: int) -> list[str]:
    """Problems with the trials that have them; where all have one, it is told as of a single run."""
    return [
        problem if len(numbers) == total else f"{problem} (in trial {', '.join(map(str, numbers))} of 0 to {total - 1})"
        for problem, numbers in problems.items()
    ]


def _choices(override: Override, word: str) -> list[str]:
    """What a word of the command line may be in a trial."""
    key = override.get_key_element().lstrip("+")
    if not override.is_sweep_override():
        return [word]
    if not override.is_discrete_sweep():
        raise ConfigError(
            "configuration",
            [f"{override.input_line}: a grid needs single values; an interval is for rft sweep, in sweep.space"],
        )
    return [f"{key}={value}" for value in override.sweep_string_iterator()]
