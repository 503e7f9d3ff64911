"""What a run would do, in rows."""

from typing import Any

from rft.config import RunConfig, completions_per_micro_batch
from rft.run.forecast.plan import as_table, run_rows


def plan_of(**changes: Any) -> str:
    values: dict[str, Any] = {
        "output_dir": "out",
        "model": {"path": "owner/model"},
        "data": {"train": "train.jsonl"},
        "loop": {"steps": 10, "prompts_per_step": 3, "completions_per_prompt": 4},
        "sampler": {"kind": "vllm", "num_actors": 2, "temperature": 0.9, "max_completion_tokens": 50},
        "learner": {"kind": "grpo", "learning_rate": 0.00002, "adapter": {"rank": 8}},
        "graders": {"correct": {"use": "exact"}, "brief": {"use": "my.py:brief", "weight": 0.25}},
    }
    run = RunConfig.model_validate(values | changes)
    return "\n".join(["", *as_table(run_rows(run, micro_batch=completions_per_micro_batch(run)))])


def test_the_plan() -> None:
    assert plan_of() == (
        "\n"
        "  base model      owner/model\n"
        "  train on        train.jsonl\n"
        "  validate on     nothing\n"
        "  test on         nothing\n"
        "  graders         correct (exact, weight 1), brief (my.py:brief, weight 0.25)\n"
        "  steps           10 of 3 prompts x 4 completions = 12 completions\n"
        "  optimizer step  2 micro-batches of 6 completions\n"
        "  in all          30 prompts, 120 completions of at most 50 tokens\n"
        "  samplers        2 x vllm, temperature 0.9\n"
        "  learner         grpo, LoRA rank 8, learning rate 2e-05\n"
        "  run folder      out"
    )


def test_one_micro_batch() -> None:
    learner = {"kind": "grpo", "completions_per_micro_batch": 12}
    assert "\n  optimizer step  1 micro-batch of 12 completions\n" in plan_of(learner=learner)


def test_ranks() -> None:
    learner = {"kind": "grpo", "num_workers": 2}
    assert "\n  learner         grpo, LoRA rank 16, learning rate 1e-05, 2 ranks\n" in plan_of(learner=learner)


def test_sampling_ahead() -> None:
    loop = {"steps": 10, "prompts_per_step": 3, "completions_per_prompt": 4, "staleness": 2}
    assert "\n  sampled ahead   2 policy versions, so up to 36 completions in flight" in plan_of(loop=loop)


def test_a_grader_of_openai() -> None:
    assert "main (openai, weight 1)" in plan_of(graders={"main": {"openai": "grader.json"}})


def test_held_out_tasks() -> None:
    shared = plan_of(data={"train": "train.jsonl", "validation_share": 0.05, "test": "test.jsonl"})
    assert "\n  validate on     0.05 of the training tasks\n  test on         test.jsonl\n" in shared
    given = plan_of(data={"train": "train.jsonl", "validation": "validation.jsonl"})
    assert "\n  validate on     validation.jsonl\n" in given
