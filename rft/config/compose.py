"""From command-line overrides and the YAML files in `conf/` to a checked configuration, with Hydra.

Hydra composes; pydantic checks types against `rft.config.schema`. Hydra alone would stop at the first unknown key, so
every value override is applied as `++key=value` and the check that follows reports all that is wrong at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from rft.config.explain import explain, key_of
from rft.config.schema import (
    EvaluateConfig,
    FakeLearner,
    FakeSampler,
    GrpoLearner,
    RunConfig,
    TransformersSampler,
    VllmSampler,
)
from rft.errors import ConfigError

Config = TypeVar("Config", bound=BaseModel)
MISSING = "???"


def conf_dir() -> Path:
    """The folder of the YAML files: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def register() -> None:
    """Give Hydra the schema's keys and defaults, as `schema`, `sampler/base_vllm` and so on."""
    store = ConfigStore.instance()
    store.store(name="schema_train", node=_defaults(RunConfig, without=("sampler", "learner")))
    store.store(name="schema_evaluate", node=_defaults(EvaluateConfig, without=("sampler",)))
    for sampler in (VllmSampler, TransformersSampler, FakeSampler):
        store.store(group="sampler", name=f"base_{sampler().kind}", node=_defaults(sampler))
    for learner in (GrpoLearner, FakeLearner):
        store.store(group="learner", name=f"base_{learner().kind}", node=_defaults(learner))


def load(
    schema: type[Config],
    config_name: str,
    overrides: Sequence[str],
    problems: Callable[[Config], list[str]],
) -> Config:
    """Compose and check a configuration.

    Args:
        schema: What it must look like.
        config_name: The primary file in `conf/`, without `.yaml`.
        overrides: As on the command line: `sampler=fake`, `loop.steps=20`.
        problems: Says what is wrong across fields.

    Raises:
        ConfigError: With every problem found.
    """
    usable, found = usable_overrides(overrides)
    try:
        composed = compose(config_name, usable)
        values = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError("configuration", [*found, " ".join(str(error).split())]) from error
    return check(schema, values, problems, found)


def compose(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose `conf/<config_name>.yaml` with overrides that Hydra can apply."""
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed: DictConfig = hydra_compose(config_name, list(overrides))
    return composed


def check(
    schema: type[Config],
    values: Any,
    problems: Callable[[Config], list[str]],
    found: Sequence[str] = (),
) -> Config:
    """Turn plain values into a configuration.

    What is wrong across fields is looked for even when single fields are wrong: those are set back to their default for
    the purpose, and nothing is said about them twice.

    Raises:
        ConfigError: With every problem: those already `found`, unknown keys, wrong types, and across fields.
    """
    given = _without_missing(values)
    bullets = list(found)
    try:
        config = schema.model_validate(given)
    except ValidationError as error:
        wrong = {key_of(item["loc"]) for item in error.errors()}
        bullets += explain(schema, error)
        repaired = _repaired(schema, given, error)
        if repaired is not None:
            bullets += [line for line in problems(repaired) if not any(line.startswith(key) for key in wrong)]
        raise ConfigError("configuration", bullets) from None
    bullets += problems(config)
    if bullets:
        raise ConfigError("configuration", bullets)
    return config


def usable_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split overrides into what Hydra can apply (values as `++key=value`) and what is wrong with the rest."""
    usable: list[str] = []
    found: list[str] = []
    parser = OverridesParser.create()
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException as error:
            found.append(
                f"{text}: {' '.join(str(error).split())}; write key=value, and quote values with = , or spaces"
            )
            continue
        group = conf_dir() / str(override.key_or_group)
        if group.is_dir():
            problem = _group_problem(override, group)
            usable += [] if problem else [text]
            found += [problem] if problem else []
        elif override.is_delete():
            usable.append(text)
        else:
            usable.append("++" + text.lstrip("+"))
    return usable, found


def _group_problem(override: Override, group: Path) -> str | None:
    choices = sorted(path.stem for path in group.glob("*.yaml"))
    chosen = override.value()
    if override.is_sweep_override() or chosen is None or chosen in choices:
        return None
    near = difflib.get_close_matches(str(chosen), choices, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{override.key_or_group}={chosen}: there is no such preset{hint}; there are: {', '.join(choices)}"


def _defaults(schema: type[BaseModel], without: Sequence[str] = ()) -> dict[str, Any]:
    """Every key with its default, `???` where there is none."""
    defaults: dict[str, Any] = {}
    for name, field in schema.model_fields.items():
        if name in without:
            continue
        section = field.annotation if isinstance(field.annotation, type) else None
        if section is not None and issubclass(section, BaseModel):
            defaults[name] = _defaults(section)
        elif name == "graders":
            defaults[name] = {}
        else:
            defaults[name] = MISSING if field.is_required() else field.default
    return defaults


def _without_missing(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {key: _without_missing(value) for key, value in values.items() if value != MISSING}
    return values


def _repaired(schema: type[Config], values: Mapping[str, Any], error: ValidationError) -> Config | None:
    """The configuration with its wrong fields at their defaults; None when a required one is wrong."""
    repaired: Any = OmegaConf.to_container(OmegaConf.create(dict(values)))
    for item in error.errors():
        *path, last = key_of(item["loc"]).split(".")
        section = repaired
        for name in path:
            section = section.get(name, {}) if isinstance(section, dict) else {}
        if isinstance(section, dict):
            section.pop(last, None)
        if item["type"] == "missing" and isinstance(section, dict):
            section[last] = MISSING
    try:
        return schema.model_validate(repaired)
    except ValidationError:
        return None
