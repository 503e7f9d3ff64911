"""The adapter that a run starts from: which step of which run made it, and whether it fits the base model."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from rft.config import RunConfig
from rft.errors import ModelError, UsageError
from rft.learning.fake import FakeLearner
from rft.models.base_model import EMBEDDED_MODELS
from rft.models.weight_files import read_weights
from rft.run.base_models.start_adapter import parent_warnings, read_parent, save_parent
from rft.run.build import lora_rank
from rft.run.inputs.prepare import prepare
from rft.run.open_folder import manifest_of
from rft.run_folder.model_card import model_card
from rft.types import Adapter, Policy, Publication

TINY = EMBEDDED_MODELS["embedded:tiny"]
MODULE = "model.layers.0.self_attn.q_proj"
CONFIG = {"peft_type": "LORA", "base_model_name_or_path": str(TINY), "r": 2, "lora_alpha": 4}


def tensors(out_features: int | None = None, metadata: dict[str, str] | None = None) -> bytes:
    size_out, size_in = read_weights(TINY).tensors[f"{MODULE}.weight"].shape
    content = {
        f"base_model.model.{MODULE}.lora_A.weight": np.ones((2, size_in), dtype=np.float32),
        f"base_model.model.{MODULE}.lora_B.weight": np.ones((out_features or size_out, 2), dtype=np.float32),
    }
    return safetensors.numpy.save(content, metadata)


def fingerprint(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write("adapter", content)`: an adapter in the run folder `first`, whose steps 1 and 2 led to two adapters."""
    folder = tmp_path / "first"

    def adapter(name: str = "adapter", content: bytes | None = None) -> Path:
        target = folder / name
        target.mkdir(parents=True)
        (target / "adapter_config.json").write_text(json.dumps(CONFIG))
        (target / "adapter_model.safetensors").write_bytes(tensors() if content is None else content)
        policies = {0: "base", 1: "other", 2: fingerprint(tensors())}
        lines = [{"step": step, "policy": {"version": step, "fingerprint": mark}} for step, mark in policies.items()]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "config.yaml").write_text("model: {path: 'embedded:tiny'}\n")
        manifest = {"method": "sft", "base_model": {"fingerprint": "of the base"}, "start": {"path": "earlier"}}
        (folder / "manifest.json").write_text(json.dumps(manifest | {"prompts": {"chat_template_sha256": "00ff"}}))
        return folder

    return adapter


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "train.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n')
    return {
        "output_dir": str(tmp_path / "run"),
        "model": {"path": str(TINY)},
        "data": {"train": str(tmp_path / "train.jsonl")},
        "sampler": {"kind": "fake", "max_completion_tokens": 8},
        "learner": {"kind": "grpo", "adapter": {"rank": 2, "alpha": 4}},
        "loop": {"prompts_per_step": 1},
        "graders": {"correct": {"use": "exact"}},
    }


@pytest.fixture
def run_of(values: dict[str, Any]) -> Callable[..., Any]:
    """`run_of(start=...)`: a configuration that was not checked across its fields."""
    return lambda **changes: RunConfig.model_validate(values | {key: str(value) for key, value in changes.items()})


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}], ids=["by rft", "by PEFT"])
@pytest.mark.parametrize("name", ["adapter", "checkpoints/checkpoint-2"])
def test_the_parent_is_the_step_that_led_to_its_weights(
    write: Callable[..., Path], run_of: Callable[..., Any], name: str, metadata: dict[str, str] | None
) -> None:
    folder = write(name, tensors(metadata=metadata))
    path = folder if name == "adapter" else folder / name
    parent = read_parent(run_of(start=path))
    assert parent is not None
    assert parent.version_0 == parent.adapter is not None
    assert parent.adapter.policy == Policy(version=0, fingerprint=fingerprint(tensors()))
    assert (parent.adapter.tensors, parent.rank_below) == (tensors(), 0)
    assert parent.origin == {
        "path": str(path),
        "mode": "continue",
        "fingerprint": fingerprint(tensors()),
        "step": 2,
        "method": "sft",
        "base_fingerprint": "of the base",
        "prompts": {"chat_template_sha256": "00ff"},
        "start": {"path": "earlier"},
    }
    assert read_parent(run_of()) is None


