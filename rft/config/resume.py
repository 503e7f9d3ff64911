"""Loads the configuration of a resumed run: that of the original run, with the permitted changes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from rft.config.compose import check, compose, usable_overrides
from rft.config.epochs import both_lengths
from rft.config.learners.base import with_adapter_keys
from rft.config.presets import conf_dir
from rft.config.problems import run_problems
from rft.config.recorded_yaml import content_of, parse_yaml
from rft.config.schema import RunConfig
from rft.errors import ConfigError, OutputError, UsageError
from rft.redaction import hidden_keys, hide_in_words, restored
from rft.storage import ANSWER_S, Place, address_problems, below, is_address
from rft.waiting import within

MAY_CHANGE_ON_RESUME = (
    "dry_run",
    "audit",
    "storage",
    "storage_timeout_s",
    "loop.steps",
    "loop.num_epochs",
    "loop.checkpoint_every_steps",
    "loop.keep_checkpoints",
    "loop.notice",
    "loop.stop_timeout_s",
    "evaluation.",
    "logging.",
    "cluster.",
)
"""Keys that may be given with `resume`; all others would define another run."""


def load_resumed(given: str, overrides: Sequence[str]) -> RunConfig:
    """Load the configuration of a resumed run. If it continues from its copy, `resume` differs from `output_dir`.

    Args:
        given: A run folder, or a copy of a run in storage.
        overrides: The other arguments of the command line.

    Raises:
        ConfigError: Contains all problems.
        OutputError: The folder contains no run.
        StorageError: The copy cannot be read.
    """
    given = given if is_address(given) else str(Path(given))
    values, copy = _saved(given)
    usable, refused = usable_overrides(overrides)
    hidden = hidden_keys(values)
    allowed = MAY_CHANGE_ON_RESUME if copy is None else (*MAY_CHANGE_ON_RESUME, "output_dir")
    values["resume"] = given if copy is None else copy.address
    values["or_resume"] = False
    if copy is None:
        values["output_dir"] = given
    else:
        values["storage"] = copy.address
    parsed = OverridesParser.create().parse_overrides(usable)
    # Presets precede single keys, as on any command line.
    for override in sorted(parsed, key=lambda override: not _is_preset(override)):
        *sections, last = str(override.key_or_group).split(".")
        if override.key_or_group in hidden and not override.is_delete():
            _put(values, [*sections, last], override.value())
            continue
        if override.is_delete() or not (_is_preset(override) or may_change(override.key_or_group, allowed)):
            names = ", ".join(f"{key}*" if key.endswith(".") else key for key in allowed)
            (word,) = hide_in_words([str(override.input_line).lstrip("+")], {})
            refused.append(f"{word}: cannot be changed on resume; allowed are {names}")
            continue
        section = values
        for name in sections:
            if not isinstance(section.get(name), dict):
                section[name] = {}
            section = section[name]
        section[last] = _preset(override) if _is_preset(override) else override.value()
    values, unknown = restored(values)
    keys = {str(override.key_or_group) for override in parsed}
    run = check(
        RunConfig,
        values,
        lambda run: [*both_lengths(run, keys), *run_problems(run)],
        [*refused, *unknown],
        wrong=[line.partition(":")[0] for line in unknown],
    )
    is_new = any(override.key_or_group == "storage" for override in parsed)
    return with_place(run) if is_new else run


def _saved(given: str) -> tuple[dict[str, Any], Place | None]:
    """Return the original configuration of a run, and its copy in storage if `given` is the copy.

    A copy on a mounted file system has a path like a run folder. The configuration tells the two apart.
    """
    if is_address(given):
        if problems := address_problems("resume", given):
            raise ConfigError("configuration", problems)
        copy = Place(given)
        return read_copy(copy), copy
    file = Path(given, "config.yaml")
    if not os.path.exists(given):  # unlike Path.exists, it does not raise for names that are too long
        raise OutputError("resume", [f"resume={given}: the folder does not exist (working directory: {Path.cwd()})"])
    if not os.path.isfile(file):
        raise OutputError("resume", [f"resume={given}: the folder contains no run (no config.yaml)"])
    values = read_config_of(file)
    storage = values.get("storage")
    is_copy = isinstance(storage, str) and not address_problems("storage", storage) and Place(storage) == Place(given)
    return values, Place(given) if is_copy else None


def read_config_of(file: Path) -> dict[str, Any]:
    """Return the content of a run's config.yaml.

    Raises:
        UsageError: The file cannot be read.
    """
    return _plain_values(content_of(file, what="resume"), str(file))


def read_copy(copy: Place) -> dict[str, Any]:
    """Return the content of the config.yaml of a copy in storage.

    Raises:
        OutputError: The storage contains no run.
        StorageError: The storage cannot be read.
        WaitTimeout: The storage did not answer.
    """
    text = within(lambda: _read(copy), what=f"a reply of {copy}", deadline_s=ANSWER_S)
    return _plain_values(text, f"{copy}/config.yaml")


def _read(copy: Place) -> bytes:
    if not copy.holds("config.yaml"):
        raise OutputError("resume", [f"resume={copy}: the storage contains no run (no config.yaml)"])
    return copy.read("config.yaml")


def _plain_values(text: bytes, where: str) -> dict[str, Any]:
    values = parse_yaml(text, where=where, what="resume")
    if not isinstance(values, dict):
        raise UsageError("resume", [f"{where} contains no configuration; rft did not write it"])
    if isinstance(learner := values.get("learner"), dict):  # nobody can change the names in a recorded configuration
        values["learner"], _ = with_adapter_keys(learner)
    return values


def with_place(run: RunConfig, num_names: int = 1) -> RunConfig:
    """Return the run with its own place in `storage`: `<storage>/<name of the run>/<name of its folder>`.

    Args:
        run: The configuration.
        num_names: Number of trailing names of the folder's path to use; a trial uses those of its sweep and its number.
    """
    if run.storage is None:
        return run
    names = Path(run.output_dir).absolute().parts[-num_names:]
    return run.model_copy(update={"storage": below(run.storage, run.name, *names)})


def _is_preset(override: Override) -> bool:
    """Whether the override selects a preset of a group that may change on resume, such as `cluster=attach`."""
    group = str(override.key_or_group)
    return may_change(f"{group}.", MAY_CHANGE_ON_RESUME) and os.path.isdir(conf_dir() / group)


def _preset(override: Override) -> Any:
    """Return the values of a preset."""
    group = str(override.key_or_group)
    return OmegaConf.to_container(compose("train", [f"{group}={override.value()}"])[group], resolve=True)


def _put(values: Any, path: Sequence[str], value: Any) -> None:
    """Replace an existing value in nested mappings and lists."""
    for name in path[:-1]:
        values = values[int(name) if isinstance(values, list) else name]
    values[path[-1]] = value


def may_change(key: str, allowed: Sequence[str]) -> bool:
    """Whether a key is among the allowed ones; those that end in a dot stand for a section."""
    return any(key.startswith(name) if name.endswith(".") else key == name for name in allowed)
