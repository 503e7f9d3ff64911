"""`rft continue`: trains the result of a run on new tasks, with replay of the run's own tasks.

The continuation is an ordinary run. Its configuration is that of the earlier run, with these changes:

- `start` is the earlier run.
- The new tasks become a family of `data.mixture`. The tasks of the earlier run, or its families, become older families:
  `data.replay` takes a share of each step from them, and their test tasks are measured before and after.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rft.config.adapter_settings import settings_of_run
from rft.config.commands import load_training
from rft.config.overrides import to_words
from rft.config.recorded_words import key_of
from rft.config.resume import read_config_of
from rft.config.samplers import SAMPLERS
from rft.config.samplers.base import OF_THE_RUN
from rft.config.schema import RunConfig
from rft.errors import ConfigError, OutputError
from rft.models.adapter_folder import whole_model
from rft.redaction import hidden_keys, restored

REPLAY = 0.1
"""Share of each step from older tasks, unless `data.replay` is given or the earlier run has one."""
SPLITS = ("train", "validation", "test")
_OF_THE_RUN = ("output_dir", "resume", "or_resume", "start", "start_mode", "storage", "dry_run")
"""Keys of the earlier run that its continuation does not take over."""
_GROUPS = ("learner", "sampler", "cluster", "retrieval")


def load_continuation(words: Sequence[str]) -> RunConfig:
    """Load the configuration of a run that continues another one with new tasks.

    Args:
        words: `run=<folder>`, `data.train=<new tasks>`, and further keys of `rft train`.

    Raises:
        ConfigError: Contains all problems.
        OutputError: `run` names no run.
    """
    given = {key_of(word): word.partition("=")[2].strip("'\"") for word in words}
    problems: list[str] = []
    if not given.get("run"):
        problems.append("run is missing: the run folder to continue; write run=<folder>")
    if not given.get("data.train"):
        problems.append("data.train is missing: the new tasks; for the same tasks use rft train start=<folder>")
    problems += [f"{key}: rft continue sets it; leave it out" for key in ("start", "data.mixture") if key in given]
    if problems:
        raise ConfigError("configuration", problems)
    folder = Path(given["run"])
    values = _values_of(folder, given)
    new = {split: given[f"data.{split}"] for split in SPLITS if f"data.{split}" in given}
    values["data"] |= _families(values, new)
    values |= {"start": str(folder), "start_mode": "continue" if whole_model(folder) is None else "merge"}
    values["model"]["path"] = None  # the start has it
    others = [word for word in words if key_of(word) not in ("run", *(f"data.{split}" for split in SPLITS))]
    return load_training([*as_words(values, given), *others])


def _values_of(folder: Path, given: Mapping[str, str]) -> dict[str, Any]:
    """Return the configuration of the earlier run, as far as its continuation takes it over.

    Raises:
        ConfigError: The run has secrets that are not given again.
        OutputError: The folder contains no run.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise OutputError("run", [f"run={folder}: the folder contains no run (no config.yaml)"])
    values = read_config_of(file)
    if missing := [key for key in hidden_keys(values) if key not in given]:
        problems = [f"{key}: a secret, which config.yaml does not hold; give it again" for key in missing]
        raise ConfigError("run", problems)
    values = {key: value for key, value in restored(values)[0].items() if key not in _OF_THE_RUN}
    for name in ("rank", "alpha"):  # the start has them, too
        values["learner"]["adapter"].pop(name, None)
    if values["model"].get("chat_template"):  # its file may be gone
        values["model"]["chat_template"] = settings_of_run(folder)["model.chat_template"]
    return values


def _families(values: Mapping[str, Any], new: Mapping[str, str]) -> dict[str, Any]:
    """Return the keys of `data` for the older families and the new one."""
    data, graders = values["data"], list(values["graders"])
    older = {name: family | {"older": True} for name, family in (data.get("mixture") or {}).items()}
    if not older:
        own = {"source": data["train"], "validation": data["validation"], "test": data["test"]}
        older = {_name(data["train"], ()): own | {"columns": data["columns"], "graders": graders, "older": True}}
    sources = {"source": new["train"], "validation": new.get("validation"), "test": new.get("test")}
    family = sources | {"graders": graders}
    return {
        "train": None,
        "validation": None,
        "test": None,
        "mixture": older | {_name(new["train"], older): family},
        "replay": data.get("replay") or REPLAY,
    }


def _name(source: str, taken: Mapping[str, Any] | Sequence[str]) -> str:
    """Return a name for the family of a source: `week2` for `tasks/week2.jsonl`, `gcd` for `embedded:gcd/train`."""
    kind, _, path = source.partition(":")
    path = path.partition("/")[0] if kind == "embedded" else Path(kind).name.partition(".")[0]
    name = re.sub(r"[^\w-]", "_", path) or "tasks"
    names = [name, *(f"{name}_{number}" for number in range(2, len(taken) + 2))]
    return next(name for name in names if name not in taken)


def as_words(values: Mapping[str, Any], given: Mapping[str, str]) -> list[str]:
    """Return the arguments of `rft train` for a configuration, without the sections whose preset is given.

    Of a sampler that is replaced, the keys that shape completions stay.
    """
    kept = {key: value for key, value in values.items() if key not in given}
    presets = [f"{group}={kept[group]['kind']}" for group in _GROUPS if group in kept]
    if (sampler := SAMPLERS.get(given.get("sampler", ""))) is not None:
        shared = OF_THE_RUN & sampler.model_fields.keys() & values["sampler"].keys()
        kept["sampler"] = {name: values["sampler"][name] for name in sorted(shared)}
    return [*presets, *to_words([kept])]
