"""Help, `rft config` and the documentation name every key, with its type, its default and its meaning."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from rft.config.adapters import METHODS
from rft.config.catalog import SCHEMAS
from rft.config.help import config_text, help_text
from rft.config.reference import Key, reference
from rft.errors import ConfigError
from rft.grading.loading.keys import KEYS


def keys_of(config_name: str) -> list[Key]:
    return [key for part in reference(config_name) for key in part.keys]


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in models_in(argument)]


def names_in(schema: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted name of every field that is not a section, found by walking the classes."""
    for name, field in schema.model_fields.items():
        models = models_in(field.annotation)
        named = "<name>." if typing.get_origin(field.annotation) is dict else ""
        for model in models:
            yield from names_in(model, f"{prefix}{name}.{named}")
        if not models and name not in ("kind", "graders"):
            yield f"{prefix}{name}"


@pytest.mark.parametrize("config_name", SCHEMAS)
def test_every_key_of_the_schema_is_there_with_a_meaning(config_name: str) -> None:
    keys = keys_of(config_name)
    assert set(names_in(SCHEMAS[config_name])) <= {key.name for key in keys}
    assert [key.name for key in keys if not key.meaning] == [], "write its meaning below the field in the schema"
    assert [key.name for key in keys if not key.type or "any value" in key.type] == []
    told = help_text(config_name)
    for key in keys:
        assert key.name in told


@pytest.mark.parametrize(
    ("config_name", "name", "expected"),
    [
        ("train", "loop.steps", ("int >= 1", "100", ())),
        ("train", "loop.staleness", ("int >= 0 and <= 16", "0", ())),
        ("train", "data.validation_share", ("float >= 0 and < 1", "0.0", ())),
        ("train", "evaluation.every_steps", ("int >= 1 or null", "10", ("null",))),
        ("train", "model.dtype", ("auto | float32 | bfloat16 | float16", "auto", None)),
        ("train", "sampler.serve", ("adapter | merged | null", "null", None)),
        ("train", "logging.report_to", ("list of str", "[tensorboard]", ())),
        ("train", "learner.trl", ("mapping", "{}", ())),
        ("train", "loop.pass_rate", ("section or null", "null", ())),
        ("train", "learner.adapter.method", (" | ".join(METHODS), "lora", tuple(METHODS))),
        ("train", "learner.adapter.rank", ("int >= 1 and <= 512", "16", ())),
        ("train", "output_dir", ("str", "runs/<name>/<time>", ())),
        ("train", "data.mixture", ("mapping", "{}", ())),
        ("train", "data.mixture.<name>.weight", ("float > 0 or null", "null", ("null",))),
        ("train", "graders.<name>.weight", ("float", "1.0", ())),
        ("train", "graders.<name>.clip", ("bool", "false", ("true", "false"))),
        ("train", "dry_run", ("bool", "false", ("true", "false"))),
        ("grade", "grading.max_fault_share", ("float >= 0 and <= 1", "1.0", ())),  # conf/grade.yaml sets it
        ("evaluate", "name", ("str", "evaluate", ())),
    ],
)
def test_type_and_default_of_a_key(config_name: str, name: str, expected: tuple[str, str, Any]) -> None:
    (key,) = [key for key in keys_of(config_name) if key.name == name]
    type_, default, values = expected
    assert (key.type, key.default) == (type_, default)
    assert key.values == (tuple(type_.split(" | ")) if values is None else values)


def test_keys_of_some_kinds_of_a_section_stand_apart() -> None:
    parts = {part.kinds: part for part in reference("train") if part.section == "learner"}
    kinds = ["distill", "dpo", "fake", "gmpo", "grpo", "kto", "ppo", "raft", "reinforce_pp_baseline", "sft"]
    assert [kind for kind, _ in parts[()].choices] == kinds
    policies = ("distill", "dpo", "gmpo", "grpo", "kto", "ppo", "raft", "reinforce_pp_baseline")
    assert "learner.gamma" in [key.name for key in parts["ppo",].keys]
    assert "learner.epochs" in [key.name for key in parts[policies].keys]
    # The same key with another default or meaning stands apart.
    defaults = {of: key.default for of, part in parts.items() for key in part.keys if key.name == "learner.clip"}
    assert defaults == {
        ("distill", "dpo", "grpo", "kto", "ppo", "raft", "reinforce_pp_baseline"): "0.2",
        ("gmpo",): "0.4",
    }


def test_the_keys_of_every_grader_are_there() -> None:
    names = {key.name.removeprefix("graders.<name>.") for key in keys_of("serve_grader")}
    assert {"use", "openai", "style", *KEYS} <= names


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("graders.correct.timeout_s", "  graders.<name>.timeout_s=30.0 "),
        ("learner.trl.warmup_steps", "  learner.trl={} "),
        ("loop.pass_rate.min", "  loop.pass_rate.min=0.1 "),
        ("sweep.trials", "  sweep.trials=20 "),
        ("gold", "  gold=answer "),
    ],
)
def test_rft_config_prints_a_key(asked: str, expected: str) -> None:
    lines = config_text(asked).splitlines()
    assert lines[0].startswith("rft ") and lines[0].endswith(":")
    assert lines[2].startswith(expected)


def test_rft_config_prints_a_section_and_what_differs_between_commands() -> None:
    assert config_text("loop.pass_rate").count("\n  loop.pass_rate") == 4
    assert "\n  cluster=attach        A running Ray cluster" in config_text("cluster")
    assert config_text("output_dir").count("output_dir=") > 1


@pytest.mark.parametrize(
    ("asked", "near"),
    [("steps", "loop.steps"), ("model.pth", "model.path"), ("learning_rat", "learner.learning_rate"), ("lop", "loop")],
)
def test_rft_config_suggests_what_is_near(asked: str, near: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_text(asked)
    (problem,) = caught.value.problems
    assert near in problem.partition("did you mean ")[2]
