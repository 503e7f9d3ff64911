"""Settings of the run that trained an adapter, for `rft evaluate` and `rft sample`.

An adapter works best with prompts like those of its training. These commands therefore read the settings that shape
prompts from the run, unless the user sets them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rft.config.compose import check
from rft.config.embedders.voyage import VoyageEmbedderConfig
from rft.config.problems import evaluate_problems
from rft.config.recorded_yaml import read_yaml
from rft.config.schema import EvaluateConfig
from rft.errors import UsageError
from rft.models.base_model import LOCAL_NAMES
from rft.models.quantized_folder import QUANTIZATION, QUANTIZED_BASE

KEYS: dict[str, Any] = {
    "data.format": "chat",
    "model.chat_template": None,
    "model.chat_template_kwargs": {},
    "data.system": None,
    "data.shots": 0,
    "sampler.max_completion_tokens": None,
    "sampler.stop": [],
}
"""Keys to read from a run, each with the value that counts as unset."""
RETRIEVAL = "retrieval"
"""A section that is read from a run as a whole, if it names a store."""
ONLY_CHAT = ("model.chat_template", "model.chat_template_kwargs", "data.system")
"""Keys without effect under `data.format=raw`."""
_TEMPLATE = "chat_template.jinja"
START_MODEL = "start_model"
"""Folder of a run with `start_mode=merge` that holds its base model."""


def run_folder_of(path: Path) -> Path | None:
    """Return the run folder of `<run>`, `<run>/adapter` or `<run>/checkpoints/checkpoint-20`; None for other paths.

    The path may be a symbolic link to one of these.
    """
    if "\0" in str(path):  # no file has such a name, and the operating system raises an error
        return None
    folders: list[Path] = []
    for place in (path.absolute(), Path(os.path.realpath(path))):
        folders.append(place)
        if place.name == "adapter":
            folders.append(place.parent)
        if place.parent.name == "checkpoints":
            folders.append(place.parent.parent)
    return next((folder for folder in folders if os.path.isfile(folder / "config.yaml")), None)


def settings_of_run(adapter: Path, *, format: str | None = None) -> dict[str, Any]:
    """Return the settings of the run that trained an adapter, by key, without unset keys.

    The chat template comes from the adapter folder, because the file that the run used may be gone, or its path may be
    relative to another folder.

    Args:
        adapter: A run folder, an adapter folder or a checkpoint folder. An adapter outside a run has only its own chat
            template.
        format: `data.format` if the user sets it; None means the run's.

    Raises:
        UsageError: The run's config.yaml cannot be read.
    """
    run = run_folder_of(adapter)
    values = {} if run is None else _read(run / "config.yaml")
    settings = {key: value for key, empty in KEYS.items() if (value := _get(values, key)) not in (None, empty)}
    if _get(values, f"{RETRIEVAL}.kind") not in (None, "none"):
        settings[RETRIEVAL] = values[RETRIEVAL]
    folder = adapter / "adapter" if os.path.isdir(adapter / "adapter") else adapter
    if os.path.isfile(folder / _TEMPLATE):
        settings["model.chat_template"] = str(folder / _TEMPLATE)
    base = _get(values, "model.path")
    if run is not None and (run / QUANTIZED_BASE / QUANTIZATION).is_file():
        settings["model.path"] = str(run / QUANTIZED_BASE)
    elif run is not None and values.get("start_mode") == "merge":
        settings["model.path"] = str(run / START_MODEL)
    elif isinstance(base, str) and base.startswith(LOCAL_NAMES):
        settings["model.path"] = base  # the adapter names a folder of rft or of the cache, which may be gone
    if (format or settings.get("data.format")) == "raw":
        return {key: value for key, value in settings.items() if key not in ONLY_CHAT}
    return settings


def refuse_foreign_addresses(adapter: str | os.PathLike[str], store: Mapping[str, Any]) -> None:
    """Refuse a run's store of passages that names an address, or a variable with a key, other than VoyageAI's.

    A run folder from elsewhere must not choose where prompts and keys are sent.

    Raises:
        UsageError: The store names some.
    """
    known = {name: field.default for name, field in VoyageEmbedderConfig.model_fields.items()}
    sections = [store, *(value for value in store.values() if isinstance(value, Mapping))]
    named = [
        f"{name}={section[name]}"
        for section in sections
        for name in ("url", "api_key_env")
        if section.get(name) not in (None, known[name])
    ]
    if named:
        kind = store.get("kind")
        problem = (
            f"the run showed passages of retrieval={kind} with {', '.join(named)}, and a run folder must not choose "
            f"where prompts and keys are sent; name the store again (rft evaluate retrieval={kind} ..., rft sample "
            "--index=...), or leave passages out (rft evaluate retrieval=none)"
        )
        raise UsageError(f"adapter={adapter}", [problem])


def base_model_of_run(run: Path) -> str | None:
    """Return `model.path` of a run folder's configuration; None if the folder has none."""
    return None if run_folder_of(run) is None else _get(_read(run / "config.yaml"), "model.path")


def with_settings_of_run(config: EvaluateConfig, given: Collection[str]) -> EvaluateConfig:
    """Return an evaluation with the settings of the run that trained its adapter.

    Args:
        config: The evaluation.
        given: Keys of the command line. These keys keep their values, and so do keys that a preset has changed.

    Raises:
        ConfigError: The run's settings do not fit.
        UsageError: The run's config.yaml cannot be read.
    """
    if config.adapter is None:
        return config
    values = config.model_dump()
    format = config.data.format if "data.format" in given else None
    for key, value in settings_of_run(Path(config.adapter), format=format).items():
        if key == RETRIEVAL:
            if not any(word.partition(".")[0] == RETRIEVAL for word in given):
                refuse_foreign_addresses(config.adapter, value)
                values[RETRIEVAL] = value
            continue
        section, name = key.split(".")
        field = type(getattr(config, section)).model_fields.get(name)  # a fake sampler has no `stop`
        if field is not None and key not in given and values[section][name] == field.default:
            values[section][name] = value
    return check(EvaluateConfig, values, evaluate_problems)


def settings_in_words(config: EvaluateConfig) -> str:
    """Return one line with the settings that an evaluation shares with its adapter's run, or an empty string."""
    if config.adapter is None:
        return ""
    adapter, values = Path(config.adapter), config.model_dump()
    return in_words(
        adapter, {key: value for key, value in settings_of_run(adapter).items() if _get(values, key) == value}
    )


def in_words(adapter: Path, settings: Mapping[str, Any]) -> str:
    """Return one line that lists settings of a run, or an empty string if there are none.

    Args:
        adapter: Like in `settings_of_run`.
        settings: Values by key.
    """
    if not settings:
        return ""
    words = ", ".join(
        f"{key}={value['kind'] if key == RETRIEVAL else _short(value)}" for key, value in settings.items()
    )
    return f"settings of {run_folder_of(adapter) or adapter}: {words}"


def given_keys(overrides: Sequence[str]) -> set[str]:
    """Return the keys in the arguments of a command line."""
    return {word.lstrip("+~").partition("=")[0] for word in overrides}


def _read(file: Path) -> dict[str, Any]:
    values = read_yaml(file, what="run")
    if not isinstance(values, dict):
        raise UsageError("run", [f"{file} contains no configuration; rft did not write it"])
    return values


def _get(values: Mapping[str, Any], key: str) -> Any:
    """Return the value of a dotted key, or a whole section, or None."""
    section, _, name = key.partition(".")
    inner = values.get(section)
    if not name:
        return inner
    return inner.get(name) if isinstance(inner, Mapping) else None


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
