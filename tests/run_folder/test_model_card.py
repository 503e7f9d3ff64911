"""The model card of a result."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from rft.run_folder.model_card import model_card
from rft.run_folder.provenance import manifest
from rft.types import Split, Task

TASK = Task(id="a", messages=({"role": "user", "content": "x"},), item={"b": 1}, split=Split.TRAIN)
SHA_OF_TASK = "975bbb62c5b7a8685cfcab9b59c254be28b04b0f99a53ceea8cc9e84e7b2d7d0"
"""Of the line {"item": {"b": 1}, "messages": [{"content": "x", "role": "user"}]}, by sha256sum."""

LORA: dict[str, Any] = {
    "learner": {"adapter": {"method": "lora", "rank": 24}},
    "sampler": {"max_completion_tokens": 48, "temperature": 0.7},
    "data": {"system": None, "format": "chat"},
    "model": {"chat_template_kwargs": {}},
}
WHERE: dict[str, Any] = {"folder": Path("/runs/my run/adapter"), "base_model": "some/model"}
SUMMARY: dict[str, Any] = {
    "steps": 60,
    "eval": {
        "before": {"mean": 0.2, "ci95": [0.1, 0.3], "n": 50},
        "after": {"mean": 0.7, "ci95": [0.6, 0.8], "n": 50},
        "difference": {"mean": 0.5, "ci95": [0.4, 0.6], "n": 50},
        "split": "test",
        "completions_per_task": 1,
    },
}


@pytest.fixture
def example() -> dict[str, Any]:
    return manifest(
        method="grpo",
        seed=7,
        command=["rft", "train", "task=a b"],
        base_model={"path": "models/tiny", "fingerprint": "9b2e51c07d44a1f0"},
        tasks={"train": ("train.jsonl", [TASK])},
        graders={"correct": {"weight": 1.0, "source": "graders/exact|match.py", "sha256": "00ff"}},
        sandbox={"rung": 2, "name": "namespaces"},
    )


def test_model_card_has_the_front_matter_of_the_hub(example: dict[str, Any]) -> None:
    _, front_matter, _ = model_card(SUMMARY, LORA, example, **WHERE).split("---\n", 2)
    assert yaml.safe_load(front_matter) == {
        "base_model": "some/model",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["rft", "lora", "reinforcement-learning", "grpo"],
    }


def test_model_card_of_recorded_pairs(example: dict[str, Any]) -> None:
    learner = LORA["learner"] | {"kind": "dpo", "pairs": "recorded"}
    card = model_card(SUMMARY, LORA | {"learner": learner}, example | {"method": "dpo"}, **WHERE)
    assert "trained by preference optimization (DPO) on recorded pairs" in card
    assert "preference-optimization" in card
    sampled = model_card(SUMMARY, LORA, example | {"method": "dpo"}, **WHERE)
    assert "trained by reinforcement fine-tuning (DPO)" in sampled


def test_model_card_says_what_by_whom_and_how_well(example: dict[str, Any]) -> None:
    config = {**LORA, "note": "{braces} ``` and \u00e9"}
    git_state = {"commit": "abc123", "is_dirty": True}
    card = model_card(SUMMARY, config, {**example, "git": git_state, "host": "a-private-name"}, **WHERE)
    assert f"| train | train.jsonl | 1 | `{SHA_OF_TASK}` |" in card
    assert r"| correct | 1.0 | graders/exact\|match.py | `00ff` |" in card
    assert "before and after 60 steps (split: test, completions per task: 1)" in card
    assert "| before | 0.200 [0.100, 0.300] | 50 |" in card
    assert "| after - before, paired | +0.500 [+0.400, +0.600] | 50 |" in card
    assert "rft train 'task=a b'" in card
    assert "Seed 7, git commit `abc123` with uncommitted changes." in card
    assert yaml.safe_load(card.split("~~~~yaml\n")[1].removesuffix("~~~~\n")) == config
    assert "a-private-name" not in card


def test_model_card_without_measurements_says_so(example: dict[str, Any]) -> None:
    nothing = {"steps": 3, "eval": {"before": None, "after": None, "difference": None}}
    card = model_card(nothing, LORA, {**example, "git": None}, **WHERE)
    assert "Trained for 3 steps; not measured on held-out tasks." in card
    assert "git commit unknown" in card


def test_a_base_model_that_is_not_on_the_hub_is_not_named_to_it(example: dict[str, Any]) -> None:
    card = model_card(SUMMARY, LORA, example, folder=Path("adapter"), base_model="/models/tiny")
    assert "base_model" not in yaml.safe_load(card.split("---\n", 2)[1])
    assert "Base model: `models/tiny`" in card


def test_the_card_says_how_to_use_the_adapter(example: dict[str, Any]) -> None:
    card = model_card(SUMMARY, LORA, example, **WHERE)
    assert "rft sample --adapter '/runs/my run/adapter' " in card
    assert "rft merge adapter='/runs/my run/adapter' output_dir=merged" in card
    assert 'folder = "/runs/my run/adapter"' in card
    assert 'LLM("some/model", enable_lora=True, max_lora_rank=32, ' in card
    assert "SamplingParams(temperature=0.7, max_tokens=48)" in card


def test_the_card_of_a_whole_model_is_not_that_of_an_adapter(example: dict[str, Any]) -> None:
    card = model_card(SUMMARY, {**LORA, "learner": {"adapter": {"method": "full"}}}, example, **WHERE)
    front_matter = yaml.safe_load(card.split("---\n", 2)[1])
    assert (front_matter["library_name"], "lora" in front_matter["tags"]) == ("transformers", False)
    assert "All weights of `models/tiny` fine-tuned, trained by" in card
    assert "AutoPeftModel" not in card
    assert "--model '/runs/my run/adapter'" in card


def retained(num_stages: int) -> dict[str, Any]:
    """Results of one family after this number of stages."""
    change = {"mean": -0.25, "ci95": [-0.5, 0.0], "n": 9}
    score = {"mean": 0.5, "ci95": [0.25, 0.75], "n": 9}
    gcd = {"trained_in": "01", "scores": [0.75] * num_stages, "backward_transfer": change, "forgetting": None}
    retention = {"stages": ["before", "01", "02"][:num_stages], "families": {"gcd": gcd}, "guard": {}}
    retention |= {"backward_transfer": change, "forgetting": None, "left_out": []}
    return {"families": {"gcd": {"before": score, "after": score, "difference": change}}, "retention": retention}


def test_the_card_says_how_each_family_does_and_what_was_forgotten(example: dict[str, Any]) -> None:
    card = model_card(SUMMARY | retained(3), LORA, example, **WHERE)
    assert "| gcd | 0.500 [0.250, 0.750] | 0.500 [0.250, 0.750] | -0.250 [-0.500, +0.000] | 9 |" in card
    assert "| gcd | 01 | 0.750 | 0.750 | 0.750 | -0.250 [-0.500, +0.000] | - |" in card
    mean = "mean over 1 family that this run was not the first to train."
    assert f"\n\nbackward transfer: -0.250 [-0.500, +0.000], {mean}\n" in card
    assert "Mean score after each stage:" not in model_card(SUMMARY | retained(2), LORA, example, **WHERE)


def test_the_card_names_the_package_of_a_base_model_its_licence_and_what_it_was_restored_from(
    example: dict[str, Any],
) -> None:
    origin = {"package": "my-model", "version": "1.5", "license": "MIT", "file": "a.gguf", "sha256": "00ff"}
    origin |= {"restored_from": "Q4_1"}
    base_model = {"path": "package:my_model", "fingerprint": "9b2e51c07d44a1f0", "origin": origin}
    card = model_card(SUMMARY, LORA, example | {"base_model": base_model}, **WHERE)
    assert (
        "Base model: `package:my_model`, fingerprint `9b2e51c07d44a1f0`. It is a.gguf of the Python package my-model "
        "1.5 (license: MIT), restored from Q4_1, so scores of the published model do not apply to it." in card
    )
