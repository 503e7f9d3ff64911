"""On-policy distillation on the real trainer with a tiny model: its gradient by independent code."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rft.errors import LearnError
from rft.run_folder.token_shards import read_shard, write_shard
from rft.turns import Author, Turn
from rft.types import GradedGroup, TopTokens

from .conftest import COMPLETIONS, PROMPT, TEMPERATURE

pytestmark = pytest.mark.e2e  # real libraries: too slow for a unit test

DISTILL: dict[str, Any] = {"kind": "distill", "trl": {"max_grad_norm": 0.0}}
DIFFERENCES = ((0.5, -1.0, 0.25, 2.0), (-0.75, 0.0, 1.5, -0.5), (0.125, -3.0, 1.0), (-0.25, 0.75, -1.25, 0.5))
"""Log-probability of each token, teacher minus student."""
HOLE = ("policy", "environment", "policy", "policy")
"""Authors of the tokens of an episode."""

Build = Callable[..., Any]
GroupFor = Callable[..., GradedGroup]


def taught(group: GradedGroup, differences: Sequence[Sequence[float] | None] = DIFFERENCES) -> GradedGroup:
    """The group with the log-probabilities of a teacher; None for a completion that the teacher could not score."""
    rows = [
        None if row is None else tuple(ours + off for ours, off in zip(rollout.logprobs, row, strict=True))
        for rollout, row in zip(group.rollouts, differences, strict=True)
    ]
    return replace(group, teacher_logprobs=tuple(rows))


def expected_gradient(learner: Any, differences: Sequence[Sequence[float] | None]) -> dict[str, torch.Tensor]:
    """Gradient of the reverse KL divergence from the sampled tokens: mean((log pi - log teacher) grad log pi).

    Completion by completion, without padding or micro-batches.
    """
    model = learner._stepped.trainer.model
    divergence, num_tokens = torch.zeros(()), 0
    for completion, row in zip(COMPLETIONS, differences, strict=True):
        if row is None:
            continue
        logits = model(torch.tensor([[*PROMPT, *completion]])).logits[0, len(PROMPT) - 1 : -1]
        own = torch.log_softmax(logits / TEMPERATURE, -1)[range(len(completion)), list(completion)]
        teacher = own.detach() + torch.tensor(row)
        divergence = divergence + ((own.detach() - teacher) * own).sum()
        num_tokens += len(completion)
    model.zero_grad()
    (divergence / num_tokens).backward()
    found = {name: each.grad.clone() for name, each in model.named_parameters() if each.requires_grad}
    model.zero_grad()
    return found


@pytest.mark.parametrize("size", [pytest.param(4, marks=pytest.mark.full), 2])
@pytest.mark.parametrize("missing", [None, 1], ids=["all", "one without"])
def test_the_first_gradient_is_that_of_the_reverse_kl(
    build: Build,
    group_for: GroupFor,
    keep_gradients: Any,
    same_up_to_rounding: Any,
    size: int,
    missing: int | None,
) -> None:
    learner = build(**DISTILL, completions_per_micro_batch=size)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, each in learner._stepped.trainer.model.named_parameters():
            if "lora_B" in name:
                each.copy_(0.05 * torch.randn(each.shape))
    differences = [None if number == missing else row for number, row in enumerate(DIFFERENCES)]
    rewards = [None if row is None else 0.0 for row in differences]
    found = keep_gradients(learner)
    expected = expected_gradient(learner, differences)
    metrics = learner.learn([taught(group_for(learner, rewards), differences)])
    same_up_to_rounding(found, expected)
    assert metrics["completions/learned_from"] == (4 if missing is None else 3)
    # The sums of the four rows are 1.75, 0.25, -1.875 and -0.25.
    reverse_kl = 0.125 / 15 if missing is None else 0.375 / 11
    assert metrics["reverse_kl"] == pytest.approx(reverse_kl, abs=1e-5)


def most_probable(teacher: torch.Tensor, k: int) -> TopTokens:
    """What an engine returns of `[C, V]` log-probabilities."""
    values, ids = teacher.topk(k)
    return TopTokens(k, array("i", ids.flatten().tolist()), array("f", values.flatten().tolist()))


@pytest.mark.parametrize(("k", "beta"), [(None, 1.0), (None, 0.0), (5, 1.0), (5, 0.3)], ids=str)
def test_the_gradient_is_that_of_the_divergence(
    build: Build, group_for: GroupFor, keep_gradients: Any, same_up_to_rounding: Any, k: int | None, beta: float
) -> None:
    learner = build(**DISTILL, jsd_beta=beta, completions_per_micro_batch=2)
    model = learner._stepped.trainer.model
    vocabulary = model.config.vocab_size
    torch.manual_seed(1)
    teachers = [torch.log_softmax(2 * torch.randn(len(completion), vocabulary), -1) for completion in COMPLETIONS]
    tops: list[TopTokens | None] = [most_probable(teacher, k or vocabulary) for teacher in teachers]
    # The teacher cannot score the first completion; the second one has a token of an environment.
    rows = [None, *(tuple(teacher[:, 0].tolist()) for teacher in teachers[1:])]
    group = group_for(learner, [None, 0.0, 0.0, 0.0])
    turns = [Turn(author=who, start=at, end=at + 1) for at, who in enumerate(map(Author, HOLE))]
    rollouts = list(group.rollouts)
    rollouts[1] = replace(rollouts[1], turns=tuple(turns))
    group = replace(group, rollouts=tuple(rollouts), teacher_logprobs=tuple(rows), teacher_top=(None, *tops[1:]))

    total, num_tokens = torch.zeros(()), 0
    for number, (completion, teacher) in enumerate(zip(COMPLETIONS, teachers, strict=True)):
        logits = model(torch.tensor([[*PROMPT, *completion]])).logits[0, len(PROMPT) - 1 : -1]
        own = torch.log_softmax(logits / TEMPERATURE, -1)
        for position in range(len(completion)):
            if number == 0 or (number == 1 and HOLE[position] == "environment"):
                continue
            chosen = teacher[position].topk(k).indices if k else torch.arange(vocabulary)
            p, q = (each[position].exp()[chosen] for each in (own, teacher))
            if k:
                p, q = (torch.cat([each, 1 - each.sum().view(1)]) for each in (p, q))
            m = beta * q + (1 - beta) * p
            kl = {1.0: (p * (p / q).log()).sum(), 0.0: (q * (q / p).log()).sum()}
            mixed = beta * (q * (q / m).log()).sum() + (1 - beta) * (p * (p / m).log()).sum()
            total, num_tokens = total + kl.get(beta, mixed), num_tokens + 1
    model.zero_grad()
    (total / num_tokens).backward()
    expected = {name: each.grad.clone() for name, each in model.named_parameters() if each.requires_grad}
    model.zero_grad()

    found = keep_gradients(learner)
    metrics = learner.learn([group])
    same_up_to_rounding(found, expected)
    assert num_tokens == 10
    assert metrics["divergence"] == pytest.approx(total.item() / num_tokens, rel=1e-4)
    assert metrics["loss"] == pytest.approx(metrics["divergence"], rel=1e-4)
    assert metrics["completions/learned_from"] == 3
    assert metrics["sampling/importance_sampling_ratio/mean"] == pytest.approx(1.0, abs=1e-5)
    assert (metrics["teacher_rest"] > 0.1) == (k is not None)


def test_without_any_score_nothing_moves(build: Build, group_for: GroupFor) -> None:
    learner = build(**DISTILL)
    before = learner.publish().policy.fingerprint
    metrics = learner.learn([taught(group_for(learner, [None] * 4), [None] * 4)])
    assert metrics["grad_norm"] == 0.0
    assert "reverse_kl" not in metrics
    assert learner.publish().policy.fingerprint == before


def test_one_completion_of_each_prompt(build: Build, group_for: GroupFor) -> None:
    learner = build(**DISTILL, prompts_per_step=4, completions_per_prompt=1)
    group = taught(group_for(learner, [0.0] * 4))
    singles = [
        GradedGroup(task=group.task, rollouts=(rollout,), grades=(grade,), teacher_logprobs=(row,))
        for rollout, grade, row in zip(group.rollouts, group.grades, group.teacher_logprobs, strict=True)
    ]
    assert learner.learn(singles)["grad_norm"] > 0


def test_groups_without_a_teacher_are_refused(build: Build, group_for: GroupFor) -> None:
    learner = build(**DISTILL)
    with pytest.raises(LearnError, match="groups without log-probabilities of a teacher"):
        learner.learn([group_for(learner, [1.0, 0.0, 0.0, 0.5])])


def test_recorded_batches_lead_to_the_same_weights_without_the_teacher(
    build: Build, group_for: GroupFor, tmp_path: Path
) -> None:
    whole = build(kind="distill")
    published = []
    for step in (1, 2):
        rows = [*DIFFERENCES[:3], None]
        group = taught(group_for(whole, [0.1, 0.2, 0.3, None], off=0.1), rows)
        tops = (TopTokens(2, array("i", [20, 2] * count), array("f", [-0.5, -1.0] * count)) for count in (4, 4, 3))
        batch = [replace(group, teacher_top=(*tops, None))]
        write_shard(tmp_path, step, batch)
        whole.learn(batch)
        published.append(whole.publish())
    again = build(kind="distill", folder="again")
    again.publish()  # the policy of the first rollouts; in a run that is the base model
    for step in (1, 2):
        again.learn(read_shard(tmp_path, step))
        assert again.publish() == published[step - 1]
