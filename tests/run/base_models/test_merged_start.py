"""`start_mode=merge`: the run folder gets a base model of its own, once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from rft.config import RunConfig
from rft.config.adapter_settings import settings_of_run
from rft.errors import ModelError
from rft.models.base_model import fingerprint
from rft.models.weight_files import read_weights
from rft.run.base_models.merged_start import with_merged_start
from rft.run.base_models.start_adapter import save_parent
from rft.run.inputs.prepare import Inputs, read_inputs, render_prompts
from rft.run.open_folder import manifest_of
from rft.run_folder.model_card import model_card

MODULE = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def adapter(tmp_path: Path, tiny_model: Path) -> Path:
    """An adapter of rank 1 on one matrix, whose update is 0.5 everywhere."""
    size_out, size_in = read_weights(tiny_model).tensors[f"{MODULE}.weight"].shape
    tensors = {
        f"base_model.model.{MODULE}.lora_A.weight": np.full((1, size_in), 0.5, dtype=np.float32),
        f"base_model.model.{MODULE}.lora_B.weight": np.ones((size_out, 1), dtype=np.float32),
    }
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(tiny_model)}
    config |= {"r": 1, "lora_alpha": 1, "target_modules": [MODULE]}
    folder = tmp_path / "adapter of a stranger"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(tensors, folder / "adapter_model.safetensors")
    return folder


@pytest.fixture
def read(tmp_path: Path, tiny_model: Path) -> Callable[..., tuple[RunConfig, Inputs]]:
    """`read(start=...)`: a run with `start_mode=merge` in `tmp_path / "run"`, and its inputs."""
    (tmp_path / "train.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n')

    def make(**changes: Any) -> tuple[RunConfig, Inputs]:
        values: dict[str, Any] = {
            "output_dir": str(tmp_path / "run"),
            "model": {"path": str(tiny_model)},
            "data": {"train": str(tmp_path / "train.jsonl")},
            "sampler": {"kind": "transformers", "max_completion_tokens": 8},
            "learner": {"kind": "grpo"},
            "loop": {"prompts_per_step": 1},
            "graders": {"correct": {"use": "exact"}},
            "start_mode": "merge",
        }
        run = RunConfig.model_validate(values | {key: str(value) for key, value in changes.items()})
        return run, read_inputs(run, needs_training_tasks=True)

    return make


def test_the_merged_model_is_written_once_and_kept(
    read: Callable[..., tuple[RunConfig, Inputs]], adapter: Path, tiny_model: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    run, inputs = read(start=adapter)
    merged = with_merged_start(run, inputs, lines.append)
    folder = tmp_path / "run" / "start_model"
    assert merged.model == folder
    before, after = (
        safetensors.numpy.load_file(model / "model.safetensors")[f"{MODULE}.weight"] for model in (tiny_model, folder)
    )
    np.testing.assert_allclose(after - before, 0.5, atol=1e-6)
    assert lines[0] == f"merging the adapter of {adapter} into {tiny_model}"
    assert "Log-probabilities of" in lines[1]

    prepared = render_prompts(merged)
    assert prepared.base.fingerprint == fingerprint(folder) != fingerprint(tiny_model)
    assert prepared.parent is not None and prepared.parent.version_0 is None
    manifest = manifest_of(run, prepared, ["rft", "train"])
    assert manifest["base_model"] == {"path": str(folder), "fingerprint": fingerprint(folder)}
    original = {"path": str(tiny_model), "fingerprint": fingerprint(tiny_model)}
    assert manifest["start"]["merged"]["base_model"] == original
    card = model_card({"steps": 1, "eval": {}}, run.model_dump(), manifest, folder=folder, base_model=str(folder))
    assert f"# {tiny_model.name}, fine-tuned with rft" in card
    assert f"`{tiny_model}` (fingerprint `{fingerprint(tiny_model)}`) with the policy `{adapter}`" in card

    # A resumed run needs the parent no more, and merges nothing.
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "run" / "config.yaml").write_text("model: {path: 'embedded:tiny'}\nstart_mode: merge\n")
    save_parent(tmp_path / "run", prepared.parent)
    shutil.rmtree(adapter)
    lines.clear()
    resumed = with_merged_start(*read(start=adapter, resume=tmp_path / "run"), lines.append)
    assert (resumed.model, resumed.parent, lines) == (folder, prepared.parent, [])
    assert settings_of_run(tmp_path / "run")["model.path"] == str(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=f"and the run began with {prepared.base.fingerprint}"):
        with_merged_start(run.model_copy(update={"resume": str(tmp_path / "run")}), inputs, lines.append)


def test_a_run_that_trained_all_weights_is_a_base_model_already(
    read: Callable[..., tuple[RunConfig, Inputs]], tiny_model: Path, tmp_path: Path
) -> None:
    parent = tmp_path / "parent"
    shutil.copytree(tiny_model, parent / "model")
    tensors = safetensors.numpy.load_file(tiny_model / "model.safetensors")
    tensors[f"{MODULE}.weight"] += 1
    safetensors.numpy.save_file(tensors, parent / "model" / "model.safetensors")
    merged = with_merged_start(*read(start=parent), print)
    assert merged.model == tmp_path / "run" / "start_model"
    assert fingerprint(merged.model) == fingerprint(parent / "model") != fingerprint(tiny_model)
