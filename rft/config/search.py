"""`rft sweep`: the words of the command line taken apart, and the space that is searched."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from rft.config.compose import HOW_TO_WRITE, load
from rft.config.schema import SweepConfig
from rft.errors import ConfigError
from rft.redaction import hide_in_words, searched_secrets

OF_THE_SWEEP = r"\+*(sweep|sweep\..*|output_dir|resume|dry_run|hydra\.searchpath)="
"""Words for the sweep itself; the others are for its trials."""
NO_SPACE = (
    "sweep.space is empty: choose a preset, as sweep=lr_optuna, or give a key several values, as "
    "learner.learning_rate='tag(log, interval(1e-5, 1e-3))' or loop.completions_per_prompt=4,8"
)
WHAT_MAY_BE = (
    "allowed are interval(low, high), tag(log, interval(low, high)), int(interval(low, high)), range and choice"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """Numbers between two.

    Example:
        Between(low=1e-5, high=1e-3, is_logarithmic=True)
    """

    low: float
    """The lowest."""
    high: float
    """The highest."""
    step: int | None = None
    """Distance between whole numbers; None for any number."""
    is_logarithmic: bool = False
    """Whether factors count, not differences."""

    @property
    def examples(self) -> list[str]:
        """The ends, as on the command line."""
        return [text_of(int(end) if self.step else end) for end in (self.low, self.high)]


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOf:
    """Some values.

    Example:
        OneOf(values=("4", "8"))
    """

    values: tuple[str, ...]
    """As on the command line."""

    @property
    def examples(self) -> list[str]:
        """All of them."""
        return list(self.values)


Range = Between | OneOf


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What `rft sweep` is asked to do.

    Example:
        Search(config=SweepConfig(...), words=("experiment=quickstart",), space={"seed": OneOf(values=("0", "1"))})
    """

    config: SweepConfig
    """The sweep's own keys."""
    words: tuple[str, ...]
    """What every trial is given."""
    space: Mapping[str, Range]
    """What differs between them, by key."""

    def corners(self) -> list[list[str]]:
        """Overrides of runs that show what may be wrong: the first value of each key, and every other one in turn."""
        first = {key: range.examples[0] for key, range in self.space.items()}
        changed = [{key: value} for key, range in self.space.items() for value in range.examples[1:]]
        return [self.overrides(first | change) for change in [{}, *changed]]

    def overrides(self, values: Mapping[str, str]) -> list[str]:
        """What a trial is given."""
        return [*self.words, *(f"{key}={value}" for key, value in values.items())]


def read_search(words: Sequence[str]) -> Search:
    """Take the words of `rft sweep` apart.

    Raises:
        ConfigError: With everything that is wrong with the sweep's own keys and with the space.
    """
    own = [word for word in words if re.match(OF_THE_SWEEP, word)]
    given = dict(_several(word for word in words if word not in own))
    fixed = [word for word in words if word not in own and key_of(word) not in given]
    # Presets of the user's own are for trials too.
    fixed = [*(word for word in own if "hydra.searchpath=" in word), *fixed]
    found: list[str] = []
    config = load(SweepConfig, "sweep", own, lambda _: [])
    space: dict[str, Range] = {}
    single = {key_of(word) for word in fixed}
    for key, text in {**dict(_flat(config.sweep.space)), **given}.items():
        if key in single:  # the command line wins over the preset
            continue
        try:
            space[key] = _range(OverridesParser.create().parse_override(f"{key}={text}"))
        except (HydraException, ValueError) as error:
            found.append(f"{_shown(f'sweep.space.{key}={text}', error)}{WHAT_MAY_BE}")
    tried = [f"{key}={value}" for key, range in space.items() for value in range.examples]
    found += searched_secrets(tried)
    if not space and not found and config.resume is None:
        found.append(NO_SPACE)
    if found:
        raise ConfigError("configuration", found)
    return Search(config=config, words=tuple(fixed), space=space)


def key_of(word: str) -> str:
    """The key of an override, as on the command line."""
    return word.lstrip("+~").partition("=")[0]


def text_of(value: float | str) -> str:
    """A value as on the command line; of a number, four digits that count."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _several(words: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Keys that are given several values, and those."""
    for word in words:
        try:
            override = OverridesParser.create().parse_override(word)
        except HydraException as error:
            raise ConfigError("configuration", [f"{_shown(word, error)}{HOW_TO_WRITE}"]) from error
        if override.is_sweep_override():
            yield key_of(word), word.partition("=")[2]


def _shown(word: str, error: Exception) -> str:
    """A word and what is wrong with it; the reason may quote the word, so it is left out where that holds a secret."""
    (shown,) = hide_in_words([word], {})
    return f"{shown}: {' '.join(str(error).split())}; " if shown == word else f"{shown}: "


def _flat(space: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in space.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{key}.")
        else:
            yield key, str(value)


def _range(override: Override) -> Range:
    match override.value():
        case ChoiceSweep():
            return OneOf(values=tuple(str(value) for value in override.sweep_string_iterator()))
        case RangeSweep(start=start, stop=stop, step=step) if isinstance(start, int) and isinstance(stop, int):
            high = start + (stop - 1 - start) // int(step) * int(step)
            return Between(low=start, high=high, step=int(step))
        case IntervalSweep(start=float(low) | int(low), end=float(high) | int(high), tags=tags):
            if low >= high:
                raise ValueError(f"{low} is not less than {high}")
            if "log" in tags and low <= 0:
                raise ValueError(f"a logarithmic scale has no {low}")
            is_whole = isinstance(low, int) and isinstance(high, int)
            return Between(low=low, high=high, step=1 if is_whole else None, is_logarithmic="log" in tags)
    raise ValueError("this is a single value")
