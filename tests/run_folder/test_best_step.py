"""The best step of a run that may end early, and which policies it keeps."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rft.config.evaluation import EvaluationConfig
from rft.run_folder.best_step import BestStep
from rft.types import Adapter, FullWeights, Policy, Publication


def publication(step: int) -> Publication:
    policy = Policy(version=step, fingerprint=f"f{step}")
    weights = Adapter(policy=policy, config={"r": 2}, tensors=f"weights {step}".encode())
    return Publication(weights=weights, canary_logprobs=((-0.5,),), base_canary_logprobs=((-0.25,),))


def evaluation(patience: int | None, **more: Any) -> EvaluationConfig:
    return EvaluationConfig(patience=patience, **more)


@pytest.fixture
def measured(tmp_path: Path) -> Callable[..., BestStep]:
    """`measured({10: 0.1, 20: 0.3}, patience=1)`: a run with these scores, which has kept each best policy."""

    def make(scores: dict[int, float], *, patience: int | None = 2) -> BestStep:
        best = BestStep(tmp_path, evaluation(patience))
        for step, score in scores.items():
            if best.observe(step, {"eval/mean": score}):
                best.keep(step, publication(step))
        lines = [{"step": step, "metrics": {"eval/mean": score}} for step, score in scores.items()]
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return best

    return make


def checkpoint(folder: Path, step: int) -> None:
    made = folder / "checkpoints" / f"checkpoint-{step}"
    made.mkdir(parents=True)
    (made / "complete.json").write_text(json.dumps({"step": step}))


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "best").iterdir())


@pytest.mark.parametrize(
    ("scores", "step", "is_over"),
    [
        ({}, None, False),
        ({10: 0.2}, 10, False),
        ({10: 0.2, 20: 0.2}, 10, False),  # equal is not better
        ({10: 0.2, 20: 0.2, 30: 0.1}, 10, True),
        ({10: 0.2, 20: 0.1, 30: 0.3}, 30, False),
        ({10: -0.3, 20: -0.5, 30: -0.4}, 10, True),
    ],
)
def test_it_is_over_after_two_measurements_without_a_better_one(
    measured: Callable[..., BestStep], scores: dict[int, float], step: int | None, is_over: bool
) -> None:
    best = measured(scores)
    assert (best.step, best.is_over) == (step, is_over)
    assert best.publication() == (None if step is None else publication(step))


def test_a_resumed_run_knows_the_best_step(measured: Callable[..., BestStep], tmp_path: Path) -> None:
    measured({10: 0.1, 20: 0.3, 30: 0.2})
    resumed = BestStep(tmp_path, evaluation(2))
    assert (resumed.step, resumed.is_over, resumed.publication()) == (20, False, publication(20))
    assert not resumed.observe(40, {"eval/mean": 0.3})
    assert resumed.is_over
    assert not BestStep(tmp_path, evaluation(3)).is_over


def test_without_patience_nothing_is_kept(tmp_path: Path) -> None:
    best = BestStep(tmp_path, evaluation(None))
    assert not best.observe(10, {"eval/mean": 0.5})
    assert (best.step, best.is_over, best.publication()) == (None, False, None)


def test_measurements_before_patience_was_set_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 10, "metrics": {"eval/mean": 0.9}}) + "\n")
    best = BestStep(tmp_path, evaluation(1))
    assert best.step is None
    assert best.observe(20, {"eval/mean": 0.1})


def test_policies_that_a_resumed_run_may_need_are_kept(measured: Callable[..., BestStep], tmp_path: Path) -> None:
    best = measured({10: 0.1, 20: 0.2, 30: 0.3, 40: 0.4}, patience=9)
    assert kept(tmp_path) == ["step-000010", "step-000020", "step-000030", "step-000040"]
    checkpoint(tmp_path, 25)
    best.forget_others()
    assert kept(tmp_path) == ["step-000020", "step-000040"]


def test_whole_models_are_kept_too(tmp_path: Path) -> None:
    weights = FullWeights(policy=Policy(version=10, fingerprint="f10"), tensors=b"all of them")
    best = BestStep(tmp_path, evaluation(1))
    best.observe(10, {"eval/mean": 0.5})
    best.keep(10, Publication(weights=weights))
    back = best.publication()
    assert back is not None
    assert (back.policy, bytes(back.weights.tensors)) == (weights.policy, b"all of them")  # type: ignore[union-attr]


def test_the_loss_is_better_if_it_is_lower(tmp_path: Path) -> None:
    best = BestStep(tmp_path, evaluation(2, best_metric="loss"))
    losses = {10: 0.5, 20: 0.3, 30: 0.4, 40: 0.3}
    assert [best.observe(step, {"eval/loss": loss, "eval/mean": step}) for step, loss in losses.items()] == [
        True,
        True,
        False,
        False,
    ]
    assert (best.step, best.is_over) == (20, True)
    assert not best.observe(50, {"eval/loss": math.nan}), "a loss that is not finite is no measurement"
    assert not best.observe(50, {"eval/mean": 1.0})


def test_a_resumed_run_may_select_by_another_metric(measured: Callable[..., BestStep], tmp_path: Path) -> None:
    """The policy with the lowest loss was not kept, so only later measurements count."""
    measured({10: 0.1})
    line = {"step": 20, "metrics": {"eval/mean": 0.0, "eval/loss": 0.2}}
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    resumed = BestStep(tmp_path, evaluation(2, best_metric="loss"))
    assert resumed.step is None
    assert resumed.observe(30, {"eval/loss": 0.9})
