"""Composes command-line overrides and the YAML files in `conf/` with Hydra, and checks the configuration.

Pydantic checks types against `rft.config.schema`. Hydra would stop at the first unknown key. Every value override is
therefore applied as `++key=value`, and the following check reports all problems together.
"""

from __future__ import annotations

import copy
import functools
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from rft.config.adapters import AdapterConfig
from rft.config.catalog import ONLY_TRAINED
from rft.config.clusters import AttachClusterConfig, LocalClusterConfig
from rft.config.explain import explain, key_of
from rft.config.learners import LEARNERS
from rft.config.pairs import PairsConfig
from rft.config.pipeline_config import PipelineConfig
from rft.config.presets import COMPOSING, conf_dir, explained, groups, meant, preset_problem, searched_folders
from rft.config.problems import place_problems
from rft.config.retrieval import STORES
from rft.config.samplers import SAMPLERS
from rft.config.schema import (
    AuditConfig,
    EvaluateConfig,
    GradeConfig,
    MergeConfig,
    RunConfig,
    ServeConfig,
    SweepConfig,
)
from rft.errors import ConfigError
from rft.redaction import hide_in_words

Config = TypeVar("Config", bound=BaseModel)
MISSING = "???"
HOW_TO_WRITE = "write key=value; a value with = , ~ or brackets in quotes, as \"key='a, b'\""
NAMED_BY = {"learner.adapter": "method", "feasibility": "mode"}
"""The key that a text in place of a section sets."""
ONE_VALUE = "several values; write key=[a,b] for a list, \"key='a,b'\" for a text, or add --multirun for a run of each"


@functools.cache
def register() -> None:
    """Register the schema's keys and defaults with Hydra, as `schema_train`, `sampler/base_vllm` and so on."""
    store = ConfigStore.instance()
    # Each composition copies Hydra's sources, which hold the store. A copy of the store takes a quarter of the
    # composition, and nobody changes it: `ConfigStore.load` copies what it returns.
    store.__deepcopy__ = lambda _: store
    store.store(name="schema_train", node=_defaults(RunConfig, without=("sampler", "learner", "cluster", "retrieval")))
    store.store(name="schema_evaluate", node=_defaults(EvaluateConfig, without=("sampler", "cluster", "retrieval")))
    store.store(name="schema_grade", node=_defaults(GradeConfig))
    store.store(name="schema_merge", node=_defaults(MergeConfig))
    store.store(name="schema_pairs", node=_defaults(PairsConfig))
    store.store(name="schema_audit", node=_defaults(AuditConfig, without=("retrieval",)))
    store.store(name="schema_serve_grader", node=_defaults(ServeConfig))
    store.store(name="schema_sweep", node=_defaults(SweepConfig))
    store.store(name="schema_pipeline", node=_defaults(PipelineConfig))
    for kind, sampler in SAMPLERS.items():
        store.store(group="sampler", name=f"base_{kind}", node=_defaults(sampler))
    for kind, learner in LEARNERS.items():
        store.store(group="learner", name=f"base_{kind}", node=_defaults(learner))
    for kind, passages in STORES.items():
        store.store(group="retrieval", name=f"base_{kind}", node=_defaults(passages))
    for cluster in (LocalClusterConfig, AttachClusterConfig):
        store.store(group="cluster", name=f"base_{cluster().kind}", node=_defaults(cluster))


def load(
    schema: type[Config],
    config_name: str,
    overrides: Sequence[str],
    problems: Callable[[Config], list[str]],
) -> Config:
    """Compose and check a configuration.

    Args:
        schema: The schema of the configuration.
        config_name: The primary file in `conf/`, without `.yaml`.
        overrides: Overrides such as `sampler=fake`, `loop.steps=20`.
        problems: Returns problems across fields.

    Raises:
        ConfigError: Contains all problems.
    """
    usable, earlier = usable_overrides(overrides, config_name)
    try:
        composed = compose(config_name, usable)
    except COMPOSING as error:
        raise ConfigError("configuration", [*earlier, *hide_in_words([explained(error)], {})]) from error
    values, unresolved = _resolved(composed)
    if config_name == "play":
        values = _without_training(values, overrides)
    without_experiment = any(line.startswith("experiment=") for line in earlier)

    def across_fields(config: Config) -> list[str]:
        # Missing keys would come from the unknown experiment.
        lines = problems(config)
        return [line for line in lines if not (without_experiment and re.search(" is (missing|empty): ", line))]

    return check(schema, values, across_fields, [*earlier, *unresolved.values()], wrong=unresolved)