def test_a_link_to_an_adapter_of_a_run_has_the_same_origin(
    write: Callable[..., Path], run_of: Callable[..., Any], tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(write() / "adapter")
    parent = read_parent(run_of(start=link))
    assert parent is not None
    assert (parent.origin["path"], parent.origin["step"], parent.origin["method"]) == (str(link), 2, "sft")


def test_a_stacked_parent_adds_its_rank_to_each_published_adapter(
    write: Callable[..., Path], run_of: Callable[..., Any], tmp_path: Path
) -> None:
    folder = write()
    (folder / "manifest.json").unlink()
    run = run_of(start=folder, start_mode="stack")
    prepared = prepare(run, needs_training_tasks=True)
    assert prepared.parent is not None
    assert (prepared.rank_below, prepared.parent.origin["rank"]) == (2, 2)
    assert lora_rank(run, prepared) == 4
    manifest = manifest_of(run, prepared, ["rft", "train"])
    card = model_card({"steps": 1, "eval": {}}, run.model_dump(), manifest, folder=folder, base_model="some/model")
    kept = f"The training kept the adapter `{folder}` (fingerprint `{fingerprint(tensors())}`), of rank 2, frozen"
    assert kept in card
    assert "max_lora_rank=8" in card  # vLLM accepts 1, 8, 16, ...

    dora = json.dumps(CONFIG | {"use_dora": True})
    (folder / "adapter" / "adapter_config.json").write_text(dora)
    with pytest.raises(UsageError, match=r"more than LoRA on linear layers \(use_dora=True\); use start_mode=merge"):
        prepare(run, needs_training_tasks=True)


def test_a_checkpoint_of_stacked_adapters_is_no_adapter(write: Callable[..., Path], run_of: Callable[..., Any]) -> None:
    folder = write("checkpoints/checkpoint-2")
    (folder / "start").mkdir()
    (folder / "start" / "parent.json").write_text('{"mode": "stack"}')
    link = folder.with_name("link")
    link.symlink_to(folder / "checkpoints" / "checkpoint-2")
    for path in (link, folder / "checkpoints" / "checkpoint-2"):
        with pytest.raises(ModelError, match="holds only the upper one of two stacked adapters"):
            read_parent(run_of(start=path))
    (folder / "start" / "parent.json").write_text("[]")
    with pytest.raises(ModelError, match=r"parent.json is damaged, or rft did not write it"):
        read_parent(run_of(start=link))


def test_weights_that_no_step_of_the_run_led_to_are_refused(
    write: Callable[..., Path], run_of: Callable[..., Any]
) -> None:
    folder = write(content=tensors(out_features=4))
    with pytest.raises(ModelError, match=f"have the fingerprint {fingerprint(tensors(4))}, to which no step"):
        read_parent(run_of(start=folder))


def test_an_adapter_of_another_base_model_is_refused(write: Callable[..., Path], run_of: Callable[..., Any]) -> None:
    folder = write()
    with pytest.raises(UsageError, match="trained on a base model with the fingerprint of the base, and model"):
        prepare(run_of(start=folder), needs_training_tasks=True)
    for file in ("config.yaml", "metrics.jsonl", "manifest.json"):
        (folder / file).unlink()
    prepared = prepare(run_of(start=folder), needs_training_tasks=True)
    assert prepared.parent is not None
    assert prepared.parent.origin.keys() == {"path", "mode", "fingerprint"}
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(tensors(out_features=7))
    with pytest.raises(UsageError, match=r"1 of its 2 tensors do not fit the base model: .*lora_B"):
        prepare(run_of(start=folder), needs_training_tasks=True)


def test_a_start_that_the_samplers_cannot_serve_is_refused_before_they_start(
    write: Callable[..., Path], run_of: Callable[..., Any], values: dict[str, Any]
) -> None:
    folder = write()
    (folder / "manifest.json").unlink()
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(CONFIG | {"init_lora_weights": "pissa"}))
    values["sampler"] = {"kind": "vllm", "max_completion_tokens": 8}
    with pytest.raises(UsageError, match=r"start=.*: init_lora_weights=pissa changes the base model"):
        prepare(run_of(start=folder), needs_training_tasks=True)


