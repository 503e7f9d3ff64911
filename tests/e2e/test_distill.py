"""A run that learns from a teacher, whose engines score what the student's engines sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rft.models.adapter_folder import load_adapter
from rft.run_folder.recorder import read_manifest, read_metrics, read_rollouts
from rft.run_folder.token_shards import read_shard

pytestmark = pytest.mark.e2e

WORDS = (
    "experiment=quickstart",
    "learner=distill",
    "sampler=transformers",
    "teacher.adapter=expert",
    "~graders.correct",
    "data.test=null",
    "data.validation=null",
    "loop.steps=2",
    "loop.prompts_per_step=2",
    "loop.completions_per_prompt=4",
    "loop.checkpoint_every_steps=1",
    "learner.completions_per_micro_batch=8",
    "logging=none",
)


def test_a_teacher_scores_what_the_student_samples(
    tmp_path: Path, rft_either_way: Callable[..., Any], make_peft_model: Callable[..., Any]
) -> None:
    import torch

    expert = make_peft_model(seed=1)
    expert.save_pretrained(tmp_path / "expert")
    done = rft_either_way("train", *WORDS, "output_dir=run", cwd=tmp_path)
    assert (done.code, done.orphans) == (0, [])
    lines = read_metrics(done.folder)
    assert [line["drops"] for line in lines] == [{}, {}, {}]
    assert all(line["metrics"]["learner/grad_norm"] > 0 for line in lines[1:])
    assert {line["phase"] for line in read_rollouts(done.folder)} == {"train"}
    manifest = read_manifest(done.folder)
    assert manifest["teacher"]["adapter"]["fingerprint"] == load_adapter(tmp_path / "expert").policy.fingerprint
    assert len(manifest["teacher_engines"]) == 1
    assert "Teacher: `embedded:tiny`" in (done.folder / "adapter" / "README.md").read_text()
    # The recorded log-probabilities are those of the teacher, computed here anew.
    for group in read_shard(done.folder, 2):
        for rollout, recorded in zip(group.rollouts, group.teacher_logprobs, strict=True):
            ids = torch.tensor([[*rollout.prompt_ids, *rollout.completion_ids]])
            with torch.no_grad():
                scores = torch.log_softmax(expert(ids).logits[0, :-1], -1).gather(1, ids[0, 1:, None])[:, 0]
            assert recorded == pytest.approx(scores[len(rollout.prompt_ids) - 1 :].tolist(), abs=1e-4)
