"""Micro-batches by the learner's memory, by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rft.config import RunConfig
from rft.memory import ModelShape, Sizes
from rft.memory.learner import MicroBatch, fixed_bytes, pass_bytes, weight_bytes
from rft.memory.sizes import choose_sizes, learner_bytes

GB = 10**9
MakeRun = Callable[..., RunConfig]


def test_what_does_not_depend_on_the_micro_batch(small: ModelShape) -> None:
    # An adapter of rank 32 has 32 x 24 x 22,912 weights, in float32 and, under autocast, in 16 bits.
    trained = 32 * 24 * 22_912
    parts = fixed_bytes(small, lora_rank=32, dtype="bfloat16", on_gpu=True)
    assert parts["weights"] == 2 * 494_032_768
    assert parts["adapter"] == 6 * trained
    assert parts["optimizer"] == 12 * trained
    full = fixed_bytes(small, lora_rank=None, dtype="bfloat16", on_gpu=True)
    assert (full["weights"], full["optimizer"]) == (6 * 494_032_768, 12 * 494_032_768)
    on_cpu = fixed_bytes(small, lora_rank=32, dtype="float32", on_gpu=False)
    assert (on_cpu["weights"], on_cpu["adapter"]) == (4 * 494_032_768, 4 * trained)


def test_a_quantized_base_model(small: ModelShape) -> None:
    # 24 layers with queries and output of 896 x 896, keys and values of 896 x 128, and three matrices of 896 x 4,864.
    linear = 24 * (2 * 896 * 896 + 2 * 896 * 128 + 3 * 896 * 4864)
    others = 494_032_768 - linear  # embeddings, norms and biases
    one = 896 * 4864  # the largest layer, dequantized
    nf4, int8 = (weight_bytes(small, dtype="float32", base=base) for base in ("nf4", "int8"))
    assert nf4 == linear // 2 + linear // 64 * 4 + 4 * (others + one)
    assert int8 == linear + 4 * (others + one)
    assert weight_bytes(small, dtype="bfloat16", base="nf4") == linear // 2 + linear // 64 * 4 + 2 * (others + one)


def test_the_forecast_knows_a_quantized_base_model(make_run: MakeRun, small: ModelShape) -> None:
    def parts(base: str | None) -> dict[str, int]:
        run = make_run(learner={"base": base})
        sizes = Sizes(completions_per_micro_batch=1)
        return learner_bytes(run, small, sizes, prompt_tokens=250, on_gpu=True)

    plain, quantized = parts(None), parts("nf4")
    assert quantized.pop("weights") < 0.55 * plain.pop("weights")
    assert quantized == plain


def test_the_divergence_from_a_teacher_needs_all_logits(make_run: MakeRun, small: ModelShape) -> None:
    def logits(k: int) -> int:
        run = make_run(learner={"kind": "distill"}, teacher={"path": "embedded:tiny", "top_logprobs": k})
        sizes = Sizes(completions_per_micro_batch=2)
        return learner_bytes(run, small, sizes, prompt_tokens=250, on_gpu=False)["logits"]

    assert logits(16) == 3 * 4 * 2 * make_run().sampler.max_completion_tokens * 151_936
    assert logits(0) < logits(16)


def test_a_pass_on_a_gpu(small: ModelShape) -> None:
    batch = MicroBatch(rows=2, prompt_tokens=250, completion_tokens=512, gradient_checkpointing=False)
    parts = pass_bytes(small, batch, lora_rank=32, dtype="bfloat16", on_gpu=True)
    # Two norms, attention and feed-forward layer, mask, copies for seven linear layers, and their inner states.
    per_layer = 8 * 896 + 2 * (4 * 896 + 4 * 4864 + 762) + 2 * 5 * 896 + 2 * 896 + 2 * 7 * 32
    assert parts["activations"] == 2 * 762 * 25 * per_layer
    # One tile of 1,024 completion tokens, their hidden states, the gradient of these, and a tile of the output matrix,
    # in float32.
    assert parts["logits"] == 1024 * 32_768 * 4 + 1024 * 896 * 8 + 32_768 * 896 * 4


def test_a_pass_on_a_cpu(small: ModelShape) -> None:
    def parts(rows: int) -> dict[str, int]:
        batch = MicroBatch(rows=rows, prompt_tokens=72, completion_tokens=48, gradient_checkpointing=False)
        return pass_bytes(small, batch, lora_rank=32, dtype="float32", on_gpu=False)

    per_layer = 8 * 896 + 4 * (4 * 896 + 4 * 4864 + 120) + 8 * 896 + 4 * 7 * 32
    # 8 x 120 x 4,864 numbers are 19 MB and come from the heap, twice as many do not.
    assert parts(8)["activations"] == int(1.65 * 8 * 120 * 25 * per_layer)
    assert parts(16)["activations"] == 16 * 120 * 25 * per_layer
    # Prompts are scored as well, in 8.25 tiles.
    assert parts(8)["logits"] == int(960 * 32_768 * 4 * 8.25) + 960 * 896 * 8


def test_checkpointing_keeps_the_inputs_of_the_layers(small: ModelShape) -> None:
    batch = MicroBatch(rows=2, prompt_tokens=250, completion_tokens=512, gradient_checkpointing=True)
    parts = pass_bytes(small, batch, lora_rank=32, dtype="bfloat16", on_gpu=True)
    per_layer = 8 * 896 + 2 * (4 * 896 + 4 * 4864 + 762) + 2 * 5 * 896 + 2 * 896 + 2 * 7 * 32
    assert parts["activations"] == 2 * 762 * (24 * 2 * 896 + 2 * per_layer)


def test_the_score_of_the_canaries_may_need_more_than_a_pass(small: ModelShape) -> None:
    def num_bytes(lora_rank: int | None, dtype: str) -> int:
        batch = MicroBatch(rows=1, prompt_tokens=8, completion_tokens=8, gradient_checkpointing=True)
        return sum(pass_bytes(small, batch, lora_rank=lora_rank, dtype=dtype, on_gpu=True).values())

    # The output matrix in float32, and if it is trained, in 16 bits as well.
    assert num_bytes(32, "bfloat16") == 4 * 151_936 * 896
    assert num_bytes(None, "bfloat16") == 6 * 151_936 * 896
    assert num_bytes(32, "float32") < 10**7


@pytest.mark.parametrize(
    ("gpu_gb", "expected"),
    [
        # 65,972 bytes a token and layer, 25 times: 5 rows of 762 tokens need 6.3 GB, beside 2.5 GB; 8 rows 10.1 GB.
        (12, Sizes(completions_per_micro_batch=5)),
        # 16,384 tokens hold 21 rows, and 20 is the largest divisor of 320 below.
        (70, Sizes(completions_per_micro_batch=20)),
        # Not even 5 rows fit. With checkpointing a token needs 0.17 MB, and 20 rows 2.7 GB.
        (6.5, Sizes(completions_per_micro_batch=20, gradient_checkpointing=True)),
        # Nothing fits: the smallest that there is.
        (2, Sizes(completions_per_micro_batch=1, gradient_checkpointing=True)),
        # The memory is unknown: the most tokens.
        (None, Sizes(completions_per_micro_batch=20)),
    ],
)
def test_micro_batches_by_memory(make_run: MakeRun, small: ModelShape, gpu_gb: float | None, expected: Sizes) -> None:
    gpu_bytes = None if gpu_gb is None else int(gpu_gb * GB)
    assert choose_sizes(make_run(), small, prompt_tokens=250, on_gpu=True, gpu_bytes=gpu_bytes) == expected


@pytest.mark.parametrize(
    ("learner", "expected"),
    [
        ({"completions_per_micro_batch": 4}, Sizes(completions_per_micro_batch=4)),
        ({"completions_per_micro_batch": 16}, Sizes(completions_per_micro_batch=16, gradient_checkpointing=True)),
        ({"trl": {"gradient_checkpointing": True}}, Sizes(completions_per_micro_batch=20, gradient_checkpointing=True)),
        (
            {"completions_per_micro_batch": 16, "trl": {"gradient_checkpointing": False}},
            Sizes(completions_per_micro_batch=16),
        ),
    ],
)
def test_configured_values_are_kept(
    make_run: MakeRun, small: ModelShape, learner: dict[str, Any], expected: Sizes
) -> None:
    run = make_run(learner=learner)
    assert choose_sizes(run, small, prompt_tokens=250, on_gpu=True, gpu_bytes=12 * GB) == expected


def test_on_a_cpu_eight_completions(make_run: MakeRun, small: ModelShape) -> None:
    expected = Sizes(completions_per_micro_batch=8)
    assert choose_sizes(make_run(), small, prompt_tokens=250, on_gpu=False, gpu_bytes=None) == expected


def test_a_reference_model_and_a_value_function(make_run: MakeRun, small: ModelShape) -> None:
    sizes = Sizes(completions_per_micro_batch=1)

    def parts(**learner: Any) -> dict[str, int]:
        return learner_bytes(make_run(learner=learner), small, sizes, prompt_tokens=250, on_gpu=True)

    assert "reference" not in parts(beta=0.1), "an adapter that is switched off is the reference"
    assert parts(beta=0.1, adapter="full")["reference"] == 4 * 494_032_768
    assert parts(kind="ppo")["value function"] == 4 * 320 * 512 * 896
    assert parts(kind="fake") == {}