def test_a_start_that_is_gone_is_reported_with_the_task_files(
    run_of: Callable[..., Any], values: dict[str, Any], tmp_path: Path
) -> None:
    values["data"]["train"] = str(tmp_path / "missing.jsonl")
    with pytest.raises(UsageError) as refused:
        prepare(run_of(start=tmp_path / "gone"), needs_training_tasks=True)
    start, task_file = refused.value.problems
    gone = tmp_path / "gone"
    assert start == f"start={gone}: {gone} does not exist; name a run folder or an adapter folder"
    assert "missing.jsonl" in task_file


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.jsonl", '{"step": 1, "policy": "none"}\n'),
        ("manifest.json", "[]"),
        ("manifest.json", '{"base_model": {"fingerprint": 7}}'),
        ("retention.json", '{"stages": [{"name": "sums"}]}'),
    ],
)
def test_a_damaged_file_of_the_parents_run_is_named(
    write: Callable[..., Path], run_of: Callable[..., Any], name: str, content: str
) -> None:
    folder = write()
    (folder / name).write_text(content)
    with pytest.raises(ModelError, match=rf"{folder / name} is damaged, or rft did not write it; copy the run"):
        read_parent(run_of(start=folder))


def test_a_resumed_run_needs_its_parent_no_more(
    write: Callable[..., Path], run_of: Callable[..., Any], tmp_path: Path
) -> None:
    folder, run_folder = write(), tmp_path / "run"
    parent = read_parent(run_of(start=folder))
    assert parent is not None
    run_folder.mkdir()
    save_parent(run_folder, parent)
    shutil.rmtree(folder)
    resumed = run_of(start=folder, resume=run_folder)
    assert read_parent(resumed) == parent
    (run_folder / "start" / "adapter_model.safetensors").write_bytes(tensors(out_features=4))
    with pytest.raises(ModelError, match="the file was changed"):
        read_parent(resumed)


def test_manifest_and_card_name_the_start(write: Callable[..., Path], run_of: Callable[..., Any]) -> None:
    folder = write()
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").unlink()
    run = run_of(start=folder)
    prepared = prepare(run, needs_training_tasks=True)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    parent = read_parent(run)
    assert parent is not None and prepared.parent is not None
    assert parent_warnings(parent, "00ff") == parent_warnings(prepared.parent, "00ff") == []
    (warning,) = parent_warnings(parent, "ff00")
    assert "was trained with another chat template" in warning
    recorded = manifest_of(run, prepared, ["rft", "train"])
    assert recorded["start"] == dict(prepared.parent.origin)
    recorded["start"] = dict(parent.origin)
    summary = {"steps": 1, "eval": {}}
    card = model_card(summary, run.model_dump(), recorded, folder=folder / "adapter", base_model="some/model")
    assert (
        f"The training continued the adapter `{folder}` (fingerprint `{fingerprint(tensors())}`, step 2 of a SFT run)"
        in card
    )


def test_the_fake_learner_starts_from_it_too(make_learner_spec: Callable[..., Any], tmp_path: Path) -> None:
    start = Adapter(policy=Policy(version=0, fingerprint="start"), config={}, tensors=b"")
    learner = FakeLearner(make_learner_spec(tmp_path, start=start))
    assert learner.start_publication() == Publication(weights=start)
    assert FakeLearner(make_learner_spec(tmp_path)).start_publication() is None
