"""The settings of the run that trained an adapter, for the commands that use it: `rft evaluate`, `rft sample`.

An adapter is at its best with the prompts that it was trained on, so what shapes them is taken from the run, unless it
is given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rft.config.compose import check
from rft.config.problems import evaluate_problems
from rft.config.schema import EvaluateConfig
from rft.errors import UsageError

KEYS: dict[str, Any] = {
    "data.format": "chat",
    "model.chat_template": None,
    "model.chat_template_kwargs": {},
    "data.system": None,
    "sampler.max_completion_tokens": None,
    "sampler.stop": [],
}
"""The keys that are taken from a run, with the values that are not worth taking."""
ONLY_CHAT = ("model.chat_template", "model.chat_template_kwargs", "data.system")
"""Those of them that `data.format=raw` has no use for."""
_TEMPLATE = "chat_template.jinja"


def run_folder_of(path: Path) -> Path | None:
    """The run folder that a path is or lies in, as `<run>/adapter` or `<run>/checkpoints/checkpoint-20`."""
    path = path.absolute()
    folders = [path]
    if path.name == "adapter":
        folders.append(path.parent)
    if path.parent.name == "checkpoints":
        folders.append(path.parent.parent)
    return next((folder for folder in folders if (folder / "config.yaml").is_file()), None)


def settings_of_run(adapter: Path, *, format: str | None = None) -> dict[str, Any]:
    """What is taken from the run that trained an adapter, by key; keys that the run left empty are not there.

    The chat template is the one that lies in the adapter folder: the file that the run was given may be gone, or its
    path be relative to another folder.

    Args:
        adapter: A run folder, an adapter folder or a checkpoint folder. One outside of a run has no settings but its
            own chat template.
        format: `data.format` where that is given; None takes the run's.

    Raises:
        UsageError: The run's config.yaml cannot be read.
    """
    run = run_folder_of(adapter)
    values = {} if run is None else _read(run / "config.yaml")
    found = {key: value for key, empty in KEYS.items() if (value := _get(values, key)) not in (None, empty)}
    folder = adapter / "adapter" if (adapter / "adapter").is_dir() else adapter
    if (folder / _TEMPLATE).is_file():
        found["model.chat_template"] = str(folder / _TEMPLATE)
    base = _get(values, "model.path")
    if isinstance(base, str) and base.startswith("embedded:"):
        found["model.path"] = base  # the adapter has the folder of the rft that trained it, which may be gone
    if (format or found.get("data.format")) == "raw":
        return {key: value for key, value in found.items() if key not in ONLY_CHAT}
    return found


def with_settings_of_run(config: EvaluateConfig, given: Collection[str]) -> EvaluateConfig:
    """A measurement with the settings of the run that trained its adapter.

    Args:
        config: The measurement.
        given: Keys of the command line. They keep their values, and so does what a preset has changed.

    Raises:
        ConfigError: The run's settings do not fit.
        UsageError: The run's config.yaml cannot be read.
    """
    if config.adapter is None:
        return config
    values = config.model_dump()
    format = config.data.format if "data.format" in given else None
    for key, value in settings_of_run(Path(config.adapter), format=format).items():
        section, name = key.split(".")
        field = type(getattr(config, section)).model_fields.get(name)  # a fake sampler stops nowhere
        if field is not None and key not in given and values[section][name] == field.default:
            values[section][name] = value
    return check(EvaluateConfig, values, evaluate_problems)


def settings_in_words(config: EvaluateConfig) -> str:
    """One line with the settings that a measurement shares with the run of its adapter; empty where there are none."""
    if config.adapter is None:
        return ""
    adapter, values = Path(config.adapter), config.model_dump()
    return in_words(
        adapter, {key: value for key, value in settings_of_run(adapter).items() if _get(values, key) == value}
    )


def in_words(adapter: Path, settings: Mapping[str, Any]) -> str:
    """One line that says which settings are those of the run; empty where there are none.

    Args:
        adapter: As for `settings_of_run`.
        settings: By key.
    """
    if not settings:
        return ""
    words = ", ".join(f"{key}={_short(value)}" for key, value in settings.items())
    return f"settings of {run_folder_of(adapter) or adapter}: {words}"


def given_keys(overrides: Sequence[str]) -> set[str]:
    """The keys that the words of a command line name."""
    return {word.lstrip("+~").partition("=")[0] for word in overrides}


def _read(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise UsageError("run", [f"{file} cannot be read: {' '.join(str(error).split())}"]) from error
    if not isinstance(values, dict):
        raise UsageError("run", [f"{file} holds no configuration; it was not written by rft"])
    return values


def _get(values: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; None where there is none."""
    section, name = key.split(".")
    inner = values.get(section)
    return inner.get(name) if isinstance(inner, Mapping) else None


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
