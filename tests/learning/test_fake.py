"""The learner that only counts."""

import json
from pathlib import Path

import safetensors.numpy

from rft.learning.build import build_learner
from rft.learning.fake import FakeLearner
from rft.learning.spec import LearnerSpec, Lora
from rft.run_folder.checkpoint import last_checkpoint
from rft.types import Adapter, Policy


def spec(folder: Path, resume_from: Path | None = None) -> LearnerSpec:
    return LearnerSpec(
        kind="fake",
        model=Path("nowhere"),
        model_name="some/model",
        base=Policy(version=0, fingerprint="base"),
        chat_template=None,
        run_folder=folder,
        steps=3,
        prompts_per_step=2,
        completions_per_prompt=2,
        completions_per_micro_batch=4,
        max_completion_tokens=8,
        temperature=1.0,
        learning_rate=1e-3,
        lora=Lora(rank=8, alpha=16, dropout=0.0),
        seed=0,
        dtype="float32",
        on_gpu=False,
        num_threads=1,
        keep_checkpoints=2,
        timeout_s=60,
        resume_from=resume_from,
    )


def test_each_step_is_a_new_version(tmp_path: Path) -> None:
    learner = build_learner(spec(tmp_path))
    assert isinstance(learner, FakeLearner)
    before = learner.publish()
    assert (learner.steps_done, before.policy.version) == (0, 0)
    assert learner.learn([]) == {"loss": 0.0}
    after = learner.publish()
    assert (learner.steps_done, after.policy.version) == (1, 1)
    assert after.policy.fingerprint != before.policy.fingerprint
    assert isinstance(after.weights, Adapter)
    assert after.weights.config == {"base_model_name_or_path": "some/model"}
    assert safetensors.numpy.load(after.weights.tensors)["fake"].tolist() == [1.0] * 4
    assert learner.publish() == after
    learner.close()


def test_it_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    learner = FakeLearner(spec(tmp_path))
    learner.learn([])
    learner.save()
    learner.learn([])
    learner.save()
    checkpoint, step = last_checkpoint(tmp_path)
    assert (step, json.loads((checkpoint / "complete.json").read_text())) == (2, {"step": 2})
    resumed = FakeLearner(spec(tmp_path, checkpoint))
    assert resumed.steps_done == 2
    assert resumed.publish() == learner.publish()
