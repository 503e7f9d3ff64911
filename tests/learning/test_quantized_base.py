"""A quantized base model: the learner computes with exactly the weights that samplers serve."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from rft.learning.canaries import score_canaries
from rft.models.base_model import load_tokenizer
from rft.sampling.proof import gap
from rft.types import Adapter, GradedGroup, Policy

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("visible_bitsandbytes")]  # real libraries

CANARIES = ((10, 11, 12, 20, 21), (10, 11, 12, 30))
REWARDS = [1.0, 0.0, 0.5, 0.0]
_NEGATIVE = (-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635)
_SMALL = (-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725)
_POSITIVE = (0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0)
NF4 = np.array((*_NEGATIVE, *_SMALL, *_POSITIVE), dtype=np.float32)
"""The 16 values of the data type (arXiv 2305.14314, appendix E)."""


@pytest.fixture(scope="module", params=["nf4", pytest.param("int8", marks=pytest.mark.full)])
def method(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def folder(method: Any, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, visible_bitsandbytes: None) -> Path:
    """The tiny model, quantized, as a plain model. 352, the length of some rows, is an odd multiple of 32."""
    from rft.run.base_models.quantize import write_quantized

    target = tmp_path_factory.mktemp(method)
    write_quantized(tiny_model, target, method=method, tokenizer=load_tokenizer(tiny_model, None))
    return target


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_quantizing_the_plain_model_again_changes_no_bit(folder: Path, method: Any, dtype: torch.dtype) -> None:
    from rft.learning.quantized_base import dequantized, load_quantized

    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    quantized = load_quantized(folder, method, dtype=dtype, device="cpu").eval()
    layers = [name for name, layer in quantized.named_modules() if type(layer).__module__.startswith("bitsandbytes")]
    assert len(layers) == 21  # 7 in each of 3 layers, without the output layer
    for name in layers:
        assert torch.equal(dequantized(quantized.get_submodule(name), dtype), plain.get_submodule(name).weight)
    assert gap(score_canaries(plain, CANARIES), score_canaries(quantized, CANARIES)).largest < 1e-5


def test_nf4_takes_the_nearest_of_16_values_for_each_64_weights(tiny_model: Path, tmp_path: Path) -> None:
    from rft.run.base_models.quantize import write_quantized

    difference = write_quantized(tiny_model, tmp_path, method="nf4", tokenizer=load_tokenizer(tiny_model, None))
    before, after = (
        safetensors.torch.load_file(model / "model.safetensors")["model.layers.0.mlp.down_proj.weight"]
        for model in (tiny_model, tmp_path)
    )
    blocks = before.numpy().reshape(-1, 64)
    scales = np.abs(blocks).max(axis=1, keepdims=True)
    nearest = NF4[np.abs(blocks[:, :, None] / scales[:, :, None] - NF4).argmin(axis=2)]
    rounded = torch.from_numpy(scales).bfloat16().float().numpy()  # to 8 bits: off by 2^-9 at most
    np.testing.assert_array_equal(after.numpy().reshape(-1, 64), nearest * rounded)
    assert difference.mean > 0.01


def test_the_gradient_is_that_of_the_plain_layer(folder: Path, method: Any) -> None:
    from rft.learning.quantized_base import load_quantized

    gradients = []
    for model in (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        load_quantized(folder, method, dtype=torch.float32, device="cpu"),
    ):
        inputs = torch.linspace(-1, 1, 2 * 352).reshape(1, 2, 352).requires_grad_()
        (model.model.layers[0].mlp.down_proj(inputs) ** 2).sum().backward()
        gradients.append(inputs.grad)
    torch.testing.assert_close(*gradients)


def test_a_learner_publishes_what_a_plain_base_model_computes(
    build: Callable[..., Any], group_for: Callable[..., GradedGroup], folder: Path, method: Any, tmp_path: Path
) -> None:
    how = {"model": folder, "quantized": method, "canaries": CANARIES}
    learner = build(**how)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert gap(learner.base_canary_logprobs(), score_canaries(plain, CANARIES)).largest < 1e-5
    learner.learn([group_for(learner, REWARDS)])
    published = learner.publish()
    tensors = safetensors.torch.load(published.weights.tensors)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}  # TRL would train them in bfloat16
    write(published.weights, tmp_path / "adapter")
    served = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    assert gap(published.canary_logprobs, score_canaries(served, CANARIES)).largest < 1e-5
    assert gap(published.canary_logprobs, learner.base_canary_logprobs()).mean > 1e-3

    learner.save()
    resumed = build(folder="again", resume_from=tmp_path / "run" / "checkpoints" / "checkpoint-1", **how)
    assert resumed.publish() == published


@pytest.mark.parametrize("mode", ["continue", "stack"])
def test_a_start_on_a_quantized_base_model(
    build: Callable[..., Any], group_for: Callable[..., GradedGroup], folder: Path, method: Any, mode: str
) -> None:
    first = build(model=folder, quantized=method, canaries=CANARIES)
    first.learn([group_for(first, REWARDS)])
    end = first.publish()
    start = replace(end.weights, policy=Policy(version=0, fingerprint=end.policy.fingerprint))
    how = {"model": folder, "quantized": method, "canaries": CANARIES, "start_mode": mode, "beta": 0.1}
    learner = build(folder="on", start=start, **how)
    version_0 = learner.start_publication()
    assert version_0.weights.tensors == start.tensors
    assert gap(version_0.canary_logprobs, end.canary_logprobs).largest < 1e-5
    assert learner.learn([group_for(learner, REWARDS)])["kl"] == pytest.approx(0.0, abs=1e-6)
    assert learner.publish().canary_logprobs != version_0.canary_logprobs


def write(adapter: Adapter, folder: Path) -> None:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(dict(adapter.config)))
    (folder / "adapter_model.safetensors").write_bytes(adapter.tensors)
