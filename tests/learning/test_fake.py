"""The learner that only counts."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy

from rft.learning.build import build_learner
from rft.learning.checkpoints import is_sealed
from rft.learning.fake import FakeLearner
from rft.run_folder.find_checkpoint import last_checkpoint
from rft.types import Adapter


def test_each_step_is_a_new_version(tmp_path: Path, make_learner_spec: Callable[..., Any]) -> None:
    learner = build_learner(make_learner_spec(tmp_path))
    assert isinstance(learner, FakeLearner)
    before = learner.publish()
    assert (learner.steps_done, before.policy.version) == (0, 0)
    assert learner.learn([]) == {"loss": 0.0}
    after = learner.publish()
    assert (learner.steps_done, after.policy.version) == (1, 1)
    assert after.policy.fingerprint != before.policy.fingerprint
    assert isinstance(after.weights, Adapter)
    assert after.weights.config == {"base_model_name_or_path": "some/model", "r": 16, "lora_alpha": 32.0}
    assert safetensors.numpy.load(after.weights.tensors)["fake"].tolist() == [1.0] * 4
    assert learner.publish() == after
    assert learner.policy() == after.policy
    learner.close()


def test_it_goes_on_from_its_checkpoint(tmp_path: Path, make_learner_spec: Callable[..., Any]) -> None:
    (tmp_path / "config.yaml").touch()
    learner = FakeLearner(make_learner_spec(tmp_path))
    learner.learn([])
    learner.save()
    learner.learn([])
    learner.save()
    checkpoint, step = last_checkpoint(tmp_path)
    assert (step, is_sealed(checkpoint)) == (2, True)
    resumed = FakeLearner(make_learner_spec(tmp_path, resume_from=checkpoint))
    assert resumed.steps_done == 2
    assert resumed.publish() == learner.publish()


@pytest.mark.parametrize(("on_gpu", "visible"), [(False, ""), (True, "3")])
def test_a_learner_without_a_gpu_sees_none(
    tmp_path: Path, make_learner_spec: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, on_gpu: bool, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    build_learner(replace(make_learner_spec(tmp_path), on_gpu=on_gpu))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible
