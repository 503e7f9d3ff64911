"""Parses the arguments of `rft sweep` and its search space."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from rft.config.compose import HOW_TO_WRITE, load
from rft.config.pipeline_arguments import Stage
from rft.config.recorded_words import key_of
from rft.config.schema import SweepConfig
from rft.errors import ConfigError
from rft.redaction import hide_in_words, searched_secrets

OF_THE_SWEEP = r"\+*(sweep|sweep\..*|output_dir|resume|or_resume|dry_run|hydra\.searchpath)="
"""Pattern of the sweep's own arguments; all others belong to its trials."""
NO_SPACE = (
    "sweep.space is empty: select a preset such as sweep=lr_optuna, or give a key several values, as in "
    "learner.learning_rate='tag(log, interval(1e-5, 1e-3))' or loop.completions_per_prompt=4,8"
)
ALLOWED = "allowed are interval(low, high), tag(log, interval(low, high)), int(interval(low, high)), range and choice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """A range of numbers.

    Example:
        Between(low=1e-5, high=1e-3, is_logarithmic=True)
    """

    low: float
    """Lowest value."""
    high: float
    """Highest value."""
    step: int | None = None
    """Distance between integers; None for a continuous range."""
    is_logarithmic: bool = False
    """Whether the scale is logarithmic."""

    @property
    def examples(self) -> list[str]:
        """Both ends, in the notation of the command line."""
        return [text_of(int(end) if self.step else end) for end in (self.low, self.high)]


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOf:
    """A choice of values.

    Example:
        OneOf(values=("4", "8"))
    """

    values: tuple[str, ...]
    """As on the command line."""

    @property
    def examples(self) -> list[str]:
        """All values."""
        return list(self.values)


Range = Between | OneOf


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """The parsed arguments of `rft sweep`.

    Example:
        Search(config=SweepConfig(...), words=("experiment=quickstart",), space={"seed": OneOf(values=("0", "1"))})
    """

    config: SweepConfig
    """The sweep's own keys."""
    words: tuple[str, ...]
    """Arguments of every trial."""
    space: Mapping[str, Range]
    """The searched range of each key."""
    before: tuple[Stage, ...] = ()
    """The stages of a pipeline that run before the trials, which are its last stage."""
    stage: Stage | None = None
    """The last stage, without the searched keys; None for a search over runs."""

    def corners(self) -> list[list[str]]:
        """Return overrides of runs to check: the first value of every key, and each other value on its own."""
        first = {key: range.examples[0] for key, range in self.space.items()}
        changed = [{key: value} for key, range in self.space.items() for value in range.examples[1:]]
        return [self.overrides(first | change) for change in [{}, *changed]]

    def overrides(self, values: Mapping[str, str]) -> list[str]:
        """Return the overrides of a trial."""
        return [*self.words, *(f"{key}={value}" for key, value in values.items())]


def read_search(words: Sequence[str], *, replaceable: Collection[str] = ()) -> Search:
    """Parse the arguments of a search over runs.

    Args:
        words: The arguments of `rft sweep`.
        replaceable: Keys whose value among the arguments is a default, which `sweep.space` replaces.

    Raises:
        ConfigError: The sweep's own keys or its space have problems.
    """
    sweep_words = [word for word in words if re.match(OF_THE_SWEEP, word)]
    given = dict(with_several_values(word for word in words if word not in sweep_words))
    fixed = [word for word in words if word not in sweep_words and key_of(word) not in given]
    # Trials also use the presets of the user.
    fixed = [*(word for word in sweep_words if "hydra.searchpath=" in word), *fixed]
    problems: list[str] = []
    config = load(SweepConfig, "sweep", sweep_words, lambda _: [])
    space: dict[str, Range] = {}
    single = {key_of(word) for word in fixed} - set(replaceable)
    for key, text in {**dict(_flat(config.sweep.space)), **given}.items():
        if key in single:  # the command line overrides the preset
            continue
        try:
            space[key] = _range(OverridesParser.create().parse_override(f"{key}={text}"))
        except (HydraException, ValueError) as error:
            problems.append(f"{_shown(f'sweep.space.{key}={text}', error)}{ALLOWED}")
    tested = [f"{key}={value}" for key, range in space.items() for value in range.examples]
    problems += searched_secrets(tested)
    if not space and not problems and config.resume is None:
        problems.append(NO_SPACE)
    if problems:
        raise ConfigError("configuration", problems)
    return Search(config=config, words=tuple(word for word in fixed if key_of(word) not in space), space=space)


def text_of(value: float | str) -> str:
    """Return a value in the notation of the command line; floats have four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def with_several_values(words: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each key with several values, and these values.

    Raises:
        ConfigError: A word does not follow Hydra's grammar.
    """
    for word in words:
        try:
            override = OverridesParser.create().parse_override(word)
        except HydraException as error:
            raise ConfigError("configuration", [f"{_shown(word, error)}{HOW_TO_WRITE}"]) from error
        if override.is_sweep_override():
            yield key_of(word), word.partition("=")[2]


def _shown(word: str, error: Exception) -> str:
    """Return an argument and the parser's reason. The reason may quote a secret; in that case, omit it."""
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
                raise ValueError(f"a logarithmic scale cannot start at {low}")
            is_whole = isinstance(low, int) and isinstance(high, int)
            return Between(low=low, high=high, step=1 if is_whole else None, is_logarithmic="log" in tags)
    raise ValueError("this is a single value")
