"""A learner, or one rank of it in a process of its own: two steps of each case, and what came of them in a file.

python rank_program.py <model> <number> <of> <address of the store> <out> <case> ...
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from transformers import TrainerCallback

from rft.config import RunConfig
from rft.data.demonstration_records import TokenRow
from rft.learning.ranks import Ranks
from rft.learning.sft_learner import SftLearner
from rft.learning.spec import LearnerSpec, RankPlace
from rft.learning.trl_learner import TrlLearner
from rft.types import Grade, GradedGroup, Policy, Rollout, Score, Split, Status, StopReason, Task

LENGTHS = (3, 17, 1, 9, 6, 12, 2, 8)
REWARDS = ([1.0, 0.0, 0.5, 0.25, None, 1.0, 0.0, 0.0], [0.5] * 8, [0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.75])
SGD = {"optim": "sgd", "max_grad_norm": 0.5}
"""Adam would turn the rounding error of a gradient near 0 into a step of any size up to the learning rate."""

CASES: dict[str, dict[str, Any]] = {
    "dapo": {"trl": SGD},
    "by rows, held to the base": {"trl": SGD, "loss_type": "grpo", "beta": 0.1},
    "one micro-batch": {"trl": SGD, "loss_type": "dr_grpo", "completions_per_micro_batch": 24},
    "bnpo": {"trl": SGD, "loss_type": "bnpo", "completions_per_micro_batch": 6},
    "all weights": {"trl": SGD, "adapter": "full", "learning_rate": 1e-2},
    "ppo": {
        "trl": SGD,
        "kind": "ppo",
        "epochs": 2,
        "gamma": 0.9,
        "gae_lambda": 0.8,
        "kl_coef": 0.3,
        "value_learning_rate": 1e-2,
        "value_updates": 3,
    },
    "dpo": {"trl": SGD, "kind": "dpo", "beta": 0.5},
    "sft": {"kind": "sft", "completions_per_micro_batch": 2},
    "resumed": {"trl": SGD},
    "dropout": {
        "loss_type": "bnpo",
        "adapter": {"rank": 4, "alpha": 8, "dropout": 0.3},
        "completions_per_micro_batch": 8,
    },
}


class Gradients(TrainerCallback):
    """Keeps the gradient of the last optimizer step, as it is clipped."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        self.last = {name: each.grad.clone() for name, each in model.named_parameters() if each.requires_grad}


class SftWithSgd(SftLearner):
    """A learner of demonstrations with the optimizer of the other cases."""

    def _arguments(self, learner: Any) -> dict[str, Any]:
        return super()._arguments(learner) | SGD


def spec_of(model: Path, folder: Path, case: dict[str, Any]) -> LearnerSpec:
    learner = {"kind": "grpo", "learning_rate": 0.1, "adapter": {"rank": 4, "alpha": 8}, "step_timeout_s": 300} | case
    run = RunConfig.model_validate(
        {
            "output_dir": str(folder),
            "seed": 3,
            "model": {},
            "data": {},
            "graders": {},
            "loop": {"steps": 2, "prompts_per_step": 3, "completions_per_prompt": 8},
            "sampler": {"kind": "transformers", "temperature": 0.7, "max_completion_tokens": 20},
            "learner": learner,
        }
    )
    return LearnerSpec(
        run=run,
        model=model,
        model_name="some/model",
        base=Policy(version=0, fingerprint="base"),
        run_folder=folder,
        completions_per_micro_batch=case.get("completions_per_micro_batch", 8),
        dtype="float32",
        on_gpu=False,
        num_threads=1,
    )


@torch.no_grad()
def logprobs_of(model: Any, prompt: tuple[int, ...], completions: list[tuple[int, ...]]) -> torch.Tensor:
    """Of each completion's tokens, and then of the padding."""
    was_training = model.training
    model.eval()
    ids = torch.tensor([[*prompt, *each, *[2] * (max(LENGTHS) - len(each))] for each in completions])
    logits = model(ids).logits[:, len(prompt) - 1 : -1]
    model.train(was_training)
    return torch.log_softmax(logits / 0.7, dim=-1).gather(2, ids[:, len(prompt) :, None])[..., 0]