def _without_training(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Leave out what an experiment says of training; keys of the command line stay, and are refused."""
    keys = {text.lstrip("+~").partition("=")[0] for text in overrides} - set(groups("train"))
    given = {key.partition(".")[0] for key in keys}
    return {key: value for key, value in values.items() if key in given or key not in ONLY_TRAINED}


def compose(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose `conf/<config_name>.yaml` with overrides that Hydra can apply.

    Hydra takes 70 ms to merge presets, so each choice of presets is merged once in a process. Values are set and keys
    deleted in a copy of the result, which takes 4 ms; the trials of a sweep differ in values. Hydra's own keys, which
    include folders of further presets, go through Hydra each time.
    """
    parsed = [_parse(text) for text in overrides]
    choices = [override for override in parsed if _is_group(override) and not override.is_delete()]
    changes = [override for override in parsed if _is_value(override) or _is_deletion(override)]
    if len(choices) + len(changes) < len(parsed):
        return _composed_by_hydra(config_name, overrides)
    presets = tuple(str(choice.input_line) for choice in choices)
    composed = copy.deepcopy(_merged_presets(config_name, presets, _conf_versions()))
    with open_dict(composed):  # once: each switch of this flag visits all values
        for override in changes:
            value, key = override.value(), str(override.key_or_group)
            if override.is_delete():
                if OmegaConf.select(composed, key) is None:
                    return _composed_by_hydra(config_name, overrides)  # raises the error that says so
                section, _, name = key.rpartition(".")
                del (OmegaConf.select(composed, section) if section else composed)[name]
                continue
            # A list on top of a section replaces it, so that the schema can name what is wrong.
            merges = isinstance(value, dict) and OmegaConf.is_dict(OmegaConf.select(composed, key))
            OmegaConf.update(composed, key, value, merge=merges)
    return composed


def _composed_by_hydra(config_name: str, overrides: Sequence[str]) -> DictConfig:
    with initialized():
        composed: DictConfig = hydra_compose(config_name, list(overrides))
    return composed


@functools.lru_cache(maxsize=256)
def _merged_presets(config_name: str, presets: tuple[str, ...], _: tuple[tuple[str, int], ...]) -> DictConfig:
    """Return the configuration before values are set. Callers copy it; `_conf_versions()` detects edited presets."""
    return _composed_by_hydra(config_name, presets)


def _conf_versions() -> tuple[tuple[str, int], ...]:
    """Return the files of `conf/` with their modification times in ns."""
    found: list[tuple[str, int]] = []
    folders = [str(conf_dir())]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(entry.path)
                elif entry.name.endswith(".yaml"):
                    found.append((entry.path, entry.stat().st_mtime_ns))
    return tuple(sorted(found))


def _is_group(override: Override) -> bool:
    return os.path.isdir(conf_dir() / str(override.key_or_group))


def _is_value(override: Override) -> bool:
    return bool(override.is_force_add() and override.package is None and not _is_group(override))


def _is_deletion(override: Override) -> bool:
    return bool(override.is_delete() and override.value() is None and not _is_group(override))


@contextmanager
def initialized() -> Iterator[None]:
    """Initialize Hydra to compose from `conf/`, also within a multirun, which composes its jobs while Hydra runs."""
    register()
    state = GlobalHydra.instance()
    outer, state.hydra = state.hydra, None
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            yield
    finally:
        state.hydra = outer


def check(
    schema: type[Config],
    values: Any,
    problems: Callable[[Config], list[str]],
    earlier: Sequence[str] = (),
    wrong: Iterable[str] = (),
) -> Config:
    """Turn plain values into a configuration.

    Checks across fields run even if single fields are wrong. For these checks, wrong fields have their defaults, and
    their problems are not reported twice.

    Args:
        schema: The schema of the configuration.
        values: The plain values.
        problems: Returns problems across fields.
        earlier: Earlier problems.
        wrong: Keys of the earlier problems.

    Raises:
        ConfigError: Contains all problems: earlier ones, unknown keys, wrong types, and problems across fields.
    """
    given = _without_missing(values)
    bullets = list(earlier)
    known = set(wrong)
    config: Config | None
    try:
        config = schema.model_validate(given)
    except ValidationError as error:
        bullets += [line for line in explain(schema, error) if not _is_about(line, known)]
        known |= {key_of(item["loc"]) for item in error.errors()}
        config = _repaired(schema, given, error)
    if config is not None:
        bullets += [line for line in problems(config) if not _is_about(line, known)]
        # Without other problems, a later and slower check covers these.
        bullets += place_problems(config) if bullets else []
    if bullets or config is None:
        raise ConfigError("configuration", list(dict.fromkeys(bullets)))
    return config


def usable_overrides(
    overrides: Sequence[str], config_name: str = "train", *, allow_sweeps: bool = False
) -> tuple[list[str], list[str]]:
    """Return the overrides that Hydra can apply (values as `++key=value`), and the problems of the others.

    Args:
        overrides: The overrides.
        config_name: The primary file in `conf/`, without `.yaml`.
        allow_sweeps: Whether a key may have several values.
    """
    usable: list[str] = []
    problems: list[str] = []
    parsed = [_parsed(text) for text in overrides]
    folders = searched_folders(override for override in parsed if isinstance(override, Override))
    for text, override, shown_text in zip(overrides, parsed, hide_in_words(overrides, {}), strict=True):
        if isinstance(override, HydraException):
            problems.append(f"{shown_text}: {meant(text, config_name, folders) or _grammar_problem(text)}")
            continue
        key = str(override.key_or_group)
        is_group = bool(key) and any(os.path.isdir(folder / key) for folder in folders)
        if not key or (override.is_sweep_override() and not allow_sweeps):
            problems.append(f"{shown_text}: {HOW_TO_WRITE if not key else ONE_VALUE}")
        elif is_group and (problem := preset_problem(override, config_name, folders)):
            problems.append(problem)
        elif is_group and not override.is_delete() and key not in groups(config_name):
            usable.append("+" + text.lstrip("+"))  # the user's presets, for a section without presets of rft
        elif is_group or override.is_delete() or key.startswith(("hydra.", "hydra/")):
            usable.append(text)
        else:
            usable.append("++" + _with_name_key(text.lstrip("+"), override))
    return usable, problems


def _with_name_key(text: str, override: Override) -> str:
    """Return `learner.adapter.method=dora` for `learner.adapter=dora`; Hydra accepts further keys beside it."""
    section = str(override.key_or_group)
    if section not in NAMED_BY or not isinstance(override.value(), str | ChoiceSweep):
        return text
    return text.replace(f"{section}=", f"{section}.{NAMED_BY[section]}=", 1)


def _grammar_problem(text: str) -> str:
    """Return why an argument is no override, and how to write one; the parser's message names its own tokens."""
    _, equals, value = text.partition("=")
    if not equals:
        why = "there is no = in it; "
    elif any(value.count(left) != value.count(right) for left, right in ("[]", "{}", "()")):
        why = "a bracket has no counterpart; "
    elif any(value.count(quote) % 2 for quote in "'\""):
        why = "a quote has no counterpart; "
    else:
        why = ""
    return why + HOW_TO_WRITE


def _parsed(text: str) -> Override | HydraException:
    try:
        return _parse(text)
    except HydraException as error:
        return error


@functools.lru_cache(maxsize=4096)
def _parse(text: str) -> Override:
    """Parse an override once in a process: the parser takes 2 ms, and the trials of a sweep share most of theirs."""
    override: Override = _parser().parse_override(text)
    return override


@functools.cache
def _parser() -> OverridesParser:
    """Return the parser without a folder of presets. It inspects the signatures of all its functions first."""
    return OverridesParser.create()


def _resolved(composed: DictConfig) -> tuple[Any, dict[str, str]]:
    """Return the plain values, and problems of references (`${...}`) by key."""
    unresolved: dict[str, str] = {}
    while True:
        try:
            return OmegaConf.to_container(composed, resolve=True), unresolved
        except OmegaConfBaseException as error:
            key = str(error.full_key)
            if key in unresolved:
                raise ConfigError("configuration", [str(error).splitlines()[0]]) from error
            unresolved[key] = f"{key}: {str(error).splitlines()[0]}"
            OmegaConf.update(composed, key, MISSING, force_add=True)


def _is_about(line: str, wrong: Collection[str]) -> bool:
    """Whether a problem concerns a key that is known to be wrong, its parent or child, or a consequence of it."""
    about = re.split(r"[=: ]", line, maxsplit=1)[0]
    return any(
        about == key or about.startswith(f"{key}.") or key.startswith(f"{about}.") or f"{key}=" in line for key in wrong
    )


def _defaults(schema: type[BaseModel], without: Sequence[str] = ()) -> dict[str, Any]:
    """Return every key with its default; `???` without a default."""
    defaults: dict[str, Any] = {}
    for name, field in schema.model_fields.items():
        if name in without:
            continue
        section = field.annotation if isinstance(field.annotation, type) else None
        if isinstance(field.default, AdapterConfig):
            defaults[name] = {"method": field.default.method}  # each method has defaults of its own
        elif section is not None and issubclass(section, BaseModel):
            defaults[name] = _defaults(section)
        elif isinstance(field.default, BaseModel):  # a section that may be null
            defaults[name] = field.default.model_dump()
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
    """Return the configuration with defaults for wrong fields; None if a required field is wrong."""
    repaired: Any = copy.deepcopy(dict(values))
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
