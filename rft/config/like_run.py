"""The configuration that measures a base model or an adapter like a run measured its own: `rft compare`.

Tasks, graders, seed and sampling options are those of the run. The settings that shape prompts come from the run that
trained the adapter, if that run is there; a base model gets those of the run that it is measured like. Keys of the
command line are stronger than both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rft.config.adapter_settings import KEYS, RETRIEVAL, run_folder_of
from rft.config.commands import load_evaluation
from rft.config.continued_run import as_words
from rft.config.overrides import to_words
from rft.config.recorded_words import key_of
from rft.config.resume import read_config_of
from rft.config.schema import EvaluateConfig
from rft.errors import ConfigError
from rft.redaction import hidden_keys, restored

PRESETS = ("cluster", "data", "retrieval", "sampler", "seed")
"""Keys that may stand without a dot."""
SECTIONS = (
    "cluster",
    "data",
    "environment",
    "evaluation",
    "graders",
    "grading",
    "model",
    "retrieval",
    "sampler",
    "tools",
)
"""Sections of the keys with a dot."""
_OF_THE_PLACE = ("adapter", "dry_run", "name", "output_dir")
_OF_PROMPTS = ("data.format", "data.system", "data.shots", "model.chat_template_kwargs")
"""Keys of `KEYS` that an adapter's own run sets; the others are options of sampling, or the adapter's own."""


def is_key(word: str) -> bool:
    """Whether an argument is a key with a value, such as `sampler=fake`. Others are places, such as `a=runs/a`."""
    key, equals, _ = word.partition("=")
    section, dot, _ = key.lstrip("+~").partition(".")
    return bool(equals) and section in (SECTIONS if dot else PRESETS)


def load_like(
    run: Path | None, keys: Sequence[str], *, model: str | None, adapter: str | None, output_dir: str
) -> EvaluateConfig:
    """Load the configuration that measures a base model or an adapter.

    Args:
        run: A folder of `rft train` or `rft evaluate`; None if only the keys say what to measure.
        keys: Keys of the command line.
        model: The base model, if there is no adapter.
        adapter: A run folder or an adapter folder.
        output_dir: The folder of the measurement.

    Raises:
        ConfigError: Contains all problems.
        UsageError: A run's configuration cannot be read.
    """
    given = {key_of(word): word.partition("=")[2].strip("'\"") for word in keys}
    if adapter is None and "model.path" in given:
        raise ConfigError("configuration", [f"model.path: {model} is a base model by itself; leave model.path out"])
    words = [] if run is None else as_words(_values_of(run, given, adapter), given)
    keys = [word for word in keys if run is None or word not in _of_added_graders(run, keys)]
    place = {"adapter": adapter} if adapter is not None else {"model.path": model}
    return load_evaluation([*words, *keys, *to_words([{**place, "output_dir": output_dir}])])


def words_of_graders(keys: Sequence[str]) -> dict[str, list[str]]:
    """Return the keys of each grader that the command line names with `graders.<name>.use`, by its name."""
    by_name: dict[str, list[str]] = {}
    for word in keys:
        section, _, name = key_of(word).partition(".")
        if section == "graders" and name:
            by_name.setdefault(name.partition(".")[0], []).append(word)
    return {name: own for name, own in by_name.items() if f"graders.{name}.use" in map(key_of, own)}


def _of_added_graders(run: Path, keys: Sequence[str]) -> list[str]:
    """Return the keys of graders that a run lacks. They grade what was measured, so they are no part of it."""
    graders = read_config_of(run / "config.yaml").get("graders") or {}
    return [word for name, own in words_of_graders(keys).items() if name not in graders for word in own]


def _values_of(run: Path, given: Mapping[str, str], adapter: str | None) -> dict[str, Any]:
    """Return what a measurement takes over from a run.

    Raises:
        ConfigError: The run has secrets that are not given again, or its held-out tasks cannot be measured alone.
        UsageError: Its configuration cannot be read.
    """
    values = read_config_of(run / "config.yaml")
    values = {
        name: values[name] for name in EvaluateConfig.model_fields if name in values and name not in _OF_THE_PLACE
    }
    problems = [
        f"{key}: a secret, which {run / 'config.yaml'} does not hold; give it again"
        for key in hidden_keys(values)
        if key not in given
    ]
    values = dict(restored(values)[0])
    data = values["data"]
    families = [data, *(data.get("mixture") or {}).values()]
    for own in families if not any(own.get("test") for own in families) else []:
        own["test"] = own.get("validation")
    if not any(own.get("test") for own in families) and not {"data", "data.test"} & given.keys():
        problems.append(
            f"{run}: its held-out tasks were split off its training tasks, so nothing else can be measured on them; "
            "give data.test=<file> and runs that measured that file"
        )
    if problems:
        raise ConfigError("configuration", problems)
    values["model"].pop("path", None)
    if adapter is not None:
        _leave_out(values, ["model.chat_template"])
        if run_folder_of(Path(adapter)) is not None:
            _leave_out(values, _OF_PROMPTS)
            values.pop(RETRIEVAL, None)
    return values


def _leave_out(values: dict[str, Any], keys: Sequence[str]) -> None:
    for key in keys:
        assert key in KEYS
        section, _, name = key.partition(".")
        values[section].pop(name, None)