def batch(learner: TrlLearner, seed: int) -> list[GradedGroup]:
    random = torch.Generator().manual_seed(seed)
    policy, model = learner.publish().policy, learner._stepped.trainer.model
    groups = []
    for number, rewards in enumerate(REWARDS):
        task = Task(id=f"t{number}", messages=({"role": "user", "content": "?"},), item={}, split=Split.TRAIN)
        prompt = tuple(torch.randint(10, 90, (3 + 4 * number,), generator=random).tolist())
        completions = [tuple(torch.randint(10, 90, (length,), generator=random).tolist()) for length in LENGTHS]
        sampled_of = logprobs_of(model, prompt, completions)
        rollouts, grades = [], []
        for index, (ids, reward) in enumerate(zip(completions, rewards, strict=True)):
            sampled = sampled_of[index, : len(ids)] + 0.2 * torch.randn(len(ids), generator=random)
            rollouts.append(
                Rollout(
                    task_id=task.id,
                    index=index,
                    prompt_ids=prompt,
                    completion_ids=ids,
                    logprobs=tuple(sampled.tolist()),
                    text="",
                    stop=StopReason.LENGTH,
                    policy=policy,
                )
            )
            status = Status.SKIPPED if reward is None else Status.OK
            grades.append(Grade(scores={"g": Score(value=reward, status=status)}, reward=reward))
        groups.append(GradedGroup(task=task, rollouts=tuple(rollouts), grades=tuple(grades)))
    return groups


def rows(seed: int) -> list[TokenRow]:
    random = torch.Generator().manual_seed(seed)
    lengths = (9, 4, 15, 6, 11, 5)
    ids = [tuple(torch.randint(10, 90, (length,), generator=random).tolist()) for length in lengths]
    return [TokenRow(ids=each, trained=tuple(place > 2 for place in range(len(each)))) for each in ids]


def saved_and_resumed(learner: TrlLearner, spec: LearnerSpec, ranks: Ranks) -> TrlLearner:
    """Rank 0 saves; all ranks come back from what it wrote."""
    if ranks.is_first:
        learner.save()
    ranks.add_up([torch.zeros(1)])  # and so the others wait for it
    learner.close()
    checkpoint = spec.run_folder.parents[1] / "0" / spec.run_folder.name / "checkpoints" / "checkpoint-1"
    return TrlLearner(replace(spec, resume_from=checkpoint), ranks)


def main(model: str, number: str, of: str, address: str, out: str, *cases: str) -> None:
    place = RankPlace(number=int(number), of=int(of), address=address, host="127.0.0.1", backend="gloo")
    ranks = Ranks.join(place, timeout_s=300) if place.of > 1 else Ranks()  # the processes may start far apart
    tensors: dict[str, torch.Tensor] = {}
    told: dict[str, Any] = {"vllm": [module for module in sys.modules if module.partition(".")[0] == "vllm"]}
    for name in cases:
        spec = spec_of(Path(model), Path(out).with_suffix("") / name, CASES[name])
        learner = SftWithSgd(spec, ranks) if name == "sft" else TrlLearner(spec, ranks)
        if name == "ppo":
            critic = learner._stepped.trainer._critic
            critic._optimizer = torch.optim.SGD(critic.parameters(), lr=0.1)
        kept = Gradients()
        learner._stepped.trainer.add_callback(kept)
        checksums = [learner.checksum()]
        for step in (1, 2):
            if (name, step) == ("resumed", 2) and place.of > 1:  # who is alone never stops
                learner = saved_and_resumed(learner, spec, ranks)
                learner._stepped.trainer.add_callback(kept)
            metrics = learner.learn(rows(step) if name == "sft" else batch(learner, step))
            told[f"{name} {step}"] = metrics
            tensors |= {f"{name} {step} gradient {key}": each for key, each in kept.last.items()}
            checksums.append(learner.checksum())
        trained = learner._stepped.trainer.trained()
        tensors |= {f"{name} weight {place}": each.detach().clone() for place, each in enumerate(trained)}
        tensors[f"{name} random state"] = torch.get_rng_state()
        told[f"{name} checksums"] = checksums
        learner.close()
    safetensors.torch.save_file({key: each.contiguous() for key, each in tensors.items()}, out)
    Path(out).with_suffix(".json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
