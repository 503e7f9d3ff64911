"""A run that learns from teachers, whose engines score what the student's engines sample."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from rft.models.adapter_folder import load_adapter
from rft.run_folder.recorder import read_manifest, read_metrics, read_rollouts
from rft.run_folder.token_shards import read_shard

pytestmark = pytest.mark.e2e

FAMILIES = ("chain_sum", "gcd")
WORDS = (
    "experiment=quickstart",
    "learner=distill",
    "sampler=transformers",
    "data.train=null",
    "data.test=null",
    "data.validation=null",
    *(f"data.mixture.{name}={{source: embedded:{name}/train, graders: [correct], weight: 1}}" for name in FAMILIES),
    *(f"teacher.by_family.{name}.adapter=expert_{name}" for name in FAMILIES),
    "teacher.top_logprobs=8",
    "loop.steps=2",
    "loop.prompts_per_step=2",
    "loop.completions_per_prompt=4",
    "loop.checkpoint_every_steps=1",
    "learner.completions_per_micro_batch=8",
    "logging=none",
)


def test_each_familys_teacher_scores_what_the_student_samples(
    tmp_path: Path, rft_either_way: Callable[..., Any], make_peft_model: Callable[..., Any]
) -> None:
    experts = {name: make_peft_model(seed=seed) for seed, name in enumerate(FAMILIES, start=1)}
    for name, expert in experts.items():
        expert.save_pretrained(tmp_path / f"expert_{name}")
    of_gcd = load_adapter(tmp_path / "expert_gcd").policy.fingerprint
    done = rft_either_way("train", *WORDS, "output_dir=run", cwd=tmp_path)
    assert (done.code, done.orphans) == (0, [])
    lines = read_metrics(done.folder)
    assert [line["drops"] for line in lines] == [{}, {}, {}]
    assert all(line["metrics"]["learner/grad_norm"] > 0 for line in lines[1:])
    assert {line["phase"] for line in read_rollouts(done.folder)} == {"train"}
    manifest = read_manifest(done.folder)
    assert manifest["teachers"]["gcd"]["adapter"]["fingerprint"] == of_gcd
    assert len(manifest["teacher_engines"]) == 2
    assert "Teacher of gcd: `embedded:tiny`" in (done.folder / "adapter" / "README.md").read_text()
    assert_recorded(done.folder, 2, experts)
    for name in FAMILIES:  # the run folder has copies of the adapters
        shutil.rmtree(tmp_path / f"expert_{name}")
    again = rft_either_way("train", "resume=run", "loop.steps=3", cwd=tmp_path)
    assert (again.code, len(read_metrics(again.folder))) == (0, 4)
    assert "has changed" not in again.output
    assert_recorded(done.folder, 3, experts)


def assert_recorded(folder: Path, step: int, experts: Mapping[str, Any]) -> None:
    """The recorded log-probabilities are those of the family's teacher, computed here anew."""
    import torch

    groups = read_shard(folder, step)
    assert len(groups) == 2
    for group in groups:
        expert = experts[group.task.id.partition("/")[0]]
        for rollout, recorded, top in zip(group.rollouts, group.teacher_logprobs, group.teacher_top, strict=True):
            ids = torch.tensor([[*rollout.prompt_ids, *rollout.completion_ids]])
            with torch.no_grad():
                scores = torch.log_softmax(expert(ids).logits[0, len(rollout.prompt_ids) - 1 : -1], -1)
            own = scores.gather(1, torch.tensor(rollout.completion_ids)[:, None])[:, 0]
            assert recorded == pytest.approx(own.tolist(), abs=1e-4)
            assert top is not None
            best = torch.tensor(top.ids.tolist()).view(-1, 8)
            assert top.logprobs.tolist() == pytest.approx(scores.gather(1, best).flatten().tolist(), abs=1e-4)
            assert top.logprobs.tolist() == pytest.approx(scores.topk(8).values.flatten().tolist(), abs=1e-4)
