"""A reward model of random weights on the CPU: its scores against Transformers', and what its failures become."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from graders import reward_model
from rft.errors import ConfigError, GradeError
from rft.grading import LoadedGrader, Score, Status, load_grader
from rft.grading.models.batches import Reward, Row
from rft.grading.models.model_grader import model_graders
from rft.grading.models.reward_scorer import RewardScorer, ScorerSettings
from rft.grading.panel import Panel
from rft.models.base_model import EMBEDDED_MODELS
from rft.types import Policy, Rollout, Split, StopReason, Task

MakeRewardModel = Callable[..., Path]

TASK = Task(id="t", messages=({"role": "user", "content": "What is 2 + 3?"},), item={}, split=Split.TRAIN)
ANSWERS = ["5", "I think that it is 5.", "no idea", "<think>2 + 3</think>5"]


@pytest.fixture
def model(reward_model: Path) -> Path:
    return reward_model


def grader(model: Path, **options: Any) -> LoadedGrader:
    return load_grader("quality", {"use": "reward_model", "model": str(model), **options})


def grade(graders: LoadedGrader | Sequence[LoadedGrader], answers: Sequence[str], **options: Any) -> list[Score]:
    """The scores of the last grader, as a run gets them."""
    graders = [graders] if isinstance(graders, LoadedGrader) else graders

    async def stream() -> AsyncIterator[Rollout]:
        for index, text in enumerate(answers):
            yield Rollout(
                task_id=TASK.id,
                index=index,
                prompt_ids=(),
                completion_ids=(1,),
                logprobs=(0.0,),
                text=text,
                stop=StopReason.STOP,
                policy=Policy(version=0, fingerprint="none"),
            )

    async def job() -> list[Score]:
        panel = Panel(graders, num_workers=1, **options)
        try:
            [group] = await panel.grade([TASK], stream(), rollouts_per_task=len(answers))
            return [grade.scores["quality"] for grade in group.grades]
        finally:
            panel.close()

    return asyncio.run(job())


def logit(model: Path, answer: str, *, messages: Sequence[Any] = TASK.messages, last: int | None = None) -> list[float]:
    """The model's output for one conversation, by Transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).eval()
    chat = [*messages, {"role": "assistant", "content": answer}]
    ids = tokenizer(tokenizer.apply_chat_template(chat, tokenize=False), add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        values: list[float] = network(torch.tensor([ids[-last:] if last else ids])).logits[0].tolist()
    return values


def test_scores_are_the_models_reward_through_the_logistic_function(model: Path) -> None:
    scores = grade(grader(model), ANSWERS)
    expected = [logit(model, answer)[0] for answer in ("5", "I think that it is 5.", "no idea", "5")]
    assert [score.value for score in scores] == [round(1 / (1 + math.exp(-value)), 4) for value in expected]
    assert scores[0].value == scores[3].value, "the thinking is no part of the answer"
    assert scores[0].reason == f"reward {expected[0]:.4g}"
    assert len({score.value for score in scores}) == 3


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_size_of_the_batch_changes_no_score(model: Path, batch_size: int) -> None:
    expected = [round(logit(model, answer)[0], 4) for answer in ANSWERS[:3]]
    scores = grade(grader(model, normalise="none", batch_size=batch_size), ANSWERS[:3])
    assert [score.value for score in scores] == pytest.approx(expected, abs=1.01e-4)


def test_control_tokens_in_an_answer_are_text(model: Path) -> None:
    # Otherwise the answer would end its turn, and the user would praise it in the next one.
    scorer = RewardScorer(ScorerSettings(model=str(model)), gpus=0)
    tokenizer = AutoTokenizer.from_pretrained(model)
    end = tokenizer.eos_token
    attack = f"5{end}"
    inputs, _ = scorer._encode(Row(list(TASK.messages), attack))  # type: ignore[arg-type]
    plain, _ = scorer._encode(Row(list(TASK.messages), "5"))  # type: ignore[arg-type]
    count = tokenizer.convert_tokens_to_ids(end)
    assert inputs["input_ids"].count(count) == plain["input_ids"].count(count)
    assert len(inputs["input_ids"]) > len(plain["input_ids"])


def test_the_beginning_of_a_long_input_is_cut(model: Path) -> None:
    scores = grade(grader(model, normalise="none", max_tokens=12), ["1 2 3 4 5 6 7 8 9"])
    [expected] = logit(model, "1 2 3 4 5 6 7 8 9", last=12)
    assert scores[0].value == pytest.approx(expected, abs=1.01e-4)
    assert scores[0].reason is not None
    assert ", for the last 12 of " in scores[0].reason


def test_a_model_without_a_template_gets_two_texts(model: Path) -> None:
    score = RewardScorer(ScorerSettings(model=str(model), input="pair"), gpus=0).score
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = network(**tokenizer("What is 2 + 3?", "5", return_tensors="pt")).logits.item()
    [reward] = score([Row([{"role": "user", "content": "What is 2 + 3?"}], "5")])
    assert reward.value == pytest.approx(expected, abs=1e-6)


def test_a_label_of_several(tmp_path: Path, make_reward_model: MakeRewardModel) -> None:
    folder = make_reward_model(tmp_path, num_labels=3, seed=1)
    [score] = grade(grader(folder, label=2, normalise="none"), ["5"])
    assert score.value == pytest.approx(logit(folder, "5")[2], abs=1e-4)
    with pytest.raises(ValueError, match=r"has 3 labels; set label to the index of the label to reward"):
        RewardScorer(ScorerSettings(model=str(folder)), gpus=0)


def test_a_model_without_a_reward_head_is_refused() -> None:
    with pytest.raises(ValueError, match=r"is no reward model: its files lack score\.weight"):
        RewardScorer(ScorerSettings(model=str(EMBEDDED_MODELS["embedded:tiny"]), label=0), gpus=0)


def test_a_reward_that_is_no_number_is_a_fault_and_never_a_score(model: Path) -> None:
    graders = grader(model)
    [target] = model_graders([graders]).values()

    async def score_rows(rows: Sequence[Row]) -> Sequence[Reward]:
        return [Reward(float("nan"), 1, 2) for _ in rows]

    target.connect(score_rows)
    scores = grade(graders, ["a", "b"], max_fault_share=1.0)
    assert [(score.value, score.status, score.reason) for score in scores] == [
        (None, Status.GRADER_ERROR, "the model's reward is nan")
    ] * 2


def test_a_model_that_fails_or_hangs_ends_the_run_by_the_fault_budget(model: Path) -> None:
    async def fails(rows: Sequence[Row]) -> Any:
        raise RuntimeError("the model's process ended: killed")

    async def hangs(rows: Sequence[Row]) -> Any:
        await asyncio.Event().wait()

    failing, hanging = grader(model), grader(model, timeout_s=0.05)
    model_graders([failing])["quality"].connect(fails)
    model_graders([hanging])["quality"].connect(hangs)
    [score] = grade(failing, ["a"], max_fault_share=1.0)
    assert (score.value, score.status) == (None, Status.GRADER_ERROR)
    assert "the model's process ended: killed" in str(score.reason)
    [score] = grade(hanging, ["a"], max_fault_share=1.0)
    assert (score.value, score.status) == (None, Status.TIMEOUT)
    with pytest.raises(GradeError, match="grader 'quality' failed on 1 of the last 1 completions"):
        grade(failing, ["a"], max_fault_share=0.0)


def test_the_fingerprint_is_of_the_models_files(
    model: Path, tmp_path: Path, make_reward_model: MakeRewardModel
) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    (copy / "README.md").write_text("a card")
    first = grader(model).model_fingerprint
    assert first is not None
    assert len(first) == 16
    assert grader(copy).model_fingerprint == first
    make_reward_model(copy, seed=2)
    assert grader(copy).model_fingerprint != first
    assert load_grader("exact", {"use": "exact"}).model_fingerprint is None


def test_the_memory_of_its_process(model: Path) -> None:
    [target] = model_graders([grader(model, batch_size=2, max_tokens=100)]).values()
    values = sum(
        parameter.numel() for parameter in AutoModelForSequenceClassification.from_pretrained(model).parameters()
    )
    on_cpu, on_gpu = target.memory(on_gpu=False), target.memory(on_gpu=True)
    # The files hold a header beside the float32 values.
    assert 4 * values <= on_cpu["weights"] < 4 * values + 4000
    assert on_gpu["weights"] == on_cpu["weights"] // 2
    assert on_cpu["activations"] == 2 * 100 * 4 * (6 * 32 + 3 * 48)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"batch_size": 0}, "batch_size, num_threads and max_tokens must be at least 1"),
        ({"num_gpus": 2}, "num_gpus=2 must be from 0 to 1"),
        ({"start_timeout_s": 0}, "start_timeout_s must be above 0"),
        ({"normalise": "softmax"}, "normalise"),
    ],
)
def test_options_out_of_their_range(model: Path, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        grader(model, **options)


def test_more_tokens_than_the_model_takes(model: Path) -> None:
    limit = json.loads((model / "config.json").read_text())["max_position_embeddings"]
    with pytest.raises(ValueError, match=f"takes at most {limit}"):
        RewardScorer(ScorerSettings(model=str(model), max_tokens=limit + 1), gpus=0)


@pytest.mark.parametrize(("num_gpus", "expected"), [(0, 0), (0.5, None), (None, None)])
def test_no_gpu_outside_a_run_either(
    monkeypatch: pytest.MonkeyPatch, num_gpus: float | None, expected: float | None
) -> None:
    loaded: list[float | None] = []
    monkeypatch.setattr(reward_model, "RewardScorer", lambda settings, gpus: loaded.append(gpus))
    here = load_grader("quality", {"use": "reward_model", "model": "m", "num_gpus": num_gpus})
    model_graders([here])["quality"].load_here()
    assert loaded == [expected]
