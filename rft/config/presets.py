"""Presets, the YAML files of `conf/` and of the user's folders, and checks of their selection."""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from rft.config.catalog import SCHEMAS, command_of
from rft.config.explain import shown
from rft.redaction import hide, secrets_in
from rft.wording import listed

SEARCHPATH = "hydra.searchpath"
GLOBAL = "# @package _global_"
"""First line of a preset that sets keys of the whole configuration instead of one section."""
COMPOSING = (
    HydraException,
    OmegaConfBaseException,
    yaml.YAMLError,
    ValueError,
    PermissionError,
    IsADirectoryError,
    RecursionError,
)
"""Errors that Hydra raises when files are broken or refer to missing files."""


@functools.cache
def conf_dir() -> Path:
    """Return the folder of YAML files: beside the package in a checkout, inside the package when installed."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


@functools.cache
def primary(config_name: str) -> Mapping[str, Any]:
    """Return the content of `conf/<config_name>.yaml`."""
    values: dict[str, Any] = yaml.safe_load((conf_dir() / f"{config_name}.yaml").read_text(encoding="utf-8"))
    return values


def groups(config_name: str) -> list[str]:
    """Return the preset groups of a command, such as `sampler`, sorted."""
    entries = (entry for entry in primary(config_name)["defaults"] if isinstance(entry, dict))
    known = {*SCHEMAS[config_name].model_fields, "experiment"}
    return sorted(name for entry in entries for name in entry if name in known)


def searched_folders(overrides: Iterable[Override]) -> list[Path]:
    """Return the folders to search for presets: `conf/` and those of `hydra.searchpath`."""
    folders = [conf_dir()]
    for override in overrides:
        if override.key_or_group == SEARCHPATH and isinstance(places := override.value(), list):
            folders += [Path(str(place).removeprefix("file://")) for place in places]
    return folders


def preset_names(group: str, folders: Sequence[Path]) -> list[str]:
    """Return the presets of a group, sorted."""
    places = [folder / group for folder in folders if os.path.isdir(folder / group)]
    return sorted({file.stem for place in places for file in place.glob("*.yaml") if file.is_file()})


def preset_problem(override: Override, config_name: str, folders: Sequence[Path]) -> str | None:
    """Return the problem of a selection such as `sampler=vlm`, or None."""
    group, value = str(override.key_or_group), override.value()
    if group not in groups(config_name) and group.partition("/")[0] not in SCHEMAS[config_name].model_fields:
        return f"{override.input_line}: {_for_another_command(group, config_name)}"
    if override.is_delete():
        return None if value is None or isinstance(value, str) else f"{override.input_line}: write ~{group}"
    if override.is_sweep_override() and not isinstance(value, ChoiceSweep):
        return None
    names = preset_names(group, folders)
    for chosen in value.list if isinstance(value, ChoiceSweep) else [value]:
        if str(chosen) not in names:
            return _unknown(group, hide(str(shown(chosen)), secrets_in({group: chosen})), names)
        if problem := _lacks_package(group, str(chosen), folders):
            return problem
        if group == "experiment" and config_name == "train" and lists_stages(str(chosen), folders):
            return f"experiment={chosen}: it lists the stages of a pipeline; run: rft pipeline experiment={chosen}"
    return None


def lists_stages(experiment: str, folders: Sequence[Path]) -> bool:
    """Whether an experiment lists the stages of a pipeline."""
    files = (folder / "experiment" / f"{experiment}.yaml" for folder in folders)
    file = next((file for file in files if os.path.isfile(file)), None)
    if file is None:
        return False
    try:
        return _has_stages(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):  # Hydra reports a broken file
        return False


@functools.lru_cache(maxsize=64)
def _has_stages(content: str) -> bool:
    values = yaml.safe_load(content)
    return isinstance(values, dict) and "stages" in values


def _for_another_command(group: str, config_name: str) -> str:
    having = [command_of(name) for name in SCHEMAS if group in groups(name)]
    available = groups(config_name)
    line = f"{command_of(config_name)} has no presets of {group}"
    line += f"; {listed(having)} {'has' if len(having) == 1 else 'have'}" if having else ""
    return f"{line}; its groups: {', '.join(available)}" if available else line


def meant(word: str, config_name: str, folders: Sequence[Path]) -> str | None:
    """Return the likely meaning of an argument without `=`, or None."""
    if not re.fullmatch(r"[\w./-]+", word):
        return None
    for group in groups(config_name):
        if word in preset_names(group, folders):
            return f"did you mean the preset {group}={word}?"
    if word.partition(".")[0] in SCHEMAS[config_name].model_fields:
        return f"the value is missing; write {word}=<value>"
    if os.path.exists(word):  # unlike Path.exists, it does not raise for names that are too long
        kind = "folder" if os.path.isdir(word) else "file"
        return f"this is a {kind}; write <key>={word} with the key that takes it"
    return None


def explained(error: Exception) -> str:
    """Return one line that explains an error in the files that Hydra composes."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}:{mark.line + 1}: invalid YAML: {error.problem} at column {mark.column + 1}"
    if isinstance(error, yaml.reader.ReaderError):
        return f"{error.name}: invalid YAML: {error.reason} at position {error.position}"
    if isinstance(error, RecursionError):
        return "a preset's defaults refer to the preset itself, or a preset nests too deeply; remove that part"
    if isinstance(error, UnicodeDecodeError):
        return f"a preset is not UTF-8 text: {error}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and "/" in error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return _unknown(group, name, sorted(error.options or ()), where="defaults of a preset: ")
    text = " ".join(str(error).split("Config search path")[0].split())
    if missing := re.match(r"Could not delete from config\. '(.+)' does not exist", text):
        return f"~{missing[1]}: there is no {missing[1]} to remove"
    return text.partition(" full_key: ")[0]


def _unknown(group: str, name: str, names: Sequence[str], where: str = "") -> str:
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    choices = f"; available: {', '.join(names)}" if names else ""
    line = f"{where}{group}={name}: unknown preset{hint}{choices}"
    if group == "data" and os.path.isfile(name):
        return f"{line}; for a task file write data.train={name}"
    file = Path(name if name.endswith(".yaml") else f"{name}.yaml").name
    places = (folder / group.lstrip("/") / file for folder in sorted(Path.cwd().glob("*")))
    elsewhere = next((place for place in places if os.path.isfile(place)), None)
    if elsewhere is None:
        return line
    folder = elsewhere.parents[1].relative_to(Path.cwd())
    return f"{line}; for {elsewhere.relative_to(Path.cwd())} write --config-dir {folder} {group}={elsewhere.stem}"


def _lacks_package(group: str, name: str, folders: Sequence[Path]) -> str | None:
    """Return the problem of an experiment without `@package`, whose keys would be ignored below `experiment`."""
    if group != "experiment":
        return None
    file = next(path for folder in folders if os.path.isfile(path := folder / group / f"{name}.yaml"))
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        return f"{file} cannot be read: {error}"
    first = next((line.strip() for line in lines if line.strip()), "")
    if re.fullmatch(r"#\s*@package\s+\S+", first):
        return None
    return f"{file}: its first line must be `{GLOBAL}`, so that its keys apply to the whole configuration"
