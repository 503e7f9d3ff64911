"""What is wrong across fields."""

from pathlib import Path
from typing import Any

import pytest

from rft.config import (
    EvaluateConfig,
    RunConfig,
    audit_warnings,
    completions_per_micro_batch,
    evaluate_problems,
    run_problems,
)
from rft.config.commands import load_training

RUN: dict[str, Any] = {
    "output_dir": "out",
    "model": {"path": "m"},
    "data": {"train": "t.jsonl"},
    "sampler": {"kind": "vllm"},
    "learner": {"kind": "grpo"},
    "graders": {"correct": {"use": "exact"}},
    "logging": {"report_to": []},
}


def run(**changes: Any) -> RunConfig:
    """The run above, sections changed key by key."""
    values = {key: value | changes.get(key, {}) if isinstance(value, dict) else value for key, value in RUN.items()}
    return RunConfig.model_validate({**changes, **values})


def test_nothing_is_wrong() -> None:
    assert run_problems(run()) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"data": {"train": None}},
            "data.train is missing: the training tasks, a .jsonl, .csv, .tsv or .parquet file or a hub dataset",
        ),
        (
            {"data": {"validation": "v.jsonl", "validation_share": 0.1}},
            "data.validation_share=0.1: data.validation=v.jsonl is given as well; keep one of the two",
        ),
        (
            {"learner": {"adapter": "full"}, "sampler": {"serve": "adapter"}},
            "sampler.serve=adapter: learner.adapter=full publishes whole models, no adapters; remove sampler.serve",
        ),
        (
            {"learner": {"adapter": {"rank": 32}}, "sampler": {"serve": "adapter", "engine": {"max_lora_rank": 16}}},
            "sampler.engine.max_lora_rank=16: is below learner.adapter.rank=32; remove "
            "sampler.engine.max_lora_rank, or use sampler.serve=merged, which supports any rank",
        ),
        (
            {"loop": {"staleness": 1}, "sampler": {"serve": "adapter", "engine": {"max_loras": 2}}},
            "sampler.engine.max_loras=2: loop.staleness=1 needs 3, since each version is loaded before the oldest is "
            "removed; remove sampler.engine.max_loras",
        ),
        (
            {"loop": {"staleness": 2, "steps": 2}},
            "loop.staleness=2: must be less than loop.steps=2, or no trained policy would sample",
        ),
        (
            {"loop": {"pass_rate": {"min": 0.9, "max": 0.1}}},
            "loop.pass_rate.min=0.9: must be less than loop.pass_rate.max=0.1",
        ),
        (
            {"loop": {"completions_per_prompt": 1}},
            "loop.completions_per_prompt=1: learner=grpo compares the completions of a prompt, so it needs at least 2; "
            "learner=ppo needs only 1. The sizes are:\n"
            "    loop.prompts_per_step                  8\n"
            "    x loop.completions_per_prompt          1\n"
            "    = completions per step                 8\n"
            "    / learner.completions_per_micro_batch  8\n"
            "    = micro-batches per optimizer step     1\n"
            "    x loop.steps                           800 completions in total",
        ),
        (
            {"model": {"max_context_tokens": 256}, "sampler": {"max_completion_tokens": 256}},
            "sampler.max_completion_tokens=256: leaves no room for a prompt in model.max_context_tokens=256",
        ),
        (
            {
                "loop": {"prompts_per_step": 3, "completions_per_prompt": 4},
                "learner": {"completions_per_micro_batch": 8},
            },
            "learner.completions_per_micro_batch=8: must divide the 12 completions of a step (loop.prompts_per_step=3 "
            "x loop.completions_per_prompt=4): one of 1, 2, 3, 4, 6, 12. The sizes are:\n"
            "    loop.prompts_per_step                  3\n"
            "    x loop.completions_per_prompt          4\n"
            "    = completions per step                 12\n"
            "    / learner.completions_per_micro_batch  8\n"
            "    = micro-batches per optimizer step     1, and 4 completions left over\n"
            "    x loop.steps                           1200 completions in total",
        ),
        (
            {"learner": {"kind": "ppo"}, "loop": {"prompts_per_step": 1, "completions_per_prompt": 1}},
            "loop.prompts_per_step=1: PPO needs at least 2 completions in a step. The sizes are:\n"
            "    loop.prompts_per_step                  1\n"
            "    x loop.completions_per_prompt          1\n"
            "    = completions per step                 1\n"
            "    / learner.completions_per_micro_batch  1\n"
            "    = micro-batches per optimizer step     1\n"
            "    x loop.steps                           100 completions in total",
        ),
        (
            {"learner": {"loss_type": "luspo"}},
            "learner.loss_type=luspo: weights whole completions; use learner.importance_sampling_level=sequence",
        ),
        (
            {"learner": {"loss_type": "sapo", "clip_high": 0.3}},
            "learner.clip_high=0.3: learner.loss_type=sapo does not clip; remove learner.clip_high",
        ),
        (
            {"learner": {"advantage": "rloo"}},
            "learner.scale_rewards=group: learner.advantage=rloo does not scale rewards; use "
            "learner.scale_rewards=none",
        ),
        (
            {"learner": {"num_workers": 5}, "loop": {"prompts_per_step": 1, "completions_per_prompt": 4}},
            "learner.num_workers=5: a step has 4 completions, so 1 of the ranks would be idle; use at most "
            "4, or raise loop.prompts_per_step",
        ),
        (
            {
                "learner": {"num_workers": 3, "loss_type": "bnpo", "completions_per_micro_batch": 6},
                "loop": {"prompts_per_step": 3, "completions_per_prompt": 4},
            },
            "learner.num_workers=3: learner.loss_type=bnpo gives each rank whole micro-batches, and a step has 2; "
            "lower learner.num_workers or learner.completions_per_micro_batch",
        ),
        (
            {"learner": {"num_workers": 2, "trl": {"use_adaptive_entropy": True}}},
            "learner.num_workers=2: learner.trl.use_adaptive_entropy would adapt differently on each rank; use "
            "learner.num_workers=1",
        ),
        (
            {"sampler": {"sleep": True}, "loop": {"staleness": 1}},
            "sampler.sleep=true: with loop.staleness=1 the samplers work while the learner does; remove sampler.sleep, "
            "or set loop.staleness=0",
        ),
        (
            {"learner": {"num_gpus": 2}},
            "learner.num_gpus=2: each rank of the learner uses at most one GPU; set learner.num_gpus=1, and "
            "learner.num_workers=2 to train on several GPUs",
        ),
        (
            {"learner": {"kind": "fake", "num_workers": 2}},
            "learner.num_workers=2: learner=fake has no work to share; use learner.num_workers=1",
        ),
        (
            {"learner": {"advantage": "grup", "scale_rewards": "none"}},
            "learner.advantage=grup: should be 'group', 'rloo', or your own function, such as path/to/file.py:function",
        ),
        (
            {"learner": {"kind": "gmpo", "trl": {"entropy_coef": 0.1}}},
            "learner.trl.entropy_coef=0.1: this takes effect only with another learner; GMPO has no such term",
        ),
        (
            {"learner": {"kind": "reinforce_pp_baseline", "trl": {"scale_rewards": "batch"}}},
            "learner.trl.scale_rewards=batch: rft sets this itself; use learner=grpo, which has learner.scale_rewards",
        ),
        (
            {"learner": {"kind": "ppo", "trl": {"beta": 0.1}}},
            "learner.trl.beta=0.1: rft sets this itself; use learner.kl_coef",
        ),
        (
            {"learner": {"kind": "ppo", "trl": {"loss_type": "grpo"}}},
            "learner.trl.loss_type=grpo: rft sets this itself; use learner=grpo, which has learner.loss_type",
        ),
        (
            {"sampler": {"num_actors": 2, "min_actors": 3}},
            "sampler.min_actors=3: must be at most sampler.num_actors=2, or the run would never start",
        ),
        (
            {"sampler": {"kind": "server", "num_actors": 2}},
            "sampler.num_actors=2: sampler=server needs one client; use sampler.num_actors=1, and raise "
            "sampler.max_concurrency",
        ),
        (
            {"sampler": {"kind": "server"}, "learner": {"adapter": "full"}},
            "learner.adapter=full: publishes whole models, and sampler=server loads adapters; use "
            "sampler=vllm, or learner.adapter=lora",
        ),
        (
            {"sampler": {"kind": "sglang_server"}, "learner": {"adapter": "full"}},
            "learner.adapter=full: publishes whole models, and sampler=sglang_server loads adapters; use "
            "sampler=vllm, or learner.adapter=lora",
        ),
        (
            {"sampler": {"kind": "server", "temperature": 3.0}},
            "sampler.temperature=3: vLLM accepts at most 2; lower it, or use sampler=transformers",
        ),
        (
            {"sampler": {"kind": "fake"}},
            "sampler=fake: a real learner cannot train on its token ids; use learner=fake as well",
        ),
        (
            {"evaluation": {"metric": "corect"}},
            "evaluation.metric=corect: use reward or a grader: correct",
        ),
        (
            {"graders": {"correct": {"use": "exact", "weight": 0}}},
            "graders: every weight is 0, so every reward would be 0; give at least one grader a weight",
        ),
        (
            {"graders": {"correct": {"use": "exact", "nope": 1}}},
            "graders.correct.nope: the grader has no such option; its options are ",
        ),
        (
            {"graders": {"correct": {"use": "exat"}}},
            "graders.correct.use: there is no grader 'exat' (did you mean 'exact'?); the built-in ones are ",
        ),
    ],
)
def test_one_problem(changes: dict[str, Any], problem: str) -> None:
    (found,) = run_problems(run(**changes))
    assert found.startswith(problem)
    assert problem.endswith(" ") or found == problem


