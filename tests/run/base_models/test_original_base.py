"""An adapter that was trained on a quantized base model, compared on the original."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from rft.learning.canaries import score_canaries
from rft.learning.pack_weights import pack_adapter
from rft.models.base_model import fingerprint
from rft.models.quantized_folder import Quantization
from rft.run.base_models.original_base import compare_on_original, completions_of
from rft.types import GradedGroup

pytestmark = pytest.mark.e2e  # real libraries: too slow for a unit test

TEXTS = [(tuple(range(10, 30)), 5), (tuple(range(40, 52)), 11)]


@pytest.fixture
def other(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model with a changed output of its last norm, in place of a quantized model."""
    folder = tmp_path / "other"
    shutil.copytree(tiny_model, folder)
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * np.float32(1.25)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture
def quantization(tiny_model: Path) -> Quantization:
    return Quantization(
        method="nf4",
        source=str(tiny_model),
        source_fingerprint=fingerprint(tiny_model),
        library="bitsandbytes 0.50.2",
        mean_gap=0.5,
    )


def test_only_the_completion_is_compared(
    make_peft_model: Callable[..., Any], other: Path, tiny_model: Path, quantization: Quantization
) -> None:
    model = make_peft_model(seed=1, rank=8)
    adapter = pack_adapter(model, version=3, base_model_name=str(tiny_model))

    def scores() -> list[float]:
        return [score for ids, number in TEXTS for score in score_canaries(model, [ids])[0][-number:]]

    original = scores()
    model.get_base_model().model.norm.weight.data *= 1.25
    trained = scores()
    with model.disable_adapter():
        alone = scores()
    compared = compare_on_original(quantization, other, adapter, TEXTS)
    differences = np.abs(np.subtract(trained, original))
    assert compared["mean_gap"] == pytest.approx(differences.mean(), rel=1e-3)
    assert compared["largest_gap"] == pytest.approx(differences.max(), rel=1e-3)
    assert compared["mean_effect"] == pytest.approx(np.abs(np.subtract(trained, alone)).mean(), rel=1e-3)
    assert (compared["source"], compared["num_texts"]) == (str(tiny_model), 2)


def test_the_original_must_be_there_and_unchanged(tmp_path: Path, tiny_model: Path, quantization: Quantization) -> None:
    adapter: Any = None
    gone = quantization.model_copy(update={"source": str(tmp_path / "gone")})
    assert "no folder at" in compare_on_original(gone, tiny_model, adapter, [])["not_measured"]
    changed = quantization.model_copy(update={"source_fingerprint": "00"})
    reason = compare_on_original(changed, tiny_model, adapter, [])["not_measured"]
    assert reason == f"{tiny_model} was changed since it was quantized"


def test_the_first_completion_of_each_group_is_scored(make_group: Callable[..., GradedGroup]) -> None:
    group = make_group([1.0, 0.0])
    first = group.rollouts[0]
    long = replace(group, rollouts=(replace(first, prompt_ids=(5,) * 1024), *group.rollouts[1:]))
    expected = ((*first.prompt_ids, *first.completion_ids), len(first.completion_ids))
    assert completions_of([group, long]) == [expected]
    assert completions_of([group] * 20) == [expected] * 16
