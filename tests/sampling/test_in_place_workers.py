"""What the workers of one engine report, combined by hand; and the worker's half of policies in place."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import pytest
import safetensors.torch
import torch

from rft.sampling.engine import Loaded
from rft.sampling.in_place_weights import InPlaceModel, StoredModel, of_all_workers
from rft.sampling.merging import BaseWeights
from rft.sampling.vllm_policies import _stored, on_all_ranks
from rft.sampling.vllm_worker import ReadBack
from rft.types import FullWeights, Policy

POLICY = Policy(version=1, fingerprint="f1")


def loaded(matched: int = 7, *problems: str, fingerprint: str = "f1") -> Loaded:
    return Loaded(policy=Policy(version=1, fingerprint=fingerprint), modules_matched=matched, problems=problems)


def test_two_ranks_that_agree() -> None:
    ranks = [ReadBack(matched={"q", "k"}), ReadBack(matched={"q", "k"})]
    assert on_all_ranks(ranks, 2) == ({"q", "k"}, [], {})


def test_a_rank_that_lacks_a_module_is_not_hidden_by_the_other() -> None:
    ranks = [ReadBack(matched={"q", "k"}), ReadBack(matched={"q"}, unmatched={"k"})]
    assert on_all_ranks(ranks, 2) == ({"q"}, ["k"], {})


def test_pipeline_stages_have_different_modules() -> None:
    stages = [
        ReadBack(matched={"layer 0"}, unmatched={"layer 1", "layer 9"}),
        ReadBack(matched={"layer 1"}, unmatched={"layer 0", "layer 9"}),
    ]
    assert on_all_ranks(stages, 1) == ({"layer 0", "layer 1"}, ["layer 9"], {})


def test_the_largest_difference_of_any_rank_counts() -> None:
    ranks = [ReadBack(different={"q": 0.5, "k": 0.1}), ReadBack(different={"q": 0.25, "v": 2.0})]
    assert on_all_ranks(ranks, 2)[2] == {"q": 0.5, "k": 0.1, "v": 2.0}
    for ranks in ([{"q": math.nan}, {"q": 1.0}], [{"q": 1.0}, {"q": math.nan}]):
        read_backs = [ReadBack(different=different) for different in ranks]
        assert math.isnan(on_all_ranks(read_backs, 2)[2]["q"])


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([loaded()], loaded()),
        ([loaded(), loaded()], loaded()),
        ([loaded(7), loaded(5)], loaded(5)),
        ([loaded(7, "a"), loaded(7, "a", "b")], loaded(7, "a", "worker 1: b")),
        (
            [loaded(), loaded(fingerprint="f2")],
            loaded(7, "worker 1 holds policy-v1-f2, and worker 0 holds policy-v1-f1"),
        ),
    ],
)
def test_every_worker_must_hold_the_policy(results: list[Loaded], expected: Loaded) -> None:
    assert of_all_workers(results) == expected


def test_a_stored_model_is_written_like_a_sent_one(tmp_path: Path) -> None:
    """Two tensors; the second policy changes both."""
    safetensors.torch.save_file({"a.weight": torch.zeros(2, 2), "b.weight": torch.ones(2)}, tmp_path / "m.safetensors")
    written: list[dict[str, list[float]]] = []
    model = InPlaceModel(
        BaseWeights(tmp_path),
        dtype=torch.float32,
        device="cpu",
        packed={},
        reload=lambda tensors: written.append({name: tensor.flatten().tolist() for name, tensor in tensors}),
    )
    tensors = safetensors.torch.save({"a.weight": torch.full((2, 2), 3.0), "b.weight": torch.full((2,), 4.0)})
    sent = FullWeights(policy=Policy(version=2, fingerprint="declared"), tensors=tensors)
    policy = Policy(version=2, fingerprint=hashlib.sha256(tensors).hexdigest()[:16])
    with _stored(sent) as stored:
        assert isinstance(stored, StoredModel)
        results = [model.load(sent), model.load(stored)]
    assert not stored.file.exists()
    assert results == [(Loaded(policy=policy, modules_matched=2), False)] * 2
    assert written == [{"a.weight": [3.0] * 4, "b.weight": [4.0] * 2}] * 2