def test_a_model_is_needed() -> None:
    (found,) = run_problems(run(model={"path": ""}))
    assert found.startswith("model.path is missing: ")


def test_one_completion_is_enough_for_a_fake_learner() -> None:
    assert run_problems(run(learner={"kind": "fake"}, loop={"completions_per_prompt": 1})) == []


def test_a_weight_of_0_is_fine_beside_another() -> None:
    graders = {"correct": {"use": "exact", "weight": 0}, "other": {"use": "exact"}}
    assert run_problems(run(graders=graders)) == []


def test_a_grader_can_be_the_metric() -> None:
    assert run_problems(run(evaluation={"metric": "correct"})) == []


# Trackers.


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_a_tracker_that_is_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    (found,) = run_problems(run(logging={"report_to": [name]}))
    assert found == f"logging.report_to={name} needs {name}; run: pip install 'rft[{name}]'"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"model": {"chat_template_kwargs": {"tools": []}}},
            "model.chat_template_kwargs.tools=[]: rft sets this itself; leave it out",
        ),
        (
            {"data": {"format": "raw", "system": "Be brief."}},
            "data.system=Be brief.: data.format=raw sends prompts as they are, without a chat template; leave it out, "
            "or use data.format=chat",
        ),
        (
            {"data": {"format": "raw"}, "model": {"chat_template": "chatml"}},
            "model.chat_template=chatml: data.format=raw sends prompts as they are, without a chat template; leave it "
            "out, or use data.format=chat",
        ),
        (
            {"sampler": {"temperature": 2.5}},
            "sampler.temperature=2.5: vLLM accepts at most 2; lower it, or use sampler=transformers",
        ),
        (
            {"evaluation": {"temperature": 2.5}},
            "evaluation.temperature=2.5: vLLM accepts at most 2; lower it, or use sampler=transformers",
        ),
    ],
)
def test_prompts_and_sampling(changes: dict[str, Any], problem: str) -> None:
    assert run_problems(run(**changes)) == [problem]


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": {"kind": "transformers", "temperature": 2.5, "stop": ["Q:"]}},
        {"sampler": {"temperature": 2.0, "stop": ["Q:", "<|end|>"]}, "evaluation": {"temperature": 0.0}},
        {"model": {"chat_template": "chatml", "chat_template_kwargs": {"enable_thinking": False}}},
        {"data": {"format": "raw"}},
    ],
)
def test_prompts_and_sampling_as_they_may_be(changes: dict[str, Any]) -> None:
    assert run_problems(run(**changes)) == []


