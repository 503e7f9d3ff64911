"""`learner.base`: the run folder gets a quantized base model, once, and manifest and card name the original."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from rft.config import RunConfig
from rft.config.adapter_settings import settings_of_run
from rft.errors import ModelError, UsageError
from rft.models.adapter_folder import load_adapter
from rft.models.base_model import fingerprint
from rft.models.quantized_folder import comparison_in_words, quantized_by
from rft.models.weight_files import read_weights
from rft.run.base_models.quantized_base import with_quantized_base
from rft.run.inputs.prepare import Inputs, read_inputs, render_prompts
from rft.run.open_folder import manifest_of
from rft.run_folder.model_card import model_card
from rft.sampling.proof import Gap
from rft.sweep.grid import prepare_all

COMPARED = {"source": "embedded:tiny", "mean_gap": 0.25, "largest_gap": 2.5, "mean_effect": 0.5, "num_texts": 16}


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the quantization be a copy of the model; tests/learning/test_quantized_base.py tests the real one."""
    fake = ModuleType("rft.run.base_models.quantize")

    def copied(source: Path, folder: Path, **_: Any) -> Gap:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"quantized_by": "a fake"}))
        return Gap(mean=0.75, largest=3.0)

    fake.write_quantized = copied  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rft.run.base_models.quantize", fake)


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., tuple[RunConfig, Inputs]]:
    """`read(resume=...)`: a run with `learner.base=nf4` in `tmp_path / "run"`, and its inputs."""
    (tmp_path / "train.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n')

    def make(path: str = "embedded:tiny", **changes: Any) -> tuple[RunConfig, Inputs]:
        values: dict[str, Any] = {
            "output_dir": str(tmp_path / "run"),
            "model": {"path": path},
            "data": {"train": str(tmp_path / "train.jsonl")},
            "sampler": {"kind": "transformers", "max_completion_tokens": 8},
            "learner": {"kind": "grpo", "base": "nf4"},
            "loop": {"prompts_per_step": 1},
            "graders": {"correct": {"use": "exact"}},
        }
        run = RunConfig.model_validate(values | changes)
        return run, read_inputs(run, needs_training_tasks=True)

    return make


def test_the_quantized_model_is_written_once_and_is_the_base_model(
    read: Callable[..., tuple[RunConfig, Inputs]], tiny_model: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    run, inputs = read()
    quantized = with_quantized_base(run, inputs, lines.append)
    folder = tmp_path / "run" / "quantized_base"
    assert lines == [
        f"quantizing {tiny_model} to NF4, into {folder}",
        "NF4 changes the model's log-probabilities by 0.75 on average and 3 at most, on text that the model sampled",
    ]
    prepared = render_prompts(quantized)
    assert (prepared.model, prepared.model_name) == (folder, str(folder))
    assert prepared.base.fingerprint == fingerprint(folder) != fingerprint(tiny_model)

    manifest = manifest_of(run, prepared, ["rft", "train"])
    base = manifest["base_model"]
    assert (base["path"], base["fingerprint"]) == (str(folder), fingerprint(folder))
    origin = base["quantized"]
    assert (origin["method"], origin["source"], origin["mean_gap"]) == ("nf4", "embedded:tiny", 0.75)
    assert (origin["source_fingerprint"], origin["library"]) == (fingerprint(tiny_model), "bitsandbytes 0.50.2")
    summary = {"steps": 1, "eval": {}, "original_base": COMPARED}
    card = model_card(summary, run.model_dump(), manifest, folder=folder, base_model=str(folder))
    assert "# embedded:tiny, fine-tuned with rft" in card
    assert f"`embedded:tiny` (fingerprint `{fingerprint(tiny_model)}`) with its linear layers rounded to NF4" in card
    assert "On the original base model embedded:tiny, the adapter's log-probabilities of 16 texts" in card

    # A resumed run writes nothing, and later commands find the model in the run folder.
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "run" / "config.yaml").write_text("model: {path: 'embedded:tiny'}\nlearner: {base: nf4}\n")
    lines.clear()
    resumed = with_quantized_base(*read(resume=str(tmp_path / "run")), lines.append)
    assert (resumed.model, resumed.quantization, lines) == (folder, quantized.quantization, [])
    assert settings_of_run(tmp_path / "run")["model.path"] == str(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=f"and the run began with {prepared.base.fingerprint}"):
        with_quantized_base(*read(resume=str(tmp_path / "run")), lines.append)


def test_a_model_that_is_quantized_already_is_used_where_it_is(
    read: Callable[..., tuple[RunConfig, Inputs]], tmp_path: Path
) -> None:
    first = with_quantized_base(*read(), print)
    run, inputs = read(str(first.model), output_dir=str(tmp_path / "second"))
    assert inputs.quantization == first.quantization
    assert with_quantized_base(run, inputs, print) is inputs
    assert not (tmp_path / "second").exists()
    assert quantized_by("int8", first.model) is None
    # So that the trials of a sweep can share it.
    assert prepare_all([run])[0].quantization == first.quantization
    with pytest.raises(UsageError, match="each trial of a sweep would quantize the same model"):
        prepare_all([read()[0]])


def test_a_stage_may_name_the_original_again(
    read: Callable[..., tuple[RunConfig, Inputs]], tiny_model: Path, tmp_path: Path
) -> None:
    parent = tmp_path / "first"
    run, inputs = read(output_dir=str(parent))
    prepared = render_prompts(with_quantized_base(run, inputs, print))
    module = "model.layers.0.self_attn.q_proj"
    size_out, size_in = read_weights(tiny_model).tensors[f"{module}.weight"].shape
    tensors = {"A": np.zeros((1, size_in), np.float32), "B": np.ones((size_out, 1), np.float32)}
    config = {"peft_type": "LORA", "base_model_name_or_path": prepared.model_name, "r": 1, "lora_alpha": 1}
    (parent / "adapter").mkdir()
    (parent / "adapter" / "adapter_config.json").write_text(json.dumps(config | {"target_modules": [module]}))
    safetensors.numpy.save_file(
        {f"base_model.model.{module}.lora_{name}.weight": tensor for name, tensor in tensors.items()},
        parent / "adapter" / "adapter_model.safetensors",
    )
    (parent / "config.yaml").write_text("model: {path: 'embedded:tiny'}\nlearner: {base: nf4}\n")
    (parent / "manifest.json").write_text(json.dumps(manifest_of(run, prepared, ["rft", "train"])))
    end = load_adapter(parent).policy.fingerprint
    (parent / "metrics.jsonl").write_text(json.dumps({"step": 1, "policy": {"version": 1, "fingerprint": end}}) + "\n")

    again = with_quantized_base(*read(start=str(parent)), print)
    assert fingerprint(again.model) == prepared.base.fingerprint
    with pytest.raises(UsageError, match=f"trained on a base model with the fingerprint {prepared.base.fingerprint}"):
        read(start=str(parent), learner={"kind": "grpo"})  # the adapter does not belong to the original
    with pytest.raises(UsageError, match="trained on a base model with the fingerprint"):
        read(start=str(parent), start_mode="merge")


def test_a_comparison_in_words() -> None:
    assert comparison_in_words(COMPARED) == (
        "On the original base model embedded:tiny, the adapter's log-probabilities of 16 texts differ from "
        "those of the trained policy by 0.25 on average and 2.5 at most. On its own base model, the adapter changes "
        "them by 0.5 on average."
    )
    assert comparison_in_words({"source": "a/b", "not_measured": "the run was pruned"}) == (
        "The adapter was not compared on the original base model a/b: the run was pruned."
    )


def test_a_damaged_origin_is_named(tmp_path: Path) -> None:
    (tmp_path / "quantization.json").write_text('{"method": "fp2"}')
    with pytest.raises(ModelError, match=r"quantization\.json cannot be read: .* delete"):
        quantized_by("nf4", tmp_path)
