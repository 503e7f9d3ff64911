"""The configuration of a run that goes on: the one that it was started with, but for what may change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from rft.config.compose import check, compose, usable_overrides
from rft.config.presets import conf_dir
from rft.config.problems import run_problems
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
    "loop.checkpoint_every_steps",
    "loop.keep_checkpoints",
    "evaluation.",
    "logging.",
    "cluster.",
)
"""Keys that may be given together with `resume`; the others would make it another run."""


def load_resumed(given: str, overrides: Sequence[str]) -> RunConfig:
    """The configuration of a run that goes on. Where it goes on from its copy, `resume` is not its `output_dir`.

    Args:
        given: A run folder, or a run's copy in storage.
        overrides: The other words of the command line.

    Raises:
        ConfigError: With every problem found.
        OutputError: There is no run.
        StorageError: The copy cannot be read.
    """
    given = given if is_address(given) else str(Path(given))
    values, copy = _saved(given)
    usable, found = usable_overrides(overrides)
    hidden = hidden_keys(values)
    allowed = MAY_CHANGE_ON_RESUME if copy is None else (*MAY_CHANGE_ON_RESUME, "output_dir")
    values["resume"] = given if copy is None else copy.address
    if copy is None:
        values["output_dir"] = given
    else:
        values["storage"] = copy.address
    parsed = OverridesParser.create().parse_overrides(usable)
    # As on any command line, a preset comes before single keys.
    for override in sorted(parsed, key=lambda override: not _is_preset(override)):
        *sections, last = str(override.key_or_group).split(".")
        if override.key_or_group in hidden and not override.is_delete():
            _put(values, [*sections, last], override.value())
            continue
        if override.is_delete() or not (_is_preset(override) or _may_change(override.key_or_group, allowed)):
            names = ", ".join(f"{key}*" if key.endswith(".") else key for key in allowed)
            (word,) = hide_in_words([str(override.input_line).lstrip("+")], {})
            found.append(f"{word}: cannot be changed on resume; allowed are {names}")
            continue
        section = values
        for name in sections:
            if not isinstance(section.get(name), dict):
                section[name] = {}
            section = section[name]
        section[last] = _preset(override) if _is_preset(override) else override.value()
    values, unknown = restored(values)
    run = check(RunConfig, values, run_problems, [*found, *unknown], wrong=[line.partition(":")[0] for line in unknown])
    is_new = any(override.key_or_group == "storage" for override in parsed)
    return with_place(run) if is_new else run


def _saved(given: str) -> tuple[dict[str, Any], Place | None]:
    """The configuration that a run was started with, and its copy in storage if that is what was given.

    A copy on a mounted file system has a path like a run folder; that it is a copy its configuration says.
    """
    if is_address(given):
        if problems := address_problems("resume", given):
            raise ConfigError("configuration", problems)
        copy = Place(given)
        text = within(lambda: _read(copy), what=f"{copy} to answer", deadline_s=ANSWER_S)
        return _plain_values(text, f"{copy}/config.yaml"), copy
    file = Path(given, "config.yaml")
    if not file.is_file():
        raise OutputError("resume", [f"resume={given}: there is no run in that folder (no config.yaml)"])
    try:
        text = file.read_bytes()
    except OSError as error:
        raise UsageError("resume", [f"{file} cannot be read: {error.strerror or error}"]) from error
    values = _plain_values(text, str(file))
    storage = values.get("storage")
    is_copy = isinstance(storage, str) and not address_problems("storage", storage) and Place(storage) == Place(given)
    return values, Place(given) if is_copy else None


def _read(copy: Place) -> bytes:
    if not copy.holds("config.yaml"):
        raise OutputError("resume", [f"resume={copy}: there is no run in that place (no config.yaml)"])
    return copy.read("config.yaml")


def _plain_values(text: bytes, where: str) -> dict[str, Any]:
    try:
        values: Any = yaml.safe_load(text.decode("utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError("resume", [f"{where} cannot be read: {' '.join(str(error).split())}"]) from error
    if not isinstance(values, dict):
        raise UsageError("resume", [f"{where} holds no configuration; it was not written by rft"])
    return values


def with_place(run: RunConfig, num_names: int = 1) -> RunConfig:
    """The run with `storage` as the place of its own: below the one that was given, under its name and its folder's.

    Args:
        run: Its configuration.
        num_names: How many names of its folder's path that takes; a trial's is a number in the folder of its sweep.
    """
    if run.storage is None:
        return run
    names = Path(run.output_dir).absolute().parts[-num_names:]
    return run.model_copy(update={"storage": below(run.storage, run.name, *names)})


def _is_preset(override: Override) -> bool:
    """Whether it chooses a preset of a group that may change on resume, as `cluster=attach`."""
    group = str(override.key_or_group)
    return _may_change(f"{group}.", MAY_CHANGE_ON_RESUME) and (conf_dir() / group).is_dir()


def _preset(override: Override) -> Any:
    """The values of a preset."""
    group = str(override.key_or_group)
    return OmegaConf.to_container(compose("train", [f"{group}={override.value()}"])[group], resolve=True)


def _put(values: Any, path: Sequence[str], value: Any) -> None:
    """Set what is there already, in mappings and lists."""
    for name in path[:-1]:
        values = values[int(name) if isinstance(values, list) else name]
    values[path[-1]] = value


def _may_change(key: str, allowed: Sequence[str]) -> bool:
    return any(key.startswith(name) if name.endswith(".") else key == name for name in allowed)