@pytest.mark.parametrize("name", ["tensorbord", "comet_ml"])  # a slip, and one that only Transformers knows
def test_an_unknown_tracker(name: str) -> None:
    (found,) = run_problems(run(logging={"report_to": [name]}))
    assert found.startswith(
        f"logging.report_to={name}: there is no such tracker; there are: mlflow, tensorboard, trackio, wandb; "
    )


def test_tensorboard_is_installed() -> None:
    assert run_problems(run(logging={"report_to": ["tensorboard"]})) == []


# The completions of one pass.


@pytest.mark.parametrize(
    ("prompts", "completions", "configured", "expected"),
    [(8, 8, None, 8), (3, 4, None, 6), (1, 7, None, 7), (11, 1, None, 1), (5, 5, None, 5), (8, 8, 64, 64)],
)
def test_completions_per_micro_batch(prompts: int, completions: int, configured: int | None, expected: int) -> None:
    loop = {"prompts_per_step": prompts, "completions_per_prompt": completions}
    learner = {"completions_per_micro_batch": configured}
    assert completions_per_micro_batch(run(loop=loop, learner=learner)) == expected


def test_an_evaluation() -> None:
    values = {key: RUN[key] for key in ("output_dir", "sampler", "graders")}
    empty = EvaluateConfig.model_validate({**values, "model": {}, "data": {}})
    assert [problem.split(":")[0] for problem in evaluate_problems(empty)] == [
        "model.path is missing",
        "data.test is missing",
    ]
    right = EvaluateConfig.model_validate({**values, "model": {}, "data": {"test": "t.jsonl"}, "adapter": "runs/x"})
    assert evaluate_problems(right) == []


def test_graders_that_were_never_audited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("def grader(completion, task, strict=False, api_key=''):\n    return 1.0\n")
    words = ["experiment=quickstart", "output_dir=out"]
    assert audit_warnings(load_training(words)) == []
    words += ["graders.main.use=mine.py:grader", "graders.main.strict=true", "data.columns={answer: gold}"]
    words += ["grading.audit_folder=my audits", "graders.main.api_key=sk-very-secret"]
    run = load_training(words)
    assert audit_warnings(run) == [
        "graders.main (mine.py:grader) was never audited; run: rft audit data=embedded:chain_sum/train "
        "graders.correct.use=reasoning_gym graders.main.use=mine.py:grader graders.main.strict=true "
        "'graders.main.api_key=<redacted>' data.columns.answer=gold "
        "'grading.audit_folder='\"'\"'my audits'\"'\"''"
    ]
    assert audit_warnings(run.model_copy(update={"audit": "off"})) == []
    words += ["retrieval=local", "retrieval.documents=docs.jsonl", "retrieval.top_k=2"]
    (warning,) = audit_warnings(load_training(words))
    assert "data=embedded:chain_sum/train retrieval=local " in warning
    assert " retrieval.top_k=2 retrieval.documents=docs.jsonl" in warning
