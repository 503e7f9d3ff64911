"""Options of TRL that rft passes on, and those that it refuses."""

from typing import Any

import pytest

from rft.config import RunConfig, run_problems
from rft.config.trl_support import WITHOUT_EFFECT


def problems_of(**learner: Any) -> list[str]:
    """The problems of a run whose only special keys are those of the learner."""
    values = {
        "output_dir": "out",
        "model": {"path": "m"},
        "data": {"train": "t.jsonl"},
        "sampler": {"kind": "vllm"},
        "learner": {"kind": "grpo"} | learner,
        "graders": {"correct": {"use": "exact"}},
        "logging": {"report_to": []},
    }
    return run_problems(RunConfig.model_validate(values))


@pytest.mark.parametrize(
    "options",
    [
        {"delta": 1},
        {"weight_decay": 0.1, "adam_epsilon": 1e-8},
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}},
        {"gradient_checkpointing": 1},
        {"warmup_steps": 3},
        {"warmup_steps": 0.1, "lr_scheduler_type": "cosine"},
        {"optim": "adamw_torch_fused", "optim_args": None},
        {"use_adaptive_entropy": True, "entropy_target": 1.5},
        {"optim_target_modules": ["q_proj"]},
    ],
    ids=str,
)
def test_options_of_trl_are_passed_on(options: dict[str, Any]) -> None:
    assert problems_of(trl=options) == []


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("max_steps", "learner.trl.max_steps=1: rft sets this itself; use loop.steps"),
        ("use_vllm", "learner.trl.use_vllm=1: rft sets this itself; use sampler"),
        ("beta", "learner.trl.beta=1: rft sets this itself; use learner.beta"),
        ("seed", "learner.trl.seed=1: rft sets this itself; use seed"),
        ("bta", "learner.trl.bta is unknown; did you mean beta? Allowed are the fields of TRL's GRPOConfig"),
        ("zzzzzz", "learner.trl.zzzzzz is unknown; Allowed are the fields of TRL's GRPOConfig"),
        (
            "top_p",
            "learner.trl.top_p=1: this has no effect in rft: TRL does not sample here, and samplers keep the whole "
            "distribution, so that their log-probabilities are the learner's",
        ),
        (
            "save_only_model",
            "learner.trl.save_only_model=1: this has no effect in rft: a checkpoint must hold all that a resumed run "
            "needs",
        ),
        (
            "chat_template_kwargs",
            "learner.trl.chat_template_kwargs=1: rft sets this itself; use model.chat_template_kwargs",
        ),
        ("optim", "learner.trl.optim=1: should be one of adamw_torch, adamw_torch_fused, "),
        ("lr_scheduler_kwargs", "learner.trl.lr_scheduler_kwargs=1: should be a string or a mapping or null"),
        (
            "use_bias_correction_kl",
            "learner.trl.use_bias_correction_kl=1: this takes effect only with learner.beta above 0 and one ratio "
            "for each token; ",
        ),
        (
            "sapo_temperature_pos",
            "learner.trl.sapo_temperature_pos=1: this takes effect only with learner.loss_type=sapo",
        ),
    ],
)
def test_options_of_trl_that_are_refused(name: str, problem: str) -> None:
    (found,) = problems_of(trl={name: 1})
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"max_grad_norm": "abc"}, "learner.trl.max_grad_norm=abc: should be a number"),
        ({"max_grad_norm": [1]}, "learner.trl.max_grad_norm=[1]: should be a number"),
        ({"max_grad_norm": True}, "learner.trl.max_grad_norm=True: should be a number"),
        ({"weight_decay": None}, "learner.trl.weight_decay=None: should be a number"),
        ({"disable_dropout": "yes"}, "learner.trl.disable_dropout=yes: should be true or false"),
        ({"torch_empty_cache_steps": 1.5}, "learner.trl.torch_empty_cache_steps=1.5: should be a whole number or null"),
        (
            {"lr_scheduler_type": "cosin"},
            "learner.trl.lr_scheduler_type=cosin: should be one of linear, cosine, cosine_with_restarts, polynomial, ",
        ),
        (
            {"lr_scheduler_type": "constant", "warmup_steps": 5},
            "learner.trl.warmup_steps=5: this takes effect only with another schedule; use "
            "learner.trl.lr_scheduler_type=constant_with_warmup, which is the default",
        ),
    ],
    ids=str,
)
def test_wrong_values_of_options_of_trl(options: dict[str, Any], problem: str) -> None:
    (found,) = problems_of(trl=options)
    assert found.startswith(problem)


@pytest.mark.parametrize("name", sorted(WITHOUT_EFFECT))
def test_options_without_effect_are_refused_with_the_reason(name: str) -> None:
    (found,) = problems_of(trl={name: None})
    assert found == f"learner.trl.{name}=None: this has no effect in rft: {WITHOUT_EFFECT[name]}"
