"""The disk space of a run, computed before it starts."""

from __future__ import annotations

from rft.config.commands import load_training
from rft.run.forecast.disk import disk_row, in_bytes


def test_what_a_run_keeps_and_what_grows_with_its_steps() -> None:
    run = load_training(
        [
            "experiment=quickstart", "loop.steps=1000", "loop.prompts_per_step=4", "loop.completions_per_prompt=8",
            "loop.keep_checkpoints=2", "loop.checkpoint_every_steps=50", "loop.staleness=1",
            "sampler.max_completion_tokens=500",
            "evaluation.every_steps=100", "evaluation.completions_per_task=2",
        ]
    )  # fmt: skip
    # Completions: 1000 * 32 = 32,000 of training, (10 * 50 + 2 * 100) * 2 = 1,400 measured; 500 * 6 + 1,000 bytes each.
    # A checkpoint: 1,000,000 * (12 + 4) bytes; three of them exist before the oldest goes. 1,000 * 3,000 of metrics.
    # Batches of two checkpoints of 50 steps: 100 * 32 * (200 prompt ids * 4 + 500 ids and log-probabilities * 8) bytes.
    assert disk_row(run, num_trained=1_000_000, num_validation=50, num_held_out=100, prompt_tokens=200) == (
        "at most about 200 MB: 3 checkpoints of 16 MB, 15.4 MB of tokens of 100 steps, "
        "134 MB of rollouts before compression, 3 MB of metrics"
    )
    # 2,000,000 weights in float32.
    assert disk_row(
        run, num_trained=1_000_000, num_validation=50, num_held_out=100, prompt_tokens=200, num_quantized=2_000_000
    ).startswith("at most about 208 MB: 8 MB of the quantized base model, 3 checkpoints of 16 MB, ")


def test_sizes_in_words() -> None:
    assert [in_bytes(size) for size in (0, 999, 1500, 2_340_000, 5.678e9, 1.2e12)] == [
        "0 bytes", "999 bytes", "1.5 kB", "2.34 MB", "5.68 GB", "1.2 TB",
    ]  # fmt: skip
